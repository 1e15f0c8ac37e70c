"""From sums of windows to means, with the rules that sums alone do not keep.

    mean = (sum of the window) / (number of its cells)

- *Local*: products with 0/1 matrices turn an infinity into NaN in other cells of its
  plane. So planes whose sums are not finite are done again with their NaN and Inf
  taken out, which go back where their windows are.
- *No false overflow*: the same planes are summed in float64, and float64 itself scaled
  down by 2**-64, wherever finite values give an infinite sum.
- *Exact constants*: `n` equal floats do not sum to `n` times the float. A window that looks
  constant by its first two cells, and whose sum is not that product, is compared cell by cell.
- `nan="skip"`: NaN counts as nothing, in the sum and in the number of cells.

All of it is decided per window or per plane, so a result does not depend on what else
is in the array.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid.pooling.dtypes import Numbers, narrow, widen
from lucid.pooling.kernels import order_of, two_sum, window_sums
from lucid.pooling.windows import Cuts, Grid

Array = npt.NDArray[Any]
#: float32 or float64, as the accumulator is.
Floats = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

#: Cells of a tile that is read in place, once: the more, the fewer calls of Python. 1 MiB of float32
#: took 30 % longer at 56x56 -> 4x4, 256 KiB twice as long.
TILE_CELLS = 1 << 20
#: Tiles that are converted first, or read several times as channels-last ones are, stay in the
#: level-2 cache: smaller by this.
COPIED_TILES = 4
#: Sums from here on are kept scaled by 2**-64: 2**64 of them do not overflow.
BIG = 2.0**960
#: Cells for each window below which all neighbours are compared before any window is looked at:
#: that takes 0.1 ns a cell, the first two cells of a window 2 ns.
MANY_WINDOWS = 20
SCALE = 2.0**-64


Span = tuple[int, int]

#: Overflow and invalid operations are what the rules below detect and mend, not news.
_quietly = np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")


@dataclass
class Sums:
    """Sums of windows of `cells` cells each, as `(high + low) / scale`.

    `low` is None where the rounding error is not known, `scale` where it is 1 throughout.
    """

    high: Floats
    low: Doubles | None
    cells: Floats
    scale: Doubles | None = None

    @_quietly
    def means(self) -> Floats:
        """The quotients, corrected by their remainders where `low` is known."""
        means = self.high / self.cells
        if self.low is not None:
            high, low = _exact_product(means, self.cells)
            corrected = means + ((self.high - high) - low + self.low) / self.cells
            means = np.where(np.isfinite(corrected), corrected, means)
        return means if self.scale is None else means / self.scale


#: Which intervals, and these.
Band = tuple[slice, Cuts]
#: Which planes, which intervals of rows and of columns counted from the tile, and its cells.
Tile = tuple[slice, Band, Band, Floats]
#: Which planes, the first slab along rows and columns, and the sums from there.
SlabSums = tuple[slice, int, int, Sums]


@dataclass(frozen=True)
class Pooling:
    """One way to pool planes: which windows, which numbers, which rule for NaN."""

    grid: Grid
    numbers: Numbers
    skip_nan: bool = False
    tile_cells: int = TILE_CELLS

    def means(self, source: Array, out: Array, rows: Span, cols: Span) -> None:
        """Write the means of windows `rows` x `cols` into `out`.

        Parameters
        ----------
        source
            (planes, height, width, inner): the cells that those windows cover, any strides.
        out
            (planes, rows, columns, inner), any strides.

        """
        if 0 in out.shape:
            return
        if not self.grid.windows_are_whole:
            total = Accumulator(self, rows, cols, source.shape[0], source.shape[3])
            total.add(self.slab_sums(source, self.row_slabs(rows), self.col_slabs(cols)))
            total.means(out)
            return
        row_cuts = self.grid.rows.cuts(*rows).relative
        col_cuts = self.grid.cols.cuts(*cols).relative
        for planes, (down, row_part), (across, col_part), tile in self._tiles(source, row_cuts, col_cuts):
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

    def row_slabs(self, windows: Span) -> Span:
        """The slabs of a range of windows along the rows."""
        return windows[0] * self.grid.rows.slabs, windows[1] * self.grid.rows.slabs

    def col_slabs(self, windows: Span) -> Span:
        """The slabs of a range of windows along the columns."""
        return windows[0] * self.grid.cols.slabs, windows[1] * self.grid.cols.slabs

    def _tiles(self, source: Array, rows: Cuts, cols: Cuts) -> Iterator[Tile]:
        """Cut planes to fit the cache, as contiguous accumulator arrays."""
        planes, height, width, inner = source.shape
        ready = source.dtype == self.numbers.accumulator and source.dtype.isnative
        most = self.tile_cells if ready and inner == 1 else self.tile_cells // COPIED_TILES
        scratch = np.empty(0, self.numbers.accumulator)
        step = max(1, most // (max(height * width, len(rows) * len(cols)) * inner))
        row_bands = _bands(rows, most // (width * inner))
        col_bands = _bands(cols, most // (rows.longest * inner))
        for first in range(0, planes, step):
            chosen = slice(first, first + step)
            for row_band in row_bands:
                for col_band in col_bands:
                    tile = source[(chosen, *(slice(*band[1].span) for band in (row_band, col_band)))]
                    if not (ready and tile.flags.c_contiguous):
                        if scratch.size < tile.size:
                            # Kept from tile to tile: fresh memory costs a page fault every 4 KiB.
                            scratch = np.empty(tile.size, self.numbers.accumulator)
                        copy = scratch[: tile.size].reshape(tile.shape)
                        widen(tile, self.numbers.source, copy)
                        tile = copy
                    yield chosen, _from_zero(row_band), _from_zero(col_band), tile

    @_quietly
    def _store(self, sums: Sums, out: Array) -> None:
        """Divide, and round once to the result."""
        if sums.low is None and sums.high.dtype == out.dtype:
            np.divide(sums.high, sums.cells, out=out)
            return
        if sums.high.dtype != np.float64:
            sums = Sums(sums.high.astype(np.float64), None, sums.cells.astype(np.float64))
        narrow(sums.means(), self.numbers.result, out)

    @_quietly
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
            sums = _mend_extremes(sums, tile, rows, cols, order)
        if not _adds_equals_exactly(rows, cols, order):
            sums = _mend_constants(sums, tile, rows, cols)
        return sums

    def _may_be_extreme(self, high: Floats) -> bool:
        """Whether any sum is not finite, or is so big that adding slabs could overflow."""
        if self.grid.windows_are_whole:
            # One pass instead of three; a total that overflows by itself costs a closer look.
            return not np.isfinite(high.sum())
        # Not `(abs(high) > limit).any()`: NaN would pass it.
        return not (np.abs(high) <= _limit(high)).all()


class Accumulator:
    """Running sums of windows too large to be held at once, added slab by slab.

    Slabs of a window come in reading order, in calls of any size; rounding errors are
    carried along, so that the number of slabs costs no accuracy.
    """

    def __init__(self, pooling: Pooling, rows: Span, cols: Span, planes: int, inner: int) -> None:
        self._pooling, self._rows, self._cols = pooling, rows, cols
        shape = (planes, rows[1] - rows[0], cols[1] - cols[0], inner)
        self._sums = Sums(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.ones(shape))

    @_quietly
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

    @_quietly
    def means(self, out: Array) -> None:
        """Write the means once every slab was added."""
        narrow(self._sums.means(), self._pooling.numbers.result, out)


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


def _adds_equals_exactly(rows: Cuts, cols: Cuts, order: str) -> bool:
    """Whether the sum of equal cells is exact: one cell, two, or two pairs."""
    return rows.longest <= 2 and cols.longest <= (2 if order == "separable" else 1)


@lru_cache(maxsize=16)
def _areas(rows: Cuts, cols: Cuts, dtype: np.dtype[Any]) -> Floats:
    """Number of cells of every window, as one plane."""
    areas: Floats = (rows.lengths[:, None] * cols.lengths)[None, :, :, None].astype(dtype)
    return areas


def _limit(tile: Floats) -> float:
    """The largest sum that needs no mending."""
    return BIG if tile.dtype == np.float64 else float(np.finfo(np.float32).max)


def _exact_product(value: Floats, cells: Floats) -> tuple[Doubles, Doubles]:
    """`value * cells` as a sum of two floats, for integers `cells` below 2**26.

    The leading 26 bits of a float and the other 27 each have an exact product.
    """
    bits = np.array(value, np.float64, order="C").view(np.int64)
    leading = (bits & ~0x7FFFFFF).view(np.float64)
    return two_sum(leading * cells, (value - leading) * cells)


def _corners(tile: Floats, rows: Cuts, cols: Cuts, down: int, right: int) -> Floats:
    """The cell of every window that lies `down` and `right` of its first; a view where they are regular."""
    if rows.step and cols.step:
        return tile[:, down :: rows.step, right :: cols.step][:, : len(rows), : len(cols)]
    return tile[:, (rows.starts + down)[:, None], cols.starts + right]


def _mend_constants(sums: Sums, tile: Floats, rows: Cuts, cols: Cuts) -> Sums:
    """Give windows of equal cells the exact sum."""
    down, right = (0, 1) if cols.shortest > 1 else (int(rows.shortest > 1), 0)
    if len(rows) * len(cols) * MANY_WINDOWS > tile.shape[1] * tile.shape[2] and not _has_equal_neighbours(
        tile
    ):
        return sums
    first = _corners(tile, rows, cols, 0, 0)
    alike = first == _corners(tile, rows, cols, down, right)
    if not alike.any():
        return sums
    # Zeros sum exactly and are what features have most of.
    alike &= (first != 0) & np.isfinite(first)
    if not alike.any():
        return sums
    scale = 1.0 if sums.scale is None else sums.scale
    high, low = _exact_product(first * scale, sums.cells)
    old_low = np.zeros(high.shape) if sums.low is None else sums.low
    # Comparing all cells takes longer than pooling them. It is left out where the sum is
    # right already, as for small integers, or further off than rounding can be.
    alike &= (high != sums.high) | (low != old_low)
    alike &= np.abs(sums.high - high) <= 2.0**-12 * np.abs(high)
    planes = np.flatnonzero(alike.any((1, 2, 3)))
    if not len(planes):
        return sums
    lowest, highest = (_extreme(pick, tile[planes], rows, cols) for pick in (np.minimum, np.maximum))
    alike[planes] &= lowest == highest
    return Sums(
        np.where(alike, high, sums.high),
        np.where(alike, low, old_low),
        sums.cells.astype(np.float64),
        sums.scale,
    )


def _has_equal_neighbours(tile: Floats) -> bool:
    """Whether any two cells next to each other in memory are equal, of one inner index."""
    cells, inner = tile.reshape(-1), tile.shape[3]
    if tile.shape[2] == 1:
        inner = tile.size  # no neighbours along the columns: nothing is ruled out
    return len(cells) <= inner or bool((cells[inner:] == cells[:-inner]).any())


def _extreme(pick: np.ufunc, tile: Floats, rows: Cuts, cols: Cuts) -> Floats:
    """Lowest or highest cell of every window."""
    for axis, cuts in ((1, rows), (2, cols)):
        # reduceat takes no edge at the very end of an axis, hence one cell more than there is.
        longer = np.concatenate([tile, tile.take([-1], axis)], axis)
        edges = np.stack([cuts.starts, cuts.stops], 1).ravel()
        tile = pick.reduceat(longer, edges, axis=axis).take(range(0, len(edges), 2), axis=axis)
    return tile


def _mend_extremes(sums: Sums, tile: Floats, rows: Cuts, cols: Cuts, order: str) -> Sums:
    """Do the planes again whose sums are not finite, or too big to be added up."""
    high = sums.high.astype(np.float64)
    low = np.zeros(high.shape) if sums.low is None else sums.low
    scale = np.ones(high.shape)
    for plane in np.flatnonzero(~(np.abs(high) <= _limit(tile)).all((1, 2, 3))):
        at = slice(plane, plane + 1)
        high[at], low[at], scale[at] = _extreme_sums(tile[at], rows, cols, order)
    return Sums(high, low, sums.cells.astype(np.float64), scale)


def _extreme_sums(plane: Floats, rows: Cuts, cols: Cuts, order: str) -> tuple[Doubles, Doubles, Doubles]:
    """Sums of a plane that holds NaN, Inf or huge values, as (high, low, scale)."""

    def sums_of(cells: Floats) -> tuple[Doubles, Doubles]:
        high, low = window_sums(cells, rows, cols, order)
        return high.astype(np.float64), np.zeros(high.shape) if low is None else low

    def holds(cells: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        return sums_of(cells.astype(np.float32))[0] > 0

    finite = np.where(np.isfinite(plane), plane, plane.dtype.type(0))
    high, low = sums_of(finite)
    big = ~(np.abs(high) <= _limit(plane))
    scale = np.ones(high.shape)
    if big.any():
        factor = SCALE if plane.dtype == np.float64 else 1.0
        small_high, small_low = sums_of(finite.astype(np.float64) * factor)
        high, low = np.where(big, small_high, high), np.where(big, small_low, low)
        scale[big] = factor
    high[holds(plane == np.inf)] += np.inf
    high[holds(plane == -np.inf)] -= np.inf
    high[holds(np.isnan(plane))] = np.nan
    return high, low, scale
