"""Shards to the outputs of a single run: sinks are prepared as it does, and means copied there."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lucid.errors import about
from lucid.execution import outputs_of
from lucid.formats.arrays import ArraySpec
from lucid.formats.contract import Source
from lucid.formats.regions import regions_of, shift, size_of
from lucid.formats.registry import format_of_content
from lucid.job_plan import ArrayPlan, JobPlan
from lucid.options import Options
from lucid.report import Watch
from lucid.shards.provenance import AS_STORED, stored_arrays

#: Buffer through which means are copied, and the fraction of the memory that it is at most: the C library also keeps
#: what workers took for the shards.
_COPY_BYTES, _OF_MEMORY = 8 << 20, 8


class ShardArray(NamedTuple):
    """Means of a region: those of which array they are, what is stored of them, and in which shard."""

    whole: ArrayPlan
    spec: ArraySpec
    #: The place of the first cell in the output, along all axes that are stored there.
    offset: tuple[int, ...]
    path: Path


def copy_bytes(options: Options) -> int:
    """Bytes that are copied at once."""
    return min(_COPY_BYTES, options.max_memory // _OF_MEMORY)


def collect(plan: JobPlan, shards: Iterable[JobPlan]) -> Iterator[ShardArray]:
    """The means of a plan that lie in shards, shard by shard; a FormatError says which shard is not this run's."""
    for shard in shards:
        for target in shard.targets:
            for own, spec in stored_arrays(target, shard.arrays(target)):
                whole = plan.array(own.source_index, own.size)
                if whole is not None:
                    yield ShardArray(whole, spec, _place(whole, own.offset), target.path)


def _place(whole: ArrayPlan, offset: Sequence[int]) -> tuple[int, ...]:
    """Where the first cell of a region is in the output, as it is stored."""
    shape = whole.result.shape
    relative = [a - b for a, b in zip(offset, chain(whole.offset, repeat(0)), strict=False)]
    if whole.result.flat:
        return relative[0], sum(n * size_of(shape[axis + 1 :]) for axis, n in enumerate(relative) if axis)
    return (*relative, *[0] * (len(shape) - len(relative)))


def join(plan: JobPlan, source: Source, shards: Iterable[ShardArray], watch: Watch) -> None:
    """Make the outputs of a plan, with means that lie in shards."""
    buffer = np.empty(copy_bytes(plan.options), np.uint8)
    with outputs_of(plan, source, watch) as sinks, watch.clock("write"):
        for path, arrays in groupby(shards, lambda one: one.path):
            with about(f"shard {path}"):
                reader = format_of_content(path).open(path, AS_STORED)
            with reader:
                for one in arrays:
                    sink = sinks[one.whole.target.path]
                    stored = one.whole.result._replace(shape=one.whole.result.stored_shape)
                    for region in regions_of(one.spec.shape, len(buffer) // stored.dtype.itemsize):
                        with about(f"shard {path}"):
                            values = reader.read(one.spec, region, buffer)
                        with sink.name_errors():
                            sink.write(stored, shift(region, one.offset), values)
            watch.report_progress()
