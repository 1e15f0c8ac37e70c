"""Which blocks, in which order, at what peak of memory: pure arithmetic on shapes and bytes.

An array has the axes (lead..., H, W, trail...). A block is a box of windows: ranges of the
lead axes, of window rows and columns, and of the trail axes. What it costs in memory is

    input     its cells as they are in the file
    output    its means
    chunk     where the file is compressed, one chunk raw and one decoded
    sums      where windows are longer than a slab, running sums of 4 float64 for each mean

Blocks follow the file's chunk grid along the lead axes, so that no chunk is decoded
twice unless a plane exceeds the limit. Windows that exceed it are read slab by slab
(see `pooling.windows`): such a block has several pieces, and their order is the order of the sums.
"""

import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from lucid.errors import MemoryLimitError
from lucid.formats.contract import ArraySpec, Region, size_of
from lucid.pooling.windows import Axis, Grid

Span = tuple[int, int]

#: Bytes of input that a block aims at: blocks of two threads stay in a level-3 cache of 32 MiB between
#: reading and pooling. Each costs some calls of Python, a fifth of a millisecond: a file of 4 GB took 0.76 to
#: 0.90 s with blocks of 4 MiB, 0.66 to 0.82 s with these.
BLOCK_BYTES = 12 << 20
#: Bytes for each mean of a window that is summed over several pieces.
SUM_BYTES = 32


class Piece(NamedTuple):
    """What is read at once: slabs of the rows and columns of one block."""

    block: "Block"
    row_slabs: Span
    col_slabs: Span
    region: Region
    last: bool


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
    sums_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.input_bytes + self.output_bytes + self.chunk_bytes + self.sums_bytes


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
    #: Slabs of a piece along rows and columns; those of all windows where a block is one piece.
    row_slabs: int
    col_slabs: int

    @property
    def costs(self) -> Costs:
        """What the largest block takes."""
        rows = _longest_span(self.grid.rows, self.rows, self.row_slabs)
        cols = _longest_span(self.grid.cols, self.cols, self.col_slabs)
        others = size_of(self.lead) * size_of(self.trail)
        means = others * self.rows * self.cols
        chunk = size_of(self.spec.chunks) if self.spec.chunks and self.spec.whole_chunks else 0
        return Costs(
            input_bytes=others * rows * cols * self.spec.dtype.itemsize,
            output_bytes=means * self.output_itemsize,
            chunk_bytes=2 * chunk * self.spec.dtype.itemsize,
            sums_bytes=0 if self.is_whole else 2 * means * SUM_BYTES,
        )

    @property
    def run_bytes(self) -> int:
        """Bytes that lie together along the columns and trail axes, so are read at once."""
        cols = _longest_span(self.grid.cols, self.cols, self.col_slabs)
        return cols * size_of(self.trail) * self.spec.dtype.itemsize

    @property
    def peak_bytes(self) -> int:
        """Most memory that the buffers take: one block for each worker."""
        return self.workers * self.costs.total_bytes

    @property
    def is_whole(self) -> bool:
        """Whether every block is read in one piece."""
        rows, cols = self.grid.rows, self.grid.cols
        return self.row_slabs >= self.rows * rows.slabs and self.col_slabs >= self.cols * cols.slabs

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

    def pieces(self) -> Iterator[Piece]:
        """Everything to be read, in order."""
        for _, piece in self.numbered_pieces():
            yield piece

    def numbered_pieces(self) -> Iterator[tuple[int, Piece]]:
        """The same, each with the number of its block."""
        for number, block in enumerate(self.blocks()):
            for piece in self._pieces_of(block):
                yield number, piece

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

    def _pieces_of(self, block: Block) -> Iterator[Piece]:
        rows, cols = self.grid.rows, self.grid.cols
        row_range, col_range = rows.slabs_of(block.rows), cols.slabs_of(block.cols)
        for top in range(row_range[0], row_range[1], self.row_slabs):
            bottom = min(top + self.row_slabs, row_range[1])
            for left in range(col_range[0], col_range[1], self.col_slabs):
                right = min(left + self.col_slabs, col_range[1])
                spans = (*block.lead, rows.cuts(top, bottom).span, cols.cuts(left, right).span, *block.trail)
                yield Piece(
                    block,
                    (top, bottom),
                    (left, right),
                    tuple(slice(*span) for span in spans),
                    last=bottom == row_range[1] and right == col_range[1],
                )


