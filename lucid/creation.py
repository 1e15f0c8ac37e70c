"""`Tensor` is `numpy.ndarray` itself; these make one, in float32 unless told otherwise."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid.errors import ArgumentError, SizeTypeError

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
    return _array(np.array, data, dtype)


def _array(function: Callable[..., npt.NDArray[Any]], *arguments: Any) -> npt.NDArray[Any]:
    """What NumPy makes of these; what it refuses is a lucid error."""
    try:
        return function(*arguments)
    except (TypeError, SyntaxError) as error:
        raise SizeTypeError(str(error)) from error
    except (ValueError, OverflowError) as error:
        raise ArgumentError(str(error)) from error


def _shape(arguments: tuple[int | Sequence[int], ...]) -> tuple[int, ...]:
    lengths: Any = arguments[0] if len(arguments) == 1 and hasattr(arguments[0], "__len__") else arguments
    try:
        if not isinstance(lengths, tuple | list | np.ndarray):
            raise TypeError
        return tuple(operator.index(length) for length in lengths)
    except TypeError:
        raise SizeTypeError(f"shape is {arguments}; expected integers, or one tuple of them") from None
