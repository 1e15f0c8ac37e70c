"""`Tensor` is `numpy.ndarray` itself; these make one, in float32 unless told otherwise."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid.errors import SizeTypeError

Tensor = np.ndarray


def ones(*shape: int | Sequence[int], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """An array of ones; the shape as one tuple or as several integers.

    >>> ones(1, 2).dtype
    dtype('float32')
    >>> ones((1, 2)).shape
    (1, 2)
    """
    return np.ones(_shape(shape), dtype)


def zeros(*shape: int | Sequence[int], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """An array of zeros; the shape as one tuple or as several integers."""
    return np.zeros(_shape(shape), dtype)


def full(
    shape: int | Sequence[int], fill_value: float, *, dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[Any]:
    """An array of one value."""
    return np.full(shape, fill_value, dtype)


def tensor(data: npt.ArrayLike, *, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """A copy of `data` as an array.

    >>> tensor([[1, 2], [3, 4]])
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    return np.array(data, dtype)


def _shape(given: tuple[int | Sequence[int], ...]) -> tuple[int, ...]:
    lengths = given[0] if len(given) == 1 and hasattr(given[0], "__len__") else given
    try:
        return tuple(operator.index(length) for length in lengths)  # type: ignore[arg-type, union-attr]
    except TypeError:
        raise SizeTypeError(f"shape is {given}; expected integers, or one tuple of them") from None
