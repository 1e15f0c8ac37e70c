"""Read, pool, write: the blocks of a plan, several at a time.

Each worker reads a block into a buffer of its own, pools it for every output and writes the results. What must be done
in order is done by the caller's thread: a stream is read there and a stream is written there. Rows of windows that
exceed the memory come in strips of columns: workers add the columns of a strip, the caller joins the strips.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from lucid.formats.contract import ArraySpec, Region, shape_of, size_of
from lucid.run.blocking import Block, Plan, Strip, share_blocks
from lucid.threads import as_done, in_order

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
    """Time spent, added up over all threads."""

    read: float = 0.0
    pool: float = 0.0
    write: float = 0.0

    def clock(self, step: str) -> "_Clock":
        """Add the time of a `with` block; threads may lose a race for a microsecond."""
        return _Clock(self, step)


class _Clock:
    """A stop watch; `contextmanager` takes three times as long, and a block starts three."""

    __slots__ = ("_seconds", "_start", "_step")

    def __init__(self, seconds: Seconds, step: str) -> None:
        self._seconds, self._step = seconds, step

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        spent = time.perf_counter() - self._start
        setattr(self._seconds, self._step, getattr(self._seconds, self._step) + spent)


class Step(NamedTuple):
    """A block or a strip is done: the bytes read for it, and how many finite results became infinite."""

    input_bytes: int
    overflows: int


def run(
    outputs: Sequence[Output],
    read: Read,
    seconds: Seconds,
    *,
    read_in_sequence: bool = False,
    write_in_sequence: bool = False,
) -> Generator[Step, None, None]:
    """Do the work of plans that share their blocks.

    What is in sequence is read or written by the caller's thread, in the order of the plan. Work goes on
    between steps until the generator is closed.
    """
    plan = outputs[0].plan
    worker = _Worker(outputs, read, seconds)
    if not plan.is_whole:
        (output,) = outputs
        yield from worker.totals(output)
        return
    assert share_blocks([output.plan for output in outputs])
    every = zip(*(output.plan.blocks() for output in outputs), strict=True)
    blocks: Iterable[_Work] = (_Work(block) for block in every)
    workers = plan.workers
    if not (read_in_sequence or write_in_sequence):
        with closing(as_done(worker.pool_and_write, blocks, workers=workers)) as done:
            for work in done:
                yield Step(work.input_bytes, work.overflows)
        return
    if read_in_sequence:
        # One block more is held by the thread that reads ahead.
        workers = max(1, workers - 1)
        blocks = map(worker.read_ahead, blocks)
    task = worker.pool if write_in_sequence else worker.pool_and_write
    for work in in_order(task, blocks, workers=workers, in_flight=workers):
        if write_in_sequence:
            worker.write(work)
        yield Step(work.input_bytes, work.overflows)


@dataclass
class _Work:
    """A block, for every output one, on its way through the steps."""

    blocks: tuple[Block, ...]
    regions: tuple[Region, ...] = ()
    cells: Array | None = None
    results: tuple[Array, ...] = ()
    input_bytes: int = 0
    overflows: int = 0


class _Worker:
    """The three steps of a block, with buffers that each thread uses again."""

    def __init__(self, outputs: Sequence[Output], read: Read, seconds: Seconds) -> None:
        self._outputs, self._read, self._seconds = outputs, read, seconds
        self._plan = outputs[0].plan
        self._input_bytes = self._plan.costs.input_bytes
        self._output_bytes = [output.plan.costs.output_bytes for output in outputs]
        self._local = threading.local()

    def read_ahead(self, work: _Work) -> _Work:
        """Read a block into memory of its own."""
        buffer = np.empty(self._input_bytes, np.uint8)
        work.cells = self._cells(self._plan.region(work.blocks[0]), buffer)
        return work

    def pool_and_write(self, work: _Work) -> _Work:
        """Read a block, pool it, write it."""
        self._pool(work, self._kept_results)
        self.write(work)
        return work

    def pool(self, work: _Work) -> _Work:
        """Read a block and pool it into memory of its own."""
        self._pool(work, lambda i, shape: np.empty(shape, self._outputs[i].dtype))
        return work

    def write(self, work: _Work) -> None:
        """Write the results of a block, and let go of them."""
        with self._seconds.clock("write"):
            for output, region, results in zip(self._outputs, work.regions, work.results, strict=True):
                output.write(region, results)
        work.results = ()

    def _pool(self, work: _Work, memory: Callable[[int, tuple[int, ...]], Array]) -> None:
        cells = work.cells
        if cells is None:
            cells = self._cells(self._plan.region(work.blocks[0]), self._kept("cells", self._input_bytes))
        work.regions = tuple(block.region for block in work.blocks)
        work.results = tuple(memory(i, shape_of(region)) for i, region in enumerate(work.regions))
        work.cells, work.input_bytes = None, cells.nbytes
        with self._seconds.clock("pool"):
            for output, block, results in zip(self._outputs, work.blocks, work.results, strict=True):
                work.overflows += output.pool.means(cells, results, block.rows, block.cols)

    def totals(self, output: Output) -> Iterator[Step]:
        """Blocks in strips: workers add columns, the caller joins the strips and writes."""
        total: Total | None = None
        workers, strips = self._plan.workers, self._plan.strips()
        for strip, columns, used in in_order(self._columns, strips, workers=workers, in_flight=workers):
            block, overflows = strip.block, 0
            with self._seconds.clock("pool"):
                total = total or output.pool.total(block.rows, block.cols)
                total.add(columns, strip.left)
            if strip.is_last:
                results = self._kept_results(0, shape_of(block.region))
                with self._seconds.clock("pool"):
                    overflows = total.finish(results)
                with self._seconds.clock("write"):
                    output.write(block.region, results)
                total = None
            yield Step(used, overflows)

    def _columns(self, strip: Strip) -> tuple[Strip, Any, int]:
        used = 0

        def cuts() -> Iterator[Array]:
            nonlocal used
            for region in strip.regions:
                cells = self._cells(region, self._kept("cells", self._input_bytes))
                used += cells.nbytes
                with self._seconds.clock("pool"):
                    yield cells

        return strip, self._outputs[0].pool.columns(cuts()), used

    def _cells(self, region: Region, buffer: Array) -> Array:
        with self._seconds.clock("read"):
            return self._read(self._plan.spec, region, buffer)

    def _kept_results(self, i: int, shape: tuple[int, ...]) -> Array:
        output = self._outputs[i]
        buffer = self._kept(f"results{i}", self._output_bytes[i])
        return buffer[: size_of(shape) * output.dtype.itemsize].view(output.dtype).reshape(shape)

    def _kept(self, name: str, size: int) -> Array:
        if not hasattr(self._local, name):
            setattr(self._local, name, np.empty(size, np.uint8))
        buffer: Array = getattr(self._local, name)
        return buffer
