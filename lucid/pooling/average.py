"""From sums of windows to means.

    mean = (sum of the window) / (number of its cells)

A tile of cells is summed by the kernels, mended by the rules, divided and rounded once. With
`nan="skip"`, NaN counts as nothing in the sum and in the number of cells.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lucid.pooling.dtypes import Numbers, narrow, widen
from lucid.pooling.jit import Kernels
from lucid.pooling.kernels import order_of, two_sum, window_sums
from lucid.pooling.rules import (
    Floats,
    Sums,
    adds_equals_exactly,
    limit,
    mend_constants,
    mend_extremes,
    quietly,
)
from lucid.pooling.windows import Cuts, Grid

if TYPE_CHECKING:
    from lucid.pooling.compiled.choice import Call

Array = npt.NDArray[Any]

#: Cells of a tile that is read in place, once: the more, the fewer calls of Python. 1 MiB of float32
#: took a quarter longer at 56x56 -> 4x4.
TILE_CELLS = 1 << 20
#: Tiles that are converted first, or read several times as channels-last ones are, stay in the
#: level-2 cache: smaller by this.
COPIED_TILES = 4
#: Cells that compiled kernels get in one call, and planes if these are large: several registers of them.
COMPILED_CELLS, MANY_PLANES = 1 << 24, 128
#: Cells that are pooled again by NumPy where the sums of a plane are not finite.
REDONE_CELLS = 1 << 16
#: Bytes between writes that meet in the same sets of the level-1 cache.
BANK = 512

Span = tuple[int, int]
#: Pools some planes.
Step = Callable[[], None]


#: Which intervals, and these.
Band = tuple[slice, Cuts]
#: Which planes, which intervals of rows and of columns counted from the tile, and its cells.
Tile = tuple[slice, Band, Band, Floats]
#: Which planes, the first slab along rows and columns, and the sums from there.
SlabSums = tuple[slice, int, int, Sums]


class Part(NamedTuple):
    """Planes, as `Pooling.means` takes them, and their windows, whole and counted from the first cell."""

    source: Array
    out: Array
    rows: Cuts
    cols: Cuts


class Pooling(NamedTuple):
    """One way to pool planes: which windows, which numbers, which rule for NaN."""

    grid: Grid
    numbers: Numbers
    skip_nan: bool = False
    tile_cells: int = TILE_CELLS
    kernels: Kernels = Kernels.NUMPYS

    def means(self, source: Array, out: Array, rows: Span, cols: Span) -> None:
        """Write the means of windows `rows` x `cols` into `out`.

        Parameters
        ----------
        source
            (planes, height, width, inner): the cells that those windows cover, any strides.
        out
            (planes, rows, columns, inner), any strides.

        """
        for step in self.steps(source, out, rows, cols):
            step()

    def steps(self, source: Array, out: Array, rows: Span, cols: Span) -> Iterator[Step]:
        """The same as calls, which leave little of Python to threads that may run them at once."""
        if 0 in out.shape:
            return
        if not self.grid.windows_are_whole:
            yield partial(self._slab_means, source, out, rows, cols)
            return
        for part in self.parts(source, out, rows, cols):
            yield self.step(part, self.call(part) if self.may_be_compiled else None)

    def step(self, part: Part, call: "Call | None") -> Step:
        """Pool a part by a compiled kernel, or by NumPy's."""
        return partial(self._numpy_means, part) if call is None else partial(self.run, call, lambda: part)

    @property
    def may_be_compiled(self) -> bool:
        """Whether compiled kernels are asked for, and can do it at all."""
        return self.kernels is not Kernels.NUMPYS and not self.skip_nan and self.grid.windows_are_whole

    def parts(self, source: Array, out: Array, rows: Span, cols: Span) -> Iterator[Part]:
        """Whole windows, cut into what is pooled in one call."""
        row_cuts = self.grid.rows.cuts(*rows).relative
        col_cuts = self.grid.cols.cuts(*cols).relative
        step = max(MANY_PLANES, COMPILED_CELLS // source[0].size) if self.may_be_compiled else len(source)
        for start in range(0, len(source), step):
            here = slice(start, start + step)
            yield Part(source[here], out[here], row_cuts, col_cuts)

    def call(self, part: Part) -> "Call | None":
        """A compiled kernel for that, or None where it is left to NumPy."""
        from lucid.pooling.compiled import choice

        may_compile = self.kernels is Kernels.COMPILED
        return choice.prepared(self.numbers, order_of(self.grid), *part, may_compile=may_compile)

    def run(self, call: "Call", part: Callable[[], Part]) -> None:
        """Run a compiled kernel; NumPy pools the planes where it fails, for want of the rules."""
        failed = call()
        if failed is None:
            return
        source, out, rows, cols = part()
        few = max(1, REDONE_CELLS // source[0].size)
        for first in range(0, len(source), few):
            here = slice(first, first + few)
            if failed[here].any():
                self._numpy_means(Part(source[here], out[here], rows, cols))

    def _slab_means(self, source: Array, out: Array, rows: Span, cols: Span) -> None:
        """Means of windows of several slabs."""
        total = Accumulator(self, rows, cols, source.shape[0], source.shape[3])
        total.add(self.slab_sums(source, self.grid.rows.slabs_of(rows), self.grid.cols.slabs_of(cols)))
        total.means(out)

    def _numpy_means(self, part: Part) -> None:
        """Means of whole windows."""
        source, out, rows, cols = part
        for planes, (down, row_part), (across, col_part), tile in self._tiles(source, rows, cols):
            self._store(self._sums(tile, row_part, col_part), out[planes, down, across])

    def slab_sums(self, source: Array, row_slabs: Span, col_slabs: Span) -> list[SlabSums]:
        """Sums of slabs, for an `Accumulator`.

        Parameters
        ----------
        source
            (planes, height, width, inner): the cells that those slabs cover, any strides.

        """
        row_cuts = self.grid.rows.cuts(*row_slabs).relative
        col_cuts = self.grid.cols.cuts(*col_slabs).relative
        return [
            (
                planes,
                row_slabs[0] + down.start,
                col_slabs[0] + across.start,
                self._sums(tile, row_part, col_part),
            )
            for planes, (down, row_part), (across, col_part), tile in self._tiles(source, row_cuts, col_cuts)
        ]

    def _tiles(self, source: Array, rows: Cuts, cols: Cuts) -> Iterator[Tile]:
        """Cut planes to fit the cache, as contiguous accumulator arrays."""
        ready = source.dtype == self.numbers.accumulator and source.dtype.isnative
        most = self.tile_cells if ready else self.tile_cells // COPIED_TILES
        scratch = np.empty(0, self.numbers.accumulator)
        for planes, row_band, col_band, tile in _regions(source, rows, cols, most):
            if ready and tile.flags.c_contiguous:
                yield planes, row_band, col_band, tile
                continue
            if scratch.size < tile.size:
                # Kept from tile to tile: fresh memory costs a page fault every 4 KiB.
                scratch = np.empty(tile.size, self.numbers.accumulator)
            copy = scratch[: tile.size].reshape(tile.shape)
            widen(tile, self.numbers.source, copy)
            yield planes, row_band, col_band, copy

    @quietly
    def _store(self, sums: Sums, out: Array) -> None:
        """Divide, and round once to the result."""
        if sums.low is None and sums.high.dtype == out.dtype:
            if out.strides[-1] % BANK:
                np.divide(sums.high, sums.cells, out=out)
            else:
                # The loop that writes in order, for it would write to few sets of the cache only:
                # (4, 256, 256) transposed took 1.1 ns an element so, 5.2 otherwise.
                last = (0, 3, 1, 2)
                np.divide(sums.high.transpose(last), sums.cells.transpose(last), out=out.transpose(last))
            return
        if sums.high.dtype != np.float64:
            sums = Sums(sums.high.astype(np.float64), None, sums.cells.astype(np.float64))
        narrow(sums.means(), self.numbers.result, out)

    @quietly
    def _sums(self, tile: Floats, rows: Cuts, cols: Cuts) -> Sums:
        """Sums over a contiguous accumulator tile, with every rule kept."""
        order = order_of(self.grid)
        cells = _areas(rows, cols, tile.dtype)
        if self.skip_nan:
            missing = np.isnan(tile)
            if missing.any():
                cells, _ = window_sums((~missing).astype(tile.dtype), rows, cols, order)
                tile = np.where(missing, tile.dtype.type(0), tile)
        high, low = window_sums(tile, rows, cols, order)
        sums = Sums(high, low, cells.astype(high.dtype, copy=False))
        if self._may_be_extreme(high):
            sums = mend_extremes(sums, tile, rows, cols, order)
        if not (self.numbers.adds_equals_exactly or adds_equals_exactly(rows, cols, order)):
            sums = mend_constants(sums, tile, rows, cols)
        return sums

    def _may_be_extreme(self, high: Floats) -> bool:
        """Whether any sum is not finite, or is so big that adding slabs could overflow."""
        if self.grid.windows_are_whole:
            # One pass instead of three; a total that overflows by itself costs a closer look.
            return not np.isfinite(high.sum())
        # Not `(abs(high) > limit).any()`: NaN would pass it.
        return not (np.abs(high) <= limit(high)).all()


class Accumulator:
    """Running sums of windows too large to be held at once, added slab by slab.

    Slabs of a window come in reading order, in calls of any size; rounding errors are
    carried along, so that the number of slabs costs no accuracy.
    """

    def __init__(self, pooling: Pooling, rows: Span, cols: Span, planes: int, inner: int) -> None:
        self._pooling, self._rows, self._cols = pooling, rows, cols
        shape = (planes, rows[1] - rows[0], cols[1] - cols[0], inner)
        self._sums = Sums(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.ones(shape))

    @quietly
    def add(self, slabs: list[SlabSums]) -> None:
        """Add the sums of further slabs, as `Pooling.slab_sums` gives them."""
        for planes, row, col, sums in slabs:
            self._add_sums(planes, sums, row, col)

    def _add_sums(self, planes: slice, part: Sums, row: int, col: int) -> None:
        """Add the slabs of each window in order; one step serves all windows at once."""
        rows, cols = self._pooling.grid.rows.slabs, self._pooling.grid.cols.slabs
        n_rows, n_cols = part.high.shape[1:3]
        shape = part.high.shape
        cells = np.broadcast_to(part.cells, shape)
        low = np.zeros(shape) if part.low is None else part.low
        scale = np.ones(shape) if part.scale is None else part.scale
        for i in range(min(rows, n_rows)):
            for j in range(min(cols, n_cols)):
                here = (slice(None), slice(i, None, rows), slice(j, None, cols))
                window = ((row + i) // rows - self._rows[0], (col + j) // cols - self._cols[0])
                height, width = part.high[here].shape[1:3]
                there = (planes, slice(window[0], window[0] + height), slice(window[1], window[1] + width))
                self._add_step(there, part.high[here], low[here], cells[here], scale[here])

    def _add_step(
        self, there: tuple[slice, ...], high: Floats, low: Floats, cells: Floats, scale: Floats
    ) -> None:
        total = self._sums
        assert total.low is not None
        assert total.scale is not None
        common = np.minimum(total.scale[there], scale)
        old = common / total.scale[there]
        new = common / scale
        summed, dropped = two_sum(total.high[there] * old, high * new)
        total.low[there] = total.low[there] * old + low * new + dropped
        total.high[there] = summed
        total.cells[there] += cells
        total.scale[there] = common

    @quietly
    def means(self, out: Array) -> None:
        """Write the means once every slab was added."""
        narrow(self._sums.means(), self._pooling.numbers.result, out)


def _regions(source: Array, rows: Cuts, cols: Cuts, most: int) -> Iterator[Tile]:
    """Views of planes, of at most so many cells, or means, where a window has no more."""
    planes, height, width, inner = source.shape
    step = max(1, most // (max(height * width, len(rows) * len(cols)) * inner))
    row_bands = _bands(rows, most // (width * inner))
    col_bands = _bands(cols, most // (rows.longest * inner))
    for first in range(0, planes, step):
        chosen = slice(first, first + step)
        for row_band in row_bands:
            for col_band in col_bands:
                cells = source[(chosen, *(slice(*band[1].span) for band in (row_band, col_band)))]
                yield chosen, _from_zero(row_band), _from_zero(col_band), cells


def _bands(cuts: Cuts, cells: int) -> list[Band]:
    """Consecutive groups of intervals that span at most so many cells, or one interval each."""
    if cuts.span[1] - cuts.span[0] <= cells:
        return [(slice(0, len(cuts)), cuts)]
    bands, first = [], 0
    while first < len(cuts):
        fitting = int(np.searchsorted(cuts.stops, cuts.starts[first] + cells, "right"))
        band = slice(first, max(first + 1, fitting))
        bands.append((band, cuts[band]))
        first = band.stop
    return bands


def _from_zero(band: Band) -> Band:
    return band[0], band[1].relative


@lru_cache(maxsize=16)
def _areas(rows: Cuts, cols: Cuts, dtype: np.dtype[Any]) -> Floats:
    """Number of cells of every window, as one plane."""
    areas: Floats = (rows.lengths[:, None] * cols.lengths)[None, :, :, None].astype(dtype)
    return areas
