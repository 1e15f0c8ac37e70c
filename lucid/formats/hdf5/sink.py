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
import numpy as np

from lucid import forks
from lucid.backlog import Backlog
from lucid.compression import parse_compression
from lucid.errors import FileError, LucidError
from lucid.formats.arrays import Array, ResultSpec, pad_chunk
from lucid.formats.choosing import note_lines
from lucid.formats.contract import Sink, Source
from lucid.formats.disk.files import CheckedFile, claim, write_at, write_region
from lucid.formats.disk.replacement import Replacement
from lucid.formats.disk.spool import Spool
from lucid.formats.hdf5.attributes import copy_attributes
from lucid.formats.hdf5.carry import Carry
from lucid.formats.hdf5.check import check_copy
from lucid.formats.hdf5.codec import Codec
from lucid.formats.hdf5.create import create_dataset, notes_of_filters, set_filters, with_stored_type
from lucid.formats.hdf5.elsewhere import Elsewhere
from lucid.formats.hdf5.filters import filters_of_results
from lucid.formats.hdf5.meaning import CLASSIC_MODEL, attributes_of
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.hdf5.survey import rehearse
from lucid.formats.hdf5.tree import (
    HDF5_ERRORS,
    Dataset,
    limit_cache,
    object_at,
    reason,
    translate_errors,
)
from lucid.formats.hdf5.types import unwritten_fill_of
from lucid.formats.regions import Region, size_of
from lucid.options import Options

#: The file formats of HDF5 1.8 and newer ones, which know attributes of any length.
NEWER = ("v108", "latest")


