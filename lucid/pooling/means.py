"""Windows of an array to their means: by the compiled kernel where there is one, else by NumPy, with the same bits.

Arrays are (planes, height, width, inner); `inner` is what lies closer together than columns, such as channels.
"""

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from lucid.pooling import sums
from lucid.pooling.dtypes import ELEMENTS, FLOATS, Array, narrow
from lucid.pooling.sums import SCALE, Rule
from lucid.pooling.windows import Grid, Interval

kernel: Any
try:
    kernel = import_module("lucid.pooling._kernel")
except ImportError:  # it was installed without a C compiler
    kernel = None

#: Elements that NumPy widens at once: enough for its calls to pay, few enough for caches (benchmarks/decisions.md).
BLOCK_CELLS = 1 << 17
#: Elements that are copied at once for the kernel where they do not lie as it wants them.
COPIED_CELLS = 1 << 18
#: Columns of windows too large for a block that are added at once.
REGION_COLUMNS = 1 << 12
#: Cells of such windows that are added at once, and the most bytes that NumPy takes for each of them.
REGION_CELLS = 1 << 15
REGION_CELL_BYTES = 80
#: Cells of a window that the kernel adds exactly in float64; of other types, those that it counts in 32 bits.
MOST_CELLS = {"uint64": 0, "int64": 0, "uint32": 1 << 20, "int32": 1 << 20}
MOST_COUNTED = 1 << 30


