"""The arithmetic in NumPy: what a window's cells come to, for every dtype, layout and rule.

    cells ──lift──▶ accumulators ──along rows──▶ columns ──along columns──▶ totals ──finish──▶ results

The cells of each column of a window are added top to bottom, then the columns left to right. `_kernel.c` does the same
in the same order, so that both give the same bits; this is what it is tested against, and what works without it.

An accumulator is a float64; of float64 cells a pair, sum and rounding errors (two-sum); of 32- and 64-bit integers
the sums of their upper and of their lower halves. Where cells can be missing, it counts those that are not.
"""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lucid.pooling.dtypes import ELEMENTS, FLOATS, narrow, widened
from lucid.pooling.windows import Ints

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

#: Finite cells whose sum overflows are added again, scaled by this.
SCALE = 2.0**-64
#: Accumulators up to which a window's cells are taken one window at a time, not one cell of all windows.
FEW = 2048


class Rule(NamedTuple):
    """What is asked for: number types, reduction, and which cells count as nothing."""

    source: str
    result: str
    reduce: str = "mean"
    skip_nan: bool = False
    #: Values of the source's type that count as nothing; NaN is not among them but in `skip_nan`.
    missing: tuple[float, ...] = ()
    #: The least fraction of a window's cells that have to count.
    min_valid: float = 0.0
    #: What a window without valid cells gives where the result is an integer.
    fill: int = 0

    @property
    def skips(self) -> bool:
        """Whether any cell can count as nothing."""
        return self.skip_nan or bool(self.missing)

    @property
    def kind(self) -> str:
        """How sums are held."""
        return ELEMENTS[self.source].kind


class Accumulator(NamedTuple):
    """Arrays of one shape: sums or extremes; their errors or lower halves; numbers of valid cells."""

    sum: Array
    low: Array | None = None
    valid: Array | None = None

    def each(self, function: Callable[..., Array], *others: "Accumulator") -> "Accumulator":
        """A function of the arrays, one by one."""
        sums, lows, counts = zip(self, *others, strict=True)
        low = None if self.low is None else function(*lows)
        return Accumulator(function(*sums), low, None if self.valid is None else function(*counts))

    def take(self, indices: Ints, axis: int) -> "Accumulator":
        """Some places along an axis."""
        return self.each(lambda array: array.take(indices, axis))


def values_of(cells: Array, rule: Rule) -> Array:
    """Cells as they are compared and added: float64, or integers of 64 bits."""
    if rule.kind == "integer":
        return cells.astype(np.uint64 if rule.source == "uint64" else np.int64)
    return widened(cells, rule.source)


def lift(cells: Array, rule: Rule, scale: float = 1.0) -> Accumulator:
    """Cells as accumulators of one cell each."""
    values, worst = values_of(cells, rule), REDUCTIONS[rule.reduce].worst
    count = None
    if rule.skips:
        valid = ~np.isnan(values) if rule.skip_nan else np.ones(values.shape, bool)
        for value in rule.missing:
            valid &= values != value
        limits: Any = (-np.inf, np.inf) if values.dtype.kind == "f" else _limits(rule.source)
        nothing = 0 if worst is None else limits[worst]
        values = np.where(valid, values, values.dtype.type(nothing))
        count = valid.astype(np.float64)
    if worst is not None:
        return Accumulator(values, None, count)
    if rule.kind == "integer":
        return Accumulator((values >> 32).astype(np.int64), (values & 0xFFFFFFFF).astype(np.int64), count)
    if scale != 1.0:
        values *= scale
    return Accumulator(values, np.zeros(values.shape) if rule.kind == "double" else None, count)


def added(a: Accumulator, b: Accumulator) -> Accumulator:
    """The sum of accumulators; what float64 rounds away goes to the errors where they are kept."""
    total = a.each(np.add, b)
    if a.low is None or a.low.dtype != np.float64:
        return total
    step = total.sum - a.sum
    error = (a.sum - (total.sum - step)) + (b.sum - step)
    return total._replace(low=a.low + (error + b.low))


def extreme(is_better: np.ufunc, a: Accumulator, b: Accumulator) -> Accumulator:
    """The better ones of accumulators, NaN being better than all; the first of equal ones."""
    values = np.where(is_better(b.sum, a.sum) | (b.sum != b.sum), b.sum, a.sum)
    return Accumulator(values, None, None if a.valid is None or b.valid is None else a.valid + b.valid)


class Reduction(NamedTuple):
    """What is made of the cells of a window."""

    #: How accumulators are joined.
    join: Callable[[Accumulator, Accumulator], Accumulator]
    #: Whether the total is divided by the number of cells.
    divides: bool = False
    #: For one that picks a cell, and so keeps its type: the end of the type's range (0 or 1) that any cell replaces.
    worst: int | None = None


