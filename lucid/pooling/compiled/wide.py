"""Wide planes, one by one: rows are added vector by vector, then columns number by number.

As memory lies: four rows at a time, which would spare most of the stores, took twice as long from planes of
224x224, since the processor foresees one long run and not four short ones.
"""

import numpy as np

from lucid.pooling.compiled.sizes import PART_BYTES, REGISTER, SIZES
from lucid.pooling.compiled.sums import (
    Kernel,
    arguments,
    edge,
    folded_mean,
    inline,
    mended,
    store_part,
)
from lucid.pooling.compiled.vectors import (
    add_groups,
    full,
    integer,
    load,
    load_some,
    mark,
    not_finite,
    same,
    same_ends,
    size,
    store,
    store_some,
)


@inline
def add_rows(cell, down, top, bottom, width, band, element, lane, lanes, many):
    """Add rows of cells one after the other into a band of `width` sums, `many` at a time."""
    for r in range(top, bottom):
        here, there = cell + r * down, band
        for _ in range(width // many):
            total = load(here, element, lane, many)
            if r > top:
                total = load(there, lane, lane, many) + total
            store(total, there, lane)
            here += many * size(element)
            there += many * size(lane)
        rest = width % many
        while rest > 0:
            total = load_some(here, min(lanes, rest), element, lane, lanes)
            if r > top:
                total = load(there, lane, lane, lanes) + total
            store(total, there, lane)
            here += lanes * size(element)
            there += lanes * size(lane)
            rest -= lanes


@inline
def add_numbers(numbers, start, stop, lane):
    """Sum of neighbouring numbers in memory, one by one; as a vector of one lane."""
    total = full(0, lane, 1)
    for c in range(start, stop):
        total = total + load(numbers + c * size(lane), lane, lane, 1)
    return total


@inline
def divide(means, widths, height, count, lane, lanes):
    """Sums of a row of windows to their means; bits for those that are not finite."""
    bad = np.uint64(0)
    for j in range(0, count, lanes):
        here = means + j * size(lane)
        sums = load(here, lane, lane, lanes)
        bad |= not_finite(sums)
        cells = full(height, lane, lanes) * load(widths + j * size(lane), lane, lane, lanes)
        store(sums / cells, here, lane)
    return bad


@inline
def store_numbers(numbers, there, count, lane, element, lanes):
    """Round so many numbers to elements."""
    for j in range(0, count, lanes):
        some = load(numbers + j * size(lane), lane, lane, lanes)
        if j + lanes <= count:
            store(some, there + j * size(element), element)
        else:
            store_some(some, there + j * size(element), count - j, element)


def wide(source: str, lane: str, quotient: str, result: str, step: int) -> Kernel:
    """Rows contiguous.

    Columns that are `step` wide each, without gap and overlap, are added a vector of windows at a time;
    0 says that they are not all alike, or that a window has several parts: number by number, then.

    Scratch: a band of sums as wide as the plane, means of a row of windows, their parts, their widths; each
    with a register to spare, the band with one for each of the `step`.
    """
    lanes, many = REGISTER // SIZES[lane], 4 * REGISTER // SIZES[lane]
    part_bytes = PART_BYTES[lane]

    def kernel(call):
        x, out, sizes, rows, cols, parts, group, exact, failed, scratch = arguments(call)
        planes, width, _ = sizes
        n_rows, tops, bottoms = rows
        n_cols, lefts, stops = cols
        n_parts = parts[0] * parts[1]
        band, means = scratch[0], scratch[1]
        pieces, widths = scratch[2], scratch[3]
        for j in range(n_cols + lanes):
            length = integer(stops, j) - integer(lefts, j) if j < n_cols else 1
            store(full(length, quotient, 1), widths + j * size(quotient), quotient)
            store(full(0, quotient, 1), means + j * size(quotient), quotient)
        for c in range(width, width + step * lanes, lanes):
            store(full(0, lane, lanes), band + c * size(lane), lane)
        for plane in range(planes):
            cell = x[0] + plane * x[1]
            bad = np.uint64(0)
            for i in range(n_rows):
                top, bottom, alike = integer(tops, i), integer(bottoms, i), np.uint64(0)
                for p in range(parts[0]):
                    first, last = edge(top, bottom, parts[0], p), edge(top, bottom, parts[0], p + 1)
                    add_rows(cell, x[2], first, last, width, band, source, lane, lanes, many)
                    if step > 0:
                        for j in range(0, n_cols, lanes):
                            here = band + (integer(lefts, 0) + j * step) * size(lane)
                            store(add_groups(here, step, lane, lanes), means + j * size(quotient), quotient)
                            alike |= same_ends(here, step, lane, lanes)
                    for j in range(n_cols if step == 0 else 0):
                        left, stop = integer(lefts, j), integer(stops, j)
                        # Columns with the same sum may hold the same: looked into below.
                        left_sum = load(band + left * size(lane), lane, lane, 1)
                        alike |= same(left_sum, load(band + (stop - 1) * size(lane), lane, lane, 1))
                        if n_parts == 1:
                            total = add_numbers(band, left, stop, lane)
                            store(total, means + j * size(quotient), quotient)
                            continue
                        for q in range(parts[1]):
                            head, tail = edge(left, stop, parts[1], q), edge(left, stop, parts[1], q + 1)
                            part = pieces + ((j * parts[0] + p) * parts[1] + q) * part_bytes
                            store_part(add_numbers(band, head, tail, lane), part, lane, 1)
                if n_parts == 1:
                    bad |= divide(means, widths, bottom - top, n_cols, quotient, lanes)
                else:
                    for j in range(n_cols):
                        part = pieces + j * n_parts * part_bytes
                        cells = full((bottom - top) * (integer(stops, j) - integer(lefts, j)), "float64", 1)
                        down = parts[1] * part_bytes
                        total, mean = folded_mean(part, parts, down, part_bytes, cells, lane, quotient, 1)
                        bad |= not_finite(total)
                        store(mean, means + j * size(quotient), quotient)
                if alike and not exact:
                    for j in range(n_cols):
                        left, stop, here = integer(lefts, j), integer(stops, j), means + j * size(quotient)
                        mean = mended(
                            load(here, quotient, quotient, 1), cell, x[2], size(source),
                            top, bottom, left, stop, exact, source, lane, quotient, 1,
                        )  # fmt: skip
                        store(mean, here, quotient)
                there = out[0] + plane * out[1] + i * out[2]
                store_numbers(means, there, n_cols, quotient, result, lanes)
            if bad:
                mark(failed, plane)

    return kernel
