"""Chunks of an HDF5 dataset read where they are in the file, and decoded.

The library lets one thread in at a time, decoding included. Here each thread reads the raw chunk at its offset, and
undoes the filters one after another: deflate, bzip2 (whose plugin never ends on a chunk that was cut off), shuffle, and
LZF where it was compiled; the one that was applied last by its plugin
(`plugins`). Where there are others, the library undoes all (`codec`). A filter that the chunk's mask marks was not
applied to it. A chunk that decodes to another number of bytes than it has is an error.
"""

import bz2
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from lucid.errors import FormatError
from lucid.formats.arrays import Array, KeptChunk
from lucid.formats.disk.files import read_region
from lucid.formats.hdf5.codec import decoder
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.hdf5.filters import BZIP2, DEFLATE, LZF, SHUFFLE, Filter, filters_of
from lucid.formats.hdf5.plugins import BOUNDED, Extent, function_of, most_of, read_and_undo
from lucid.formats.hdf5.types import unwritten_fill_of
from lucid.formats.regions import Region, overlaps, regions_of, shape_of, shift, size_of

_deflate: ModuleType | None
try:
    import deflate as _deflate
except ImportError:
    _deflate = None
try:
    unlzf = import_module("lucid.formats._bytes").unlzf
except ImportError:  # it was installed without a C compiler
    unlzf = None

#: Filters that are undone here, by number.
BUILT_IN = {DEFLATE, BZIP2, SHUFFLE} | ({LZF} if unlzf else set())
#: Bytes of a chunk without filters that are read at once where they do not lie together in the block.
RAW_BYTES = 1 << 18
#: Rows of such a chunk of so many bytes are read whole, whatever is wanted of them.
ROW_BYTES = 1 << 14
#: Bytes of a stream that are decoded at once.
STREAM_BYTES = 1 << 14
#: Address of a chunk that was never written.
NOWHERE = -1


class ChunkedArray:
    """Where the chunks of a dataset are, by the file's own index: address, size and filter mask of each."""

    def __init__(self, dataset: Dataset, dtype: np.dtype[Any]) -> None:
        self._shape, self._chunks, self._dtype = dataset.shape, dataset.chunks, dtype
        self._filters = filters_of(dataset.creation)
        self._nbytes = size_of(self._chunks) * dtype.itemsize
        self._fill = unwritten_fill_of(dataset, dtype)
        grid = grid_of(dataset)
        self._address = np.full(grid, NOWHERE, np.int64)
        self._size, self._mask = np.zeros(grid, np.int64), np.zeros(grid, np.uint32)

        def note(chunk: Any) -> None:
            index = tuple(o // c for o, c in zip(chunk.chunk_offset, self._chunks, strict=True))
            if all(i < n for i, n in zip(index, grid, strict=True)):  # else left over from a larger dataset
                self._address[index], self._size[index] = chunk.byte_offset, chunk.size
                self._mask[index] = chunk.filter_mask

        dataset.id.chunk_iter(note)
        if np.any((self._address != NOWHERE) & (self._size == 0)):
            # Some filters make a chunk of whatever lay in memory out of nothing.
            raise FormatError(f"has a chunk of 0 bytes; expected about {self._nbytes}")
        codes = [one.code for one in self._filters]
        #: Whether one thread at a time decodes.
        self.is_locked = not can_undo(codes)
        self._decoder = None
        if needs_library(codes):
            # The library does not always see that the mask of a chunk is another than that of the one before.
            self._decoder = lru_cache(4)(partial(decoder, dataset))
            self._decoder(self._filters)

    @property
    def tables(self) -> list[bytes]:
        """All that says where the chunks are."""
        return [table.tobytes() for table in (self._address, self._size, self._mask)]

    @property
    def has_raw_edges(self) -> bool:
        """Whether chunks that reach over the edge may be stored without filters, which only the library knows."""
        edges = [axis for axis, n in enumerate(self._shape) if n % self._chunks[axis] and self._filters]
        is_raw = (self._size == self._nbytes) & (self._mask == 0)
        return any(is_raw.take(-1, axis).any() for axis in edges)

    def read(self, descriptor: int, region: Region, out: Array, kept: KeptChunk) -> None:
        """Fill `out`, of the shape of the region, with the cells of all chunks that it touches."""
        is_less = out.size < size_of(self._chunks)
        if not is_less or not self._filters or self._decoder is not None:
            kept.keep()
        for index, inside, outside in overlaps(region, self._chunks):
            place = Extent(descriptor, self._address.item(index), self._size.item(index))
            mask, filters = self._mask.item(index), self._filters
            if mask:
                filters = tuple(one for i, one in enumerate(filters) if not mask >> i & 1)
            if place.offset == NOWHERE:
                out[outside] = self._fill
            elif place.size > most_of(self._nbytes):
                raise FormatError(f"has a chunk of {place.size} bytes; expected about {self._nbytes}")
            elif not filters:
                self._read_raw(place, inside, out[outside])
            elif self._decoder is not None:
                self._decoder(filters).decode(place, inside, out, outside)
            elif kept.key == (self, index) and kept.cells is not None:
                out[outside] = kept.cells[inside]
            else:
                kept.keep()  # there is memory for one
                cells = self._decode(place, filters)
                out[outside] = cells[inside]
                if is_less:
                    kept.keep((self, index), cells)
                del cells  # before the next one is read

    def _read_raw(self, place: Extent, inside: Region, target: Array) -> None:
        """Read some cells of a chunk without filters, and few others, since it may be larger than the memory."""
        self._check_size(place.size)
        columns, row_bytes = inside[-1], self._chunks[-1] * target.itemsize
        is_direct = target.flags.c_contiguous
        if shape_of(inside)[-1] < self._chunks[-1] and row_bytes <= ROW_BYTES:
            # To ask for each run of a few cells takes longer than to read all of the rows.
            inside, is_direct = (*inside[:-1], slice(0, self._chunks[-1])), False
        most = target.size if is_direct else RAW_BYTES // target.itemsize
        for box in regions_of(shape_of(inside), most):
            cells = target[box] if is_direct else np.empty(shape_of(box), target.dtype)
            stored = shift(box, [axis.start for axis in inside])
            flat = cells.reshape(-1).view(np.uint8)
            read_region(place.descriptor, place.offset, self._chunks, stored, target.itemsize, flat)
            if inside[-1] != columns:
                target[box[:-1]] = cells[..., columns]
            elif not is_direct:
                target[box] = cells

    def _decode(self, place: Extent, filters: tuple[Filter, ...]) -> Array:
        """A chunk, read and decoded."""
        if filters[-1].code not in BUILT_IN:
            raw, filters = read_and_undo(place, filters[-1], self._nbytes), filters[:-1]
        else:
            # Of the size of the chunk, so that the next array has room where this one was.
            raw = np.empty(max(place.size, self._nbytes), np.uint8)[: place.size]
            place.read(raw)
        for one in reversed(filters):
            if one.code == SHUFFLE:
                raw = unshuffle(raw, self._dtype.itemsize)
            else:
                raw = decompress(raw, self._nbytes, one.code)
        self._check_size(len(raw))
        cells: Array = raw.view(self._dtype).reshape(self._chunks)
        return cells

    def _check_size(self, size: int) -> None:
        if size != self._nbytes:
            raise FormatError(f"has a chunk of {size} bytes; expected {self._nbytes}")


def grid_of(dataset: Dataset) -> tuple[int, ...]:
    """How many chunks a dataset has along each axis."""
    return tuple(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))


