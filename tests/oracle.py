"""The definition as naive loops: the only reference of the tests.

y[n,c,i,j] is the mean (maximum, minimum, sum) of x[n,c,rows(i),cols(j)], with windows
[floor(i * n_in / n_out), ceil((i + 1) * n_in / n_out)) and sums in exact rational numbers.
"""

import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np


def window(i: int, n_in: int, n_out: int) -> range:
    return range(i * n_in // n_out, -(-(i + 1) * n_in // n_out))


def total(values: list[float]) -> Fraction | float:
    """The sum of floats or integers: exact, or the non-finite value that IEEE 754 gives."""
    if any(math.isnan(v) for v in values) or {math.inf, -math.inf} <= set(values):
        return math.nan
    for v in values:
        if math.isinf(v):
            return v
    return sum((Fraction(v) for v in values), Fraction(0))


def mean(values: list[float]) -> Fraction | float:
    """The mean, as `total`."""
    return total(values) / len(values)


def largest(values: list[float]) -> float:
    """The maximum; NaN if there is one."""
    return math.nan if any(math.isnan(v) for v in values) else max(values)


def smallest(values: list[float]) -> float:
    """The minimum; NaN if there is one."""
    return math.nan if any(math.isnan(v) for v in values) else min(values)


REDUCTIONS = {"mean": mean, "sum": total, "max": largest, "min": smallest}


def windows(x: np.ndarray, output_size: tuple[int, int]) -> Iterable[tuple[tuple[int, ...], list[float]]]:
    """The place of every result in (..., H_out, W_out), and the cells of its window in (..., H, W)."""
    height, width = x.shape[-2:]
    rows, cols = output_size
    for lead in np.ndindex(*x.shape[:-2]):
        for i in range(rows):
            for j in range(cols):
                cells = [x[(*lead, r, c)] for r in window(i, height, rows) for c in window(j, width, cols)]
                yield (*lead, i, j), [cell.item() for cell in cells]


def pool(
    x: np.ndarray,
    output_size: tuple[int, int],
    reduce: str = "mean",
    *,
    skip_nan: bool = False,
    missing: tuple[float, ...] = (),
    min_valid: float = 0,
) -> np.ndarray:
    """Results for (..., H, W) as an object array: numbers, or None where not enough cells count."""
    out = np.empty((*x.shape[:-2], *output_size), object)
    for place, cells in windows(x, output_size):
        valid = [v for v in cells if v not in missing and not (skip_nan and math.isnan(v))]
        enough = valid and len(valid) >= min_valid * len(cells)
        out[place] = REDUCTIONS[reduce](valid) if enough else None
    return out


def adaptive_avg_pool2d(x: np.ndarray, output_size: tuple[int, int], *, skip_nan: bool = False) -> np.ndarray:
    """Means of (..., H, W) as an object array of `Fraction`, or float where not finite."""
    means = pool(x, output_size, skip_nan=skip_nan)
    means[np.equal(means, None)] = math.nan
    return means
