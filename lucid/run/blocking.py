"""Which blocks, in which order, at what peak of memory: pure arithmetic on shapes and bytes.

An array has the axes (lead..., H, W, trail...). A block is a box of windows: ranges of the lead axes, of window rows
and columns, and of the trail axes. What it costs in memory is

    input     its cells as they are in the file
    output    its results
    chunk     where the file is compressed, one chunk raw and one decoded
    band      accumulators of one row of windows; where it exceeds the memory, of columns and of all windows

Blocks follow the file's chunk grid along the lead axes, so that no chunk is decoded twice unless a plane exceeds the
limit. A row of windows that exceeds it is read in strips of columns, from left to right, and each strip in cuts of
rows, from top to bottom: the band of column sums is carried from read to read.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from lucid.errors import MemoryLimitError
from lucid.formats.arrays import ArraySpec
from lucid.formats.regions import Region, size_of
from lucid.pooling.windows import Axis, Grid, Span

#: Bytes of input that a block aims at: those of a few threads stay in a level-3 cache between reading and pooling, and
#: smaller ones cost more Python than they save (benchmarks/decisions.md).
BLOCK_BYTES = 4 << 20
#: Bytes of a band for each column, and of totals for each window: sum, error and count, also scaled, twice.
BAND_BYTES = 96
#: Bytes of what the kernel keeps of each window of one row: the same, and numbers of cells.
TOTAL_BYTES = 48
#: Bytes that should lie together in the file where a block is cut across columns.
RUN_BYTES = 64 << 10


class Strip(NamedTuple):
    """Columns of a block that are read from top to bottom: the first of them, and the region of each read."""

    block: "Block"
    left: int
    regions: tuple[Region, ...]
    is_last: bool


class Block(NamedTuple):
    """A box of windows that is written at once."""

    lead: tuple[Span, ...]
    rows: Span
    cols: Span
    trail: tuple[Span, ...]

    @property
    def region(self) -> Region:
        """Its place in the output array."""
        return tuple(slice(*span) for span in (*self.lead, self.rows, self.cols, *self.trail))


class Costs(NamedTuple):
    """What a block of a given shape takes."""

    input_bytes: int
    output_bytes: int
    chunk_bytes: int
    band_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.input_bytes + self.output_bytes + self.chunk_bytes + self.band_bytes


class Plan(NamedTuple):
    """How one array is streamed: the shape of its blocks, and what they cost."""

    spec: ArraySpec
    grid: Grid
    lead_axes: int
    output_itemsize: int
    max_memory: int
    workers: int
    #: Lengths of a block along the lead axes and the trail axes.
    lead: tuple[int, ...]
    trail: tuple[int, ...]
    #: Windows of a block along rows and columns.
    rows: int
    cols: int
    #: Cells of a read along rows and columns; those of all windows where a block is read at once.
    row_cells: int
    col_cells: int

    @property
    def costs(self) -> Costs:
        """What the largest block takes."""
        rows, cols = self._read_cells
        others = size_of(self.lead) * size_of(self.trail)
        results = others * self.rows * self.cols
        chunk = size_of(self.spec.chunks) if self.spec.chunks and self.spec.whole_chunks else 0
        return Costs(
            input_bytes=others * rows * cols * self.spec.dtype.itemsize,
            output_bytes=results * self.output_itemsize,
            chunk_bytes=2 * chunk * self.spec.dtype.itemsize,
            band_bytes=self.cols * size_of(self.trail) * TOTAL_BYTES
            if self.is_whole
            else (2 * others * cols + results) * BAND_BYTES,
        )

    @property
    def _block_cells(self) -> tuple[int, int]:
        """Most rows and columns of cells that a block covers."""
        return _longest_span(self.grid.rows, self.rows), _longest_span(self.grid.cols, self.cols)

    @property
    def _read_cells(self) -> tuple[int, int]:
        """Most rows and columns of cells that are read at once."""
        rows, cols = self._block_cells
        return min(rows, self.row_cells), min(cols, self.col_cells)

    @property
    def peak_bytes(self) -> int:
        """Most memory that the buffers take: one block for each worker."""
        return self.workers * self.costs.total_bytes

    @property
    def is_whole(self) -> bool:
        """Whether every block is read at once."""
        return self._read_cells == self._block_cells

    @property
    def has_whole_planes(self) -> bool:
        """Whether every block holds its planes from edge to edge."""
        return (
            self.is_whole
            and (self.rows, self.cols) == (self.grid.rows.n_out, self.grid.cols.n_out)
            and all(map(operator.ge, self.trail, self.spec.shape[self.lead_axes + 2 :]))
        )

    @property
    def is_sequential(self) -> bool:
        """Whether the blocks are runs of the array, one after the other, in input and output."""
        lengths = self.spec.shape[: self.lead_axes]
        cut = [axis for axis, length in enumerate(lengths) if self.lead[axis] < length]
        return (
            self.has_whole_planes
            and self.spec.order == "C"
            and all(self.lead[axis] == 1 for axis in range(cut[-1] if cut else 0))
        )

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the means."""
        shape, h = self.spec.shape, self.lead_axes
        return (*shape[:h], self.grid.rows.n_out, self.grid.cols.n_out, *shape[h + 2 :])

    def blocks(self) -> Iterator[Block]:
        """Everything to be written, in order."""
        h = self.lead_axes
        for spans in _boxes(self._steps()):
            yield Block(spans[:h], spans[h], spans[h + 1], spans[h + 2 :])

    @property
    def block_count(self) -> int:
        """How many blocks there are; of an array without cells none."""
        count = 1
        for length, step, before in self._steps():
            count *= -(-(length + before) // step) if length else 0
        return count

    def _steps(self) -> list[tuple[int, int, int]]:
        """The grid of blocks along every axis of the output: length, step, cells before the first one."""
        steps = (*self.lead, self.rows, self.cols, *self.trail)
        # The first cell of a box may lie within a chunk, with which the first block ends, if not with all.
        offset = (*self.spec.offset, *[0] * len(steps))
        grid = zip(self.output_shape, steps, offset, strict=False)
        return [(length, step, first % step if step < length else 0) for length, step, first in grid]

    def region(self, block: Block) -> Region:
        """The cells that the windows of a block cover."""
        rows, cols = self.grid.rows.cells(block.rows), self.grid.cols.cells(block.cols)
        return tuple(slice(*span) for span in (*block.lead, rows, cols, *block.trail))

    def strips(self) -> Iterator[Strip]:
        """Everything to be read where blocks are not read at once, in order."""
        for block in self.blocks():
            rows, cols = self.grid.rows.cells(block.rows), self.grid.cols.cells(block.cols)
            for left, right in _cuts(cols, self.col_cells):
                regions = [
                    tuple(slice(*span) for span in (*block.lead, cut, (left, right), *block.trail))
                    for cut in _cuts(rows, self.row_cells)
                ]
                yield Strip(block, left - cols[0], tuple(regions), right == cols[1])


def _cuts(span: Span, step: int) -> Iterator[Span]:
    """A range cut at multiples of `step`, so that cuts fall together with those of chunks."""
    for start in range(span[0] - span[0] % step, span[1], step):
        yield max(start, span[0]), min(start + step, span[1])


def _boxes(steps: list[tuple[int, int, int]]) -> Iterator[tuple[Span, ...]]:
    """All boxes of a grid (length, step, cells of the first step that lie before), last axis fastest.

    `product` would store the spans of every axis, and there may be as many as there are samples.
    """
    if not steps:
        yield ()
        return
    (length, step, before), others = steps[0], steps[1:]
    for start in range(-before, length, step):
        for box in _boxes(others):
            yield ((max(0, start), min(start + step, length)), *box)


def _longest_span(axis: Axis, windows: int) -> int:
    """Most cells that so many consecutive windows cover; never less than they do."""
    if windows >= axis.n_out:
        return axis.n_in
    if windows == 1:
        return axis.longest
    return min(axis.n_in, -(-windows * axis.n_in // axis.n_out) + 1)


def make_plan(
    spec: ArraySpec,
    grid: Grid,
    lead_axes: int,
    output_itemsize: int,
    *,
    max_memory: int,
    workers: int,
    whole_planes: bool = False,
) -> Plan:
    """The plan for one array.

    Fewer workers are planned where their blocks would not fit together. With `whole_planes`,
    planes are cut only if they do not fit the memory, not for the cache.

    Raises
    ------
    MemoryLimitError
        Not even the smallest block fits; the text names the limit that it needs.

    """
    shape, h = spec.shape, lead_axes
    chunks = spec.chunks or (1,) * len(shape)
    whole = Plan(
        spec,
        grid,
        lead_axes,
        output_itemsize,
        max_memory,
        workers,
        lead=tuple(max(1, min(c, n)) for c, n in zip(chunks[:h], shape[:h], strict=True)),
        trail=tuple(max(1, n) for n in shape[h + 2 :]),
        rows=grid.rows.n_out,
        cols=grid.cols.n_out,
        row_cells=grid.rows.n_in,
        col_cells=grid.cols.n_in,
    )
    smallest = None
    for count in range(workers, 0, -1):
        budget = max_memory // count
        plan = _shrink(whole._replace(workers=count), budget)
        if plan.costs.total_bytes <= budget:
            return _tune(plan, min(budget, BLOCK_BYTES), whole_planes=whole_planes)
        smallest = plan
    assert smallest is not None
    needed = smallest.costs.total_bytes
    chunk = (
        f", for its chunks of {smallest.costs.chunk_bytes // 2} bytes" if smallest.costs.chunk_bytes else ""
    )
    raise MemoryLimitError(f"needs `max_memory` of at least {needed} bytes{chunk}; it is {max_memory}")


def make_plans(
    spec: ArraySpec,
    grids: Sequence[Grid],
    lead_axes: int,
    output_itemsize: int,
    *,
    max_memory: int,
    workers: int,
    whole_planes: bool = False,
) -> list[Plan]:
    """A plan for each of several grids, with the same blocks of input if planes fit the memory.

    Raises
    ------
    MemoryLimitError
        As `make_plan`.

    """

    def planned(limit: int, *, whole: bool) -> list[Plan]:
        options: dict[str, Any] = {"max_memory": limit, "workers": workers, "whole_planes": whole}
        return [make_plan(spec, grid, lead_axes, output_itemsize, **options) for grid in grids]

    if len(grids) > 1:
        with suppress(MemoryLimitError):
            plans = planned(max(1, max_memory // len(grids)), whole=True)
            if all(plan.has_whole_planes for plan in plans):
                least = min(plans, key=lambda plan: size_of(plan.lead))
                fewest = min(plan.workers for plan in plans)
                return [plan._replace(lead=least.lead, workers=fewest) for plan in plans]
    return planned(max_memory, whole=whole_planes)


def share_blocks(plans: Sequence[Plan]) -> bool:
    """Whether one pass over the input serves all these plans."""
    return len(plans) == 1 or all(p.has_whole_planes and p.lead == plans[0].lead for p in plans)


#: A way to make a plan's blocks smaller; the same plan where it cannot.
Halve = Callable[[Plan], Plan]


def _shrink(plan: Plan, budget: int) -> Plan:
    """Make a block smaller until it fits: samples, rows of windows, long runs of columns; then cuts, and strips."""
    return _halved(plan, HALVES, lambda smaller: smaller.costs.total_bytes <= budget)


def _tune(plan: Plan, target: int, *, whole_planes: bool) -> Plan:
    """Bring a block that fits the memory near the size that fits the cache."""
    halves: Sequence[Halve] = ()
    if not plan.is_whole:
        halves = (_lower_cuts,)
    elif not whole_planes and plan.spec.chunks is None:
        halves = (_fewer_rows, _shorter_runs)
    return _grow(_halved(plan, halves, lambda smaller: smaller.costs.input_bytes <= target), target)


def _halved(plan: Plan, halves: Sequence[Halve], fits: Callable[[Plan], bool]) -> Plan:
    """Halve a plan in one way after the other, in each as long as that makes it smaller, until it fits."""
    for halve in halves:
        while not fits(plan) and (smaller := halve(plan)) != plan:
            plan = smaller
    return plan


def _half(n: int) -> int:
    return -(-n // 2)


def _fewer_samples(plan: Plan) -> Plan:
    axis = next((axis for axis, length in enumerate(plan.lead) if length > 1), None)
    if axis is None or plan.spec.whole_chunks:
        # A compressed chunk is decoded whole: smaller blocks would only decode it again.
        return plan
    return plan._replace(lead=(*plan.lead[:axis], _half(plan.lead[axis]), *plan.lead[axis + 1 :]))


def _fewer_rows(plan: Plan) -> Plan:
    return plan._replace(rows=_half(plan.rows))


def _fewer_cols(plan: Plan) -> Plan:
    return plan._replace(cols=_half(plan.cols))


def _shorter_runs(plan: Plan) -> Plan:
    smaller = _fewer_cols(plan)
    run_bytes = smaller._read_cells[1] * size_of(plan.trail) * plan.spec.dtype.itemsize
    return smaller if run_bytes >= RUN_BYTES else plan


def _lower_cuts(plan: Plan) -> Plan:
    rows = _half(plan._read_cells[0])
    if plan.spec.whole_chunks and plan.spec.chunks:
        chunk = plan.spec.chunks[plan.lead_axes]
        rows -= rows % chunk if rows >= chunk else 0
    return plan._replace(row_cells=rows)


def _less_trail(plan: Plan) -> Plan:
    return plan._replace(trail=(*plan.trail[:-1], *map(_half, plan.trail[-1:])))


def _fewer_col_cells(plan: Plan) -> Plan:
    return plan._replace(col_cells=_half(plan._read_cells[1]))


HALVES: Sequence[Halve] = (
    _fewer_samples,
    _fewer_rows,
    _shorter_runs,
    _lower_cuts,
    _less_trail,
    _fewer_cols,
    _fewer_col_cells,
)


def _grow(plan: Plan, target: int) -> Plan:
    """Take more samples, the last lead axis first, an outer axis only when the inner is whole."""
    if plan.rows < plan.grid.rows.n_out or plan.cols < plan.grid.cols.n_out or not plan.is_whole:
        return plan
    shape = plan.spec.shape
    for axis in range(plan.lead_axes - 1, -1, -1):
        room = target // max(1, plan.costs.total_bytes - plan.costs.chunk_bytes)
        if room > 1:
            lead = list(plan.lead)
            lead[axis] = max(1, min(shape[axis], lead[axis] * room))
            plan = plan._replace(lead=tuple(lead))
        if plan.lead[axis] < shape[axis]:
            break
    return plan
