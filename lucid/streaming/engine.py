"""Read, pool, write: the blocks of a plan, several at a time.

Each worker reads a piece into a buffer of its own, pools it for every output and, where the
block is complete with it, writes the means. What must be done in order is done by the
caller's thread: sums of windows that come in several pieces are added there, a stream is read
there and a stream is written there.
"""

import threading
import time
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from lucid.formats.contract import ArraySpec, Region, shape_of, size_of
from lucid.parallel import as_done, in_order
from lucid.streaming.plan import Piece, Plan, share_blocks

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


class Output(NamedTuple):
    """One array of means: how it is pooled from which blocks, and where it goes."""

    plan: Plan
    pool: Pool
    write: Write
    dtype: np.dtype[Any]


@dataclass
class Seconds:
    """Time spent, added up over all threads."""

    read: float = 0.0
    pool: float = 0.0
    write: float = 0.0

    @contextmanager
    def clock(self, step: str) -> Iterator[None]:
        """Add the time of a `with` block; threads may lose a race for a microsecond."""
        start = time.perf_counter()
        yield
        setattr(self, step, getattr(self, step) + time.perf_counter() - start)


class Step(NamedTuple):
    """A block that is written, by number, or None for a part of one; and the bytes read for it."""

    block: int | None
    input_bytes: int


def run(
    outputs: Sequence[Output],
    read: Read,
    seconds: Seconds,
    *,
    read_in_sequence: bool = False,
    write_in_sequence: bool = False,
    skip: Container[int] = (),
) -> Generator[Step, None, None]:
    """Do the work of plans that share their blocks, but for the blocks to skip, by number.

    What is in sequence is read or written by the caller's thread, in the order of the plan. Work goes on
    between steps until the generator is closed.
    """
    plan = outputs[0].plan
    worker = _Worker(outputs, read, seconds)
    if not plan.is_whole:
        (output,) = outputs
        yield from worker.totals(output, skip)
        return
    assert share_blocks([output.plan for output in outputs])
    every = enumerate(zip(*(output.plan.pieces() for output in outputs), strict=True))
    blocks: Iterable[_Block] = (_Block(number, pieces) for number, pieces in every if number not in skip)
    workers = plan.workers
    if not (read_in_sequence or write_in_sequence):
        with closing(as_done(worker.pool_and_write, blocks, workers=workers)) as done:
            for block in done:
                yield Step(block.number, block.input_bytes)
        return
    if read_in_sequence:
        # One block more is held by the thread that reads ahead.
        workers = max(1, workers - 1)
        blocks = map(worker.read_ahead, blocks)
    work = worker.pool if write_in_sequence else worker.pool_and_write
    for block in in_order(work, blocks, workers=workers, in_flight=workers):
        if write_in_sequence:
            worker.write(block)
        yield Step(block.number, block.input_bytes)


@dataclass
class _Block:
    """What is read at once, for every output a piece; on its way through the steps."""

    number: int
    pieces: tuple[Piece, ...]
    cells: Array | None = None
    means: tuple[Array, ...] = ()
    input_bytes: int = 0


class _Worker:
    """The three steps of a block, with buffers that each thread uses again."""

    def __init__(self, outputs: Sequence[Output], read: Read, seconds: Seconds) -> None:
        self._outputs, self._read, self._seconds = outputs, read, seconds
        self._plan = outputs[0].plan
        self._input_bytes = self._plan.costs.input_bytes
        self._output_bytes = [output.plan.costs.output_bytes for output in outputs]
        self._local = threading.local()

    def read_ahead(self, block: _Block) -> _Block:
        """Read a block into memory of its own."""
        buffer = np.empty(self._input_bytes, np.uint8)
        block.cells = self._cells(block.pieces[0].region, buffer)
        return block

    def pool_and_write(self, block: _Block) -> _Block:
        """Read a block, pool it, write it."""
        self._pool(block, self._kept_means)
        self.write(block)
        return block

    def pool(self, block: _Block) -> _Block:
        """Read a block and pool it into memory of its own."""
        self._pool(block, lambda i, shape: np.empty(shape, self._outputs[i].dtype))
        return block

    def write(self, block: _Block) -> None:
        """Write the means of a block, and let go of them."""
        with self._seconds.clock("write"):
            for output, piece, means in zip(self._outputs, block.pieces, block.means, strict=True):
                output.write(piece.block.region, means)
        block.means = ()

    def _pool(self, block: _Block, memory: Callable[[int, tuple[int, ...]], Array]) -> None:
        cells = block.cells
        if cells is None:
            cells = self._cells(block.pieces[0].region, self._kept("cells", self._input_bytes))
        shapes = [shape_of(piece.block.region) for piece in block.pieces]
        block.means = tuple(memory(i, shape) for i, shape in enumerate(shapes))
        block.cells, block.input_bytes = None, cells.nbytes
        with self._seconds.clock("pool"):
            for output, piece, means in zip(self._outputs, block.pieces, block.means, strict=True):
                output.pool.means(cells, means, piece.block.rows, piece.block.cols)

    def totals(self, output: Output, skip: Container[int]) -> Iterator[Step]:
        """Blocks in several pieces: workers sum the pieces, the caller adds the sums and writes."""
        total: Total | None = None
        workers = self._plan.workers
        pieces = ((n, piece) for n, piece in self._plan.numbered_pieces() if n not in skip)
        for number, piece, sums, used in in_order(self._sums, pieces, workers=workers, in_flight=2 * workers):
            block = piece.block
            with self._seconds.clock("pool"):
                total = total or output.pool.total(shape_of(block.region), block.rows, block.cols)
                total.add(sums)
            if piece.last:
                means = self._kept_means(0, shape_of(block.region))
                with self._seconds.clock("pool"):
                    total.means(means)
                with self._seconds.clock("write"):
                    output.write(block.region, means)
                total = None
            yield Step(number if piece.last else None, used)

    def _sums(self, numbered: tuple[int, Piece]) -> tuple[int, Piece, Any, int]:
        number, piece = numbered
        cells = self._cells(piece.region, self._kept("cells", self._input_bytes))
        with self._seconds.clock("pool"):
            sums = self._outputs[0].pool.sums(cells, piece.row_slabs, piece.col_slabs)
        return number, piece, sums, cells.nbytes

    def _cells(self, region: Region, buffer: Array) -> Array:
        with self._seconds.clock("read"):
            return self._read(self._plan.spec, region, buffer)

    def _kept_means(self, i: int, shape: tuple[int, ...]) -> Array:
        output = self._outputs[i]
        buffer = self._kept(f"means{i}", self._output_bytes[i])
        return buffer[: size_of(shape) * output.dtype.itemsize].view(output.dtype).reshape(shape)

    def _kept(self, name: str, size: int) -> Array:
        if not hasattr(self._local, name):
            setattr(self._local, name, np.empty(size, np.uint8))
        buffer: Array = getattr(self._local, name)
        return buffer
