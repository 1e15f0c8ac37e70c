"""`Tensor` is `numpy.ndarray` itself; these make one, in float32 unless told otherwise."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Tensor: TypeAlias = npt.NDArray[Any]


def ones(shape: int | Sequence[int], *, dtype: npt.DTypeLike = np.float32) -> Tensor:
    """An array of ones.

    >>> ones((1, 2)).dtype
    dtype('float32')
    """
    return np.ones(shape, dtype)


def zeros(shape: int | Sequence[int], *, dtype: npt.DTypeLike = np.float32) -> Tensor:
    """An array of zeros."""
    return np.zeros(shape, dtype)


def full(shape: int | Sequence[int], fill_value: float, *, dtype: npt.DTypeLike = np.float32) -> Tensor:
    """An array of one value."""
    return np.full(shape, fill_value, dtype)


def tensor(data: npt.ArrayLike, *, dtype: npt.DTypeLike = np.float32) -> Tensor:
    """A copy of `data` as an array.

    >>> tensor([[1, 2], [3, 4]])
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    return np.array(data, dtype)
