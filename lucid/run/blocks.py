"""Read, pool, write: the blocks of a plan, several at a time.

Each worker reads a block into a buffer of its own, pools it for every output and writes the results. What must be done
in order is done by the caller's thread: a stream is read there and a stream is written there. Rows of windows that
exceed the memory come in strips of columns: workers add the columns of a strip, the caller joins the strips. Workers
are threads, or processes where only one thread of a process is let in to read.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from lucid import forks, threads
from lucid.formats.arrays import ArraySpec
from lucid.formats.regions import Region, shape_of, size_of
from lucid.run.blocking import Block, Plan, Strip, share_blocks

Array = npt.NDArray[Any]
Span = tuple[int, int]


Read = Callable[[ArraySpec, Region, Array], Array]
Write = Callable[[Region, Array], None]


class Total(Protocol):
    """The windows of a block, complete when every strip was added."""

    def add(self, columns: Any, left: int, /) -> None:
        """Add the columns of a strip, which begin so many cells behind the first of the block."""

    def finish(self, out: Array, /) -> int:
        """Write the results; how many finite ones became infinite."""


class Pool(Protocol):
    """The arithmetic, as the engine is given it."""

    def means(self, cells: Array, out: Array, rows: Span, cols: Span, /) -> int:
        """Write the results of windows over all their cells; how many finite ones became infinite."""

    def columns(self, cuts: Iterable[Array], /) -> Any:
        """Add the columns of a strip, whose rows come in cuts."""

    def total(self, rows: Span, cols: Span, /) -> Total:
        """Begin the windows of a block that comes in strips."""


class Output(NamedTuple):
    """One array of means: how it is pooled from which blocks, and where it goes."""

    plan: Plan
    pool: Pool
    write: Write
    dtype: np.dtype[Any]


@dataclass
class Seconds:
    """Time spent on each step."""

    read: float = 0.0
    pool: float = 0.0
    write: float = 0.0

    @contextmanager
    def clock(self, step: str) -> Iterator[None]:
        """Add the time of a `with` block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, step, getattr(self, step) + time.perf_counter() - start)

    def add(self, other: "Seconds") -> None:
        """Add what others took."""
        for step in fields(self):
            setattr(self, step.name, getattr(self, step.name) + getattr(other, step.name))


@dataclass
class Step:
    """A block or a strip that is done: bytes read, finite results that became infinite, and the time it took."""

    input_bytes: int = 0
    overflows: int = 0
    seconds: Seconds = field(default_factory=Seconds)


@dataclass
class _Work(Step):
    """A block, for every output one, on its way through the steps."""

    blocks: tuple[Block, ...] = ()
    cells: Array | None = None
    results: tuple[Array, ...] = ()


@dataclass
class _Columns(Step):
    """A strip and the sums of its columns."""

    strip: Strip | None = None
    sums: Any = None


def run(
    outputs: Sequence[Output],
    read: Read,
    *,
    read_in_sequence: bool = False,
    write_in_sequence: bool = False,
    in_processes: bool = False,
) -> Generator[Step, None, None]:
    """Do the work of plans that share their blocks.

    What is in sequence is read or written by the caller's thread, in the order of the plan. Work goes on
    between steps until the generator is closed.
    """
    plan, worker = outputs[0].plan, _Worker(outputs, read)
    workers = plan.workers
    in_order = forks.in_order if in_processes else threads.in_order
    if not plan.is_whole:
        strips = plan.strips()
        for done in in_order(worker.columns, strips, workers=workers, in_flight=workers):
            yield worker.total(done)
        return
    assert share_blocks([output.plan for output in outputs])
    every = zip(*(output.plan.blocks() for output in outputs), strict=True)
    blocks: Iterable[_Work] = (_Work(blocks=block) for block in every)
    if not (read_in_sequence or write_in_sequence or in_processes):
        with closing(threads.as_done(worker.pool_and_write, blocks, workers=workers)) as steps:
            yield from steps
        return
    if read_in_sequence:
        # One block more is held by the thread that reads ahead.
        workers = max(1, workers - 1)
        blocks = map(worker.read_ahead, blocks)
    task = worker.pool if write_in_sequence else worker.pool_and_write
    # What is written already takes no memory while its turn comes.
    in_flight = workers if write_in_sequence or read_in_sequence else 4 * workers
    for work in in_order(task, blocks, workers=workers, in_flight=in_flight):
        if write_in_sequence:
            worker.write(work)
        yield work


