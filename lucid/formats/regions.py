"""Regions of arrays, each a tuple of slices with start and stop, one for each axis."""

import math
from collections.abc import Iterator, Sequence
from itertools import product

Region = tuple[slice, ...]


def size_of(shape: Sequence[int]) -> int:
    """Number of elements, in integers that do not overflow."""
    return math.prod(map(int, shape))


def shape_of(region: Region) -> tuple[int, ...]:
    """Shape of a region."""
    return tuple(s.stop - s.start for s in region)


def shift(region: Region, by: Sequence[int]) -> Region:
    """The same region, so many cells further on along the first axes."""
    axes = (slice(s.start + n, s.stop + n) for s, n in zip(region, by, strict=False))
    return (*axes, *region[len(by) :])


def divide(lengths: Sequence[int], steps: Sequence[int], offset: Sequence[int] = ()) -> Iterator[Region]:
    """The regions of an array, last axis fastest, by multiples of the steps; its first cell is the one at `offset`.

    `product` would store the slices of every axis, and there may be as many as there are samples.
    """
    if not lengths:
        yield ()
        return
    start, first = 0, first_step(lengths[0], steps[0], offset)
    while start < lengths[0]:
        stop = min(start + (first or steps[0]), lengths[0])
        for region in divide(lengths[1:], steps[1:], offset[1:]):
            yield (slice(start, stop), *region)
        start, first = stop, 0


def first_step(length: int, step: int, offset: Sequence[int]) -> int:
    """Length of the first step along an axis if it is shorter, to end at a multiple of the step; 0 if it is not."""
    return -offset[0] % step if offset and step < length else 0


def grow(chunks: Sequence[int], shape: Sequence[int], most: int) -> tuple[int, ...]:
    """Chunks of at most so many elements: as far as they fit a shape, then grown by whole ones from the last axis up.

    >>> grow((2, 1, 1), (9, 3, 4), 30), grow((1, 1, 1), (9, 3, 4), 10)
    ((2, 3, 4), (1, 2, 4))
    """
    lengths = [max(1, min(c, n)) for c, n in zip(chunks, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        room = most // (size_of(lengths) // lengths[axis])
        if axis == 0:
            room = room // chunks[0] * chunks[0]
        lengths[axis] = max(lengths[axis], min(shape[axis], room))
        if lengths[axis] < shape[axis]:  # chunks stay runs of the array
            break
    return tuple(lengths)


def shrink(chunks: Sequence[int], most: int) -> tuple[int, ...]:
    """Chunks of at most so many elements: shorter along the first axes where they have more.

    >>> shrink((25, 64, 56), 10_000), shrink((25, 64, 56), 1000)
    ((2, 64, 56), (1, 17, 56))
    """
    lengths = list(chunks)
    for axis, length in enumerate(lengths):
        lengths[axis] = max(1, min(length, most * length // size_of(lengths)))
    return tuple(lengths)


def regions_of(shape: tuple[int, ...], most: int) -> Iterator[Region]:
    """Regions of an array in order, each a run of at most so many elements."""
    return divide(shape, grow((1,) * len(shape), shape, most))


def overlaps(region: Region, chunks: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Region, Region]]:
    """Every chunk of a grid that a region touches: its index, the common cells in it and in the region."""
    if 0 in shape_of(region):
        return
    axes = []
    for s, c in zip(region, chunks, strict=True):
        axis = []
        for i in range(s.start // c, -(-s.stop // c)):
            start, stop = max(s.start, i * c), min(s.stop, (i + 1) * c)
            axis.append((i, slice(start - i * c, stop - i * c), slice(start - s.start, stop - s.start)))
        axes.append(axis)
    for chunk in product(*axes):
        index, inside, outside = zip(*chunk, strict=True) if chunk else ((), (), ())
        yield index, inside, outside


def runs(shape: tuple[int, ...], region: Region) -> Iterator[tuple[int, int]]:
    """The region of a C-ordered array as runs (first element, number of elements), in order."""
    base, length, step = 0, 1, 1
    outer: list[range] = []
    goes_on = True  # the run takes in whole axes, and the first that is not
    for own, whole in zip(reversed(region), reversed(shape), strict=True):
        count = own.stop - own.start
        base += own.start * step
        if goes_on:
            length, goes_on = length * count, count == whole
        else:
            outer.append(range(0, count * step, step))
        step *= whole
    if length or not outer:
        for offsets in product(*reversed(outer)):
            yield base + sum(offsets), length