REDUCTIONS = {
    "mean": Reduction(added, divides=True),
    "sum": Reduction(added),
    "max": Reduction(partial(extreme, np.greater), worst=0),
    "min": Reduction(partial(extreme, np.less), worst=1),
}


def result_of(source: str, reduce: str, wanted: str | None = None) -> str:
    """The number type of a result: the default of the reduction, or `wanted`, where "keep" is the source's own.

    A sum of bools is a number all the same.
    """
    if wanted is not None and (wanted, reduce, source) != ("keep", "sum", "bool"):
        return source if wanted == "keep" else wanted
    if REDUCTIONS[reduce].worst is not None:
        return source
    element = ELEMENTS[source]
    return element.mean if REDUCTIONS[reduce].divides else element.sum


def run_added(a: Accumulator, axis: int) -> Accumulator:
    """All places along an axis added in order: NumPy's `accumulate` does what a loop over them would."""
    sums = np.add.accumulate(a.sum, axis)
    last = _at(axis, -1, None)
    count = None if a.valid is None else a.valid.sum(axis, keepdims=True)
    if a.low is None or a.low.dtype != np.float64:
        return Accumulator(sums[last], None if a.low is None else a.low.sum(axis, keepdims=True), count)
    before, after, more = sums[_at(axis, 0, -1)], sums[_at(axis, 1, None)], a.sum[_at(axis, 1, None)]
    step = after - before
    errors = ((before - (after - step)) + (more - step)) + a.low[_at(axis, 1, None)]
    lows = np.concatenate([a.low[_at(axis, 0, 1)], errors], axis)
    return Accumulator(sums[last], np.add.accumulate(lows, axis)[last], count)


def _at(axis: int, start: int, stop: int | None) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(start, stop))


@np.errstate(all="ignore")
def along(cells: Accumulator, axis: int, starts: Ints, stops: Ints, rule: Rule) -> Accumulator:
    """Accumulators joined over windows [starts[i], stops[i]) of an axis, each in order."""
    join = REDUCTIONS[rule.reduce].join
    lengths = stops - starts
    total = cells.take(starts, axis)
    longest = int(lengths.max())
    if join is added and len(starts) < longest and total.sum.size <= FEW:
        spans = [_at(axis, int(a), int(b)) for a, b in zip(starts, stops, strict=True)]
        windows = [cells.each(lambda array, span=span: array[span]) for span in spans]
        return concatenated([run_added(window, axis) for window in windows], axis)
    shortest = int(lengths.min())
    for k in range(1, shortest):
        total = join(total, cells.take(starts + k, axis))
    for k in range(shortest, longest):
        longer = np.flatnonzero(lengths > k)
        joined = join(total.take(longer, axis), cells.take(starts[longer] + k, axis))
        for array, values in zip(total, joined, strict=True):
            if array is not None:
                at: Any = (*(slice(None),) * axis, longer)
                array[at] = values
    return total


def concatenated(accumulators: Iterable[Accumulator], axis: int) -> Accumulator:
    """Accumulators side by side along an axis."""
    arrays = zip(*accumulators, strict=True)
    return Accumulator(*(None if row[0] is None else np.concatenate(row, axis) for row in arrays))  # type: ignore[arg-type]


def divided(total: Floats, low: Floats, cells: Floats) -> Floats:
    """(total + low) / cells to within an ulp, and exactly where all cells are equal.

    The remainder of a first quotient is divided, too; quotient times cells is exact by Veltkamp's and Dekker's splits.
    """
    scale = np.where(np.abs(total) > 2.0**960, SCALE, 1.0)
    total, low, inverse = total * scale, low * scale, 1 / cells
    quotient = (total + low) * inverse
    product = quotient * cells
    upper, lower = _split(quotient)
    cells_upper, cells_lower = _split(cells)
    error = (
        (upper * cells_upper - product) + upper * cells_lower + lower * cells_upper
    ) + lower * cells_lower
    rest = ((total - product) - error) + low
    return (quotient + rest * inverse) / scale


def _split(x: Floats) -> tuple[Floats, Floats]:
    wide = x * 134217729.0
    upper = wide - (wide - x)
    return upper, x - upper