class Pooling(NamedTuple):
    """One way to pool planes."""

    grid: Grid
    rule: Rule

    def means(self, cells: Array, out: Array, rows: Interval, cols: Interval, threads: int = 1) -> int:
        """Reduce windows `rows` x `cols` into `out`; how many finite results became infinite.

        Parameters
        ----------
        cells
            (planes, height, width, inner): the cells that those windows cover, any strides and byte order.
        out
            (planes, rows, columns, inner) of the rule's result, native, any strides.
        threads
            Threads of the kernel.

        """
        if 0 in out.shape:
            return 0
        if not self._is_compiled(cells.shape[1] * cells.shape[2]):
            return sum(_by_numpy(self, *block, cols) for block in self._blocks(cells, out, rows, BLOCK_CELLS))
        if len(self.rule.missing) < 2 and cells.flags.aligned and cells.dtype.isnative:
            overflows = self._by_kernel(cells, out, rows, cols, threads)
            if overflows >= 0:
                return overflows
        overflows = 0
        for block, place, block_rows in self._blocks(cells, out, rows, COPIED_CELLS):
            overflows += self._by_kernel(_laid_out(block, self.rule), place, block_rows, cols)
        return overflows

    def working_bytes(self, cells: int) -> int:
        """Most bytes that NumPy takes to pool so many cells; 0 where the kernel does it."""
        return 0 if self._is_compiled(cells) else min(cells, 2 * BLOCK_CELLS) * REGION_CELL_BYTES

    def _is_compiled(self, cells: int) -> bool:
        """Whether the kernel pools windows of planes of so many cells."""
        if kernel is None or self.rule.reduce not in KERNEL_NUMBERS:
            return False
        most = MOST_CELLS.get(self.rule.source, MOST_COUNTED)
        return cells <= most or self.grid.rows.longest * self.grid.cols.longest <= most

    def _by_kernel(self, cells: Array, out: Array, rows: Interval, cols: Interval, threads: int = 1) -> int:
        rule = self.rule
        overflows: int = kernel.pool(
            cells,
            out,
            (*self.grid.rows, rows[0], rows[1] - rows[0]),
            (*self.grid.cols, cols[0], cols[1] - cols[0]),
            ELEMENTS[rule.source].code,
            ELEMENTS[rule.result].code,
            KERNEL_NUMBERS[rule.reduce],
            rule.skip_nan,
            bool(rule.missing),
            rule.missing[0] if rule.missing else 0.0,
            rule.min_valid,
            bool(rule.fill) if rule.result == "bool" else rule.fill,
            threads,
        )
        return overflows

    def _blocks(
        self, cells: Array, out: Array, rows: Interval, most: int
    ) -> Iterator[tuple[Array, Array, Interval]]:
        """Planes and rows of windows of about so many elements: their cells, their place, and which rows."""
        planes, height, width, inner = cells.shape
        first = self.grid.rows.start(rows[0])
        each = width * inner
        step = max(1, min(rows[1] - rows[0], most * (rows[1] - rows[0]) // max(1, height * each)))
        count = max(1, most // (height * each)) if step == rows[1] - rows[0] else 1
        for plane in range(0, planes, count):
            for row in range(rows[0], rows[1], step):
                some = row, min(row + step, rows[1])
                top, bottom = self.grid.rows.cells(some)
                planes_of_block = slice(plane, plane + count)
                yield (
                    cells[planes_of_block, top - first : bottom - first],
                    out[planes_of_block, some[0] - rows[0] : some[1] - rows[0]],
                    some,
                )


#: The kernel's number of each reduction that it knows.
KERNEL_NUMBERS = {"mean": 0, "sum": 1, "max": 2, "min": 3}


def _laid_out(cells: Array, rule: Rule) -> Array:
    """A copy as the kernel wants it: native, rows together, one missing value in place of several."""
    copy = np.array(cells, cells.dtype.newbyteorder("="), order="C")
    if len(rule.missing) > 1:
        first, values = np.empty(1, copy.dtype), sums.values_of(copy, rule.source)
        if rule.source in FLOATS:
            narrow(np.array(rule.missing[:1], np.float64), rule.source, first)
        else:
            first[0] = rule.missing[0]
        for value in rule.missing[1:]:
            copy[values == value] = first
    return copy


def _by_numpy(pooling: Pooling, cells: Array, out: Array, rows: Interval, cols: Interval) -> int:
    """The same without a kernel."""
    rule = pooling.rule
    if cells.size > 2 * BLOCK_CELLS and rows[1] - rows[0] == 1:
        regions = Total(pooling, rows, cols)
        for left in range(0, cells.shape[2], REGION_COLUMNS):
            regions.add(sums_of_columns([cells[:, :, left : left + REGION_COLUMNS]], rule), left)
        return regions.finish(out)

    row_bounds, col_bounds = pooling.grid.rows.bounds(rows), pooling.grid.cols.bounds(cols)

    def total(scale: float) -> Array:
        by_rows = sums.along(sums.lift(cells, rule, scale), sums.ROWS, *row_bounds, rule)
        return sums.along(by_rows, sums.COLUMNS, *col_bounds, rule)

    areas = np.subtract(*row_bounds[::-1])[:, None, None] * np.subtract(*col_bounds[::-1])[:, None]
    return sums.finish(total(1.0), areas.astype(np.float64), rule, out, lambda: total(SCALE))


def sums_of_columns(regions: Iterable[Array], rule: Rule) -> Array:
    """The columns of a window's rows, which come in regions from top to bottom, each (planes, rows, columns, inner).

    For sums of float64 all planes are followed by scaled ones, since cells whose sum overflows cannot be read again.
    """
    so_far: dict[float, Array] = {}
    for region in regions:
        step = max(1, REGION_CELLS // max(1, region[:, 0].size))
        for top in range(0, region.shape[1], step):
            for scale in (1.0, SCALE) if rule.kind == "double" else (1.0,):
                cells = sums.lift(region[:, top : top + step], rule, scale)
                if scale in so_far:
                    cells = np.concatenate([so_far[scale], cells], sums.ROWS)
                bounds = np.array([0]), np.array([cells.shape[sums.ROWS]])
                so_far[scale] = sums.along(cells, sums.ROWS, *bounds, rule)
    return np.concatenate(list(so_far.values()), sums.PLANES)


class Total:
    """One row of windows whose cells come in regions of columns, from left to right."""

    def __init__(self, pooling: Pooling, rows: Interval, cols: Interval) -> None:
        self._rule = pooling.rule
        self._starts, self._stops = pooling.grid.cols.bounds(cols)
        top, bottom = pooling.grid.rows.cells(rows)
        self._areas = (bottom - top) * (self._stops - self._starts).astype(np.float64)[:, None]
        self._total: Array | None = None

    def add(self, region: Array, left: int) -> None:
        """Add the columns that begin at column `left` of the windows' own."""
        right = left + region.shape[sums.COLUMNS]
        first, last = np.searchsorted(self._stops, left, "right"), np.searchsorted(self._starts, right)
        if self._total is None:
            self._total = np.empty((*region.shape[:3], len(self._starts), *region.shape[4:]), region.dtype)
        if self._starts[first] < left:
            # Only one goes on here, since windows share at most a cell. What it has stands before its other columns.
            region = np.concatenate([self._total[:, :, :, first : first + 1], region], sums.COLUMNS)
            left -= 1
        starts = np.maximum(self._starts[first:last], left) - left
        stops = np.minimum(self._stops[first:last], right) - left
        self._total[:, :, :, first:last] = sums.along(region, sums.COLUMNS, starts, stops, self._rule)

    def finish(self, out: Array) -> int:
        """Write the results once every region was added; how many finite ones became infinite."""
        total, planes = self._total, len(out)
        assert total is not None
        return sums.finish(total[:, :planes], self._areas, self._rule, out, lambda: total[:, planes:])