class _Worker:
    """The three steps of a block, with buffers that each thread or process uses again."""

    def __init__(self, outputs: Sequence[Output], read: Read) -> None:
        self._outputs, self._read = outputs, read
        self._plan = outputs[0].plan
        self._local = threading.local()
        self._total: Total | None = None

    def read_ahead(self, work: _Work) -> _Work:
        """Read a block into memory of its own."""
        region = self._plan.region(work.blocks[0])
        work.cells = self._cells(work, region, np.empty(self._plan.costs.input_bytes, np.uint8))
        return work

    def pool_and_write(self, work: _Work) -> _Work:
        """Read a block, pool it, write it."""
        self._pool(work, [self._kept_results(i, block) for i, block in enumerate(work.blocks)])
        self.write(work)
        return work

    def pool(self, work: _Work) -> _Work:
        """Read a block and pool it into memory of its own."""
        blocks = zip(self._outputs, work.blocks, strict=True)
        self._pool(work, [np.empty(shape_of(block.region), output.dtype) for output, block in blocks])
        return work

    def write(self, work: _Work) -> None:
        """Write the results of a block, and let go of them."""
        with work.seconds.clock("write"):
            for output, block, results in zip(self._outputs, work.blocks, work.results, strict=True):
                output.write(block.region, results)
        work.results = ()

    def _pool(self, work: _Work, memory: Sequence[Array]) -> None:
        cells = work.cells
        if cells is None:
            cells = self._cells(work, self._plan.region(work.blocks[0]), self._kept_cells())
        work.cells, work.results = None, tuple(memory)
        with work.seconds.clock("pool"):
            for output, block, results in zip(self._outputs, work.blocks, memory, strict=True):
                work.overflows += output.pool.means(cells, results, block.rows, block.cols)

    def columns(self, strip: Strip) -> _Columns:
        """Add the columns of a strip."""
        done = _Columns(strip=strip)

        def cuts() -> Iterator[Array]:
            for region in strip.regions:
                cells = self._cells(done, region, self._kept_cells())
                with done.seconds.clock("pool"):
                    yield cells

        done.sums = self._outputs[0].pool.columns(cuts())
        return done

    def total(self, done: _Columns) -> Step:
        """Join a strip to those before it; after the last one of a block, write the results."""
        strip, seconds = done.strip, done.seconds
        assert strip is not None
        (output,), block = self._outputs, strip.block
        with seconds.clock("pool"):
            self._total = self._total or output.pool.total(block.rows, block.cols)
            self._total.add(done.sums, strip.left)
        if strip.is_last:
            results = self._kept_results(0, block)
            with seconds.clock("pool"):
                done.overflows = self._total.finish(results)
            with seconds.clock("write"):
                output.write(block.region, results)
            self._total = None
        return done

    def _cells(self, step: Step, region: Region, buffer: Array) -> Array:
        with step.seconds.clock("read"):
            cells = self._read(self._plan.spec, region, buffer)
        step.input_bytes += cells.nbytes
        return cells

    def _kept_cells(self) -> Array:
        return self._kept("cells", self._plan.costs.input_bytes)

    def _kept_results(self, i: int, block: Block) -> Array:
        output, shape = self._outputs[i], shape_of(block.region)
        buffer = self._kept(f"results{i}", output.plan.costs.output_bytes)
        return buffer[: size_of(shape) * output.dtype.itemsize].view(output.dtype).reshape(shape)

    def _kept(self, name: str, size: int) -> Array:
        if not hasattr(self._local, name):
            setattr(self._local, name, np.empty(size, np.uint8))
        buffer: Array = getattr(self._local, name)
        return buffer
