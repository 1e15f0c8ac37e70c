"""HDF5 files: where their arrays are, and how these are read.

Elements that lie in the file as they do in memory, or in chunks whose filters are known, are read
past the library, in any number of threads; all others through it, one at a time.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lucid.errors import DatasetError, FormatError, LucidError, MissingExtraError
from lucid.formats.contract import PROVENANCE, Array, ArraySpec, Region, Source, shape_of, size_of
from lucid.formats.disk.files import Watch, digest, open_regular, read_at, read_region
from lucid.formats.hdf5.chunks import ChunkedArray, index_chunks
from lucid.formats.hdf5.filters import can_undo
from lucid.formats.hdf5.tree import HDF5_ERRORS, datasets, encoded, reason
from lucid.formats.hdf5.types import is_unnamed, numbers_of, read_through, unwritten_of
from lucid.options import Options

#: A dataset with more bytes than this, and than so many times those of its file, was hardly written
#: at all: deflate shrinks to a thousandth at best.
MOST_UNWRITTEN, MOST_RATIO = 1 << 36, 2000
#: Most chunks whose places are kept in memory: 20 MiB of them.
MOST_CHUNKS = 1 << 20
#: Largest user block that is carried over; those of MATLAB have 512 bytes.
MOST_USER_BLOCK = 1 << 20


class Hdf5Source(Source):
    """An HDF5 file; its arrays are named by their paths."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        self._descriptor = open_regular(path)
        self._watch = Watch(self._descriptor)
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
            fitting = [(name, d) for name, d in every if rank_of(d) == rank]
            kinds = [numbers_of(d, self.options.input_dtype) for _, d in fitting]
            found = [
                spec_of(name, d, *kind, self.options)
                for (name, d), kind in zip(fitting, kinds, strict=True)
                if kind is not None
            ]
        except LucidError:
            raise
        except HDF5_ERRORS as error:
            raise FormatError(f"is damaged: {reason(error)}") from error
        if not found:
            seen = [f"{name} {d.dtype} {d.shape}" for name, d in every if not is_virtual(d)]
            listed = ", ".join(seen[:5]) + (", …" if len(seen) > 5 else "")
            hint = "; two-byte opaque elements may be bfloat16, say `input_dtype='bfloat16'`"
            raise DatasetError(
                f"has no dataset of numbers with {rank} axes; it has {listed or 'no dataset at all'}"
                + (hint if any(is_unnamed(d) for _, d in fitting) else "")
            )
        return tuple(found)

    def check_unchanged(self) -> None:
        """Raise if the file was written to."""
        self._watch.check()

    def signature(self, specs: Sequence[ArraySpec]) -> str:
        """A digest of the file's state and the tables of chunks."""
        places = [self._place(spec.name) for spec in specs]
        tables = [
            [p.address.tobytes(), p.size.tobytes(), p.mask.tobytes()] if isinstance(p, ChunkedArray) else p
            for p in places
        ]
        return digest(self._watch.state, [(s.name, s.shape, s.dtype.str, s.chunks) for s in specs], tables)

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The datasets with an attribute that says what they are means of."""
        try:
            for name, dataset in datasets(self.file):
                kind = numbers_of(dataset, "bfloat16") if PROVENANCE in dataset.attrs else None
                if kind is not None:
                    yield spec_of(name, dataset, *kind, self.options), str(dataset.attrs[PROVENANCE])
        except HDF5_ERRORS as error:
            raise FormatError(f"is damaged: {reason(error)}") from error

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region, past the library wherever the elements lie in the file as they are in memory."""
        shape = shape_of(region)
        flat = buffer[: size_of(shape) * spec.dtype.itemsize]
        values = flat.view(spec.dtype).reshape(shape)
        try:
            place = self._place(spec.name)
            if isinstance(place, int):
                read_region(self._descriptor, place, spec.shape, region, spec.dtype.itemsize, flat)
            elif place is not None:
                place.read(self._descriptor, region, values)
            else:
                # The library lets one thread in at a time.
                read_through(self.file[encoded(spec.name)], region, values)
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
                dataset = self.file[encoded(name)]
                kind = numbers_of(dataset, self.options.input_dtype)
                self._places[name] = None if kind is None else place_of(self.file, dataset, kind[1])
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


def place_of(file: h5py.File, dataset: h5py.Dataset, dtype: np.dtype[Any]) -> Place:
    """Find where in the file the elements of a dataset are, if they can be read there."""
    if file.userblock_size:
        return None  # its addresses are counted from behind it
    creation = dataset.id.get_create_plist()
    if creation.get_layout() == h5py.h5d.CONTIGUOUS and not creation.get_external_count():
        offset: int | None = dataset.id.get_offset()
        return offset
    if creation.get_layout() != h5py.h5d.CHUNKED:
        return None
    filters = tuple(creation.get_filter(i)[0] for i in range(creation.get_nfilters()))
    grid = tuple(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    if not can_undo(filters) or size_of(grid) > MOST_CHUNKS:
        return None
    index = index_chunks(dataset.id.chunk_iter, grid, dataset.chunks)
    fill = unwritten_of(dataset, dtype)
    return ChunkedArray(dataset.shape, dataset.chunks, dtype, filters, fill, *index)


def is_virtual(dataset: h5py.Dataset) -> bool:
    """Whether the elements are those of other datasets."""
    return bool(dataset.id.get_create_plist().get_layout() == h5py.h5d.VIRTUAL)


def rank_of(dataset: h5py.Dataset) -> int:
    """The number of axes; of a virtual dataset without opening the files it speaks of."""
    creation = dataset.id.get_create_plist()
    if creation.get_layout() == h5py.h5d.VIRTUAL and creation.get_virtual_count():
        return int(creation.get_virtual_vspace(0).get_simple_extent_ndims())
    return int(dataset.ndim)


def spec_of(
    name: str, dataset: h5py.Dataset, numbers: str, dtype: np.dtype[Any], options: Options
) -> ArraySpec:
    """Describe a dataset.

    Raises
    ------
    DatasetError
        Its elements are in other files.
    MissingExtraError
        It needs a filter that is not installed.

    """
    creation = dataset.id.get_create_plist()
    is_elsewhere = creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count()
    if is_elsewhere and not options.allow_external:
        raise DatasetError(
            f"dataset {name} keeps its elements in other files, which only `allow_external=True` reads"
        )
    for i in range(creation.get_nfilters()):
        code, _, _, label = creation.get_filter(i)
        if not _filter_is_available(code):
            shown = label.decode("utf-8", "replace") or "unnamed"
            raise MissingExtraError(
                f"dataset {name} needs HDF5 filter {code} ({shown}): pip install 'lucid-pool[filters]'"
            )
    nbytes, held = size_of(dataset.shape) * dtype.itemsize, dataset.file.id.get_filesize()
    if not is_elsewhere and nbytes > max(MOST_UNWRITTEN, MOST_RATIO * held):
        raise FormatError(f"dataset {name} claims {nbytes} bytes, of which a file of {held} can hold few")
    return ArraySpec(
        name,
        dataset.shape,
        dtype,
        numbers,
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
