"""Modules store their arguments and call `lucid.nn.functional`."""

from typing import Any

import numpy.typing as npt

from lucid.creation import Tensor
from lucid.nn import functional
from lucid.nn.functional import NanRule, OutputSize


class Module:
    """Something that is called with an array and returns one."""

    def forward(self, x: npt.ArrayLike, /) -> Tensor:
        """Compute the result; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} has no `forward`")

    def __call__(self, x: npt.ArrayLike, /) -> Tensor:
        return self.forward(x)

    def extra_repr(self) -> str:
        """The arguments as shown between the parentheses of `repr`."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class AdaptiveAvgPool2d(Module):
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
        When called, if `output_size` or `nan` is not one of the above.

    Examples
    --------
    >>> import lucid, lucid.nn as nn
    >>> pool = nn.AdaptiveAvgPool2d((4, 4))
    >>> pool
    AdaptiveAvgPool2d(output_size=(4, 4))
    >>> pool(lucid.ones((2, 256, 14, 14))).shape
    (2, 256, 4, 4)

    """

    output_size: OutputSize
    nan: NanRule

    def __init__(self, output_size: OutputSize, *, nan: NanRule = "propagate") -> None:
        self.output_size = output_size
        self.nan = nan

    def forward(self, x: npt.ArrayLike, /) -> Tensor:
        """Pool (N, C, H_in, W_in) to (N, C, H_out, W_out), or the same without N."""
        return functional.adaptive_avg_pool2d(x, self.output_size, nan=self.nan)

    def extra_repr(self) -> str:
        """`output_size` as given, and `nan` where it is not the default."""
        options: dict[str, Any] = {"output_size": self.output_size}
        if self.nan != "propagate":
            options["nan"] = self.nan
        return ", ".join(f"{name}={value!r}" for name, value in options.items())
