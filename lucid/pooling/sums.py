"""The arithmetic in NumPy: what a window's cells come to, for every dtype, layout and rule.

    cells ──lift──▶ accumulators ──along rows──▶ columns ──along columns──▶ totals ──finish──▶ results

The cells of each column of a window are added top to bottom, then the columns left to right. `_kernel.c` does the same
in the same order, so that both give the same bits; this is what it is tested against, and what works without it.

Accumulators are one array, (numbers, planes, rows, columns, inner). The first number is a sum or an extreme. Sums of
float64 have that of the rounding errors beside them (two-sum), those of 32- and 64-bit integers are two, of the upper
and of the lower bits. Where cells can be missing, the last number says how many are not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from lucid.pooling.dtypes import ELEMENTS, FLOATS, AccumulatorKind, Array, Floats, narrow, widened
from lucid.pooling.windows import Ints

#: Axes of accumulators.
PLANES, ROWS, COLUMNS = 1, 2, 3
#: Finite cells whose sum overflows are added again, scaled by this.
SCALE = 2.0**-64
#: Lower bits of integers. 2**29 of them, and 2**33 of the 30 upper ones, are added without overflow of 64 bits.
LOW_BITS = 34
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
    def kind(self) -> AccumulatorKind:
        """How accumulators are held; what is not added is one number of any type."""
        return ELEMENTS[self.source].kind if REDUCTIONS[self.reduce].join is None else "float"


def values_of(cells: Array, source: str) -> Array:
    """Cells as they are compared: float64, or integers of 64 bits."""
    if ELEMENTS[source].kind == "integer":
        return cells.astype(np.uint64 if source == "uint64" else np.int64)
    return widened(cells, source)


def lift(cells: Array, rule: Rule, scale: float = 1.0) -> Array:
    """Cells as accumulators of one cell each."""
    values = values_of(cells, rule.source)
    if rule.skips:
        is_nothing = np.isnan(values) if rule.skip_nan else np.zeros(values.shape, bool)
        for value in rule.missing:
            is_nothing |= values == value
        neutral = REDUCTIONS[rule.reduce].neutral
        if values.dtype.kind != "f" and np.isinf(neutral):
            neutral = _limits(rule.source)[neutral > 0]
        np.putmask(values, is_nothing, neutral)
    elif rule.kind == "float":
        return values[None]
    if scale != 1.0:
        values *= scale
    numbers = 1 + (rule.kind != "float") + rule.skips
    lifted = np.zeros((numbers, *values.shape), np.int64 if rule.kind == "integer" else values.dtype)
    if rule.kind == "integer":
        lifted[0], lifted[1] = values >> LOW_BITS, values & ((1 << LOW_BITS) - 1)
    else:
        lifted[0] = values
    if rule.skips:
        lifted[-1] = ~is_nothing
    return lifted


def added_with_errors(a: Array, b: Array) -> Array:
    """The sums of accumulators; what float64 rounds away of the first number goes to the second."""
    total: Array = a + b
    total[1] = a[1] + (_lost(a[0], b[0], total[0]) + b[1])
    return total


def _lost(a: Floats, b: Floats, total: Floats) -> Floats:
    """What a sum of two float64 rounds away."""
    step = total - a
    return (a - (total - step)) + (b - step)


def joined(a: Array, b: Array, rule: Rule) -> Array:
    """Accumulators joined: the numbers of valid cells, and what is added, by addition."""
    join = REDUCTIONS[rule.reduce].join
    if rule.kind == "double":
        return added_with_errors(a, b)
    total: Array = a + b if join is None else np.concatenate([join(a[:1], b[:1]), a[1:] + b[1:]])
    return total


def extreme(is_better: np.ufunc, a: Array, b: Array) -> Array:
    """The better ones of numbers, NaN being better than all; the first of equal ones."""
    return np.where(is_better(b, a) | (b != b), b, a)


class Reduction(NamedTuple):
    """What is made of the cells of a window."""

    #: How two numbers are joined; None adds them, which takes the accumulators that are exact.
    join: Callable[[Array, Array], Array] | None = None
    #: What a cell that counts as nothing is taken for; an infinity is the end of the type's range.
    neutral: float = 0.0
    #: Whether the total is divided by the number of cells.
    divides: bool = False
    #: Whether a cell is picked, so that the result is of its type.
    picks: bool = False

    @property
    def is_among_cells(self) -> bool:
        """Whether a result lies between the least and the greatest of its cells."""
        return self.divides or self.picks


REDUCTIONS = {
    "mean": Reduction(divides=True),
    "sum": Reduction(),
    "max": Reduction(partial(extreme, np.greater), neutral=-np.inf, picks=True),
    "min": Reduction(partial(extreme, np.less), neutral=np.inf, picks=True),
}


def result_of(source: str, reduce: str, wanted: str | None = None) -> str:
    """The number type of a result: the default of the reduction, or `wanted`, where "keep" is the source's own.

    A sum of bools is a number all the same.
    """
    if wanted is not None and (wanted, reduce, source) != ("keep", "sum", "bool"):
        return source if wanted == "keep" else wanted
    if REDUCTIONS[reduce].picks:
        return source
    element = ELEMENTS[source]
    return element.mean if REDUCTIONS[reduce].divides else element.sum


@np.errstate(all="ignore")
def along(cells: Array, axis: int, starts: Ints, stops: Ints, rule: Rule) -> Array:
    """Accumulators joined over windows [starts[i], stops[i]) of an axis, each in order."""
    adds = REDUCTIONS[rule.reduce].join is None
    lengths = stops - starts
    shortest, longest = int(lengths.min()), int(lengths.max())
    total = cells.take(starts, axis)
    if adds and len(starts) < longest and total[0].size <= FEW:
        windows = (_at(axis, slice(a, b)) for a, b in zip(starts, stops, strict=True))
        total = np.concatenate([_run_added(cells[window], axis, rule) for window in windows], axis)
        longest = 0
    for k in range(1, longest):
        if k < shortest:
            total = joined(total, cells.take(starts + k, axis), rule)
        else:
            longer = np.flatnonzero(lengths > k)
            more = cells.take(starts[longer] + k, axis)
            total[_at(axis, longer)] = joined(total.take(longer, axis), more, rule)
    if rule.kind == "integer":
        total[0] += total[1] >> LOW_BITS
        total[1] &= (1 << LOW_BITS) - 1
    return total


def _run_added(cells: Array, axis: int, rule: Rule) -> Array:
    """All places along an axis added in order: NumPy's `accumulate` does what a loop over them would."""
    if rule.kind == "integer":
        exact: Array = cells.sum(axis, keepdims=True)  # in any order, as numbers of cells are
        return exact
    places = cells.swapaxes(axis, 1)
    sums = np.add.accumulate(places[0])
    numbers = [sums[-1:]]
    if rule.kind == "double":
        errors = places[1].copy()
        errors[1:] += _lost(sums[:-1], places[0, 1:], sums[1:])
        numbers.append(np.add.accumulate(errors)[-1:])
    if rule.skips:
        numbers.append(places[-1].sum(0, keepdims=True))
    return np.stack(numbers).swapaxes(axis, 1)


