"""HDF5 files: every dataset that can be pooled is, all else is carried over unchanged.

An output file is built whole before any mean is known: groups, links, attributes, carried
objects and room for the means. Then HDF5 closes it. Contiguous datasets are filled in at
their place in the file, past the library; chunked ones go through a spool, and are
written chunk after chunk at the end, in one order. So the file does not depend on how
the work was cut, and a failure of the disk shows in a plain system call.
"""

import os
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lucid.errors import DatasetError, FileError, FormatError, LucidError, MissingExtraError
from lucid.formats.base import Array, ArraySpec, Pooled, Region, Sink, Source, shape_of, size_of
from lucid.formats.chunks import ChunkedArray, can_decode, index_chunks
from lucid.formats.files import Replacement, claim, open_regular, read_region, write_region
from lucid.formats.hdf5_tree import HDF5_ERRORS, carry, datasets, encoded, reason
from lucid.pooling.dtypes import name_of

#: Chunks of outputs are grown to this many bytes: HDF5's own advice is 10 KiB to 1 MiB.
CHUNK_BYTES = 1 << 18
#: Most chunks whose places are kept in memory: 20 MiB of them.
MOST_CHUNKS = 1 << 20


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
    if not can_decode(filters) or len(set(filters)) < len(filters) or size_of(grid) > MOST_CHUNKS:
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


class Hdf5Sink(Sink):
    """An HDF5 file in the making."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        super().__init__(path, overwrite=overwrite)
        self._file = Replacement(path, overwrite=overwrite)
        self._spool = Replacement(path, overwrite=True, suffix=".spool")
        self._descriptors: list[int] = []
        #: Where each array is written: descriptor and offset of its first element.
        self._places: dict[str, tuple[int, int]] = {}
        self._chunked: list[Pooled] = []

    def begin(self, source: Source, pooled: Sequence[Pooled]) -> None:
        """Build the file, all but the means."""
        descriptor = self._file.create()
        self._descriptors.append(descriptor)
        try:
            with h5py.File(self._file.path, "w") as file:
                if isinstance(source, Hdf5Source):
                    made = {p.source.name: partial(create_dataset, file, p) for p in pooled}
                    carry(source.file, file, made)
                else:
                    for array in pooled:
                        create_dataset(file, array)
                offsets = {p.name: file[encoded(p.name)].id.get_offset() for p in pooled}
        except LucidError:
            raise
        except HDF5_ERRORS as error:
            raise FileError(f"cannot be carried over or written: {reason(error)}") from error
        claim(descriptor, os.fstat(descriptor).st_size)
        self._chunked = [p for p in pooled if offsets[p.name] is None and p.nbytes]
        self._places = {p.name: (descriptor, offsets[p.name]) for p in pooled if offsets[p.name] is not None}
        if self._chunked:
            self._open_spool()

    def _open_spool(self) -> None:
        spool, end = self._spool.create(), 0
        self._descriptors.append(spool)
        for array in self._chunked:
            self._places[array.name] = (spool, end)
            end += array.nbytes
        claim(spool, end)

    def write(self, pooled: Pooled, region: Region, values: Array) -> None:
        """Write a region to its place in the file or the spool."""
        descriptor, offset = self._places[pooled.name]
        write_region(descriptor, offset, pooled.shape, region, values)

    def commit(self) -> None:
        """Write the chunked datasets and put the file in its place."""
        if self._chunked:
            try:
                with h5py.File(self._file.path, "r+") as file:
                    for array in self._chunked:
                        self._fill(file[encoded(array.name)], array)
            except HDF5_ERRORS as error:
                raise FileError(f"output cannot be written: {reason(error)}") from error
        self._close()
        self._spool.abort()
        self._file.commit()

    def _fill(self, dataset: h5py.Dataset, array: Pooled) -> None:
        descriptor, offset = self._places[array.name]
        buffer = np.empty(size_of(dataset.chunks) * array.dtype.itemsize, np.uint8)
        for region in dataset.iter_chunks():
            shape = shape_of(region)
            part = buffer[: size_of(shape) * array.dtype.itemsize]
            read_region(descriptor, offset, array.shape, region, array.dtype.itemsize, part)
            dataset.write_direct(part.view(array.dtype).reshape(shape), None, region)

    def close(self) -> None:
        """Remove the file and the spool unless committed."""
        self._close()
        self._spool.abort()
        self._file.abort()

    def _close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()


def create_dataset(file: h5py.File, pooled: Pooled, origin: h5py.Dataset | None = None) -> h5py.Dataset:
    """Create the dataset for means, with what can be kept of the one they are means of."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_obj_track_times(False)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    limits: tuple[int | None, ...] = pooled.shape
    if origin is not None:
        limits = _limits(origin, pooled)
        _copy_filters(origin.id.get_create_plist(), creation)
        if origin.fillvalue:
            creation.set_fill_value(np.asarray(origin.fillvalue).astype(pooled.dtype))
    if limits != pooled.shape or creation.get_nfilters():
        lead = pooled.source.chunks or (1,) * len(pooled.shape)
        creation.set_chunk(fitted_chunks(lead, pooled.shape, pooled.dtype.itemsize))
    else:
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space = h5py.h5s.create_simple(
        pooled.shape, tuple(h5py.h5s.UNLIMITED if n is None else n for n in limits)
    )
    kind = h5py.h5t.py_create(pooled.dtype, logical=True)
    dataset = h5py.Dataset(h5py.h5d.create(file.id, encoded(pooled.name), kind, space, creation, links))
    dataset.attrs["lucid_pool"] = pooled.provenance
    return dataset


def _limits(origin: h5py.Dataset, pooled: Pooled) -> tuple[int | None, ...]:
    """Unlimited axes stay unlimited where pooling leaves them as they are."""
    pairs = zip(origin.maxshape, origin.shape, pooled.shape, strict=True)
    return tuple(None if limit is None and before == after else after for limit, before, after in pairs)


def _copy_filters(source: Any, target: Any) -> None:
    for i in range(source.get_nfilters()):
        code, flags, values, _ = source.get_filter(i)
        if code == h5py.h5z.FILTER_SCALEOFFSET:
            continue  # It rounds to a scale that fitted the source's numbers, not their means.
        if code == h5py.h5z.FILTER_SHUFFLE:
            target.set_shuffle()
        elif code == h5py.h5z.FILTER_FLETCHER32:
            target.set_fletcher32()
        else:
            target.set_filter(code, flags, values)


def fitted_chunks(chunks: tuple[int, ...], shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """A chunk shape for the means: not below the source's, grown from the last axis up.

    An axis grows only when those after it are whole, so that chunks are runs of the array.
    """
    fitted = [max(1, min(c, n)) for c, n in zip(chunks, shape, strict=True)]
    for axis in range(len(shape) - 1, -1, -1):
        others = size_of(fitted) // fitted[axis] * itemsize
        fitted[axis] = max(fitted[axis], min(shape[axis], CHUNK_BYTES // max(1, others)), 1)
        if fitted[axis] < shape[axis]:
            break
    return tuple(fitted)
