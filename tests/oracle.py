"""The definition as naive loops: the only reference of the tests.

y[n,c,i,j] is the mean of x[n,c,rows(i),cols(j)], with windows
[floor(i * n_in / n_out), ceil((i + 1) * n_in / n_out)) and sums in exact rational numbers.
"""

import math
from fractions import Fraction

import numpy as np


def window(i: int, n_in: int, n_out: int) -> range:
    return range(i * n_in // n_out, -(-(i + 1) * n_in // n_out))


def mean(values: list[float]) -> Fraction | float:
    """The mean of floats or integers: exact, or the non-finite value that IEEE 754 gives."""
    if any(math.isnan(v) for v in values) or {math.inf, -math.inf} <= set(values):
        return math.nan
    for v in values:
        if math.isinf(v):
            return v
    return sum((Fraction(v) for v in values), Fraction(0)) / len(values)


def adaptive_avg_pool2d(x: np.ndarray, output_size: tuple[int, int], *, skip_nan: bool = False) -> np.ndarray:
    """Means of (..., H, W) as an object array of `Fraction`, or float where not finite."""
    height, width = x.shape[-2:]
    rows, cols = output_size
    out = np.empty((*x.shape[:-2], rows, cols), object)
    for lead in np.ndindex(*x.shape[:-2]):
        for i in range(rows):
            for j in range(cols):
                values = [
                    x[(*lead, r, c)].item() for r in window(i, height, rows) for c in window(j, width, cols)
                ]
                if skip_nan:
                    values = [v for v in values if not math.isnan(v)]
                out[(*lead, i, j)] = mean(values) if values else math.nan
    return out


def absolute_mean(x: np.ndarray, output_size: tuple[int, int]) -> np.ndarray:
    """Mean of |x| per window, the scale of the permitted rounding error, as float64."""
    return adaptive_avg_pool2d(np.abs(x.astype(np.float64)), output_size).astype(np.float64)