def _boxes(steps: list[tuple[int, int, int]]) -> Iterator[tuple[Span, ...]]:
    """All boxes of a grid (length, step, cells of the first step that lie before), last axis fastest.

    `product` would store every span.
    """
    if not steps:
        yield ()
        return
    (length, step, before), others = steps[0], steps[1:]
    for start in range(-before, length, step):
        for box in _boxes(others):
            yield ((max(0, start), min(start + step, length)), *box)


def _longest_span(axis: Axis, windows: int, slabs: int) -> int:
    """Most cells that so many consecutive slabs or windows cover; never less than they do."""
    if windows == axis.n_out and slabs >= windows * axis.slabs:
        return axis.n_in
    if slabs >= windows * axis.slabs:
        return min(axis.n_in, -(-windows * axis.n_in // axis.n_out) + 1)
    return min(axis.n_in, slabs * -(-axis.longest // axis.slabs))


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
        row_slabs=grid.rows.n_out * grid.rows.slabs,
        col_slabs=grid.cols.n_out * grid.cols.slabs,
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

    if len(grids) == 1:
        return planned(max_memory, whole=whole_planes)
    try:
        plans = planned(max(1, max_memory // len(grids)), whole=True)
    except MemoryLimitError:
        return planned(max_memory, whole=whole_planes)
    if not all(plan.has_whole_planes for plan in plans):
        return planned(max_memory, whole=whole_planes)
    least = min(plans, key=lambda plan: size_of(plan.lead))
    fewest = min(plan.workers for plan in plans)
    return [plan._replace(lead=least.lead, workers=fewest) for plan in plans]


def share_blocks(plans: Sequence[Plan]) -> bool:
    """Whether one pass over the input serves all these plans."""
    return len(plans) == 1 or all(p.has_whole_planes and p.lead == plans[0].lead for p in plans)


def _shrink(plan: Plan, budget: int) -> Plan:
    """Cut a block until it fits: fewer samples, rows, trail, columns, then slabs."""
    halves = (_fewer_samples, _fewer_rows, _less_trail, _fewer_cols, _fewer_row_slabs, _fewer_col_slabs)
    for halve in halves:
        while plan.costs.total_bytes > budget:
            smaller = halve(plan)
            if smaller == plan:
                break
            plan = smaller
    return plan


def _half(n: int) -> int:
    return -(-n // 2)


def _fewer_samples(plan: Plan) -> Plan:
    if plan.spec.whole_chunks:
        # A compressed chunk is decoded whole: smaller blocks would only decode it again.
        return plan
    lead = list(plan.lead)
    for axis, length in enumerate(lead):
        if length > 1:
            lead[axis] = _half(length)
            break
    return plan._replace(lead=tuple(lead))


def _fewer_rows(plan: Plan) -> Plan:
    rows = _half(plan.rows)
    return plan._replace(rows=rows, row_slabs=rows * plan.grid.rows.slabs)


def _less_trail(plan: Plan) -> Plan:
    if not plan.trail:
        return plan
    return plan._replace(trail=(*plan.trail[:-1], _half(plan.trail[-1])))


def _fewer_cols(plan: Plan) -> Plan:
    cols = _half(plan.cols)
    return plan._replace(cols=cols, col_slabs=cols * plan.grid.cols.slabs)


def _fewer_row_slabs(plan: Plan) -> Plan:
    return plan._replace(row_slabs=_half(plan.row_slabs))


def _fewer_col_slabs(plan: Plan) -> Plan:
    return plan._replace(col_slabs=_half(plan.col_slabs))


def _tune(plan: Plan, target: int, *, whole_planes: bool) -> Plan:
    """Bring a block that fits the memory near the size that fits the cache."""
    if not (whole_planes and plan.is_whole) and (plan.spec.chunks is None or not plan.is_whole):
        for halve in (_fewer_rows, _fewer_cols) if plan.is_whole else (_fewer_row_slabs, _fewer_col_slabs):
            while plan.costs.input_bytes > target:
                smaller = halve(plan)
                if smaller == plan or smaller.run_bytes < min(plan.run_bytes, target // 2):
                    break
                plan = smaller
    return _grow(plan, target)


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