def needs_library(codes: Sequence[int]) -> bool:
    """Whether only the library undoes these filters, by number."""
    return not can_undo(codes[:-1]) or not (can_undo(codes) or function_of(codes[-1]))


def copies_of(codes: Sequence[int]) -> int:
    """How many times a chunk lies in memory while these filters, by number, are undone; 0 where there are none.

    It does before and after each of them. Some plugins want zeros behind it, and HDF5 copies what it is given.
    """
    if not codes:
        return 0
    if needs_library(codes):
        return 5
    return 2 + (codes[-1] not in BOUNDED | BUILT_IN)


def can_undo(codes: Sequence[int]) -> bool:
    """Whether these filters, by number, are undone here."""
    return set(codes) <= BUILT_IN and len(set(codes)) == len(codes)


def decompress(raw: Array, limit: int, code: int) -> Array:
    """Undo a filter, by number, that makes at most `limit` bytes, whatever it would expand to."""
    if unlzf is not None and code == LZF:
        data = np.empty(limit, np.uint8)
        size = unlzf(raw, data)
        if size < 0:
            raise FormatError("has a damaged chunk, which cannot be decompressed")
        return data[:size]
    if _deflate is not None and code == DEFLATE:
        # It takes a third of zlib's time, but refuses without a reason: zlib says what is wrong.
        with suppress(_deflate.DeflateError):
            return np.frombuffer(_deflate.zlib_decompress(raw.data, limit), np.uint8)
    stream: Any = bz2.BZ2Decompressor() if code == BZIP2 else zlib.decompressobj()
    data, size = np.empty(limit, np.uint8), 0
    try:
        # Python joins the blocks of what it decodes at once, which would be a further copy of the chunk.
        for start in range(0, len(raw), STREAM_BYTES):
            decoded = stream.decompress(raw[start : start + STREAM_BYTES].data, limit - size + 1)
            size += len(decoded)
            if size <= limit:
                data[size - len(decoded) : size] = np.frombuffer(decoded, np.uint8)
            if size > limit or stream.eof:
                break
    except (zlib.error, OSError) as error:
        raise FormatError(f"has a chunk that cannot be decompressed: {error}") from None
    if size > limit or not stream.eof:
        raise FormatError("has a chunk that decompresses to another size than declared")
    return data[:size]


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
