"""How kernels are called and compiled, and what they share: sums of parts, and constants.

A kernel is given where a list of integers is, which `choice` made in this order:

    x, out       (address, plane, row, column, lane): where an array starts, and its steps in bytes
    sizes        (planes, width, inner)
    rows, cols   (count, starts, stops) of the windows: how many, and where the lists of them are
    parts        parts of a window along rows and columns, as `pooling.windows` says
    group        how many rows of windows are pooled before their means are written
    exact        whether sums of equal cells are exact, so that constants need no look
    failed       where flags are, set for planes whose sums are not finite: the rules are for those
    scratch      (address, ...): four places to work in, which `choice` made large enough

and stores the means of whole windows, the sums added in the order of `pooling.kernels`. Sums of one
part are divided as they are, sums of several folded in float64 first.

It is made for the names of four number types: `source` in memory, `lane` for sums, `quotient` for means
before they are rounded, `result` in memory again. Names that are passed on, and numbers of lanes, are
constants to the compiler, so everything below is compiled into the kernel that calls it.
"""

from typing import Any

from numba import cfunc, njit, types

from lucid.pooling.compiled.vectors import (
    cast,
    full,
    integer,
    leading,
    load,
    not_finite,
    same,
    select,
    store,
)

Kernel = Any

inline = njit(inline="always", error_model="numpy")


def entry(kernel: Kernel) -> Any:
    """The C function of a kernel, given where the list of its integers is. Nothing in it may raise."""
    return cfunc(types.void(types.int64), error_model="numpy")(kernel)


@inline
def arguments(a):
    """The integers of a call, from where they are."""
    return (
        (integer(a, 0), integer(a, 1), integer(a, 2), integer(a, 3), integer(a, 4)),
        (integer(a, 5), integer(a, 6), integer(a, 7), integer(a, 8), integer(a, 9)),
        (integer(a, 10), integer(a, 11), integer(a, 12)),
        (integer(a, 13), integer(a, 14), integer(a, 15)),
        (integer(a, 16), integer(a, 17), integer(a, 18)),
        (integer(a, 19), integer(a, 20)),
        integer(a, 21),
        integer(a, 22),
        integer(a, 23),
        (integer(a, 24), integer(a, 25), integer(a, 26), integer(a, 27)),
    )


@inline
def edge(start, stop, parts, k):
    """Where part `k` of an interval starts, and part `k - 1` stops."""
    return start + k * (stop - start) // parts


@inline
def two_sum(a, b):
    """As `kernels.two_sum`."""
    total = a + b
    grown = total - a
    return total, (a - (total - grown)) + (b - grown)


@inline
def store_part(part, there, lane, lanes):
    """Begin a sum of parts: what they add up to, and for float64 what rounding drops."""
    store(part, there, "float64")
    if lane == "float64":
        store(full(0, "float64", lanes), there + lanes * 8, "float64")


@inline
def add_pair(here, there, lane, lanes):
    """Add the sum of parts at `there` to the one at `here`."""
    a, b = load(here, "float64", "float64", lanes), load(there, "float64", "float64", lanes)
    if lane == "float64":
        error = lanes * 8
        total, dropped = two_sum(a, b)
        old = load(here + error, "float64", "float64", lanes)
        new = load(there + error, "float64", "float64", lanes)
        store(total, here, "float64")
        store(dropped + (old + new), here + error, "float64")
    else:
        store(a + b, here, "float64")


@inline
def fold_parts(parts, count, step, lane, lanes):
    """Sum parts as a binary tree, into the first: as `kernels._fold` and `kernels._fold_exactly`."""
    while count > 1:
        half = count // 2
        for k in range(half):
            add_pair(parts + k * step, parts + (k + half) * step, lane, lanes)
        if count % 2:
            add_pair(parts, parts + (count - 1) * step, lane, lanes)
        count = half


@inline
def folded_mean(parts, counts, down, right, cells, lane, quotient, lanes):
    """Sum and mean of a window of `counts` parts: columns are folded first, then rows.

    The mean is corrected by its remainder for float64, as by `rules.Sums.means`.
    """
    for p in range(counts[0]):
        fold_parts(parts + p * down, counts[1], right, lane, lanes)
    fold_parts(parts, counts[0], down, lane, lanes)
    total = load(parts, "float64", "float64", lanes)
    mean = total / cells
    if lane == "float64":
        first = leading(mean)
        product, rest = two_sum(first * cells, (mean - first) * cells)
        low = load(parts + lanes * 8, "float64", "float64", lanes)
        corrected = mean + (((total - product) - rest) + low) / cells
        mean = select(not_finite(corrected), mean, corrected)
    return cast(total, quotient), cast(mean, quotient)


@inline
def constant_lanes(cell, down, right, top, bottom, left, stop, element, lane, lanes):
    """Bits of the lanes in which all cells of a window are the same, and not zero."""
    first = load(cell + top * down + left * right, element, lane, lanes)
    last = load(cell + (bottom - 1) * down + (stop - 1) * right, element, lane, lanes)
    constant = same(first, last)
    if constant:
        for r in range(top, bottom):
            for c in range(left, stop):
                constant &= same(first, load(cell + r * down + c * right, element, lane, lanes))
            if not constant:
                break
    return constant


@inline
def mended(means, cell, down, right, top, bottom, left, stop, exact, element, lane, quotient, lanes):
    """Means of a window: what its cells are wherever those are all the same."""
    if (bottom - top) * (stop - left) > 1 and not exact:
        constant = constant_lanes(cell, down, right, top, bottom, left, stop, element, lane, lanes)
        if constant:
            first = load(cell + top * down + left * right, element, lane, lanes)
            means = select(constant, cast(first, quotient), means)
    return means
