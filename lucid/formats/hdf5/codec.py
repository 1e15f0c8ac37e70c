"""Chunks encoded and decoded by the HDF5 library apart from the file that they are in.

A dataset of one chunk in a file in memory has the filters, so that any process does it, to the library's own bytes.
The library does not look whether a chunk became as many bytes as it has, and hands out what lay in memory behind
fewer. So there is a filter more, which is undone last and does look.
"""

import sys
import threading
from collections.abc import Iterable
from ctypes import CFUNCTYPE, POINTER, Structure, addressof, c_char_p, c_int, c_size_t, c_uint, c_void_p
from io import BytesIO
from typing import Any, NamedTuple

import h5py
import numpy as np

from lucid.formats.arrays import Array
from lucid.formats.disk.files import read_at
from lucid.formats.hdf5.cells import selected
from lucid.formats.hdf5.filters import Filter, filters_of
from lucid.formats.hdf5.tree import Dataset
from lucid.formats.regions import Region, size_of

#: The number of the filter that looks. HDF5 leaves those from 256 to 511 to programs; no file has it.
LOOK = 511

_Function = CFUNCTYPE(c_size_t, c_uint, c_size_t, POINTER(c_uint), c_size_t, c_void_p, c_void_p)


class _FilterClass(Structure):
    """HDF5's H5Z_class2_t."""

    _fields_ = (
        ("version", c_int),
        ("id", c_int),
        ("encodes", c_uint),
        ("decodes", c_uint),
        ("name", c_char_p),
        ("can_apply", c_void_p),
        ("set_local", c_void_p),
        ("filter", _Function),
    )


def _look(_flags: int, _count: int, values: Any, nbytes: int, _size: Any, _buffer: Any) -> int:
    """Pass on bytes if there are as many as the parameters say; with fewer, fail.

    The filter of zstd says the library's error as a number of bytes: it is a negative one, so beyond all memory.
    """
    return nbytes if int(values[0]) + (int(values[1]) << 32) <= nbytes <= sys.maxsize else 0


# The library knows it by its address for as long as the process lives.
_LOOK = _FilterClass(1, LOOK, 1, 1, b"look", None, None, _Function(_look))
h5py.h5z.register_filter(addressof(_LOOK))


class Extent(NamedTuple):
    """Some bytes of an open file."""

    descriptor: int
    offset: int
    size: int


class Codec:
    """Filters for chunks like those of a dataset, one at a time."""

    def __init__(self, memory: h5py.File, dataset: Dataset, filters: Iterable[Filter]) -> None:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk(dataset.chunks)
        for one in filters:
            creation.set_filter(*one)
        space = h5py.h5s.create_simple(dataset.chunks)
        self._chunk = h5py.h5d.create(memory.id, None, dataset.kind.copy(), space, creation)
        self._kind = dataset.kind
        self._shape, self._corner = dataset.chunks, (0,) * len(dataset.chunks)

    @property
    def filters(self) -> tuple[Filter, ...]:
        """The filters as they are in a file."""
        return filters_of(self._chunk.get_create_plist())

    def encode(self, cells: Array) -> tuple[bytes, int]:
        """The bytes of a chunk, and its filter mask."""
        self._chunk.write(h5py.h5s.ALL, h5py.h5s.ALL, cells, mtype=self._kind)
        mask, data = self._chunk.read_direct_chunk(self._corner)
        return data, mask

    def decode(self, memory: "ChunkFile", place: Extent, inside: Region, out: Array, outside: Region) -> None:
        """Some cells of a chunk at a place, to a region of an array."""
        self._chunk.write_direct_chunk(self._corner, memory.stand_in(place))
        target = out[outside]
        if target.shape == self._shape and target.flags.c_contiguous:
            self._chunk.read(h5py.h5s.ALL, h5py.h5s.ALL, target, mtype=self._kind)
        else:
            there = selected(h5py.h5s.create_simple(out.shape), outside)
            self._chunk.read(there, selected(self._chunk.get_space(), inside), out, mtype=self._kind)


class ChunkFile(BytesIO):
    """A file in memory, but for one chunk, which is never copied to it.

    The library is told to write a chunk of any bytes. These are left out, and when it reads there, it gets those of
    the chunk from the file that they are in.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.file = h5py.File(self, "w")
        self._place, self._offset = Extent(-1, 0, 0), -1

    def stand_in(self, place: Extent) -> Array:
        """What is to be written next, for which the bytes at a place are read; nobody looks into it."""
        self._place, self._offset = place, -1
        return np.empty(place.size, np.uint8)

    def write(self, data: Any, /) -> int:
        # Else it is what the library notes of its file, which it does not write while it writes a chunk.
        if self._offset >= 0 or len(data) != self._place.size:
            return super().write(data)
        self._offset = self.tell()
        return len(data)

    def readinto(self, buffer: Any, /) -> int:
        if self.tell() != self._offset:
            return super().readinto(buffer)
        read_at(self._place.descriptor, self._place.offset, memoryview(buffer))
        return len(buffer)


class Decoder:
    """Undoes the filters of a dataset's chunks, for any thread.

    Raises
    ------
    ValueError
        No other dataset can have these filters.

    """

    def __init__(self, dataset: Dataset, memory: ChunkFile) -> None:
        self._dataset, self._memory = dataset, memory
        nbytes = size_of(dataset.chunks) * dataset.kind.get_size()
        self._look = Filter(LOOK, 0, (nbytes & 0xFFFFFFFF, nbytes >> 32))
        self._filters: tuple[Filter, ...] = filters_of(dataset.creation)
        if any(one.fault for one in self._filters):
            raise ValueError
        self._codec = self._codec_of(self._filters)
        if self._codec.filters[1:] != self._filters:
            raise ValueError

    def _codec_of(self, filters: tuple[Filter, ...]) -> Codec:
        new = (one.anew(self._dataset.chunks) for one in filters)
        return Codec(self._memory.file, self._dataset, (self._look, *new))

    def decode(
        self, place: Extent, filters: tuple[Filter, ...], inside: Region, out: Array, outside: Region
    ) -> None:
        """Some cells of a chunk at a place, to which these of the filters were applied, to a region of an array."""
        with self._memory.lock:
            # The library does not always see that the mask of a chunk is another than that of the one before.
            if filters != self._filters:
                self._filters, self._codec = filters, self._codec_of(filters)
            self._codec.decode(self._memory, place, inside, out, outside)
