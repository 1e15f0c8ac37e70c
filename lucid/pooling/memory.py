"""Memory of large results, taken again once nobody holds them.

The C library keeps what is freed, up to 32 MiB; anything larger it gives back, and the next such array comes
from the system, which clears each page when it is first written. In a loop over batches that was a
fifth of the time at 256x2048x7x7 -> 3x3 in float64, 11.9 ms and 9.6; and three quarters on a virtual machine
that returns free memory to its host, which took up to 60 ms.

What is kept is offered to the system, which takes it when it has too little.
"""

import mmap
import weakref
from collections import deque
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

#: Bytes from which the C library does not keep what is freed.
LARGE = 32 << 20
#: Bytes that are kept, at most.
KEPT = 256 << 20

_kept: deque[mmap.mmap] = deque()


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """As `numpy.empty`; a large array does not own its data."""
    kind = np.dtype(dtype)
    size = prod(shape) * kind.itemsize
    if size < LARGE or not hasattr(mmap, "MADV_FREE"):
        return np.empty(shape, kind)
    memory = _taken(size)
    if memory is None:
        try:
            memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError:
            return np.empty(shape, kind)  # raises NumPy's error
        _advise(memory, "MADV_HUGEPAGE")  # as NumPy does
    whole = np.frombuffer(memory, np.uint8)
    # Views of an array hold the array that they were taken from, this one.
    weakref.finalize(whole, _keep, memory).atexit = False
    return whole[:size].view(kind).reshape(shape)


def _taken(size: int) -> mmap.mmap | None:
    """Kept memory of such a size, the latest; not twice as much."""
    for memory in reversed(tuple(_kept)):
        if size <= len(memory) < 2 * size:
            with suppress(ValueError):  # another thread was faster
                _kept.remove(memory)
                return memory
    return None


def _keep(memory: mmap.mmap) -> None:
    _advise(memory, "MADV_FREE")
    _kept.append(memory)
    while sum(map(len, tuple(_kept))) > KEPT:
        with suppress(IndexError):  # another thread was faster
            _kept.popleft()


def _advise(memory: mmap.mmap, advice: str) -> None:
    with suppress(AttributeError, OSError):
        memory.madvise(getattr(mmap, advice))
