"""Compressed chunks of an HDF5 dataset, read and decoded past the HDF5 library.

The library lets one thread in at a time, decoding included. Here each thread reads the raw
chunk at its offset in the file and undoes the filters itself: deflate (with isal where the
extra `fast` is installed), shuffle and fletcher32. A filter that the chunk's mask
marks was not applied to it. A chunk that decodes to another size than declared is an error.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np

from lucid.errors import FormatError
from lucid.formats.base import Array, Region, shape_of, size_of
from lucid.formats.files import read_at

_zlib: ModuleType
try:
    from isal import isal_zlib as _zlib
except ImportError:
    _zlib = zlib
DECODING_ERRORS: tuple[type[Exception], ...] = (zlib.error, _zlib.error)

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
#: Address of a chunk that was never written.
MISSING = -1


def can_decode(filters: tuple[int, ...]) -> bool:
    """Whether these filters, by number, are undone here."""
    return set(filters) <= {DEFLATE, SHUFFLE, FLETCHER32}


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
        for index, inside, outside in self._overlaps(region):
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

    def _overlaps(self, region: Region) -> Iterator[tuple[tuple[int, ...], Region, Region]]:
        """Every chunk that a region touches: index, part of the chunk, part of the region."""
        if 0 in shape_of(region):
            return
        axes = [range(s.start // c, -(-s.stop // c)) for s, c in zip(region, self.chunks, strict=True)]
        for index in product(*axes):
            inside, outside = [], []
            for i, s, c in zip(index, region, self.chunks, strict=True):
                start, stop = max(s.start, i * c), min(s.stop, (i + 1) * c)
                inside.append(slice(start - i * c, stop - i * c))
                outside.append(slice(start - s.start, stop - s.start))
            yield index, tuple(inside), tuple(outside)

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
                raw = self._undo(self.filters[i], raw)
        self._check_size(len(raw))
        return raw.view(self.dtype)

    def _undo(self, number: int, raw: Array) -> Array:
        if number == DEFLATE:
            # A checksum may follow inside; nothing else that is known here makes a chunk longer.
            return inflate(raw, self._chunk_bytes + 4)
        if number == SHUFFLE:
            return unshuffle(raw, self.dtype.itemsize)
        return verify_fletcher32(raw)


def inflate(raw: Array, limit: int) -> Array:
    """Decompress a zlib stream of at most `limit` bytes, whatever it would expand to."""
    stream = _zlib.decompressobj()
    try:
        data = stream.decompress(raw.data, limit + 1)
    except DECODING_ERRORS as error:
        raise FormatError(f"has a chunk that cannot be decompressed: {error}") from None
    if len(data) > limit or not stream.eof:
        raise FormatError("has a chunk that decompresses to another size than declared")
    return np.frombuffer(data, np.uint8)


def unshuffle(raw: Array, itemsize: int) -> Array:
    """Put the bytes of each element together: all first bytes come first, then all second."""
    count = len(raw) // itemsize
    if itemsize not in (2, 4, 8):
        return raw if itemsize == 1 else _unshuffle_by_copy(raw, itemsize, count)
    # Shifting whole integers takes a third of the time that copying bytes with strides does.
    planes = raw[: count * itemsize].reshape(itemsize, count)
    words = planes[itemsize - 1].astype(f"<u{itemsize}")
    for k in range(itemsize - 2, -1, -1):
        words <<= 8
        words |= planes[k]
    return (
        np.concatenate([words.view(np.uint8), raw[count * itemsize :]])
        if len(raw) % itemsize
        else words.view(np.uint8)
    )


def _unshuffle_by_copy(raw: Array, itemsize: int, count: int) -> Array:
    body = raw[: count * itemsize].reshape(itemsize, count).T.reshape(-1)
    return np.concatenate([body, raw[count * itemsize :]])


def verify_fletcher32(raw: Array) -> Array:
    """Cut the checksum off the end, once it agrees: Fletcher's, over big-endian 16-bit words."""
    if len(raw) < 4:
        raise FormatError("has a chunk too short for its checksum")
    body, stored = raw[:-4], int(raw[-4:].view("<u4")[0])
    padded = body if len(body) % 2 == 0 else np.append(body, np.uint8(0))
    words = padded.view(">u2").astype(np.uint64)
    first = second = 0
    # Sums of 2**20 words times their distance to the end stay below 2**56.
    for start in range(0, len(words), 1 << 20):
        part = words[start : start + (1 << 20)]
        distance = np.arange(len(part), 0, -1, dtype=np.uint64)
        second = (second + len(part) * first + int((part * distance).sum())) % 65535
        first = (first + int(part.sum())) % 65535
    # 0 and 65535 are the same remainder; the library stores either.
    if ((stored >> 16) - second) % 65535 or ((stored & 0xFFFF) - first) % 65535:
        raise FormatError("has a chunk whose checksum does not agree")
    return body


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
