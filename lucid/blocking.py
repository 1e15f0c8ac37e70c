"""Which blocks, in which order, at what peak of memory: pure arithmetic on shapes and bytes.

An array has the axes (lead..., H, W, trail...). A block is a region of windows, written at once. It has the first of
three forms that fits the memory:

    planes    whole planes of some samples, pooled to all sizes in one pass
    windows   some rows of windows of a plane at one size, whose cells are read at once
    columns   rows of windows larger than memory: some columns of cells at a time, from left to right, and of these some
              rows at a time, from top to bottom; their sums are carried from read to read

What it costs in memory is

    input     the cells that are read at once, as they are in the file; behind a network also their raw chunks
    output    its results
    chunk     where the file is compressed, all copies of a chunk that lie in memory while it is decoded
    sums      accumulators of one row of windows; by columns, those of columns, of all windows and of some cells

Blocks follow the file's chunk grid along the lead axes, so that no chunk is decoded twice unless a plane exceeds the
limit. In Fortran order the lead axes lie closest together in the file, and a block of one sample would be read element
by element: there blocks have some samples, and as many of them as have room.
"""

import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from lucid.errors import MemoryLimitError
from lucid.formats.arrays import ArraySpec
from lucid.formats.regions import Region, divide, first_step, size_of
from lucid.pooling.means import REGION_CELL_BYTES, REGION_CELLS
from lucid.pooling.windows import Axis, Grid

#: Bytes that a block aims at: those of a few threads stay in a level-3 cache between reading and pooling, and smaller
#: ones cost more Python than they save (benchmarks/decisions.md).
BLOCK_BYTES = 4 << 20
#: Bytes of sums for each column, and for each window, by columns: sum, error and count, also scaled, twice.
COLUMN_SUM_BYTES = 96
#: Bytes of what the kernel keeps of each window of one row: the same, and numbers of cells.
WINDOW_SUM_BYTES = 48
#: Bytes that should lie together in Fortran order: with fewer, to ask for them takes longer than to read them.
SHORT_RUN_BYTES = 512