class Hdf5Sink(Sink):
    """An HDF5 file while it is written."""

    by_offset = True

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        self._compression = parse_compression(options.compression)
        self._file = Replacement(path, overwrite=options.overwrite)
        self._descriptor = -1
        self._spool: Spool | None = None
        #: Where each array is written, by its number: the offset of its first element; -1 where it waits for that.
        self._places = array("q")
        self._chunked_arrays = Backlog[ResultSpec]()
        #: What the rest of the file is copied from; the paths of what is to be read once.
        self._carry_source: h5py.File | None = None
        self._unread_paths: Iterable[str] = ()
        self._is_classic = False

    def begin(self, source: Source, pooled: Sequence[ResultSpec]) -> None:
        """Build the file, all but the means."""
        self._descriptor = self._file.create()
        options: dict[str, Any] = {}
        block = b""
        if isinstance(source, Hdf5Source):
            options = file_options(source.file)
            if self.carries(pooled):
                self._carry_source = source.file
                # netCDF's classic model has no strings of any length.
                self._is_classic = CLASSIC_MODEL in attributes_of(source.file)
                # Software such as MATLAB knows its files by what stands before the HDF5 part.
                block = source.user_block()
        try:
            self._build(source, pooled, userblock_size=len(block), **options)
        except FileError as error:
            # An attribute of more than 64 KiB, in an old file to which newer software added.
            if "message is too large" not in str(error):
                raise
            os.ftruncate(self._descriptor, 0)
            self._build(source, pooled, userblock_size=len(block), **(options | {"libver": NEWER}))
        claim(self._descriptor, os.fstat(self._descriptor).st_size)
        write_at(self._descriptor, 0, block)
        if self._chunked_arrays:
            self._spool = Spool(self._file.target.parent).hold(self._chunked_arrays)

    def refuse(self, source: Source, pooled: Sequence[ResultSpec]) -> None:
        """Raise for what cannot be carried over, and for filters that are not installed."""
        if self._compression is not None:
            set_filters(h5py.h5p.create(h5py.h5p.DATASET_CREATE), self._compression)
        if not isinstance(source, Hdf5Source):
            return
        is_alone = not self.carries(pooled)
        self.carried, notes = rehearse(source, pooled, self.options.drop, is_alone=is_alone)
        self._note(source, pooled, notes)

    def _note(self, source: Hdf5Source, pooled: Sequence[ResultSpec], notes: dict[str, list[str]]) -> None:
        if self._compression is None:
            self.notes += notes_of_filters(source.file, pooled)
        self.notes += note_lines(notes)

    def _build(self, source: Source, pooled: Sequence[ResultSpec], **options: Any) -> None:
        """Make groups, links, what is carried, and room for the means."""
        self._chunked_arrays, self._places, self.notes = Backlog(), array("q", [-1]) * len(pooled), []
        with self._open_file("w", **options) as file:
            if not isinstance(source, Hdf5Source):
                for result in pooled:
                    copy_attributes(None, self._create(file, result, None), result.mark)
                return
            where = Elsewhere(source.path, self._file.target)
            make = partial(self._create, file)
            is_alone = self._carry_source is None
            carry = Carry(source, pooled, self.options.drop, file, make, where, is_alone=is_alone)
            with translate_errors("cannot be carried over"):
                carry.carry_out()
            self.carried, self._unread_paths = carry.carried, carry.unread_paths
            self._note(source, pooled, carry.notes | carry.geography.notes)

    def _create(self, file: h5py.File, result: ResultSpec, origin: Dataset | None) -> Dataset:
        """Make room for the means of an array, and note where it is."""
        result = result if origin is None else with_stored_type(result)
        dataset = create_dataset(file, result, self._compression, origin, is_classic=self._is_classic)
        offset = dataset.id.get_offset()
        if offset is not None:
            self._places[result.number] = offset
        elif result.nbytes:
            self._chunked_arrays.append(result)
        return dataset

    @contextmanager
    def _open_file(self, mode: str, **options: Any) -> Iterator[h5py.File]:
        """The file as HDF5 sees it, with every write checked.

        HDF5 may write when an object is let go of, where no error can be raised, and its
        file would be closed as if all were well.
        """
        checked = CheckedFile(self._descriptor)
        try:
            with h5py.File(checked, mode, **options) as file:
                limit_cache(file)
                yield file
        except LucidError:
            if checked.error is None:
                raise
        except HDF5_ERRORS as error:
            if checked.error is None:
                raise FileError(f"output cannot be written: {reason(error)}") from error
        if checked.error is not None:
            raise FileError(f"output cannot be written: {checked.error.strerror}") from checked.error

    def write(self, pooled: ResultSpec, region: Region, values: Array) -> None:
        """Write a region to its place in the file or the spool."""
        place = self._places[pooled.number]
        if place >= 0:
            write_region(self._descriptor, place, pooled.shape, region, values)
        elif self._spool is not None:
            self._spool.write(pooled, region, values)
        elif values.size:
            raise FileError(f"output has no room for {pooled.name}: it was made under another name")

    def commit(self, group: list[Replacement] | None = None) -> None:
        """Write the chunked datasets and put the file in its place."""
        if self._chunked_arrays:
            with self._open_file("r+") as file:
                for result in self._chunked_arrays:
                    self._fill(object_at(file, result.name), result)
        check_copy(self._file.path, self._carry_source, self._unread_paths)
        self._file.commit(group)
        self.close()

    def _fill(self, dataset: Dataset, result: ResultSpec) -> None:
        """Write a dataset chunk after chunk; where it is large, processes encode them."""
        filters = filters_of_results(dataset.creation, dataset.chunks)
        codec = Codec(dataset, filters)
        unwritten = np.asarray(unwritten_fill_of(dataset, result.dtype), result.dtype)
        spool = self._spool
        assert spool is not None

        def encoded_chunk(region: Region) -> tuple[bytes, int]:
            return codec.encode(pad_chunk(spool.read(result, region), dataset.chunks, unwritten))

        # Some copies of a chunk for each process, of cells and of bytes, and as many on their way.
        chunk_bytes = size_of(dataset.chunks) * result.dtype.itemsize
        workers = min(self.options.workers, self.options.max_memory // (8 * chunk_bytes))
        chunks: Iterable[tuple[bytes, int]] = map(encoded_chunk, dataset.iter_chunks())
        if forks.pay_off(result.nbytes, workers):
            chunks = forks.in_order(
                encoded_chunk, dataset.iter_chunks(), workers=workers, in_flight=2 * workers
            )
        for region, (data, mask) in zip(dataset.iter_chunks(), chunks, strict=True):
            dataset.id.write_direct_chunk(tuple(s.start for s in region), data, mask)

    def close(self) -> None:
        """Remove the file and the spool unless committed."""
        self._file.abort()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._spool is not None:
            self._spool.close()


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
