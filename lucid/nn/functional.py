"""Functions on arrays: shapes and dtypes checked once, then pooled by as many threads as pay."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lucid.creation import torch_to_numpy
from lucid.errors import DTypeError, ShapeError
from lucid.kinds import NAN, Kind, NanRule, count
from lucid.pooling.dtypes import name_of, storage
from lucid.pooling.means import Pooling
from lucid.pooling.stacks import stacks
from lucid.pooling.sums import Rule, result_of
from lucid.pooling.windows import make_grid
from lucid.sizes import LAYER_SIZE, LayerSize, resolve
from lucid.threads import thread_count

THREADS = Kind(count, "an integer of at least 1")
#: Cells read and written up to which a second thread costs what it saves (benchmarks/decisions.md).
SMALL_CELLS = 400_000


def adaptive_avg_pool2d(
    x: npt.ArrayLike,
    /,
    output_size: LayerSize,
    *,
    nan: NanRule = "propagate",
    threads: int | None = None,
) -> npt.NDArray[Any]:
    """Average over the windows [floor(i*H_in/H_out), ceil((i+1)*H_in/H_out)), likewise W.

    Parameters
    ----------
    x
        (N, C, H_in, W_in) or (C, H_in, W_in), anything `numpy.asarray` takes: bool, integers
        of 8 to 64 bits, float16, bfloat16 (ml_dtypes), float32, float64; any strides and byte order;
        PyTorch's CPU tensors, with a gradient or of bfloat16, too.
    output_size
        (H_out, W_out), one integer for both, or None in place of a dimension to keep its length.
    nan
        "propagate": NaN in a window gives NaN. "skip": the mean of the values that are not
        NaN, and NaN where there are none.
    threads
        Threads for large arrays; by default the CPUs this process may use. The result does
        not depend on it.

    Returns
    -------
    A new C-contiguous array (N, C, H_out, W_out) or (C, H_out, W_out): floats keep their
    dtype, integers up to 16 bits and bool give float32, wider integers float64.

    Raises
    ------
    ShapeError
        `x` has another rank, or H_in or W_in is 0.
    DTypeError
        `x` is complex, long double, text, structured, or masked.
    ArgumentError, SizeTypeError
        A size below 1, a size that is a bool or a float, an unknown `nan`, `threads` below 1.

    Notes
    -----
    The windows are those of PyTorch's `adaptive_avg_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_avg_pool2d(np.arange(6.0).reshape(1, 2, 3), (1, 2))
    array([[[2., 3.]]])

    """
    return adaptive_pool2d(x, output_size, "mean", nan, threads)


def adaptive_max_pool2d(
    x: npt.ArrayLike,
    /,
    output_size: LayerSize,
    *,
    nan: NanRule = "propagate",
    threads: int | None = None,
) -> npt.NDArray[Any]:
    """Take the greatest of each window; shapes, windows and errors as of `adaptive_avg_pool2d`.

    Returns
    -------
    A new C-contiguous array (N, C, H_out, W_out) or (C, H_out, W_out) of the input's dtype. With
    nan="propagate", the windows that hold a NaN give NaN, as in PyTorch.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_max_pool2d(np.arange(6).reshape(1, 2, 3), (1, 2))
    array([[[4, 5]]])

    """
    return adaptive_pool2d(x, output_size, "max", nan, threads)


def adaptive_pool2d(
    x: npt.ArrayLike, output_size: LayerSize, reduce: str, nan: str, threads: int | None = None
) -> npt.NDArray[Any]:
    """Pool as `adaptive_avg_pool2d` by any of the reductions."""
    array = as_array(x)
    name = name_of(array.dtype)
    if array.ndim not in (3, 4):
        raise ShapeError(f"`x` has shape {array.shape}; expected (N, C, H, W) or (C, H, W)")
    plane = array.shape[-2:]
    size = resolve(LAYER_SIZE.check("output_size", output_size), plane)
    NAN.check("nan", nan)
    threads = THREADS.check("threads", threads, takes_none=True)

    result = result_of(name, reduce)
    try:
        out = np.empty((*array.shape[:-2], *size), storage(result))
    except ValueError as error:
        raise ShapeError(f"`output_size` is {output_size}, too big for an array") from error
    cells = array.view(np.uint16) if name == "bfloat16" else array
    pooling = Pooling(make_grid(plane, size), Rule(name, result, reduce, skip_nan=nan == "skip"))
    workers = 1 if array.size + out.size <= SMALL_CELLS else thread_count(threads)
    for planes, results in stacks(cells, out, array.ndim - 2):
        pooling.means(planes, results, (0, size[0]), (0, size[1]), workers)
    return out.view(array.dtype) if name == "bfloat16" else out


def as_array(x: npt.ArrayLike) -> npt.NDArray[Any]:
    """An array of what `numpy.asarray` takes without a copy, and of PyTorch's CPU tensors."""
    if type(x) is np.ndarray:
        return x
    if isinstance(x, np.ma.MaskedArray):
        raise DTypeError(
            "`x` is a masked array, whose mask would be lost; fill it with NaN and use nan='skip'"
        )
    try:
        return np.asarray(torch_to_numpy(x))
    except DTypeError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # ValueError: of nested lists of unequal lengths
        raise DTypeError(f"`x` cannot be seen as an array: {error}") from error
