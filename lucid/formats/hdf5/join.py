"""Chunks of a dataset whose means lie in shards.

Where the shard's grid of chunks is that of the dataset, a chunk is moved as it is, compressed; where a
shard begins or ends within a chunk, its cells are read.
"""

from collections.abc import Sequence
from itertools import islice, takewhile
from typing import Any

import numpy as np

from lucid.errors import FormatError
from lucid.formats.arrays import Array
from lucid.formats.contract import ShardArray
from lucid.formats.hdf5.filters import filters_of
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.hdf5.tree import Dataset, failing_as, opened
from lucid.formats.regions import Region, shape_of, shifted, size_of


class Joined:
    """The shards of one dataset, in the order of their boxes."""

    def __init__(self, dataset: Dataset, shards: Sequence[ShardArray], dtype: np.dtype[Any]) -> None:
        self._dataset, self._shards, self._dtype = dataset, shards, dtype
        self._kind = _kind(dataset)
        self._next = 0

    def load(self, region: Region) -> tuple[bytes, int] | tuple[Array, None]:
        """A chunk's bytes and filter mask, or the cells of a region and no mask; regions come in order."""
        while self._shards[self._next].region[0].stop <= region[0].start:
            self._next += 1
        # Those of the samples of the region, and of these the ones that have cells in it.
        ahead = takewhile(
            lambda one: one.region[0].start < region[0].stop, islice(self._shards, self._next, None)
        )
        touched = [one for one in ahead if 0 not in shape_of(_common(one.region, region))]
        with failing_as(FormatError, f"shard {touched[0].path}"):
            moved = self._moved(touched[0], region) if len(touched) == 1 else None
            return moved or (self._cells(touched, region), None)

    def _moved(self, one: ShardArray, region: Region) -> tuple[bytes, int] | None:
        """A chunk as it is in the shard, if it is the same one there."""
        source = one.open()
        stored = opened(source.file, one.spec.name) if isinstance(source, Hdf5Source) else None
        if stored is None or _kind(stored) != self._kind:
            return None
        there = shifted(region, [-n for n in one.offset])
        # A chunk that ends with the dataset is filled up in both alike.
        if not all(
            own.start % chunk == 0 and (own.stop - own.start == chunk or whole.stop == length)
            for whole, own, chunk, length in zip(
                region, there, stored.chunks, self._dataset.shape, strict=True
            )
        ):
            return None
        mask, data = stored.id.read_direct_chunk(tuple(s.start for s in there))
        return data, mask

    def _cells(self, shards: Sequence[ShardArray], region: Region) -> Array:
        """The cells of a region, of as many shards as it touches."""
        values = np.empty(shape_of(region), self._dtype)
        for one in shards:
            common = _common(one.region, region)
            buffer = np.empty(size_of(shape_of(common)) * self._dtype.itemsize, np.uint8)
            values[shifted(common, [-s.start for s in region])] = one.read(common, buffer)
        return values


def _common(one: Region, other: Region) -> Region:
    """What two regions share; empty along an axis where they do not meet."""
    pairs = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True)]
    return tuple(slice(start, max(start, stop)) for start, stop in pairs)


def _kind(dataset: Dataset) -> tuple[object, ...]:
    """What must agree for chunks to be moved: their shape, element type and filters."""
    return dataset.chunks, dataset.dtype, filters_of(dataset.creation)
