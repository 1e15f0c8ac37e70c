"""HDF5 files: where their arrays are, and how these are read.

Elements that lie in the file as they do in memory, or in chunks, are read from the file itself; all others through
the library.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from lucid.errors import DatasetError, FormatError, MissingExtraError
from lucid.formats.arrays import Array, ArraySpec
from lucid.formats.choice import Choice
from lucid.formats.chunks import KeptChunk
from lucid.formats.contract import PROVENANCE
from lucid.formats.disk.files import Run, bytes_at, digest, read_region
from lucid.formats.flat import FileSource
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.absent import notes_on_sources
from lucid.formats.hdf5.cells import read_into
from lucid.formats.hdf5.chunks import ChunkedArray, copies_of, grid_of
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.hdf5.filters import filters_of, load_filter
from lucid.formats.hdf5.meaning import Variables, attributes_at
from lucid.formats.hdf5.types import numbers_of
from lucid.formats.meaning import meaning_by
from lucid.formats.regions import Region, shape_of, size_of
from lucid.formats.values import reinterpret_dtype, text_of
from lucid.formats.variables import Variable
from lucid.options import Options

#: A dataset with more than so many times the bytes of its file was hardly written at all: deflate shrinks to a
#: thousandth at best.
MOST_RATIO = 2000
#: Most chunks whose addresses are kept in memory: 20 MiB of them.
MOST_CHUNKS = 1 << 20
#: Datasets whose storage is remembered: they are read one after another, and the chunks of all would fill the memory.
MOST_STORAGES = 64
#: Largest user block that is carried over; those of MATLAB have 512 bytes.
MOST_USER_BLOCK = 1 << 20
#: Before it, the library counted the addresses of chunks from behind the user block.
COUNTS_FROM_START = (1, 14, 4)


class Hdf5Source(FileSource):
    """An HDF5 file; its arrays are named by their paths."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        try:
            self.file = h5py.File(path, "r", driver="sec2")  # which has one descriptor
        except OSError as error:
            os.close(self.descriptor)
            raise FormatError(f"cannot be opened as HDF5: {tree.reason(error)}") from error
        # The library opens the name once more, under which there may be another file by now.
        if not os.path.sameopenfile(self.descriptor, self.file.id.get_vfd_handle()):
            self.close()
            raise FormatError("was replaced while it was opened")
        tree.limit_cache(self.file)
        #: Where the elements of a dataset are, by its path; found by one thread at a time, and once.
        self._storage_at = lru_cache(MOST_STORAGES)(self._find_storage)
        #: What numbers of a type mean that have no attributes.
        self._bare_meaning = lru_cache(partial(meaning_by, options, {}))
        #: Specs without their names, which very many arrays may share.
        self._bare_specs: dict[ArraySpec, ArraySpec] = {}
        self._lock = threading.Lock()
        self._kept = KeptChunk()

    def choose(self, patterns: Sequence[str]) -> Sequence[ArraySpec]:
        """The datasets that the user names, or all that fit; only these are checked."""
        variables = Variables(self.file, self.options.input_dtype)
        choice = Choice(
            self.options,
            find=variables.at,
            every=variables.all,
            keep=self._spec,
            near=lru_cache(8)(partial(attributes_at, self.file)),
        )
        self.notes, self.doubts = choice.notes, choice.doubts
        with tree.translate_errors("is damaged", error_type=FormatError):
            return choice.choose(patterns)

    def _spec(self, variable: Variable) -> ArraySpec:
        path, dataset, attributes = variable.path, variable.handle, variable.attributes
        assert variable.numbers is not None
        spec = self._checked_spec(path, dataset, variable.numbers, variable.dtype)
        meaning_of = partial(meaning_by, self.options, attributes) if attributes else self._bare_meaning
        meaning = meaning_of(spec.numbers)
        bare_spec = spec._replace(
            name="",
            numbers=meaning.numbers,
            dtype=reinterpret_dtype(spec.dtype, meaning.numbers),
            meaning=meaning,
            dims=tuple(variable.dims()),
        )
        shared_spec = self._bare_specs.setdefault(bare_spec, bare_spec)
        # To open a dataset again takes longer than to pool it where there are very many and small ones.
        return shared_spec._replace(name=path, handle=run_of(dataset) if is_plain(dataset) else None)

    def _checked_spec(self, name: str, dataset: Dataset, numbers: str, dtype: np.dtype[Any]) -> ArraySpec:
        """A dataset that can be read: not in other files, without their leave, nor by a filter that is not there."""
        creation, is_elsewhere = dataset.creation, dataset.is_elsewhere
        if is_elsewhere and not self.options.allow_external:
            raise DatasetError(
                f"dataset {name} keeps its elements in other files, which only `allow_external=True` reads"
            )
        self.notes += notes_on_sources(name, dataset) if is_elsewhere else []
        for i in range(creation.get_nfilters()):
            code, _, _, label = creation.get_filter(i)
            if not load_filter(code):
                filter_name = label.decode("utf-8", "replace") or "unnamed"
                raise MissingExtraError(
                    f"dataset {name} needs HDF5 filter {code} ({filter_name}): pip install 'lucid-pool[filters]'"
                )
        copies = copies_of([filter_.code for filter_ in filters_of(creation)])
        spec = ArraySpec(name, dataset.shape, dtype, numbers, chunks=dataset.chunks, chunk_copies=copies)
        if not is_elsewhere:
            spec.check_claim(f"dataset {name} ", "file", self.state[0], MOST_RATIO)
        return spec

    def is_locked(self, spec: ArraySpec) -> bool:
        """Whether the library reads or decodes it, which lets one thread of a process in at a time."""
        storage = self._storage(spec)
        return storage is None or (isinstance(storage, ChunkedArray) and storage.is_locked)

    def signature(self, specs: Sequence[ArraySpec]) -> str:
        """A digest of the file's state and the tables of chunks."""
        storages = [self._storage(spec) for spec in specs]
        tables = [storage.tables if isinstance(storage, ChunkedArray) else storage for storage in storages]
        return digest(self.state, [(s.name, s.shape, s.dtype.str, s.chunks) for s in specs], tables)

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The datasets with an attribute that says what they are means of."""
        with tree.translate_errors("is damaged", error_type=FormatError):
            for name, obj, _ in tree.walk(self.file):
                if isinstance(obj, Dataset) and PROVENANCE in obj.attrs:
                    elements = numbers_of(obj, "bfloat16")
                    if elements is not None:
                        yield self._checked_spec(name, obj, *elements), text_of(obj.attrs[PROVENANCE])

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region, past the library wherever the elements lie in the file as they are in memory."""
        shape = shape_of(region)
        flat = buffer[: size_of(shape) * spec.dtype.itemsize]
        dtype = spec.dtype if spec.meaning is None else reinterpret_dtype(spec.dtype, spec.meaning.stored)
        values = flat.view(dtype).reshape(shape)
        try:
            storage = self._storage(spec)
            if not isinstance(storage, ChunkedArray):
                self._kept.let_go()
            if isinstance(storage, tuple):
                read_region(self.descriptor, *storage, region, spec.dtype.itemsize, flat)
            elif storage is not None:
                storage.read(region, values)
            else:
                # The library lets one thread in at a time.
                read_into(values, tree.object_at(self.file, spec.name), region)
        except tree.HDF5_ERRORS as error:
            raise FormatError(f"dataset {spec.name}: {tree.reason(error)}") from error
        # HDF5 reads zeros from behind the end of a file.
        if os.fstat(self.descriptor).st_size < self.state[0]:
            raise FormatError("ends before its data; it shrank while it was read")
        return values.view(spec.dtype)

    def _storage(self, spec: ArraySpec) -> "Storage":
        """Where the elements of an array are."""
        if spec.handle is not None:
            return spec.handle  # type: ignore[no-any-return]
        with self._lock:
            return self._storage_at(spec.name)

    def _find_storage(self, path: str) -> "Storage":
        """Where in the file the elements of a dataset are; None where only the library can read them."""
        dataset = tree.object_at(self.file, path)
        elements = numbers_of(dataset, self.options.input_dtype)
        if dataset.is_contiguous:
            return run_of(dataset)
        if elements is None or dataset.chunks is None:
            return None
        if h5py.version.hdf5_version_tuple < COUNTS_FROM_START and self.file.userblock_size:
            return None
        if size_of(grid_of(dataset)) > MOST_CHUNKS:
            return None
        try:
            array = ChunkedArray(dataset, elements[1], self.descriptor, self._kept)
        except FormatError:
            raise
        except tree.HDF5_ERRORS:
            return None  # filters that no other dataset can have, which the library can still undo
        return None if array.has_raw_edges else array

    def user_block(self) -> bytes:
        """The bytes before the HDF5 part of the file, if they are few."""
        size = self.file.userblock_size
        return bytes_at(self.descriptor, 0, size if size <= MOST_USER_BLOCK else 0)

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        super().close()


#: What elements are read from past the library; None where only that can read.
Storage: TypeAlias = Run | ChunkedArray | None


def run_of(dataset: Dataset) -> Run | None:
    """Where the elements of a contiguous dataset are; None where they were never written."""
    offset = dataset.id.get_offset()
    # Of one that was never written, the library says a number all the same where there is a user block.
    return None if offset is None or dataset.is_unwritten else (offset, dataset.shape)


def is_plain(dataset: Dataset) -> bool:
    """Whether a dataset has one name, no attributes and no properties that results would keep."""
    return bool(
        h5py.h5a.get_num_attrs(dataset.id) == 0
        and dataset.is_contiguous
        and not dataset.has_own_fill
        and not dataset.creation.get_attr_creation_order()
        and dataset.h5_type.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT)
        and h5py.h5o.get_info(dataset.id).rc < 2
    )
