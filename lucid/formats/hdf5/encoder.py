"""Chunks as the HDF5 library would write them, made apart from the file that they go to.

They are made in a file in memory, so that any process makes them, to the same bytes as the library itself.
"""

from io import BytesIO

import h5py
import numpy as np

from lucid.formats.arrays import Array
from lucid.formats.hdf5.cells import write_cells
from lucid.formats.hdf5.kept import kept_filters
from lucid.formats.hdf5.tree import Dataset
from lucid.formats.hdf5.types import unwritten_of


class Encoder:
    """Encodes chunks of one dataset, one at a time."""

    def __init__(self, dataset: Dataset, dtype: np.dtype[np.generic]) -> None:
        self._unwritten = np.asarray(unwritten_of(dataset, dtype), dtype)
        self._file = h5py.File(BytesIO(), "w")
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk(dataset.chunks)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        for code, flags, values in kept_filters(dataset.creation, dataset.chunks):
            creation.set_filter(code, flags, values)
        space = h5py.h5s.create_simple(dataset.chunks)
        kind = dataset.kind
        self._chunk = Dataset(h5py.h5d.create(self._file.id, b"chunk", kind, space, creation))

    def encode(self, cells: Array) -> tuple[bytes, int]:
        """The bytes of a chunk, and its filter mask; one at the dataset's edge is filled up."""
        shape = self._chunk.shape
        if cells.shape != shape:
            edge = np.full(shape, self._unwritten)
            edge[tuple(slice(0, n) for n in cells.shape)] = cells
            cells = edge
        write_cells(self._chunk, tuple(slice(0, n) for n in shape), cells)
        mask, data = self._chunk.id.read_direct_chunk((0,) * len(shape))
        return data, mask

    def close(self) -> None:
        """Let go of the file in memory."""
        self._file.close()
