"""Chunks of an HDF5 dataset read where they are in the file, and decoded.

The library lets one thread in at a time, decoding included. Here each thread reads the raw chunk at its offset, and
undoes the filters one after another: deflate, bzip2 (whose plugin never ends on a chunk that was cut off), shuffle, and
LZF where it was compiled. The filter that was applied last may also be undone by its plugin (`plugins`). Where there
are others, the library undoes all (`codec`). A filter that the chunk's mask marks was not applied to it. A chunk that
decodes to another number of bytes than it has is an error.
"""

import bz2
from collections.abc import Sequence
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

import numpy as np

from lucid.errors import FormatError
from lucid.formats.arrays import Array
from lucid.formats.chunks import (
    ChunkReader,
    Index,
    KeptChunk,
    check_stored_bytes,
    decode_streams,
    decode_zlib,
)
from lucid.formats.disk.files import read_region
from lucid.formats.hdf5.codec import decoder
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.hdf5.filters import BZIP2, DEFLATE, LZF, SHUFFLE, Filter, filters_of
from lucid.formats.hdf5.plugins import BOUNDED, StoredBytes, function_of, read_and_undo
from lucid.formats.hdf5.types import unwritten_fill_of
from lucid.formats.regions import Region, regions_of, shape_of, shift, size_of

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
#: Address of a chunk that was never written.
NOWHERE = -1


class ChunkedArray(ChunkReader[tuple[StoredBytes, tuple[Filter, ...]]]):
    """A dataset, and where its chunks are by the file's own index: address, size and filter mask of each."""

    def __init__(self, dataset: Dataset, dtype: np.dtype[Any], descriptor: int, kept: KeptChunk) -> None:
        super().__init__(dataset.chunks, unwritten_fill_of(dataset, dtype), kept)
        self._shape, self._dtype, self._descriptor = dataset.shape, dtype, descriptor
        self._filters = filters_of(dataset.creation)
        self._nbytes = size_of(self._chunks) * dtype.itemsize
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

    def _fetch(self, index: Index) -> tuple[StoredBytes, tuple[Filter, ...]] | None:
        """Where a chunk lies, and the filters that were applied to it."""
        stored = StoredBytes(self._descriptor, self._address.item(index), self._size.item(index))
        if stored.offset == NOWHERE:
            return None
        check_stored_bytes(stored.size, self._nbytes)
        mask, filters = self._mask.item(index), self._filters
        if mask:
            filters = tuple(one for i, one in enumerate(filters) if not mask >> i & 1)
        return stored, filters

    def _decode(
        self, chunk: tuple[StoredBytes, tuple[Filter, ...]], inside: Region, out: Array, outside: Region
    ) -> Array | None:
        stored, filters = chunk
        if not filters:
            self._read_raw(stored, inside, out[outside])
            return None
        if self._decoder is not None:
            self._decoder(filters).decode(stored, inside, out, outside)
            return None
        if filters[-1].code not in BUILT_IN:
            raw, filters = read_and_undo(stored, filters[-1], self._nbytes), filters[:-1]
        else:
            # Of the size of the chunk, so that the next array has room where this one was.
            raw = np.empty(max(stored.size, self._nbytes), np.uint8)[: stored.size]
            stored.read(raw)
        for one in reversed(filters):
            if one.code == SHUFFLE:
                raw = unshuffle(raw, self._dtype.itemsize)
            else:
                raw = decompress(raw, self._nbytes, one.code)
        self._check_size(len(raw))
        return raw.view(self._dtype).reshape(self._chunks)

    def _read_raw(self, stored: StoredBytes, inside: Region, target: Array) -> None:
        """Read some cells of a chunk without filters, and few others, since it may be larger than the memory."""
        self._check_size(stored.size)
        columns, row_bytes = inside[-1], self._chunks[-1] * target.itemsize
        is_direct = target.flags.c_contiguous
        if shape_of(inside)[-1] < self._chunks[-1] and row_bytes <= ROW_BYTES:
            # To ask for each run of a few cells takes longer than to read all of the rows.
            inside, is_direct = (*inside[:-1], slice(0, self._chunks[-1])), False
        most = target.size if is_direct else RAW_BYTES // target.itemsize
        for region in regions_of(shape_of(inside), most):
            cells = target[region] if is_direct else np.empty(shape_of(region), target.dtype)
            in_chunk = shift(region, [axis.start for axis in inside])
            flat = cells.reshape(-1).view(np.uint8)
            read_region(stored.descriptor, stored.offset, self._chunks, in_chunk, target.itemsize, flat)
            if inside[-1] != columns:
                target[region[:-1]] = cells[..., columns]
            elif not is_direct:
                target[region] = cells

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
    if code == BZIP2:
        return decode_streams(bz2.BZ2Decompressor, raw, limit, are_several=False)
    return decode_zlib(raw, limit)


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