def _at(axis: int, places: Any) -> tuple[Any, ...]:
    return (*(slice(None),) * axis, places)


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
def finish(total: Array, cells: Floats, rule: Rule, out: Array, again: Callable[[], Array]) -> int:
    """Divide, and round once into `out`; how many finite results became infinite, or reached their type's limit.

    `again` adds all cells once more, scaled by `SCALE`: for windows whose float64 sums overflowed.
    """
    valid = total[-1] if rule.skips else cells
    enough = (valid > 0) & (valid >= rule.min_valid * cells)
    is_mean, exceeded = REDUCTIONS[rule.reduce].divides, 0
    if rule.kind == "double":
        result_of_pairs = partial(divided, cells=valid) if is_mean else np.add
        values = result_of_pairs(total[0], total[1])
        is_exact = np.isfinite(total[0]) & np.isfinite(total[1])
        if not is_exact.all():
            scaled = again()
            fits = np.isfinite(scaled[0])
            rescued = np.where(fits, result_of_pairs(scaled[0], scaled[1]) / SCALE, scaled[0])
            values = np.where(is_exact, values, rescued)
            exceeded = int(np.count_nonzero(enough & np.isinf(values) & fits))
    elif rule.kind == "integer":
        divisor = np.maximum(valid, 1) if is_mean else np.ones(valid.shape)
        values = _quotients(total[0], total[1], divisor, rule)
    else:
        values = total[0] / valid if is_mean else total[0]
    if rule.result in FLOATS:
        return exceeded + narrow(np.where(enough & ~np.isnan(values), values, np.nan), rule.result, out)
    # Infinity and NaN are not among these but for windows that are not enough.
    nearest = values if values.dtype.kind in "Oiu" else np.rint(values)
    kept = np.clip(nearest, *_limits(rule.result))
    out[...] = np.where(enough, kept.astype(rule.result), np.array(rule.fill, rule.result))
    return int(np.count_nonzero(enough & (kept != nearest)))


def _quotients(high: Array, low: Array, divisor: Array, rule: Rule) -> Array:
    """Quotients of integers in float64, where that is as good as exact, or else in the result's kind of number."""
    if (np.abs(high) < 1 << (52 - LOW_BITS)).all():
        return ((high << LOW_BITS) + low) / divisor
    whole: Any = high.astype(object) * (1 << LOW_BITS) + low
    cells: Any = divisor.astype(np.int64).astype(object)
    if rule.result in FLOATS:
        return np.asarray(whole / cells, np.float64)
    quotient, rest = whole // cells, whole % cells
    nearest: Array = quotient + (2 * rest + quotient % 2 > cells)  # ties to even
    return nearest


def _limits(name: str) -> tuple[int, int]:
    """The least and the greatest of an integer type."""
    return (0, 1) if name == "bool" else (int(np.iinfo(name).min), int(np.iinfo(name).max))
