"""HDF5 files: where their arrays are, and how these are read.

Elements that lie in the file as they do in memory, or in chunks whose filters are known, are read
past the library, in any number of threads; all others through it, one at a time.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from lucid.errors import DatasetError, FormatError, LucidError, MissingExtraError
from lucid.formats.base import Array, ArraySpec, Region, Source, shape_of, size_of
from lucid.formats.files import digest, open_regular, read_at, read_region
from lucid.formats.hdf5_chunks import ChunkedArray, index_chunks
from lucid.formats.hdf5_filters import can_undo
from lucid.formats.hdf5_tree import HDF5_ERRORS, datasets, encoded, reason
from lucid.pooling.dtypes import name_of

#: Most chunks whose places are kept in memory: 20 MiB of them.
MOST_CHUNKS = 1 << 20
#: Largest user block that is carried over; those of MATLAB have 512 bytes.
MOST_USER_BLOCK = 1 << 20


class Hdf5Source(Source):
    """An HDF5 file; its arrays are named by their paths."""

    def __init__(self, path: Path, *, input_numbers: str | None = None) -> None:
        del input_numbers  # HDF5 names the types of its elements
        super().__init__(path)
        self._descriptor = open_regular(path)
        self._size = os.fstat(self._descriptor).st_size
        try:
            self.file = h5py.File(path, "r")
        except OSError as error:
            os.close(self._descriptor)
            raise FormatError(f"cannot be opened as HDF5: {reason(error)}") from error
        self._places: dict[str, Place] = {}
        self._lock = threading.Lock()

    def arrays(self, rank: int) -> tuple[ArraySpec, ...]:
        """Datasets of that rank and of numbers, by their first path; a file with none is an error."""
        try:
            every = list(datasets(self.file))
            found = [spec_of(name, d) for name, d in every if d.ndim == rank and is_numeric(d)]
        except LucidError:
            raise
        except HDF5_ERRORS as error:
            raise FormatError(f"is damaged: {reason(error)}") from error
        if not found:
            seen = [f"{name} {dataset.shape}" for name, dataset in every]
            listed = ", ".join(seen[:5]) + (", …" if len(seen) > 5 else "")
            raise DatasetError(
                f"has no dataset of numbers with {rank} axes; it has {listed or 'no dataset at all'}"
            )
        return tuple(found)

    def signature(self, specs: Sequence[ArraySpec]) -> str:
        """A digest of the tables of chunks."""
        places = [self._place(spec.name) for spec in specs]
        tables = [
            [p.address.tobytes(), p.size.tobytes(), p.mask.tobytes()] if isinstance(p, ChunkedArray) else p
            for p in places
        ]
        return digest([(s.name, s.shape, s.dtype.str, s.chunks) for s in specs], tables)

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region, past the library wherever the elements lie in the file as they are in memory."""
        shape = shape_of(region)
        flat = buffer[: size_of(shape) * spec.dtype.itemsize]
        values = flat.view(spec.dtype).reshape(shape)
        place = self._place(spec.name)
        try:
            if isinstance(place, int):
                read_region(self._descriptor, place, spec.shape, region, spec.dtype.itemsize, flat)
            elif place is not None:
                place.read(self._descriptor, region, values)
            else:
                # The library lets one thread in at a time.
                self.file[encoded(spec.name)].read_direct(values, region)
        except HDF5_ERRORS as error:
            raise FormatError(f"dataset {spec.name}: {reason(error)}") from error
        # HDF5 reads zeros from behind the end of a file.
        if os.fstat(self._descriptor).st_size < self._size:
            raise FormatError("ends before its data; it shrank while it was read")
        return values

    def _place(self, name: str) -> "Place":
        """Where the elements of a dataset are; found once."""
        with self._lock:
            if name not in self._places:
                self._places[name] = place_of(self.file, self.file[encoded(name)])
            return self._places[name]

    def user_block(self) -> bytes:
        """The bytes before the HDF5 part of the file, if they are few."""
        size = self.file.userblock_size
        block = bytearray(size if size <= MOST_USER_BLOCK else 0)
        read_at(self._descriptor, 0, memoryview(block))
        return bytes(block)

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        os.close(self._descriptor)


#: An offset for contiguous elements, an index for chunks, None where only the library can read.
Place = int | ChunkedArray | None


def place_of(file: h5py.File, dataset: h5py.Dataset) -> Place:
    """Find where in the file the elements of a dataset are, if they can be read there."""
    kind = dataset.id.get_type()
    if file.userblock_size or not kind.equal(h5py.h5t.py_create(dataset.dtype, logical=True)):
        # Addresses behind a user block, types of odd precision or padding: left to the library.
        return None
    creation = dataset.id.get_create_plist()
    if creation.get_layout() == h5py.h5d.CONTIGUOUS:
        offset: int | None = dataset.id.get_offset()
        return offset
    if creation.get_layout() != h5py.h5d.CHUNKED:
        return None
    filters = tuple(creation.get_filter(i)[0] for i in range(creation.get_nfilters()))
    grid = tuple(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    if not can_undo(filters) or size_of(grid) > MOST_CHUNKS:
        return None
    index = index_chunks(dataset.id.chunk_iter, grid, dataset.chunks)
    return ChunkedArray(dataset.shape, dataset.chunks, dataset.dtype, filters, dataset.fillvalue, *index)


def is_numeric(dataset: h5py.Dataset) -> bool:
    """Whether the elements are numbers that have a mean; enumerations have none."""
    try:
        dtype = dataset.dtype
        name_of(dtype)
    except (TypeError, LucidError):
        return False
    return dtype == np.bool_ or h5py.check_enum_dtype(dtype) is None


def spec_of(name: str, dataset: h5py.Dataset) -> ArraySpec:
    """Describe a dataset.

    Raises
    ------
    DatasetError
        Its elements are in other files.
    MissingExtraError
        It needs a filter that is not installed.

    """
    creation = dataset.id.get_create_plist()
    if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count():
        raise DatasetError(f"dataset {name} keeps its elements in other files, which are not read")
    for i in range(creation.get_nfilters()):
        code, _, _, label = creation.get_filter(i)
        if not _filter_is_available(code):
            shown = label.decode("utf-8", "replace") or "unnamed"
            raise MissingExtraError(
                f"dataset {name} needs HDF5 filter {code} ({shown}): pip install 'lucid-pool[filters]'"
            )
    return ArraySpec(
        name,
        dataset.shape,
        dataset.dtype,
        name_of(dataset.dtype),
        chunks=dataset.chunks,
        whole_chunks=creation.get_nfilters() > 0,
    )


def _filter_is_available(code: int) -> bool:
    if not h5py.h5z.filter_avail(code):
        try:
            import hdf5plugin  # noqa: F401  (registers the filters it brings)
        except ImportError:
            return False
    return bool(h5py.h5z.filter_avail(code))
