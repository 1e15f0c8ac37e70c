"""Modules store their arguments and call `lucid.nn.functional`."""

from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy.typing as npt

from lucid.errors import SizeTypeError
from lucid.kinds import NAN, NanRule
from lucid.nn import functional
from lucid.sizes import LAYER_SIZE, LayerSize


class Module:
    """Something that is called with an array and returns one; it has no parameters, so training changes nothing."""

    training: bool = True

    def _has_none(self, *_arrays: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no `forward`")

    #: Computes the result; subclasses define it with the arguments that they like, as in PyTorch.
    forward: Callable[..., Any] = _has_none

    def __call__(self, x: npt.ArrayLike, /) -> npt.NDArray[Any]:
        result: npt.NDArray[Any] = self.forward(x)
        return result

    def train(self, mode: bool = True) -> Self:
        """Note whether the module is being trained; the result does not depend on it."""
        self.training = mode
        return self

    def eval(self) -> Self:
        """Note that the module is not being trained."""
        return self.train(False)

    def to(self, *_args: Any, **_options: Any) -> Self:
        """Return the module: without parameters there is nothing to move or to convert."""
        return self

    def state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """The parameters by name: none."""
        return {}

    def extra_repr(self) -> str:
        """The arguments as shown between the parentheses of `repr`."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class _AdaptivePool2d(Module):
    """What the adaptive layers have in common: an output size as given, and a rule for NaN."""

    _function: Callable[..., npt.NDArray[Any]]

    def __init__(self, output_size: LayerSize, *, nan: NanRule = "propagate") -> None:
        LAYER_SIZE.check("output_size", output_size)
        NAN.check("nan", nan)
        self.output_size = output_size
        self.nan = nan

    def forward(self, x: npt.ArrayLike, /) -> npt.NDArray[Any]:
        """Pool (N, C, H_in, W_in) to (N, C, H_out, W_out), or the same without N."""
        return self._function(x, self.output_size, nan=self.nan)

    def extra_repr(self) -> str:
        """`output_size` as given, and `nan` where it is not the default."""
        options: dict[str, Any] = {"output_size": self.output_size}
        if self.nan != "propagate":
            options["nan"] = self.nan
        return ", ".join(f"{name}={value!r}" for name, value in options.items())


class AdaptiveAvgPool2d(_AdaptivePool2d):
    """Average pooling to a fixed grid, whatever the input's height and width.

    Parameters
    ----------
    output_size
        (H_out, W_out), one integer for both, or None in place of a dimension to keep its
        input length.
    nan
        "propagate" gives NaN for a window that holds one; "skip" averages the other values.

    Raises
    ------
    ArgumentError, SizeTypeError
        `output_size` or `nan` is not one of the above.

    Examples
    --------
    >>> import lucid, lucid.nn as nn
    >>> pool = nn.AdaptiveAvgPool2d((4, 4))
    >>> pool
    AdaptiveAvgPool2d(output_size=(4, 4))
    >>> pool(lucid.ones((2, 256, 14, 14))).shape
    (2, 256, 4, 4)

    """

    _function = staticmethod(functional.adaptive_avg_pool2d)


class AdaptiveMaxPool2d(_AdaptivePool2d):
    """Maximum pooling to a fixed grid; arguments, shapes and errors as of `AdaptiveAvgPool2d`.

    Examples
    --------
    >>> import lucid, lucid.nn as nn
    >>> nn.AdaptiveMaxPool2d(1)(lucid.ones((2, 3, 5, 5))).shape
    (2, 3, 1, 1)

    """

    _function = staticmethod(functional.adaptive_max_pool2d)


class Sequential(Module):
    """Modules applied one after the other.

    Examples
    --------
    >>> import lucid, lucid.nn as nn
    >>> nn.Sequential(nn.AdaptiveMaxPool2d(8), nn.AdaptiveAvgPool2d(1))(lucid.ones((2, 3, 16, 16))).shape
    (2, 3, 1, 1)

    """

    def __init__(self, *modules: Module) -> None:
        for module in modules:
            if not isinstance(module, Module):
                raise SizeTypeError(f"a module is {module!r}; expected one of `lucid.nn`, each an argument")
        self._modules = modules

    def forward(self, x: npt.ArrayLike, /) -> npt.NDArray[Any]:
        """Apply every module to the result of the one before."""
        for module in self._modules:
            x = module(x)
        return functional.as_array(x)

    def train(self, mode: bool = True) -> Self:
        """Note it for every module, too."""
        for module in self._modules:
            module.train(mode)
        return super().train(mode)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Module:
        return self._modules[index]

    def __repr__(self) -> str:
        lines = "".join(f"\n({i}): {module!r}" for i, module in enumerate(self._modules))
        inside = lines.replace("\n", "\n  ")  # of modules within modules, too
        return f"{type(self).__name__}({inside}{lines and chr(10)})"
