"""Compressed chunks of an HDF5 dataset, read and decoded past the HDF5 library.

The library lets one thread in at a time, decoding included. Here each thread reads the raw
chunk at its offset in the file and undoes the filters itself (`filters`). A filter that the chunk's mask
marks was not applied to it. A chunk that decodes to another size than declared is an error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucid.errors import FormatError
from lucid.formats.arrays import Array
from lucid.formats.disk.files import read_at
from lucid.formats.hdf5.filters import undo
from lucid.formats.regions import Region, overlaps, size_of

#: Address of a chunk that was never written.
MISSING = -1


@dataclass(frozen=True)
class ChunkedArray:
    """Where the chunks of an array are: its grid, and address, size and filter mask of each chunk."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    filters: tuple[int, ...]
    fill: Any
    address: Array
    size: Array
    mask: Array

    def read(self, descriptor: int, region: Region, out: Array) -> None:
        """Fill `out`, of the region's shape, with the parts of all chunks that it touches."""
        for index, inside, outside in overlaps(region, self.chunks):
            target = out[outside]
            if self.address[index] == MISSING:
                target[...] = self.fill
                continue
            straight = inside == tuple(slice(0, n) for n in self.chunks) and target.flags.c_contiguous
            if straight and not self.filters:
                self._check_size(int(self.size[index]))
                read_at(descriptor, int(self.address[index]), target.reshape(-1).view(np.uint8).data)
                continue
            if self.size[index] > 2 * self._chunk_bytes + 4096:
                raise FormatError(
                    f"has a chunk of {self.size[index]} bytes; expected about {self._chunk_bytes}"
                )
            raw = np.empty(int(self.size[index]), np.uint8)
            read_at(descriptor, int(self.address[index]), raw.data)
            cells = self._decode(raw, int(self.mask[index]))
            np.copyto(target, cells.reshape(self.chunks)[inside])

    @property
    def _chunk_bytes(self) -> int:
        return size_of(self.chunks) * self.dtype.itemsize

    def _check_size(self, size: int) -> None:
        if size != self._chunk_bytes:
            raise FormatError(f"has a chunk of {size} bytes; expected {self._chunk_bytes}")

    def _decode(self, raw: Array, mask: int) -> Array:
        """Undo the filters, last first."""
        for i in reversed(range(len(self.filters))):
            if not mask >> i & 1:
                raw = undo(self.filters[i], raw, self.dtype.itemsize, self._chunk_bytes)
        self._check_size(len(raw))
        return raw.view(self.dtype)


ForEachChunk = Callable[[Callable[[Any], None]], None]


def index_chunks(
    for_each: ForEachChunk, grid: tuple[int, ...], chunks: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """Address, size and mask of every chunk, in one pass over the file's own index."""
    address = np.full(grid, MISSING, np.int64)
    size = np.zeros(grid, np.int64)
    mask = np.zeros(grid, np.uint32)

    def note(chunk: Any) -> None:
        index = tuple(o // c for o, c in zip(chunk.chunk_offset, chunks, strict=True))
        if any(i >= n for i, n in zip(index, grid, strict=True)):
            return  # left over from before the dataset was made smaller
        address[index], size[index], mask[index] = chunk.byte_offset, chunk.size, chunk.filter_mask

    for_each(note)
    return address, size, mask
