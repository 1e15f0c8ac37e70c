"""A plan carried out: outputs begun, blocks read, pooled and written, outputs put in place.

Each worker reads a block into a buffer of its own, pools it to every size and writes the results. A stream is read by
one worker at a time, and written by the caller's thread, in order. Workers are threads, or processes where only one
thread of a process is let in to read.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from mmap import MAP_PRIVATE, mmap
from pathlib import Path

import numpy as np

from lucid import forks, threads
from lucid.blocking import ends
from lucid.formats.arrays import Array
from lucid.formats.contract import Sink, Source
from lucid.formats.disk.replacement import Replacement
from lucid.formats.regions import Region, shape_of, shift, size_of
from lucid.job_plan import JobPlan, Pass
from lucid.pooling.dtypes import FLOATS
from lucid.pooling.means import Pooling, Total, sums_of_columns
from lucid.pooling.stacks import stacks
from lucid.pooling.windows import Interval
from lucid.report import MARKED, OVERFLOW, Effort, Watch


def carry_out(plan: JobPlan, source: Source, watch: Watch, group: list[Replacement] | None = None) -> None:
    """Pool, and put the outputs in place, or add them to a `group` that is put in place together."""
    watch.total_bytes, watch.done_bytes = plan.input_bytes, 0
    with outputs_of(plan, source, watch, group) as sinks:
        for array_pass in plan.passes:
            _stream(array_pass, source, sinks, watch)


@contextmanager
def outputs_of(
    plan: JobPlan, source: Source, watch: Watch, group: list[Replacement] | None = None
) -> Iterator[dict[Path, Sink]]:
    """The outputs, begun; in the end they are put in place, or handed on, unless the source changed meanwhile."""
    in_sequence = plan.is_sequential and len(plan.options.sizes) == 1
    with ExitStack() as stack:
        sinks: dict[Path, Sink] = {}
        for target in plan.targets:
            sink = stack.enter_context(target.create(plan.options, in_sequence=in_sequence))
            sinks[target.path] = sink
            with sink.name_errors():
                sink.begin(source, plan.results_of(target))
            watch.note(sink)
        yield sinks
        source.check_unchanged()
        with watch.clock("write"):
            for sink in sinks.values():
                with sink.name_errors():
                    sink.commit(group)


def rehearse(plan: JobPlan, source: Source, watch: Watch) -> None:
    """Raise what would keep outputs from being begun, and note what they would hold; nothing is made."""
    for target in plan.targets:
        with target.create(plan.options) as sink:
            with sink.name_errors():
                sink.refuse(source, plan.results_of(target))
            watch.note(sink)


@dataclass(kw_only=True)
class _Block(Effort):
    """A block on its way through the steps."""

    #: Its place in the output of every size.
    regions: tuple[Region, ...]
    cells: Array | None = None
    means: list[Array] = field(default_factory=list)


def _stream(array_pass: Pass, source: Source, sinks: Mapping[Path, Sink], watch: Watch) -> None:
    """Stream an array once."""
    blocks, worker = array_pass.blocks, _Worker(array_pass, source, sinks)
    in_processes = forks.pay_off(blocks.spec.nbytes, blocks.workers) and source.is_locked(blocks.spec)
    # A single block begins no thread, since there may be thousands of small arrays.
    workers = blocks.workers if in_processes else max(1, min(blocks.workers, blocks.block_count))
    in_order = forks.in_order if in_processes else threads.in_order
    by_caller = any(sink.in_sequence for sink in sinks.values())
    task = worker.pool if by_caller else lambda block: worker.write(worker.pool(block))
    every: Iterable[_Block] = (_Block(regions=regions) for regions in blocks.blocks())
    if source.in_sequence:
        every = map(worker.read, every)
    # A block that is written already takes no memory while it waits for those before it.
    in_flight = workers if by_caller else threads.AHEAD * workers
    with closing(in_order(task, every, workers=workers, in_flight=in_flight)) as blocks_done:
        for block in blocks_done:
            if by_caller:
                worker.write(block)
            watch.add(block)


def marked(
    pooling: Pooling, planes: Array, means: Array, rows: Interval, cols: Interval
) -> Iterator[tuple[int, int]]:
    """The numbers that mark gaps, with how many means of valid cells are rounded to each."""
    rule = pooling.rule
    for value in map(int, rule.missing if rule.reduce == "mean" and rule.result not in FLOATS else ()):
        # No mean is it but between less and more. Gaps may be that number, too, unless another one marks them.
        if np.any(means == value) and planes.min() < value < planes.max():
            others = np.empty_like(means)
            pooling._replace(rule=rule._replace(fill=value ^ 1)).means(planes, others, rows, cols)
            yield value, int(np.count_nonzero(others == value))


class _Worker:
    """The steps of a block."""

    def __init__(self, array_pass: Pass, source: Source, sinks: Mapping[Path, Sink]) -> None:
        self._blocks, self._arrays = array_pass
        self._source, self._sinks = source, sinks
        self._local = threading.local()
        self._name, numbers = self._blocks.spec.name, array_pass.arrays[0].result.numbers
        self._key = self._name, OVERFLOW.format(numbers, "infinite" if numbers in FLOATS else "its limit")

    def read(self, block: _Block) -> _Block:
        """Read a block."""
        block.cells = self._cells(block, self._blocks.cells(block.regions[0]))
        return block

    def pool(self, block: _Block) -> _Block:
        """Read a block, if it is not read yet, and pool it."""
        blocks, h = self._blocks, self._blocks.height_axis
        block.means = [
            np.empty(shape_of(region), array.result.dtype)
            for array, region in zip(self._arrays, block.regions, strict=True)
        ]
        if not blocks.is_whole:
            self._pool_columns(block)
            return block
        cells = self.read(block).cells if block.cells is None else block.cells
        assert cells is not None
        with block.clock("pool"):
            for array, region, means in zip(self._arrays, block.regions, block.means, strict=True):
                rows, cols = ends(region[h]), ends(region[h + 1])
                for planes, plane_means in stacks(cells, means, h):
                    block.odd_results[self._key] += array.pooling.means(planes, plane_means, rows, cols)
                    for mark, count in marked(array.pooling, planes, plane_means, rows, cols):
                        block.odd_results[self._name, MARKED.format(mark)] += count
        block.cells = None
        return block

    def _pool_columns(self, block: _Block) -> None:
        (array,), (region,), (means,) = self._arrays, block.regions, block.means
        h = self._blocks.height_axis
        total = Total(array.pooling, ends(region[h]), ends(region[h + 1]))

        def planes_of(reads: Iterable[Region]) -> Iterator[Array]:
            for read in reads:
                cells = self._cells(block, read)
                with block.clock("pool"):
                    yield self._planes(cells)

        for left, reads in self._blocks.columns(region):
            sums = sums_of_columns(planes_of(reads), array.pooling.rule)
            with block.clock("pool"):
                total.add(sums, left)
        block.odd_results[self._key] = total.finish(self._planes(means))

    def write(self, block: _Block) -> _Block:
        """Write the means of a block, and let go of them."""
        with block.clock("write"):
            for array, region, means in zip(self._arrays, block.regions, block.means, strict=True):
                sink = self._sinks[array.target.path]
                with sink.name_errors():
                    sink.write(array.result, region, means)
        block.means = []
        return block

    def _planes(self, array: Array) -> Array:
        """(planes, height, width, inner) in the array's own order of axes, so that columns agree."""
        h = self._blocks.height_axis
        return array.reshape(size_of(array.shape[:h]), *array.shape[h : h + 2], size_of(array.shape[h + 2 :]))

    def _cells(self, block: _Block, region: Region) -> Array:
        """Read a region, counted from the first cell that is pooled, into the buffer of this thread or process."""
        spec = self._blocks.spec
        if not hasattr(self._local, "buffer"):
            # A map goes back to the system when the pass ends; the C library would keep the memory beside the next one.
            buffer = mmap(-1, max(1, self._blocks.input_bytes), MAP_PRIVATE)
            self._local.buffer = np.frombuffer(buffer, np.uint8)
        with block.clock("read"):
            cells = self._source.read(spec, shift(region, spec.offset), self._local.buffer)
        block.done_bytes += cells.nbytes
        return cells
