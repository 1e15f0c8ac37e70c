"""An HDF5 file while it is written.

It is built whole before any mean is known: groups, links, attributes, carried
objects and room for the means. Then HDF5 closes it. Contiguous datasets are filled in at
their place in the file, past the library; chunked ones go through a spool, and are
written chunk after chunk at the end, in one order. So the file does not depend on how
the work was divided, and a failure of the disk shows in a plain system call.
"""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py

from lucid.backlog import Backlog
from lucid.errors import FileError, LucidError, about
from lucid.formats.arrays import ResultSpec
from lucid.formats.choosing import CarriedNames, note_lines
from lucid.formats.contract import Source
from lucid.formats.disk.files import CheckedFile, claim, write_at
from lucid.formats.disk.replacement import Replacement
from lucid.formats.flat import FileSink
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.carry import Carry
from lucid.formats.hdf5.check import check_copy
from lucid.formats.hdf5.create import create_dataset, fill_dataset, notes_of_filters, set_filters
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.hdf5.geography import create_with_scales
from lucid.formats.hdf5.meaning import CLASSIC_MODEL, attributes_of
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.values import reinterpret_dtype
from lucid.options import Options

#: The file formats of HDF5 1.8 and newer ones, which know attributes of any length.
NEWER = ("v108", "latest")


class Hdf5Sink(FileSink):
    """An HDF5 file while it is written."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        self._chunked_results = Backlog[ResultSpec]()
        #: What the rest of the file is copied from; the paths of what is to be read once.
        self._carry_source: h5py.File | None = None
        self._unread_paths: Iterable[str] = ()
        self._is_classic = False

    def begin(self, source: Source, results: Sequence[ResultSpec]) -> None:
        """Build the file, all but the means."""
        self.descriptor = self.file.create()
        names = CarriedNames(results, self.options)
        options: dict[str, Any] = {}
        block = b""
        if isinstance(source, Hdf5Source):
            options = file_options(source.file)
            if not names.is_alone:
                self._carry_source = source.file
                self._is_classic = CLASSIC_MODEL in attributes_of(source.file)
                # Software such as MATLAB knows its files by what stands before the HDF5 part.
                block = source.user_block()
        try:
            self._build(source, results, names, userblock_size=len(block), **options)
        except FileError as error:
            # An attribute of more than 64 KiB, in an old file to which newer software added.
            if "message is too large" not in str(error):
                raise
            os.ftruncate(self.descriptor, 0)
            self._build(source, results, names, userblock_size=len(block), **(options | {"libver": NEWER}))
        claim(self.descriptor, os.fstat(self.descriptor).st_size)
        write_at(self.descriptor, 0, block)
        self.hold(self._chunked_results)

    def refuse(self, source: Source, results: Sequence[ResultSpec]) -> None:
        """Raise for what cannot be carried over, and for filters that are not installed."""
        if self.compression is not None:
            set_filters(h5py.h5p.create(h5py.h5p.DATASET_CREATE), self.compression)
        if isinstance(source, Hdf5Source):
            self._carry(source, results, CarriedNames(results, self.options), None)

    def _build(
        self, source: Source, results: Sequence[ResultSpec], names: CarriedNames, **options: Any
    ) -> None:
        """Make groups, links, what is carried, and room for the means."""
        self._chunked_results, self.offsets, self.notes = Backlog(), array("q", [-1]) * len(results), []
        with self._open_file("w", **options) as file:
            if isinstance(source, Hdf5Source):
                self._carry(source, results, names, file)
            else:
                create_with_scales(file, results, partial(self._create, file, origin=None))

    def _carry(
        self, source: Hdf5Source, results: Sequence[ResultSpec], names: CarriedNames, file: h5py.File | None
    ) -> None:
        """Carry all else over to a file, and make room for the means; without one, note what that would note."""

        def make(result: ResultSpec, origin: Dataset | None) -> Dataset | None:
            return None if file is None else self._create(file, result, origin)

        carry = Carry(source, results, names, self.file.target, file, make)
        with tree.translate_errors("cannot be carried over"):
            carry.carry_out()
        self.carried, self._unread_paths = carry.copies.carried, carry.copies.unread_paths
        if self.compression is None:
            self.notes += notes_of_filters(source.file, results, self.file.target.suffix)
        self.notes += note_lines(carry.notes)

    def _create(self, file: h5py.File, result: ResultSpec, origin: Dataset | None) -> Dataset:
        """Make room for the means of an array, and note where it is."""
        if origin is not None:  # integers that `_Unsigned` marks are of the type that needs it
            numbers = result.stored_numbers
            result = result._replace(numbers=numbers, dtype=reinterpret_dtype(result.dtype, numbers))
        dataset = create_dataset(file, result, self.compression, origin, is_classic=self._is_classic)
        offset = dataset.id.get_offset()
        if offset is not None:
            self.offsets[result.number] = offset
        elif result.nbytes:
            self._chunked_results.append(result)
        return dataset

    @contextmanager
    def _open_file(self, mode: str, **options: Any) -> Iterator[h5py.File]:
        """The file as HDF5 sees it, with every write checked.

        HDF5 may write when an object is let go of, where no error can be raised, and its
        file would be closed as if all were well.
        """
        checked = CheckedFile(self.descriptor)
        try:
            with h5py.File(checked, mode, **options) as file:
                tree.limit_cache(file)
                yield file
        except LucidError:
            if checked.error is None:
                raise
        except tree.HDF5_ERRORS as error:
            if checked.error is None:
                raise FileError(f"output {self.path} cannot be written: {tree.reason(error)}") from error
        if checked.error is not None:
            raise checked.error

    def commit(self, group: list[Replacement] | None = None) -> None:
        """Write the chunked datasets and put the file in its place."""
        if self.spool is not None:
            with self._open_file("r+") as file:
                for result in self._chunked_results:
                    fill_dataset(tree.object_at(file, result.name), result, self.spool, self.options)
        with about(f"output {self.path}"):
            check_copy(self.file.path, self._carry_source, self._unread_paths)
        super().commit(group)


def file_options(source: h5py.File) -> dict[str, Any]:
    """Options of a file that can hold what another holds.

    Attributes of more than 64 KiB, for one, need the file format of HDF5 1.8.
    """
    superblock = source.id.get_create_plist().get_version()[0]
    # The file's own properties do not say it, once it is closed; those of its first group do.
    root = h5py.h5g.open(source.id, b"/").get_create_plist()
    return {
        "libver": NEWER if superblock >= 2 else None,
        "track_order": bool(root.get_link_creation_order()),
    }
