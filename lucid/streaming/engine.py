"""Read, pool, write: the blocks of a plan, several at a time.

Each worker reads a piece into a buffer of its own, pools it and, where the block is
complete with it, writes the means. Sums of windows that come in several pieces are added
by the caller's thread, in the order of the plan.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lucid.formats.base import ArraySpec, Region, shape_of, size_of
from lucid.parallel import in_order
from lucid.streaming.plan import Piece, Plan

Array = npt.NDArray[Any]
Span = tuple[int, int]

Read = Callable[[ArraySpec, Region, Array], Array]
Write = Callable[[Region, Array], None]


class Total(Protocol):
    """Sums of the windows of a block, complete when the sums of every piece were added."""

    def add(self, sums: Any, /) -> None:
        """Add the sums of a piece."""

    def means(self, out: Array, /) -> None:
        """Write the means."""


class Pool(Protocol):
    """The arithmetic, as the engine is given it."""

    def means(self, cells: Array, out: Array, rows: Span, cols: Span, /) -> None:
        """Write the means of windows over all their cells."""

    def sums(self, cells: Array, row_slabs: Span, col_slabs: Span, /) -> Any:
        """Sum slabs of windows, for a total."""

    def total(self, shape: tuple[int, ...], rows: Span, cols: Span, /) -> Total:
        """Begin the sums of windows whose cells come in pieces."""


@dataclass
class Seconds:
    """Time spent, added up over all threads."""

    read: float = 0.0
    pool: float = 0.0
    write: float = 0.0


def run(
    plan: Plan,
    read: Read,
    pool: Pool,
    write: Write,
    *,
    output_dtype: np.dtype[Any],
    seconds: Seconds,
) -> Iterator[int]:
    """Do the work of a plan; yields the bytes of input that each step has used up."""
    worker = _Worker(plan, read, pool, write, output_dtype, seconds)
    if plan.is_whole:
        yield from in_order(worker.whole, plan.pieces(), workers=plan.workers, in_flight=2 * plan.workers)
        return
    total: Total | None = None
    for piece, sums, used in in_order(
        worker.part, plan.pieces(), workers=plan.workers, in_flight=2 * plan.workers
    ):
        block = piece.block
        with _clock(seconds, "pool"):
            total = total or pool.total(shape_of(block.region), block.rows, block.cols)
            total.add(sums)
        if piece.last:
            worker.finish(total, block.region)
            total = None
        yield used


class _Worker:
    """The three steps of a piece, with buffers that each thread uses again."""

    def __init__(
        self, plan: Plan, read: Read, pool: Pool, write: Write, dtype: np.dtype[Any], seconds: Seconds
    ) -> None:
        self._plan, self._read, self._pool, self._write = plan, read, pool, write
        self._dtype, self._seconds = dtype, seconds
        self._local = threading.local()

    def whole(self, piece: Piece) -> int:
        """Read a block, pool it, write it; the bytes read."""
        cells = self._cells(piece)
        block = piece.block
        means = self._means(block.region)
        with _clock(self._seconds, "pool"):
            self._pool.means(cells, means, block.rows, block.cols)
        with _clock(self._seconds, "write"):
            self._write(block.region, means)
        return cells.nbytes

    def part(self, piece: Piece) -> tuple[Piece, Any, int]:
        """Read a piece and sum it; the piece, the sums, and the bytes read."""
        cells = self._cells(piece)
        with _clock(self._seconds, "pool"):
            return piece, self._pool.sums(cells, piece.row_slabs, piece.col_slabs), cells.nbytes

    def finish(self, total: Total, region: Region) -> None:
        """Write the means of a block whose pieces were all added."""
        means = self._means(region)
        with _clock(self._seconds, "pool"):
            total.means(means)
        with _clock(self._seconds, "write"):
            self._write(region, means)

    def _cells(self, piece: Piece) -> Array:
        with _clock(self._seconds, "read"):
            return self._read(
                self._plan.spec, piece.region, self._buffer("cells", self._plan.costs.input_bytes)
            )

    def _means(self, region: Region) -> Array:
        shape = shape_of(region)
        buffer = self._buffer("means", self._plan.costs.output_bytes)
        return buffer[: size_of(shape) * self._dtype.itemsize].view(self._dtype).reshape(shape)

    def _buffer(self, name: str, size: int) -> Array:
        if not hasattr(self._local, name):
            setattr(self._local, name, np.empty(size, np.uint8))
        buffer: Array = getattr(self._local, name)
        return buffer


class _clock:  # noqa: N801  (reads as a keyword)
    """Adds the time of a `with` block; threads may lose a race for a microsecond."""

    def __init__(self, seconds: Seconds, step: str) -> None:
        self._seconds, self._step = seconds, step

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        spent = time.perf_counter() - self._start
        setattr(self._seconds, self._step, getattr(self._seconds, self._step) + spent)