@np.errstate(all="ignore")
def finish(
    total: Accumulator, cells: Floats, rule: Rule, out: Array, again: Callable[[], Accumulator]
) -> int:
    """Divide, and round once into `out`; how many finite results became infinite, or reached their type's limit.

    `again` adds all cells once more, scaled by `SCALE`: for windows whose float64 sums overflowed.
    """
    cells = np.broadcast_to(cells, total.sum.shape)
    valid = cells if total.valid is None else total.valid
    is_mean, is_sum = REDUCTIONS[rule.reduce].divides, REDUCTIONS[rule.reduce].worst is None
    enough = np.True_ if total.valid is None else (valid > 0) & (valid >= rule.min_valid * cells)
    if rule.kind == "integer":
        whole = _whole(total) if is_sum else total.sum.astype(object)
        divisor = (np.maximum(valid, 1) if is_mean else np.ones(valid.shape)).astype(np.int64)
        divisor = divisor.astype(whole.dtype)
        if rule.result in FLOATS:
            values = np.asarray(whole / divisor, np.float64)
            return narrow(np.where(enough, values, np.nan), rule.result, out)
        return _store_integers(_nearest(whole, divisor), enough, rule, out)
    values, exceeded = total.sum, 0
    if total.low is not None:
        values = divided(total.sum, total.low, valid) if is_mean else total.sum + total.low
        finite = np.isfinite(total.sum) & np.isfinite(total.low)
        if not finite.all():
            scaled = again()
            assert scaled.low is not None
            sums = divided(scaled.sum, scaled.low, valid) if is_mean else scaled.sum + scaled.low
            values = np.where(finite, values, np.where(np.isfinite(scaled.sum), sums / SCALE, scaled.sum))
            exceeded = int(np.count_nonzero(enough & np.isinf(values) & np.isfinite(scaled.sum)))
    elif is_mean:
        values = values / valid
    if rule.result in FLOATS:
        return exceeded + narrow(np.where(enough & ~np.isnan(values), values, np.nan), rule.result, out)
    return _store_integers(np.rint(values), enough, rule, out)


def _whole(total: Accumulator) -> Any:
    """Sums of integers: as int64 where that is exact in float64, too, else as Python's integers."""
    high, low, _ = carried(total)
    assert low is not None
    if (np.abs(high) < 1 << 20).all():
        return (high << 32) + low
    return high.astype(object) * (1 << 32) + low.astype(object)


def _nearest(whole: Any, divisor: Any) -> Any:
    """The integers nearest to quotients, ties to even."""
    quotient = whole // divisor
    twice = 2 * (whole - quotient * divisor)
    return quotient + ((twice > divisor) | ((twice == divisor) & (quotient % 2 == 1)))


def _store_integers(values: Array, enough: Any, rule: Rule, out: Array) -> int:
    """Store what the result's type can hold; how many results were beyond it."""
    least, most = _limits(rule.result)
    # What is no object comes nowhere near the greatest integers of 64 bits, which no float64 is.
    is_limited = values.dtype == object or most < 1 << 53
    kept = np.clip(values, least, most) if is_limited else np.maximum(values, least)
    enough = np.broadcast_to(enough, out.shape)
    np.copyto(out, kept.astype(rule.result))
    # Apart from them, since float64 and int64 hold fewer values.
    np.copyto(out, np.array(rule.fill, rule.result), where=~enough)
    return int(np.count_nonzero(enough & (kept != values)))


def _limits(name: str) -> tuple[int, int]:
    """The least and the greatest of an integer type."""
    return (0, 1) if name == "bool" else (int(np.iinfo(name).min), int(np.iinfo(name).max))


def added_rows(above: Accumulator | None, cells: Array, rule: Rule, scale: float = 1.0) -> Accumulator:
    """The columns of a window so far, (planes, 1, columns, inner), with further rows below them."""
    more = lift(cells, rule, scale)
    if above is not None:
        more = concatenated([above, more], 1)
    return carried(along(more, 1, *_all(more.sum.shape[1]), rule))


def added_columns(
    totals: dict[int, Accumulator], columns: Accumulator, left: int, starts: Ints, stops: Ints, rule: Rule
) -> None:
    """Windows so far, (planes, 1, 1, inner) each, with further columns, the first of which is column `left`."""
    right = left + columns.sum.shape[2]
    first, last = np.searchsorted(stops, left, "right"), np.searchsorted(starts, right, "left")
    begin, end = max(first, np.searchsorted(starts, left)), min(last, np.searchsorted(stops, right, "right"))
    if begin < end:
        # These have all their columns here; thousands of arrays of one number each would take many times their memory.
        some = slice(begin, end)
        totals[int(begin)] = carried(along(columns, 2, starts[some] - left, stops[some] - left, rule))
    for i in chain(range(first, min(begin, last)), range(max(begin, end), last)):
        here = _at(2, max(int(starts[i]), left) - left, min(int(stops[i]), right) - left)
        more = columns.each(lambda array, here=here: array[here])
        if i in totals:
            more = concatenated([totals[i], more], 2)
        totals[i] = carried(along(more, 2, *_all(more.sum.shape[2]), rule))


def carried(total: Accumulator) -> Accumulator:
    """What the lower halves of integers carry goes to the upper ones: alone they overflow after 2**31 cells."""
    if total.low is None or total.low.dtype != np.int64:
        return total
    return total._replace(sum=total.sum + (total.low >> 32), low=total.low & 0xFFFFFFFF)


def _all(length: int) -> tuple[Ints, Ints]:
    """One window over all of an axis."""
    return np.array([0]), np.array([length])
