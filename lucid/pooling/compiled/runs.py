"""Windows that are runs of memory, as those of global pooling are: summed as NumPy sums runs.

Four vectors at a time, as its loop does; the order is NumPy's, with as many lanes as
`kernels.numpy_lanes` finds.
"""

import numpy as np

from lucid.pooling.compiled.sizes import PART_BYTES
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
    fold,
    fold_rows,
    full,
    integer,
    load,
    load_some,
    mark,
    not_finite,
    same,
    size,
    store,
)


@inline
def add_lanes(cell, start, stop, element, lane, lanes):
    """Add the vectors of a run of cells."""
    total = full(0, lane, lanes)
    step = lanes * size(element)
    here, end = cell + start * size(element), cell + stop * size(element)
    while here + 4 * step <= end:
        a = load(here, element, lane, lanes) + load(here + step, element, lane, lanes)
        b = load(here + 2 * step, element, lane, lanes) + load(here + 3 * step, element, lane, lanes)
        total = total + (a + b)
        here += 4 * step
    while here + step <= end:
        total = total + load(here, element, lane, lanes)
        here += step
    if here < end:
        total = total + load_some(here, (end - here) // size(element), element, lane, lanes)
    return total


def run(source: str, lane: str, quotient: str, result: str, lanes: int) -> Kernel:
    """Planes contiguous; `rows` are runs of cells of the flattened planes. Scratch: parts of a window."""
    part_bytes = PART_BYTES[lane]

    def kernel(call):
        x, out, sizes, rows, cols, parts, group, exact, failed, scratch = arguments(call)
        n_rows, starts, stops = rows
        pieces = scratch[0]
        for plane in range(sizes[0]):
            cell = x[0] + plane * x[1]
            bad = np.uint64(0)
            for i in range(n_rows):
                start, stop = integer(starts, i), integer(stops, i)
                if parts[0] == 1:
                    total = cast(fold(add_lanes(cell, start, stop, source, lane, lanes)), quotient)
                    mean = total / full(stop - start, quotient, 1)
                else:
                    for p in range(parts[0]):
                        first, last = edge(start, stop, parts[0], p), edge(start, stop, parts[0], p + 1)
                        part = fold(add_lanes(cell, first, last, source, lane, lanes))
                        store_part(part, pieces + p * part_bytes, lane, 1)
                    cells = full(stop - start, "float64", 1)
                    total, mean = folded_mean(pieces, parts, part_bytes, 0, cells, lane, quotient, 1)
                bad |= not_finite(total)
                mean = mended(
                    mean, cell, size(source), 0, start, stop, 0, 1, exact, source, lane, quotient, 1
                )
                store(mean, out[0] + plane * out[1] + i * out[2], result)
            if bad:
                mark(failed, plane)

    return kernel


def global_run(source: str, lane: str, quotient: str, result: str, lanes: int) -> Kernel:
    """One window of one part for each plane, as many planes at once as there are lanes.

    At least so many planes, contiguous, as their means are. Scratch: a vector for each lane. What the vectors
    hold is added up for all of them at once: 7x7 took 6.9 ns a plane one by one, so 4.4.
    """

    def kernel(call):
        x, out, sizes, rows, cols, parts, group, exact, failed, scratch = arguments(call)
        planes, start, stop = sizes[0], integer(rows[1], 0), integer(rows[2], 0)
        vectors = scratch[0]
        for block in range(0, planes, lanes):
            plane = min(block, planes - lanes)
            alike = np.uint64(0)
            for k in range(lanes):
                cell = x[0] + (plane + k) * x[1]
                store(
                    add_lanes(cell, start, stop, source, lane, lanes), vectors + k * lanes * size(lane), lane
                )
                first = load(cell + start * size(source), source, lane, 1)
                alike |= same(first, load(cell + (stop - 1) * size(source), source, lane, 1))
            sums = fold_rows(vectors, lane, lanes)
            bad = not_finite(sums)
            store(cast(sums, quotient) / full(stop - start, quotient, lanes), out[0] + plane * out[1], result)
            if bad:
                for k in range(lanes):
                    if bad >> np.uint64(k) & np.uint64(1):
                        mark(failed, plane + k)
            if alike and not exact:
                for k in range(lanes):
                    cell = x[0] + (plane + k) * x[1]
                    mean = cast(fold(load(vectors + k * lanes * size(lane), lane, lane, lanes)), quotient)
                    mean = mean / full(stop - start, quotient, 1)
                    mean = mended(
                        mean, cell, size(source), 0, start, stop, 0, 1, exact, source, lane, quotient, 1
                    )  # fmt: skip
                    store(mean, out[0] + (plane + k) * out[1], result)

    return kernel
