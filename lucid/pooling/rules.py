"""The rules that sums alone do not keep: constants, NaN and Inf, overflow.

- *Local*: products with 0/1 matrices turn an infinity into NaN in other cells of its
  plane. So planes whose sums are not finite are done again with their NaN and Inf
  taken out, which go back where their windows are.
- *No false overflow*: the same planes are summed in float64, and float64 itself scaled
  down by 2**-64, wherever finite values give an infinite sum.
- *Exact constants*: `n` equal floats do not sum to `n` times the float. A window that looks
  constant by its first two cells, and whose sum is not that product, is compared cell by cell.

All is decided per window or per plane, so a result does not depend on what else is in the array.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid.pooling.kernels import two_sum, window_sums
from lucid.pooling.windows import Cuts

#: float32 or float64, as the accumulator is.
Floats = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

#: Sums from here on are kept scaled by 2**-64: 2**64 of them do not overflow.
BIG = 2.0**960


SCALE = 2.0**-64


#: Cells for each window below which all neighbours are compared before any window is looked at:
#: that takes 0.1 ns a cell, the first two cells of a window 2 ns.
MANY_WINDOWS = 20


#: Overflow and invalid operations are what the rules below detect and mend, not news.
quietly = np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")


def _exact_product(value: Floats, cells: Floats) -> tuple[Doubles, Doubles]:
    """`value * cells` as a sum of two floats, for integers `cells` below 2**26.

    The leading 26 bits of a float and the other 27 each have an exact product.
    """
    bits = np.array(value, np.float64, order="C").view(np.int64)
    leading = (bits & ~0x7FFFFFF).view(np.float64)
    return two_sum(leading * cells, (value - leading) * cells)


@dataclass
class Sums:
    """Sums of windows of `cells` cells each, as `(high + low) / scale`.

    `low` is None where the rounding error is not known, `scale` where it is 1 throughout.
    """

    high: Floats
    low: Doubles | None
    cells: Floats
    scale: Doubles | None = None

    @quietly
    def means(self) -> Floats:
        """The quotients, corrected by their remainders where `low` is known."""
        means = self.high / self.cells
        if self.low is not None:
            high, low = _exact_product(means, self.cells)
            corrected = means + ((self.high - high) - low + self.low) / self.cells
            means = np.where(np.isfinite(corrected), corrected, means)
        return means if self.scale is None else means / self.scale


def limit(tile: Floats) -> float:
    """The largest sum that needs no mending."""
    return BIG if tile.dtype == np.float64 else float(np.finfo(np.float32).max)


def _corners(tile: Floats, rows: Cuts, cols: Cuts, down: int, right: int) -> Floats:
    """The cell of every window that lies `down` and `right` of its first; a view where they are regular."""
    if rows.step and cols.step:
        return tile[:, down :: rows.step, right :: cols.step][:, : len(rows), : len(cols)]
    return tile[:, (rows.starts + down)[:, None], cols.starts + right]


def mend_constants(sums: Sums, tile: Floats, rows: Cuts, cols: Cuts) -> Sums:
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


def mend_extremes(sums: Sums, tile: Floats, rows: Cuts, cols: Cuts, order: str) -> Sums:
    """Do the planes again whose sums are not finite, or too big to be added up."""
    high = sums.high.astype(np.float64)
    low = np.zeros(high.shape) if sums.low is None else sums.low
    scale = np.ones(high.shape)
    for plane in np.flatnonzero(~(np.abs(high) <= limit(tile)).all((1, 2, 3))):
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
    big = ~(np.abs(high) <= limit(plane))
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


def adds_equals_exactly(rows: Cuts, cols: Cuts, order: str) -> bool:
    """Whether the sum of equal cells is exact: one cell, two, or two pairs."""
    return rows.longest <= 2 and cols.longest <= (2 if order == "separable" else 1)
