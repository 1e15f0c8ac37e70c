"""Chunks of an HDF5 dataset read where they are in the file, and decoded.

The library lets one thread in at a time, decoding included. Here each thread reads the raw chunk at its offset, and
undoes deflate and shuffle itself; all other filters the library undoes (`codec`). A filter that the chunk's mask
marks was not applied to it. A chunk that decodes to fewer bytes than it has is an error.
"""

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from lucid.errors import FormatError
from lucid.formats.contract import Array, Region, overlaps, size_of
from lucid.formats.disk.files import read_at
from lucid.formats.hdf5.codec import Decoder, Extent
from lucid.formats.hdf5.filters import DEFLATE, SHUFFLE, Filter

_deflate: ModuleType | None
try:
    import deflate as _deflate
except ImportError:
    _deflate = None

#: Address of a chunk that was never written.
MISSING = -1


@dataclass(frozen=True)
class ChunkedArray:
    """Where the chunks of an array are: its grid, and address, size and filter mask of each chunk."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    filters: tuple[Filter, ...]
    #: What undoes the filters where that is not done here.
    decoder: Decoder | None
    fill: Any
    address: Array
    size: Array
    mask: Array

    def read(self, descriptor: int, region: Region, out: Array) -> None:
        """Fill `out`, of the region's shape, with the cells of all chunks that it touches."""
        for index, inside, outside in overlaps(region, self.chunks):
            place = Extent(descriptor, int(self.address[index]), int(self.size[index]))
            mask = int(self.mask[index])
            filters = tuple(one for i, one in enumerate(self.filters) if not mask >> i & 1)
            if place.offset == MISSING:
                out[outside] = self.fill
            elif place.size > 2 * self._nbytes + 4096:
                raise FormatError(f"has a chunk of {place.size} bytes; expected about {self._nbytes}")
            elif self.decoder is not None and filters:
                self.decoder.decode(place, filters, inside, out, outside)
            else:
                self._read_chunk(place, filters, inside, out[outside])

    @property
    def _nbytes(self) -> int:
        return size_of(self.chunks) * self.dtype.itemsize

    def _read_chunk(self, place: Extent, filters: tuple[Filter, ...], inside: Region, target: Array) -> None:
        """Read and decode some cells of a chunk."""
        if not filters and target.shape == self.chunks and target.flags.c_contiguous:
            _check_size(place.size, self._nbytes)
            read_at(place.descriptor, place.offset, target.reshape(-1).view(np.uint8).data)
            return
        raw = np.empty(place.size, np.uint8)
        read_at(place.descriptor, place.offset, raw.data)
        for one in reversed(filters):
            is_deflate = one.code == DEFLATE
            raw = inflate(raw, self._nbytes) if is_deflate else unshuffle(raw, self.dtype.itemsize)
        _check_size(len(raw), self._nbytes)
        np.copyto(target, raw.view(self.dtype).reshape(self.chunks)[inside])


def _check_size(size: int, expected: int) -> None:
    if size != expected:
        raise FormatError(f"has a chunk of {size} bytes; expected {expected}")


def has_raw_edges(array: ChunkedArray) -> bool:
    """Whether chunks that reach over the edge may be stored without filters, which only the library knows for sure."""
    lengths = enumerate(zip(array.shape, array.chunks, strict=True))
    edges = [axis for axis, (n, c) in lengths if n % c and array.filters]
    is_raw = (array.size == size_of(array.chunks) * array.dtype.itemsize) & (array.mask == 0)
    return any(is_raw.take(-1, axis).any() for axis in edges)


def can_undo(codes: Sequence[int]) -> bool:
    """Whether these filters, by number, are undone here."""
    return set(codes) <= {DEFLATE, SHUFFLE} and len(set(codes)) == len(codes)


def inflate(raw: Array, limit: int) -> Array:
    """Decompress a zlib stream of at most `limit` bytes, whatever it would expand to."""
    if _deflate is not None:
        # It takes a third of zlib's time, but refuses without a reason: zlib says what is wrong.
        with suppress(_deflate.DeflateError):
            return np.frombuffer(_deflate.zlib_decompress(raw.data, limit), np.uint8)
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(raw.data, limit + 1)
    except zlib.error as error:
        raise FormatError(f"has a chunk that cannot be decompressed: {error}") from None
    if len(data) > limit or not stream.eof:
        raise FormatError("has a chunk that decompresses to another size than declared")
    return np.frombuffer(data, np.uint8)


def unshuffle(raw: Array, itemsize: int) -> Array:
    """Put the bytes of each element together: all first bytes come first, then all second."""
    if itemsize == 1 or len(raw) % itemsize:
        return raw  # of another size than declared, which is an error in the end
    # Shifting whole integers is faster than copying bytes with strides.
    planes = raw.reshape(itemsize, -1)
    words: Array = planes[-1].astype(f"<u{itemsize}")
    for plane in planes[-2::-1]:
        words <<= 8
        words |= plane
    return words.view(np.uint8)


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
