"""Channels-last data: channels lie side by side already, a vector of them for each cell.

All channels of a cell are added before the next cell is, so that memory is read as it lies. The last vector
of channels overlaps the one before: no channel is left over, and some are done twice, alike.
"""

import numpy as np

from lucid.pooling.compiled.planar import spread
from lucid.pooling.compiled.sizes import LINE, PART_BYTES, REGISTER, SIZES
from lucid.pooling.compiled.sums import (
    Kernel,
    arguments,
    edge,
    folded_mean,
    inline,
    mended,
    store_part,
)
from lucid.pooling.compiled.vectors import cast, full, integer, load, mark, not_finite, prefetch, size, store


@inline
def add_channels(cell, down, right, top, bottom, left, stop, sums, inner, order, element, lane, lanes):
    """Add the cells of a part into sums of all channels, in blocks of `lanes`."""
    blocks = (inner + lanes - 1) // lanes
    if order == "chain":
        for r in range(top, bottom):
            for b in range(blocks):
                here = cell + r * down + min(b * lanes, inner - lanes) * size(element)
                there = sums + b * lanes * size(lane)
                total = full(0, lane, lanes) if r == top else load(there, lane, lane, lanes)
                for c in range(left, stop):
                    # The next window's cells: 28x28 -> 9x9 took 4.8 ms without.
                    for k in range(0, lanes * size(element), LINE):
                        prefetch(here + (c + stop - left) * right + k, "read")
                    total = total + load(here + c * right, element, lane, lanes)
                store(total, there, lane)
        return
    for c in range(left, stop):
        for b in range(blocks):
            here = cell + c * right + min(b * lanes, inner - lanes) * size(element)
            there = sums + b * lanes * size(lane)
            column = full(0, lane, lanes)
            for r in range(top, bottom):
                column = column + load(here + r * down, element, lane, lanes)
            store(column if c == left else load(there, lane, lane, lanes) + column, there, lane)


@inline
def add_channel_runs(cell, step, start, stop, sums, inner, numpy_lanes, element, lane, lanes):
    """Sum a run of cells as `runs.add_lanes` does, for all channels.

    There are `numpy_lanes` sums of each, folded into the first in the end.
    """
    blocks = (inner + lanes - 1) // lanes
    stride = blocks * lanes * size(lane)
    for n in range(numpy_lanes):
        for b in range(blocks):
            store(full(0, lane, lanes), sums + n * stride + b * lanes * size(lane), lane)
    k, far = start, numpy_lanes * step
    while k < stop:
        fours = k + 4 * numpy_lanes <= stop
        for n in range(min(numpy_lanes, stop - k)):
            for b in range(blocks):
                here = cell + (k + n) * step + min(b * lanes, inner - lanes) * size(element)
                there = sums + n * stride + b * lanes * size(lane)
                added = load(here, element, lane, lanes)
                if fours:
                    added = added + load(here + far, element, lane, lanes)
                    second = load(here + 2 * far, element, lane, lanes)
                    added = added + (second + load(here + 3 * far, element, lane, lanes))
                store(load(there, lane, lane, lanes) + added, there, lane)
        k += 4 * numpy_lanes if fours else numpy_lanes
    width = numpy_lanes
    while width > 1:
        width //= 2
        for n in range(width):
            for b in range(blocks):
                here = sums + b * lanes * size(lane)
                low = load(here + 2 * n * stride, lane, lane, lanes)
                high = load(here + (2 * n + 1) * stride, lane, lane, lanes)
                store(low + high, here + n * stride, lane)


def channels_last(
    source: str,
    lane: str,
    quotient: str,
    result: str,
    order: str,
    lanes: int,
    numpy_lanes: int,
    stays: bool,
) -> Kernel:
    """At least as many channels as `lanes`, contiguous.

    `stays` says that means have their channels side by side, too; else windows are, and are brought there by
    transposing. For the order "run", `rows` are runs of cells and the only column is one cell
    wide. Scratch: sums of a part, means, parts.
    """
    mean_bytes, part_bytes = lanes * SIZES[quotient], lanes * PART_BYTES[lane]
    square = min(lanes, REGISTER // SIZES[lane])

    def kernel(call):
        x, out, sizes, rows, cols, parts, group, exact, failed, scratch = arguments(call)
        planes, _, inner = sizes
        n_rows, tops, bottoms = rows
        n_cols, lefts, stops = cols
        partial, averages, pieces = scratch[0], scratch[1], scratch[2]
        blocks = (inner + lanes - 1) // lanes
        down, right = x[3] if order == "run" else x[2], x[3]
        row_bytes = parts[1] * blocks * part_bytes
        for plane in range(planes):
            cell = x[0] + plane * x[1]
            bad = np.uint64(0)
            i = 0
            while i < n_rows:  # a range may raise, as its step may be 0
                end = min(i + group, n_rows)
                mean = averages
                for k in range(i, end):
                    top, bottom = integer(tops, k), integer(bottoms, k)
                    for j in range(n_cols):
                        left, stop = integer(lefts, j), integer(stops, j)
                        for p in range(parts[0]):
                            first, last = edge(top, bottom, parts[0], p), edge(top, bottom, parts[0], p + 1)
                            for q in range(parts[1]):
                                head, tail = edge(left, stop, parts[1], q), edge(left, stop, parts[1], q + 1)
                                if order == "run":
                                    add_channel_runs(
                                        cell, down, first, last, partial, inner, numpy_lanes,
                                        source, lane, lanes,
                                    )  # fmt: skip
                                else:
                                    add_channels(
                                        cell, down, right, first, last, head, tail, partial, inner, order,
                                        source, lane, lanes,
                                    )  # fmt: skip
                                for b in range(blocks if parts[0] * parts[1] > 1 else 0):
                                    part = load(partial + b * lanes * size(lane), lane, lane, lanes)
                                    there = pieces + p * row_bytes + (q * blocks + b) * part_bytes
                                    store_part(part, there, lane, lanes)
                        cells = full((bottom - top) * (stop - left), quotient, lanes)
                        for b in range(blocks):
                            if parts[0] * parts[1] == 1:
                                sums = cast(
                                    load(partial + b * lanes * size(lane), lane, lane, lanes), quotient
                                )
                                means = sums / cells
                            else:
                                sums, means = folded_mean(
                                    pieces + b * part_bytes, parts, row_bytes, blocks * part_bytes,
                                    cast(cells, "float64"), lane, quotient, lanes,
                                )  # fmt: skip
                            bad |= not_finite(sums)
                            channel = min(b * lanes, inner - lanes)
                            means = mended(
                                means, cell + channel * size(source), down, right, top, bottom, left, stop,
                                exact, source, lane, quotient, lanes,
                            )  # fmt: skip
                            if stays:
                                there = out[0] + plane * out[1] + k * out[2] + j * out[3]
                                store(means, there + channel * size(result), result)
                            else:
                                store(means, mean, quotient)
                                mean += mean_bytes
                if not stays:
                    for channel in range(0, inner, square):
                        c = min(channel, inner - square)
                        # Which block has them, and from which lane on.
                        b = c // lanes if c + square <= (blocks - 1) * lanes else blocks - 1
                        here = (
                            averages + b * mean_bytes + (c - min(b * lanes, inner - lanes)) * size(quotient)
                        )
                        there = out[0] + plane * out[1] + i * out[2] + c * out[4]
                        count = (end - i) * n_cols
                        spread(
                            here, blocks * mean_bytes, there, out[4], count, quotient, result, square, square
                        )
                i = end
            if bad:
                mark(failed, plane)

    return kernel
