"""`Tensor` is `numpy.ndarray` itself; these make one, in float32 unless told otherwise."""

import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid.errors import ArgumentError, DTypeError, LucidError, SizeTypeError

Tensor = np.ndarray


def ones(*shape: int | Sequence[int], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """An array of ones; the shape as one tuple or as several integers.

    >>> ones(1, 2).dtype
    dtype('float32')
    >>> ones((1, 2)).shape
    (1, 2)
    """
    return _array(np.ones, _shape(shape), dtype)


def zeros(*shape: int | Sequence[int], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """An array of zeros; the shape as one tuple or as several integers."""
    return _array(np.zeros, _shape(shape), dtype)


def full(
    shape: int | Sequence[int], fill_value: float, *, dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[Any]:
    """An array of one value."""
    return _array(np.full, _shape((shape,)), fill_value, dtype)


def tensor(data: npt.ArrayLike, *, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """A copy of `data` as an array.

    >>> tensor([[1, 2], [3, 4]])
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    return _array(lambda: np.array(torch_to_numpy(data), dtype))


def torch_to_numpy(x: Any) -> Any:
    """A PyTorch tensor as an array, which NumPy makes of none with a gradient or of bfloat16; all else as it is."""
    torch = sys.modules.get("torch")  # whoever has a tensor has loaded it
    if torch is None or not isinstance(x, torch.Tensor):
        return x
    x = x.detach()
    if x.dtype != torch.bfloat16:
        return np.asarray(x)
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        raise DTypeError(
            "`x` is of bfloat16, which needs the extra 'bfloat16': pip install ml_dtypes"
        ) from None
    return np.asarray(x.view(dtype=torch.int16)).view(bfloat16)


def _array(function: Callable[..., npt.NDArray[Any]], *arguments: Any) -> npt.NDArray[Any]:
    """What NumPy makes of these; what it refuses is a lucid error."""
    try:
        return function(*arguments)
    except LucidError:
        raise
    except (TypeError, SyntaxError) as error:
        raise SizeTypeError(str(error)) from error
    except (ValueError, OverflowError, RuntimeError) as error:
        raise ArgumentError(str(error)) from error


def _shape(arguments: tuple[int | Sequence[int], ...]) -> tuple[int, ...]:
    lengths: Any = arguments[0] if len(arguments) == 1 and hasattr(arguments[0], "__len__") else arguments
    try:
        if not isinstance(lengths, tuple | list | np.ndarray):
            raise TypeError
        return tuple(operator.index(length) for length in lengths)
    except TypeError:
        raise SizeTypeError(f"shape is {arguments}; expected integers, or one tuple of them") from None
