"""Chunks encoded and decoded by the HDF5 library apart from the file that they are in.

A file in memory has a dataset of one chunk with the same filters. Any process can write and read that, and the bytes
of the chunk are those that the library would write to the real file.

The library does not check how many bytes a chunk decodes to. If they are too few, it hands out whatever lies in memory
behind them. So a dataset that decodes has one filter more, which is undone last and checks the number.
"""

import sys
from collections.abc import Iterable
from ctypes import addressof
from io import BytesIO
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil

from lucid.errors import FormatError
from lucid.formats.arrays import Array
from lucid.formats.hdf5.cells import select_region
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.hdf5.filters import Filter, filters_of
from lucid.formats.hdf5.plugins import FilterClass, Function, StoredBytes, check_claims
from lucid.formats.hdf5.tree import translate_errors
from lucid.formats.regions import Region, size_of

#: The number of the filter that looks. HDF5 leaves those from 256 to 511 to programs; no file has it.
SIZE_CHECK = 511


def _check_size(_flags: int, _count: int, values: Any, nbytes: int, _size: Any, _buffer: Any) -> int:
    """Pass on bytes if there are as many as the parameters say; with fewer, or an error where they should be, fail."""
    return nbytes if int(values[0]) + (int(values[1]) << 32) <= nbytes <= sys.maxsize else 0


# It is there for the whole process, in the library that a user's own h5py calls, too. That changes nothing for them:
# only a dataset that names its number has it, and these are in memory here. The library takes no filter for one
# dataset alone, and it knows the function by its address for as long as the process lives.
_SIZE_CHECK = FilterClass(1, SIZE_CHECK, 1, 1, b"look", None, None, Function(_check_size))
h5py.h5z.register_filter(addressof(_SIZE_CHECK))


class Codec:
    """Filters for chunks like those of a dataset, one at a time."""

    def __init__(self, dataset: Dataset, filters: Iterable[Filter]) -> None:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk(dataset.chunks)
        for one in filters:
            creation.set_filter(*one)
        space = h5py.h5s.create_simple(dataset.chunks)
        self._file = h5py.File(BytesIO(), "w")
        self._chunk = h5py.h5d.create(self._file.id, None, dataset.h5_type.copy(), space, creation)
        #: The filters as they are in a file.
        self.filters = filters_of(self._chunk.get_create_plist())
        self._nbytes = size_of(dataset.chunks) * dataset.h5_type.get_size()
        self._h5_type, self._corner = dataset.h5_type, (0,) * len(dataset.chunks)

    def encode(self, cells: Array) -> tuple[bytes, int]:
        """The bytes of a chunk, and its filter mask."""
        self._chunk.write(h5py.h5s.ALL, h5py.h5s.ALL, cells, mtype=self._h5_type)
        mask, data = self._chunk.read_direct_chunk(self._corner)
        return data, mask

    def decode(self, stored: StoredBytes, inside: Region, out: Array, outside: Region) -> None:
        """Some cells of a chunk, to a region of an array."""
        raw = np.empty(stored.size, np.uint8)
        stored.read(raw)
        check_claims(raw.data, self.filters[-1], self._nbytes)
        target = select_region(h5py.h5s.create_simple(out.shape), outside)
        with phil, translate_errors("has a damaged chunk", error_type=FormatError):
            self._chunk.write_direct_chunk(self._corner, raw)
            del raw  # the library has a copy
            self._chunk.read(target, select_region(self._chunk.get_space(), inside), out, mtype=self._h5_type)


def decoder(dataset: Dataset, filters: tuple[Filter, ...]) -> Codec:
    """What undoes some filters of a dataset's chunks; a ValueError where no other dataset can have them."""
    nbytes = size_of(dataset.chunks) * dataset.h5_type.get_size()
    look = Filter(SIZE_CHECK, 0, (nbytes & 0xFFFFFFFF, nbytes >> 32))
    if any(one.fault for one in filters):
        raise ValueError
    codec = Codec(dataset, (look, *(one.for_chunks(dataset.chunks) for one in filters)))
    if codec.filters[1:] != filters:
        raise ValueError
    return codec
