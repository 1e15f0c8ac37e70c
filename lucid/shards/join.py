"""Shards to the outputs of a single run: sinks are prepared as it does, and means moved or copied there."""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lucid.execution import Watch
from lucid.formats.contract import Resource, ShardArray, Source
from lucid.formats.regions import size_of
from lucid.formats.registry import format_of_content
from lucid.job_plan import ArrayPlan, JobPlan
from lucid.outputs import Target
from lucid.shards.stored import AS_STORED, stored

#: Buffer through which means are copied that cannot be moved.
COPY_BYTES = 8 << 20


class Key(NamedTuple):
    """What means are of: the dataset of the source, and the number of the size."""

    dataset: str
    size: int


def keys_of(job: JobPlan) -> dict[Key, ArrayPlan]:
    """All arrays of means of a plan."""
    return {Key(array.pooled.source.name, array.size): array for array in job.every()}


class Opened(Resource):
    """Shards to read from, one of them open at a time."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._source: Source | None = None

    def get(self, path: Path) -> Source:
        """The shard of that path."""
        if path != self._path or self._source is None:
            self.close()
            self._source, self._path = format_of_content(path).open(path, AS_STORED), path
        return self._source

    def close(self) -> None:
        """Close the one that is open."""
        if self._source is not None:
            self._source.close()
            self._source = None


def collect(job: JobPlan, shards: Iterable[JobPlan], opened: Opened) -> dict[Key, list[ShardArray]]:
    """Where the means of every array are, in the order of the shards.

    Raises
    ------
    FormatError
        A shard is missing, or is not this run's.

    """
    whole = keys_of(job)
    found: dict[Key, list[ShardArray]] = {key: [] for key in whole}
    for shard in shards:
        keys = {id(array): key for key, array in keys_of(shard).items()}
        for target in shard.targets:
            for array, spec in stored(target, shard.of(target)):
                key = keys[id(array)]
                offset = _place(whole[key], array.blocks.spec.offset)
                found[key].append(ShardArray(spec, offset, target.path, partial(opened.get, target.path)))
    return found


def _place(whole: ArrayPlan, offset: Sequence[int]) -> tuple[int, ...]:
    """Where the first cell of a box is in the output, as it is stored."""
    shape = whole.pooled.shape
    relative = [a - b for a, b in zip(offset, chain(whole.blocks.spec.offset, repeat(0)), strict=False)]
    if whole.pooled.flat:
        return relative[0], sum(n * size_of(shape[axis + 1 :]) for axis, n in enumerate(relative) if axis)
    return (*relative, *[0] * (len(shape) - len(relative)))


def join(
    job: JobPlan,
    targets: Sequence[Target],
    source: Source,
    shards: dict[Key, list[ShardArray]],
    watch: Watch,
    max_memory: int,
) -> None:
    """Make outputs of a plan, with means that lie in shards."""
    buffer = np.empty(min(COPY_BYTES, max_memory), np.uint8)
    for target in targets:
        with target.create(job.options) as sink:
            arrays = job.of(target)
            sink.begin(source, [array.pooled for array in arrays])
            watch.note(sink)
            for array in arrays:
                key = Key(array.pooled.source.name, array.size)
                sink.join(array.pooled, shards[key] if array.pooled.nbytes else (), buffer)
                watch.tell()
            source.check_unchanged()
            sink.commit()
