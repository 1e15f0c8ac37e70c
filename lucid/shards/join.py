"""Shards to the outputs of a single run: sinks are prepared as it does, and means copied there."""

from collections.abc import Iterable, Sequence
from itertools import chain, groupby, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lucid.errors import about
from lucid.execution import outputs_of
from lucid.formats.arrays import ArraySpec
from lucid.formats.contract import Source
from lucid.formats.regions import Region, regions_of, shift, size_of
from lucid.formats.registry import format_of_content
from lucid.job_plan import ArrayPlan, JobPlan
from lucid.options import Options
from lucid.report import Watch
from lucid.shards.provenance import AS_STORED, stored_arrays

#: Buffer through which means are copied, and the fraction of the memory that it is at most: the C library also keeps
#: what workers took for the shards.
_COPY_BYTES, _OF_MEMORY = 8 << 20, 8


class ShardArray(NamedTuple):
    """Means of a box: those of which array they are, what is stored of them, and in which shard."""

    whole: ArrayPlan
    spec: ArraySpec
    #: The place of the first cell in the output, along all axes that are stored there.
    offset: tuple[int, ...]
    path: Path

    @property
    def region(self) -> Region:
        """The box in the output."""
        return tuple(slice(start, start + n) for start, n in zip(self.offset, self.spec.shape, strict=True))


def copy_bytes(options: Options) -> int:
    """Bytes that are copied at once."""
    return min(_COPY_BYTES, options.max_memory // _OF_MEMORY)


def collect(job: JobPlan, shards: Iterable[JobPlan]) -> list[ShardArray]:
    """The means that lie in shards, shard by shard; a FormatError says which is not this run's."""
    wholes = {array.key: array for array in job.all_arrays()}
    return [
        ShardArray(wholes[box.key], spec, _place(wholes[box.key], box.offset), target.path)
        for shard in shards
        for target in shard.targets
        for box, spec in stored_arrays(target, shard.arrays_of(target))
    ]


def _place(whole: ArrayPlan, offset: Sequence[int]) -> tuple[int, ...]:
    """Where the first cell of a box is in the output, as it is stored."""
    shape = whole.result.shape
    relative = [a - b for a, b in zip(offset, chain(whole.offset, repeat(0)), strict=False)]
    if whole.result.flat:
        return relative[0], sum(n * size_of(shape[axis + 1 :]) for axis, n in enumerate(relative) if axis)
    return (*relative, *[0] * (len(shape) - len(relative)))


def join(job: JobPlan, source: Source, shards: Iterable[ShardArray], watch: Watch) -> None:
    """Make the outputs of a plan, with means that lie in shards."""
    buffer = np.empty(copy_bytes(job.options), np.uint8)
    with outputs_of(job, source, watch) as sinks, watch.clock("write"):
        for path, arrays in groupby(shards, lambda one: one.path):
            with about(f"shard {path}"):
                reader = format_of_content(path).open(path, AS_STORED)
            with reader:
                for one in arrays:
                    if one.whole.target.path in sinks:
                        sink = sinks[one.whole.target.path]
                        stored = one.whole.result._replace(shape=one.whole.result.stored_shape)
                        for box in regions_of(one.spec.shape, len(buffer) // stored.dtype.itemsize):
                            with about(f"shard {path}"):
                                values = reader.read(one.spec, box, buffer)
                            with sink.name_errors():
                                sink.write(stored, shift(box, one.offset), values)
            watch.report_progress()
