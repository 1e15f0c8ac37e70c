"""Spans: the work on one input divided into what a shard holds.

A span is a region of the leading axes of an array, or several small arrays. Spans follow from shapes, chunks
and a number of bytes alone, so that another memory limit, machine or cluster finds the shards that were
left. They begin and end with chunks of the input, so that none is decoded twice, and of the output where
those are shorter, so that each of these comes from one shard.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from lucid.backlog import Backlog
from lucid.formats.arrays import ArraySpec
from lucid.formats.regions import Region, divide, shift
from lucid.formats.result import chunks_of
from lucid.job_plan import JobPlan

#: Bytes of input that a span aims at: a hundred times what it costs to begin one.
SPAN_BYTES = 128 << 20
#: Spans of an input at most; a scheduler takes some milliseconds for each.
MOST_SPANS = 1 << 14
#: Arrays of a span at most.
MOST_ARRAYS = 1 << 10


class Span(NamedTuple):
    """What a shard holds: a region of the leading axes of each array, by its number among those that are chosen."""

    number: int
    regions: dict[int, Region]


def spans_of(plan: JobPlan) -> Sequence[Span]:
    """All spans of an input, in order."""
    # Arrays of a group have all in common that counts here, and all passes of an array its cells.
    firsts = [passes[0] for passes in plan.groups]
    total = sum(firsts[number].blocks.spec.nbytes for number in plan.group_numbers)
    most_bytes = max(SPAN_BYTES, -(-total // MOST_SPANS))
    spans = Backlog[Span]()
    regions: dict[int, Region] = {}
    size_bytes = 0
    for index, number in zip(plan.indices, plan.group_numbers, strict=True):
        blocks, arrays = firsts[number]
        spec, lead, result = blocks.spec, blocks.height_axis, arrays[0].result
        steps = region_steps(spec, lead, chunks_of(result), most_bytes, is_flat=result.flat)
        for inner in divide(spec.shape[:lead], steps, spec.offset):
            region = shift(inner, spec.offset)  # counted from the first cell of the whole array
            region_bytes = spec.within(region).nbytes
            if regions and (
                size_bytes + region_bytes > most_bytes or index in regions or len(regions) == MOST_ARRAYS
            ):
                spans.append(Span(len(spans), regions))
                regions, size_bytes = {}, 0
            regions[index] = region
            size_bytes += region_bytes
    if regions:
        spans.append(Span(len(spans), regions))
    return spans


def is_indivisible(plan: JobPlan, spans: Sequence[Span]) -> bool:
    """Whether these spans are one, though there is work for several."""
    return len(spans) == 1 and plan.input_bytes > 2 * SPAN_BYTES


def region_steps(
    spec: ArraySpec, lead_axes: int, output_chunks: Sequence[int], most_bytes: int, *, is_flat: bool
) -> list[int]:
    """Lengths of a region along the leading axes: whole inner axes, a range of one, a chunk of the outer ones.

    >>> import numpy as np
    >>> images = ArraySpec("x", (100, 64, 56, 56), np.dtype("f4"), "float32")
    >>> region_steps(images, 2, (1, 1, 1, 1), 8 << 20, is_flat=False)
    [10, 64]
    >>> region_steps(images, 2, (1, 1, 1, 1), 1 << 18, is_flat=False)
    [1, 20]
    """
    shape = [max(1, n) for n in spec.shape[:lead_axes]]
    chunks = [min(c, n) for c, n in zip(spec.chunks or [1] * lead_axes, shape, strict=False)]
    if is_flat:
        # What is joined to one axis has to be one range of it.
        chunks = [chunks[0], *[1] * (lead_axes - 1)]
    plane_bytes = spec.dtype.itemsize * prod(spec.shape[lead_axes:])
    steps = list(chunks)
    for axis in reversed(range(lead_axes)):
        each = max(1, plane_bytes * prod(shape[axis + 1 :]) * prod(chunks[:axis]))
        step = max(1, most_bytes // each)
        step = -(-step // chunks[axis]) * chunks[axis]
        if not (is_flat and axis) and axis < len(output_chunks) and step >= output_chunks[axis]:
            step = -(-step // output_chunks[axis]) * output_chunks[axis]
        steps[axis] = min(shape[axis], step)
        if steps[axis] < shape[axis]:
            break
    return steps
