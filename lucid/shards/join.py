"""Shards to the outputs of a single run: sinks are prepared as it does, and means copied there."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import numpy as np

from lucid.execution import outputs_of
from lucid.formats.contract import ShardArray, Source
from lucid.formats.regions import size_of
from lucid.formats.registry import format_of_content
from lucid.job_plan import ArrayPlan, JobPlan, Key
from lucid.report import Watch
from lucid.shards.provenance import AS_STORED, stored_arrays

#: Buffer through which means are copied.
COPY_BYTES = 8 << 20


class ShardReader(ExitStack):
    """Shards to read from, one of them open at a time."""

    _path: Path | None = None
    _source: Source

    def get(self, path: Path) -> Source:
        """The shard of that path."""
        if path != self._path:
            self.close()
            self._path = None  # while the next one may fail to open
            self._source = self.enter_context(format_of_content(path).open(path, AS_STORED))
            self._path = path
        return self._source


def collect(job: JobPlan, shards: Iterable[JobPlan], reader: ShardReader) -> dict[Key, list[ShardArray]]:
    """Where the means of every array are, in the order of the shards; a FormatError says which is not this run's."""
    whole = {array.key: array for array in job.all_arrays()}
    arrays: dict[Key, list[ShardArray]] = {key: [] for key in whole}
    for shard in shards:
        for target in shard.targets:
            for array, spec in stored_arrays(target, shard.arrays_of(target)):
                offset = _place(whole[array.key], array.offset)
                shard_array = ShardArray(spec, offset, target.path, partial(reader.get, target.path))
                arrays[array.key].append(shard_array)
    return arrays


def _place(whole: ArrayPlan, offset: Sequence[int]) -> tuple[int, ...]:
    """Where the first cell of a box is in the output, as it is stored."""
    shape = whole.result.shape
    relative = [a - b for a, b in zip(offset, chain(whole.offset, repeat(0)), strict=False)]
    if whole.result.flat:
        return relative[0], sum(n * size_of(shape[axis + 1 :]) for axis, n in enumerate(relative) if axis)
    return (*relative, *[0] * (len(shape) - len(relative)))


def join(job: JobPlan, source: Source, shards: dict[Key, list[ShardArray]], watch: Watch) -> None:
    """Make the outputs of a plan, with means that lie in shards."""
    buffer = np.empty(min(COPY_BYTES, job.options.max_memory), np.uint8)
    with outputs_of(job, source, watch) as sinks, watch.clock("write"):
        for target in job.targets:
            for array in job.arrays_of(target):
                for shard in shards[array.key] if array.result.nbytes else ():
                    shard.copy(array.result, sinks[target.path], buffer)
                watch.report_progress()
