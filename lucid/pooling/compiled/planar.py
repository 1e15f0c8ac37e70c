"""Small planes: as many side by side as two registers have lanes, brought there by transposing.

A window of a feature map has a few cells, too few for a vector. The same window of many planes is a vector
for each cell, once the planes lie cell by cell.
"""

import numpy as np

from lucid.pooling.compiled.sizes import LINE, PART_BYTES, REGISTER, REGISTERS, SIZES
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
    cast,
    full,
    integer,
    load,
    mark,
    not_finite,
    prefetch,
    size,
    store,
    transpose,
)


@inline
def lines_of(rows, step, length, count):
    """Memory that is needed soon, `count` rows of so many bytes: for `fetch`, and how many lines it has."""
    if step == length:
        step = length = length * count
        count = 1
    return (rows, rows + length, step - length, step, rows + count * step), count * (length // LINE + 1)


@inline
def fetch(lines, share, purpose):
    """Have the next `share` lines brought into a cache; what is left of them."""
    here, stop, gap, step, end = lines
    for _ in range(share if here < end else 0):
        prefetch(here, purpose)
        here += LINE
        if here >= stop:
            here = stop + gap
            stop += step
    return here, stop, gap, step, end


@inline
def bring(source, source_step, cells, count, following, element, lane, lanes, square):
    """Lay `count` elements of each of `lanes` rows side by side: a vector for each of the columns.

    One line of `following` is fetched for each two that are read.
    """
    step, share = lanes * size(lane), square * square * size(element) // LINE // 2
    for row in range(0, lanes, square):
        here, there = source + row * source_step, cells + row * size(lane)
        for _ in range(count // square):
            following = fetch(following, share, "read")
            transpose(here, source_step, None, there, step, None, element, lane, lane, square)
            here += square * size(element)
            there += square * step
        if count % square:
            transpose(here, source_step, count % square, there, step, None, element, lane, lane, square)
    return following


@inline
def spread(means, means_step, target, target_step, count, lane, element, lanes, square):
    """The way back: `count` vectors become `lanes` rows of so many elements."""
    for row in range(0, lanes, square):
        here, there = means + row * size(lane), target + row * target_step
        for _ in range(count // square):
            transpose(here, means_step, None, there, target_step, None, lane, lane, element, square)
            here += square * means_step
            there += square * size(element)
        if count % square:
            some = count % square
            transpose(here, means_step, None, there, target_step, some, lane, lane, element, square)


@inline
def add_cells(cell, down, right, top, bottom, left, stop, order, lane, lanes):
    """Sum of the cells of a part, each a vector of `lane` in memory."""
    total = full(0, lane, lanes)
    if order == "chain":
        for r in range(top, bottom):
            for c in range(left, stop):
                total = total + load(cell + r * down + c * right, lane, lane, lanes)
    else:
        for c in range(left, stop):
            column = full(0, lane, lanes)
            for r in range(top, bottom):
                column = column + load(cell + r * down + c * right, lane, lane, lanes)
            total = total + column
    return total


@inline
def add_parts(pieces, cell, down, right, top, bottom, left, stop, parts, order, lane, lanes, part_bytes):
    """The parts of a window, in memory."""
    for p in range(parts[0]):
        first, last = edge(top, bottom, parts[0], p), edge(top, bottom, parts[0], p + 1)
        line = pieces + p * parts[1] * part_bytes
        for q in range(parts[1]):
            head, tail = edge(left, stop, parts[1], q), edge(left, stop, parts[1], q + 1)
            part = add_cells(cell, down, right, first, last, head, tail, order, lane, lanes)
            store_part(part, line + q * part_bytes, lane, lanes)


def planar(source: str, lane: str, quotient: str, result: str, order: str) -> Kernel:
    """At least as many planes as lanes, each contiguous. Scratch: cells, means and parts."""
    square = REGISTER // SIZES[lane]
    lanes = REGISTERS * square
    cell_bytes, mean_bytes, part_bytes = (
        lanes * SIZES[lane],
        lanes * SIZES[quotient],
        lanes * PART_BYTES[lane],
    )

    def kernel(call):
        x, out, sizes, rows, cols, parts, group, exact, failed, scratch = arguments(call)
        planes, width, _ = sizes
        n_rows, tops, bottoms = rows
        n_cols, lefts, stops = cols
        columns, averages, pieces = scratch[0], scratch[1], scratch[2]
        down, right = width * cell_bytes, cell_bytes
        for block in range(0, planes, lanes):
            # The last block overlaps the one before, and stores the same means again.
            plane = min(block, planes - lanes)
            bad = np.uint64(0)
            i = 0
            while i < n_rows:  # a range may raise, as its step may be 0
                end = min(i + group, n_rows)
                start, stop = integer(tops, i) * width, integer(bottoms, end - 1) * width
                n_windows = (end - i) * n_cols
                there = out[0] + plane * out[1] + i * out[2]
                # What comes next: the following rows of these planes, or the first of the next ones. The
                # processor does not foresee jumps from plane to plane, and forgets what it is told if that is
                # too much at once: 28x28 -> 9x9 in float64, told all while bringing, took 5.1 ms, so 4.1.
                after = end if end < n_rows else 0
                first = integer(tops, after) * width
                last = integer(bottoms, min(after + group, n_rows) - 1) * width
                following = x[0] + (plane if after > 0 else plane + lanes) * x[1] + first * size(source)
                cells_next, n_next = lines_of(following, x[1], (last - first) * size(source), lanes)
                means_next, n_means = lines_of(there, out[1], n_windows * size(result), lanes)
                here = x[0] + plane * x[1] + start * size(source)
                cells_next = bring(here, x[1], columns, stop - start, cells_next, source, lane, lanes, square)
                cell, mean = columns - start * cell_bytes, averages
                for k in range(i, end):
                    top, bottom = integer(tops, k), integer(bottoms, k)
                    for j in range(n_cols):
                        left, stop = integer(lefts, j), integer(stops, j)
                        cells = full((bottom - top) * (stop - left), quotient, lanes)
                        cells_next = fetch(cells_next, n_next // 2 // n_windows + 1, "read")
                        means_next = fetch(means_next, n_means // n_windows + 1, "write")
                        if parts[0] * parts[1] == 1:
                            total = add_cells(cell, down, right, top, bottom, left, stop, order, lane, lanes)
                            sums = cast(total, quotient)
                            means = sums / cells
                        else:
                            add_parts(
                                pieces, cell, down, right, top, bottom, left, stop, parts, order,
                                lane, lanes, part_bytes,
                            )  # fmt: skip
                            sums, means = folded_mean(
                                pieces, parts, parts[1] * part_bytes, part_bytes, cast(cells, "float64"),
                                lane, quotient, lanes,
                            )  # fmt: skip
                        bad |= not_finite(sums)
                        means = mended(
                            means, cell, down, right, top, bottom, left, stop,
                            exact, lane, lane, quotient, lanes,
                        )  # fmt: skip
                        store(means, mean, quotient)
                        mean += mean_bytes
                spread(averages, mean_bytes, there, out[1], n_windows, quotient, result, lanes, square)
                i = end
            if bad:
                for k in range(lanes):
                    if bad >> np.uint64(k) & np.uint64(1):
                        mark(failed, plane + k)

    return kernel
