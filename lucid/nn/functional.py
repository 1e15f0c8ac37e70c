"""Pooling of arrays in memory: arguments are validated here, once, and trusted below."""

import operator
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from lucid.creation import Tensor
from lucid.errors import ArgumentError, DTypeError, ShapeError, SizeTypeError
from lucid.parallel import available_cpus, every
from lucid.pooling.average import Pooling
from lucid.pooling.dtypes import name_of, numbers
from lucid.pooling.jit import Kernels, for_array
from lucid.pooling.memory import empty
from lucid.pooling.program import Program
from lucid.pooling.windows import make_grid

Dimension: TypeAlias = int | None
OutputSize: TypeAlias = Dimension | tuple[Dimension, Dimension]
NanRule: TypeAlias = Literal["propagate", "skip"]

#: Elements read and written up to which a thread costs what it saves: 2 M float32 are pooled in a
#: millisecond, and waking a thread, sharing the work and waiting for it takes a fifth of one.
SMALL = 1 << 21
#: The same for compiled kernels, which are the faster.
SMALL_COMPILED = 3 << 20
#: Pieces that each thread gets, so that a slow one does not keep the others waiting. Each further
#: one costs: eight took 15 % longer than two at 56x56 -> 4x4. Compiled kernels get one: their calls
#: are so short that waiting for each other's took a quarter of the time at 14x14 -> 1.
PIECES_PER_THREAD = 2


def adaptive_avg_pool2d(
    x: npt.ArrayLike,
    output_size: OutputSize,
    *,
    nan: NanRule = "propagate",
    threads: int | None = None,
) -> Tensor:
    """Average over the windows [floor(i*H_in/H_out), ceil((i+1)*H_in/H_out)), likewise W.

    Parameters
    ----------
    x
        (N, C, H_in, W_in) or (C, H_in, W_in), anything `numpy.asarray` takes: bool, integers
        of 8 to 64 bits, float16, bfloat16 (ml_dtypes), float32, float64; any strides and byte order.
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
    array = _as_array(x)
    name = name_of(array.dtype)
    if array.ndim not in (3, 4):
        raise ShapeError(f"`x` has shape {array.shape}; expected (N, C, H, W) or (C, H, W)")
    size = resolve_size(output_size, (array.shape[-2], array.shape[-1]))
    if nan not in ("propagate", "skip"):
        raise ArgumentError(f"`nan` is {nan!r}; expected 'propagate' or 'skip'")
    workers = available_cpus() if threads is None else check_threads(threads)

    kinds = numbers(name)
    out = empty((*array.shape[:-2], *size), kinds.result_dtype)
    source = array.view(np.uint16) if name == "bfloat16" else array
    grid = _grid((array.shape[-2], array.shape[-1]), size)
    pooling = Pooling(grid, kinds, nan == "skip", kernels=for_array(array.size))
    if array.size:
        is_compiled = pooling.kernels is not Kernels.NUMPYS
        if array.size + out.size <= (SMALL_COMPILED if is_compiled else SMALL):
            workers = 1
        wanted = workers if workers == 1 or is_compiled else workers * PIECES_PER_THREAD
        # Prepared here: what another thread does in Python, it does slowly, with cold caches.
        every(operator.call, Program(pooling, wanted).steps(source, out), workers=workers)
    return out.view(array.dtype) if name == "bfloat16" else out


def resolve_size(output_size: OutputSize, plane: tuple[int, int]) -> tuple[int, int]:
    """(H_out, W_out) for a plane (H_in, W_in).

    Raises
    ------
    ArgumentError, SizeTypeError
        As `adaptive_avg_pool2d`.
    ShapeError
        The plane is empty.

    """
    if 0 in plane:
        raise ShapeError(f"planes of {plane[0]}x{plane[1]} have no cells to average")
    both = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
    if len(both) != 2:
        raise ArgumentError(f"`output_size` is {output_size!r}; expected one or two dimensions")
    rows, cols = both
    return (
        plane[0] if rows is None else check_dimension(rows),
        plane[1] if cols is None else check_dimension(cols),
    )


def check_dimension(wanted: object) -> int:
    """A dimension of the output as a positive int; numpy's integers are as good as Python's."""
    if type(wanted) is int and wanted > 0:
        return wanted
    try:
        if isinstance(wanted, bool | np.bool_):
            raise TypeError
        length = operator.index(wanted)  # type: ignore[arg-type]
    except TypeError:
        raise SizeTypeError(
            f"`output_size` holds {wanted!r}; expected an integer of at least 1, or None"
        ) from None
    if length < 1:
        raise ArgumentError(f"`output_size` holds {length}; expected an integer of at least 1, or None")
    return length


def check_threads(threads: int) -> int:
    """A number of threads, at least 1."""
    if threads < 1:
        raise ArgumentError(f"`threads` is {threads}; expected at least 1")
    return threads


#: The same layer is called again and again.
_grid = lru_cache(maxsize=64)(make_grid)


def _as_array(x: npt.ArrayLike) -> npt.NDArray[Any]:
    if type(x) is np.ndarray:
        return x
    if isinstance(x, np.ma.MaskedArray):
        raise DTypeError(
            "`x` is a masked array, whose mask would be lost; fill it with NaN and use nan='skip'"
        )
    try:
        return np.asarray(x)
    except (TypeError, RuntimeError) as error:
        # What PyTorch raises for tensors of other devices, of bfloat16, or with a gradient.
        raise DTypeError(f"`x` cannot be seen as an array: {error}") from error
