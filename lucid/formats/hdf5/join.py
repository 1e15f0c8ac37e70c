"""Chunks of a dataset whose means lie in shards.

Where the shard's grid of chunks is that of the dataset, a chunk is moved as it is, compressed; where a
shard begins or ends within a chunk, its cells are read.
"""

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from lucid.errors import FormatError, LucidError
from lucid.formats.contract import Array, Part, Region, Resource, Source, shape_of, shifted, size_of
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.hdf5.tree import HDF5_ERRORS, encoded, reason


class Joined(Resource):
    """The parts of one dataset, in order; one shard is open at a time."""

    def __init__(self, dataset: h5py.Dataset, parts: Sequence[Part], dtype: np.dtype[Any]) -> None:
        self._dataset, self._parts, self._dtype = dataset, parts, dtype
        self._kind = _kind(dataset)
        self._open: tuple[Part, Source] | None = None
        self._next = 0

    def load(self, region: Region) -> tuple[bytes, int] | tuple[Array, None]:
        """A chunk's bytes and filter mask, or the cells of a region and no mask; regions come in order."""
        first, last = region[0].start, region[0].stop
        while self._parts[self._next].stop <= first:
            self._next += 1
        part = self._parts[self._next]
        try:
            moved = self._moved(part, region) if last <= part.stop else None
            return (self._cells(region), None) if moved is None else moved
        except LucidError:
            raise
        except HDF5_ERRORS as error:
            raise FormatError(f"shard {part.path}: {reason(error)}") from error

    def _moved(self, part: Part, region: Region) -> tuple[bytes, int] | None:
        """A chunk as it is in the shard, if it is the same one there."""
        source = self._shard(part)
        if not isinstance(source, Hdf5Source):
            return None
        stored = source.file[encoded(part.spec.name)]
        there = shifted(region, -part.start)
        is_cut_short = region[0].stop - region[0].start < self._dataset.chunks[0]
        if (
            _kind(stored) != self._kind
            or there[0].start % stored.chunks[0]
            or (is_cut_short and region[0].stop < self._dataset.shape[0])
        ):
            return None
        mask, data = stored.id.read_direct_chunk(tuple(s.start for s in there))
        return data, mask

    def _cells(self, region: Region) -> Array:
        """The cells of a region, of as many shards as it touches."""
        values = np.empty(shape_of(region), self._dtype)
        for part in self._parts[self._next :]:
            start, stop = max(region[0].start, part.start), min(region[0].stop, part.stop)
            if start >= stop:
                break
            own = (slice(start - part.start, stop - part.start), *region[1:])
            buffer = np.empty(size_of(shape_of(own)) * self._dtype.itemsize, np.uint8)
            cells = part.read(self._shard(part), own, buffer)
            values[start - region[0].start : stop - region[0].start] = cells
        return values

    def _shard(self, part: Part) -> Source:
        if self._open is None or self._open[0] is not part:
            self.close()
            self._open = part, part.open()
        return self._open[1]

    def close(self) -> None:
        """Close the shard that is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


def _kind(dataset: h5py.Dataset) -> tuple[object, ...]:
    """What must agree for chunks to be moved: their shape, element type and filters."""
    creation = dataset.id.get_create_plist()
    filters = [creation.get_filter(i)[:3] for i in range(creation.get_nfilters())]
    return dataset.chunks, dataset.dtype, filters