class Blocking(NamedTuple):
    """How one array is streamed, to one size or to several: the shape of its blocks, and what they cost."""

    spec: ArraySpec
    grids: tuple[Grid, ...]
    height_axis: int
    output_itemsize: int
    workers: int
    #: Lengths of a block along the axes of the output; of several sizes, enough for the largest.
    lengths: tuple[int, ...]
    #: Most rows and columns of cells that are read at once.
    row_cells: int
    col_cells: int
    #: Least lengths along the lead axes, and rows of cells, where there is room: in Fortran order these lie together.
    least: tuple[int, ...]

    @property
    def input_bytes(self) -> int:
        """Bytes of the largest read."""
        return self._samples * size_of(self._read_cells) * self.spec.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Bytes that decoding a chunk takes."""
        return self.spec.chunk_copies * size_of(self.spec.chunks or ()) * self.spec.dtype.itemsize

    @property
    def block_bytes(self) -> int:
        """What the largest block takes: input, output, chunk and sums."""
        rows, cols, *trail = self.lengths[self.height_axis :]
        windows = sum(min(rows, grid.rows.n_out) * min(cols, grid.cols.n_out) for grid in self.grids)
        results = self._samples * windows
        if self.is_whole:
            sums_bytes = cols * size_of(trail) * WINDOW_SUM_BYTES
        else:
            sums_bytes = (2 * self._samples * self._read_cells[1] + results) * COLUMN_SUM_BYTES
            sums_bytes += min(self._samples * size_of(self._read_cells), REGION_CELLS) * REGION_CELL_BYTES
        # Columns in Fortran order are copied, since sums of columns are taken of planes.
        is_copied = self.spec.is_far or (self.spec.order == "F" and not self.is_whole)
        input_bytes = self.input_bytes * (2 if is_copied else 1)
        return input_bytes + results * self.output_itemsize + self.chunk_bytes + sums_bytes

    @property
    def peak_bytes(self) -> int:
        """Most memory that the buffers take: one block for each worker."""
        return self.workers * self.block_bytes

    @property
    def _samples(self) -> int:
        """Values of a block for each cell of a plane."""
        h = self.height_axis
        return size_of(self.lengths[:h]) * size_of(self.lengths[h + 2 :])

    @property
    def _block_cells(self) -> tuple[int, int]:
        """Most rows and columns of cells that a block covers."""
        rows, cols = self.lengths[self.height_axis :][:2]
        return _most_cells(self.grids[0].rows, rows), _most_cells(self.grids[0].cols, cols)

    @property
    def _read_cells(self) -> tuple[int, int]:
        """Most rows and columns of cells that are read at once."""
        rows, cols = self._block_cells
        return min(rows, self.row_cells), min(cols, self.col_cells)

    @property
    def is_whole(self) -> bool:
        """Whether every block is read at once."""
        return self._read_cells == self._block_cells

    @property
    def is_sequential(self) -> bool:
        """Whether the blocks are runs of the array, one after the other, in input and output."""
        h = self.height_axis
        # Of the last axis that is divided there may be some, of those before it one, and of planes all.
        first = next((axis for axis in range(h) if self.lengths[axis] > 1), h)
        begin = min(first + 1, h)
        is_run = all(map(operator.ge, self.lengths[begin:], self._shape(self.grids[0])[begin:]))
        return self.is_whole and is_run and self.spec.order == "C"

    def _shape(self, grid: Grid) -> tuple[int, ...]:
        """Shape of the results at one size."""
        shape, h = self.spec.shape, self.height_axis
        return (*shape[:h], grid.rows.n_out, grid.cols.n_out, *shape[h + 2 :])

    @property
    def block_count(self) -> int:
        """How many blocks there are; of an array without cells none."""
        count = 1
        for axis, (length, step) in enumerate(zip(self._shape(self.grids[0]), self.lengths, strict=True)):
            first = first_step(length, step, self.spec.offset[axis:])
            count *= -(-(length - first) // step) + (first > 0)
        return count

    def blocks(self) -> Iterator[tuple[Region, ...]]:
        """Everything to be written, in order: of each block its region in the output of every size."""
        every = (divide(self._shape(grid), self.lengths, self.spec.offset) for grid in self.grids)
        return zip(*every, strict=True)

    def cells(self, block: Region) -> Region:
        """The cells that the windows of a block cover; its region is that of the first size."""
        h, grid = self.height_axis, self.grids[0]
        rows, cols = grid.rows.cells(ends(block[h])), grid.cols.cells(ends(block[h + 1]))
        return (*block[:h], slice(*rows), slice(*cols), *block[h + 2 :])

    def columns(self, block: Region) -> Iterator[tuple[int, list[Region]]]:
        """The columns of a block that is not read at once, some after the other: where they begin, and their reads."""
        h, cells = self.height_axis, self.cells(block)
        for cols in _steps(cells[h + 1], self.col_cells):
            reads = [(*cells[:h], rows, cols, *cells[h + 2 :]) for rows in _steps(cells[h], self.row_cells)]
            yield cols.start - cells[h + 1].start, reads


def ends(interval: slice) -> tuple[int, int]:
    """Where a slice starts and stops."""
    return interval.start, interval.stop


def _steps(cells: slice, step: int) -> Iterator[slice]:
    """A range divided at multiples of `step`, where chunks end, too."""
    for start in range(cells.start // step * step, cells.stop, step):
        yield slice(max(start, cells.start), min(start + step, cells.stop))


def _most_cells(axis: Axis, windows: int) -> int:
    """Most cells that so many consecutive windows cover; never less than they do."""
    if windows >= axis.n_out:
        return axis.n_in
    if windows == 1:
        return axis.longest
    return min(axis.n_in, -(-windows * axis.n_in // axis.n_out) + 1)


def blockings(
    spec: ArraySpec,
    grids: Sequence[Grid],
    height_axis: int,
    output_itemsize: int,
    *,
    max_memory: int,
    workers: int,
    whole_planes: bool = False,
) -> list[Blocking]:
    """How an array is streamed to some sizes: in one pass, or in one for each where planes do not fit the memory.

    Fewer workers are planned where their blocks would not fit together; a MemoryLimitError names the limit that the
    smallest block of one needs. With `whole_planes`, planes are divided only if they do not fit the memory, not for the
    cache.
    """
    short_run = SHORT_RUN_BYTES if spec.order == "F" else 1
    whole_of = partial(_whole, spec, height_axis, output_itemsize)

    def best_fit(subset: tuple[Grid, ...], fit: Callable[[Blocking, int], Blocking]) -> Blocking:
        """Blocks of as many workers as have room; if there is none for one worker's, the smallest."""
        for count in range(workers, 0, -1):
            blocking = fit(whole_of(subset, count, short_run), max_memory // count)
            if blocking.peak_bytes <= max_memory:
                return blocking
        return fit(whole_of(subset, 1, 1), max_memory)

    # Behind a network, fewer blocks at once are better than chunks that are read again.
    if len(grids) > 1 or spec.is_far:
        joint = best_fit(tuple(grids), _planes)
        if joint.peak_bytes <= max_memory:
            return [joint]
    aim = max_memory if whole_planes or spec.chunks or spec.order == "F" else BLOCK_BYTES
    every = [best_fit((grid,), lambda whole, budget: _fit(whole, budget, min(budget, aim))) for grid in grids]
    for one in every:
        if one.peak_bytes > max_memory:
            chunk = ""
            if spec.chunk_copies:
                chunk = f", for its chunks of {one.chunk_bytes // spec.chunk_copies} bytes"
            name = f"dataset {spec.name}: " * bool(spec.name)
            raise MemoryLimitError(
                f"{name}needs `max_memory` of at least {one.peak_bytes} bytes{chunk}; it is {max_memory}"
            )
    return every


def _whole(
    spec: ArraySpec, h: int, output_itemsize: int, grids: tuple[Grid, ...], workers: int, run_bytes: int
) -> Blocking:
    """Whole planes of the samples of one chunk."""
    chunks = spec.chunks or (1,) * len(spec.shape)
    rows, cols = max(grid.rows.n_out for grid in grids), max(grid.cols.n_out for grid in grids)
    least, elements = list[int](), -(-run_bytes // spec.dtype.itemsize)
    for n in spec.shape[: h + 1]:
        least.append(max(1, min(n, elements)))
        elements = -(-elements // least[-1])
    lead = [max(few, min(c, n)) for few, c, n in zip(least[:h], chunks, spec.shape, strict=False)]
    trail = [max(1, n) for n in spec.shape[h + 2 :]]
    return Blocking(
        spec=spec,
        grids=grids,
        height_axis=h,
        output_itemsize=output_itemsize,
        workers=workers,
        lengths=(*lead, rows, cols, *trail),
        row_cells=grids[0].rows.n_in,
        col_cells=grids[0].cols.n_in,
        least=tuple(least),
    )


def _fit(whole: Blocking, budget: int, aim: int) -> Blocking:
    """Blocks of the first form that fits the budget; planes only up to the bytes that are aimed at."""
    planes = _planes(whole, budget)
    if planes.block_bytes <= aim:
        return planes
    windows = _windows(whole, aim)
    if windows.block_bytes <= budget:
        return windows
    columns, window = _columns(whole, budget), _with_length(windows, whole.height_axis + 1, 1)
    return columns if columns.block_bytes <= budget or columns.block_bytes <= window.block_bytes else window


def _windows(whole: Blocking, aim: int) -> Blocking:
    """Rows of windows of one sample, or of few."""
    h, axis = whole.height_axis, whole.grids[0].rows
    first = 1 + bisect_left(range(1, axis.n_out), whole.least[h], key=partial(_most_cells, axis))
    return _grow(partial(_with_length, _few_samples(whole), h), range(first, axis.n_out + 1), aim)


def _columns(whole: Blocking, budget: int) -> Blocking:
    """Windows of one row: columns of cells first, then windows, trail axes, rows of cells."""
    h, grid, chunks = whole.height_axis, whole.grids[0], whole.spec.chunks
    longest, few = grid.rows.longest, _few_samples(whole)
    blocks = few._replace(lengths=(*few.lengths[:h], *[1] * len(few.lengths[h:])), col_cells=1)
    least = min(longest, whole.least[h])
    # So that chunks are decoded once, all their rows are read at once, if there is room.
    blocks = blocks._replace(
        row_cells=min(longest, chunks[h]) if chunks and whole.spec.chunk_copies else least
    )
    if blocks.block_bytes > budget:
        blocks = blocks._replace(row_cells=least)
    blocks = _grow(lambda cells: blocks._replace(col_cells=cells), range(1, grid.cols.longest + 1), budget)
    if blocks.col_cells == grid.cols.longest:
        blocks = blocks._replace(col_cells=grid.cols.n_in)
    for axis in (h + 1, *reversed(range(h + 2, len(few.lengths)))):
        blocks = _grow(partial(_with_length, blocks, axis), range(1, whole.lengths[axis] + 1), budget)
    counts = range(blocks.row_cells, longest + 1, blocks.row_cells)
    aim = min(budget, blocks.block_bytes + BLOCK_BYTES)
    return _grow(lambda cells: blocks._replace(row_cells=cells), counts, aim)


def _planes(whole: Blocking, budget: int) -> Blocking:
    """Samples of a chunk, or more: those that lie together first, an outer axis only when the inner is whole."""
    if whole.block_bytes > budget:
        whole = _few_samples(whole)
    is_fortran = whole.spec.order == "F"
    lead, aim = range(whole.height_axis), budget if is_fortran else BLOCK_BYTES
    for axis in lead if is_fortran else reversed(lead):
        length = whole.spec.shape[axis]
        room = min(budget - whole.chunk_bytes, aim) // max(1, whole.block_bytes - whole.chunk_bytes)
        if room > 1:
            whole = _with_length(whole, axis, max(1, min(length, whole.lengths[axis] * room)))
        if whole.lengths[axis] < length:
            break
    return whole


def _grow(blocks_of: Callable[[int], Blocking], lengths: range, most: int) -> Blocking:
    """Blocks of the greatest of some lengths at which they take at most so many bytes, or else of the least."""
    count = bisect_right(lengths, most, key=lambda length: blocks_of(length).block_bytes)
    return blocks_of(lengths[max(0, count - 1)])


def _with_length(blocking: Blocking, axis: int, length: int) -> Blocking:
    """The same with another length of a block along one axis."""
    return blocking._replace(lengths=(*blocking.lengths[:axis], length, *blocking.lengths[axis + 1 :]))


def _few_samples(blocking: Blocking) -> Blocking:
    """Blocks of one sample, or few; of those of a chunk where it is compressed, which would only be decoded again."""
    h = blocking.height_axis
    if blocking.spec.chunk_copies:
        return blocking
    return blocking._replace(lengths=(*blocking.least[:h], *blocking.lengths[h:]))
