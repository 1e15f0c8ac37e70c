"""An HDF5 file in the making.

It is built whole before any mean is known: groups, links, attributes, carried
objects and room for the means. Then HDF5 closes it. Contiguous datasets are filled in at
their place in the file, past the library; chunked ones go through a spool, and are
written chunk after chunk at the end, in one order. So the file does not depend on how
the work was cut, and a failure of the disk shows in a plain system call.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from lucid.compression import Compression, parse_compression
from lucid.errors import FileError, LucidError, MissingExtraError
from lucid.formats.contract import (
    PROVENANCE,
    Array,
    Pooled,
    Region,
    ShardArray,
    Sink,
    Source,
    fitted_chunks,
)
from lucid.formats.disk.files import CheckedFile, Replacement, claim, write_at, write_region
from lucid.formats.disk.spool import Spool
from lucid.formats.hdf5.check import check_copy
from lucid.formats.hdf5.filters import can_do, do
from lucid.formats.hdf5.join import Joined
from lucid.formats.hdf5.kept import LeftOut, kept_filters, left_out
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.hdf5.tree import HDF5_ERRORS, Made, carry, encoded, make_only, reason
from lucid.formats.hdf5.types import file_type, is_unnamed, unwritten_of, write_through
from lucid.options import Options
from lucid.threads import in_order

#: Names of datasets in a note before it only counts.
MOST_NAMES = 5


class _Chunk(NamedTuple):
    """A chunk on its way: its cells, None while they are in the spool, or its bytes and filter mask."""

    region: Region
    data: Any = None
    mask: int | None = None


class Hdf5Sink(Sink):
    """An HDF5 file in the making."""

    def __init__(self, path: Path, options: Options, *, joins: bool = False) -> None:
        super().__init__(path, options, joins=joins)
        self._compression = parse_compression(options.compression)
        self._file = Replacement(path, overwrite=options.overwrite)
        self._spool: Spool | None = None
        self._descriptors: list[int] = []
        #: Where each array is written: descriptor and offset of its first element.
        self._places: dict[str, tuple[int, int]] = {}
        self._chunked: list[Pooled] = []
        #: Where chunked arrays come from if shards are joined.
        self._shards: dict[str, Sequence[ShardArray]] = {}
        #: What the rest of the file is copied from; the paths that are not.
        self._carried_from: h5py.File | None = None
        self._pooled: frozenset[bytes] = frozenset()

    def begin(self, source: Source, pooled: Sequence[Pooled]) -> None:
        """Build the file, all but the means."""
        descriptor = self._file.create()
        self._descriptors.append(descriptor)
        # Software such as MATLAB knows its files by what stands before the HDF5 part.
        carries = self.options.carry and not any(array.is_shard for array in pooled)
        block = source.user_block() if isinstance(source, Hdf5Source) and carries else b""
        self._carried_from = source.file if isinstance(source, Hdf5Source) and carries else None
        self._pooled = frozenset(encoded(array.name) for array in pooled)
        options = file_options(source.file) if isinstance(source, Hdf5Source) else {}
        with self._opened(descriptor, "w", userblock_size=len(block), **options) as file:
            try:
                if isinstance(source, Hdf5Source):
                    if self._compression is None:
                        self.notes += notes_of_filters(source.file, pooled)
                    build = carry if carries else make_only
                    build(source.file, file, self._made(file, pooled))
                else:
                    for array in pooled:
                        create_dataset(file, array, self._compression)
                offsets = {p.name: file[encoded(p.name)].id.get_offset() for p in pooled}
            except LucidError:
                raise
            except HDF5_ERRORS as error:
                raise FileError(f"cannot be carried over: {reason(error)}") from error
        claim(descriptor, os.fstat(descriptor).st_size)
        write_at(descriptor, 0, memoryview(block))
        self._chunked = [p for p in pooled if offsets[p.name] is None and p.nbytes]
        self._places = {p.name: (descriptor, offsets[p.name]) for p in pooled if offsets[p.name] is not None}
        if self._chunked and not self.joins:
            self._spool = Spool(self._file.target.parent)
            self._spool.hold(self._chunked)

    @contextmanager
    def _opened(self, descriptor: int, mode: str, **options: Any) -> Iterator[h5py.File]:
        """The file as HDF5 sees it, with every write checked.

        HDF5 may write when an object is let go of, where no error can be raised, and its
        file would be closed as if all were well.
        """
        checked = CheckedFile(descriptor)
        try:
            with h5py.File(checked, mode, **options) as file:
                yield file
        except LucidError:
            if checked.error is None:
                raise
        except HDF5_ERRORS as error:
            if checked.error is None:
                raise FileError(f"output cannot be written: {reason(error)}") from error
        if checked.error is not None:
            raise FileError(f"output cannot be written: {checked.error.strerror}") from checked.error

    def _made(self, file: h5py.File, pooled: Sequence[Pooled]) -> dict[str, list[Made]]:
        """What takes the place of each dataset that is pooled."""
        made: dict[str, list[Made]] = {}
        for array in pooled:
            make = partial(create_dataset, file, array, self._compression)
            axes = None if array.flat else (array.height_axis, array.height_axis + 1)
            made.setdefault(array.source.name, []).append(Made(array.name, make, axes, array.coarsen))
        return made

    def write(self, pooled: Pooled, region: Region, values: Array) -> None:
        """Write a region to its place in the file or the spool."""
        place = self._places.get(pooled.name)
        if place is not None:
            write_region(*place, pooled.shape, region, values)
        elif self._spool is not None:
            self._spool.write(pooled, region, values)

    def commit(self) -> None:
        """Write the chunked datasets and put the file in its place."""
        if self._chunked:
            with self._opened(self._descriptors[0], "r+") as file:
                for array in self._chunked:
                    self._fill(file[encoded(array.name)], array)
        with self._opened(self._descriptors[0], "r") as file:
            check_copy(file, self._carried_from, self._pooled)
        self._file.commit()
        self._close()

    def join(self, pooled: Pooled, shards: Sequence[ShardArray], buffer: Array) -> None:
        """Copy contiguous means to their place; chunked ones are moved by `commit`."""
        if pooled.name in self._places:
            super().join(pooled, shards, buffer)
        else:
            self._shards[pooled.name] = shards

    def _fill(self, dataset: h5py.Dataset, array: Pooled) -> None:
        """Write a dataset chunk after chunk; where the filters are known, workers compress."""
        creation = dataset.id.get_create_plist()
        filters = [creation.get_filter(i) for i in range(creation.get_nfilters())]
        steps = [(number, values) for number, _, values, _ in filters]
        encodes = bool(steps) and can_do(steps)

        def encoded_chunk(chunk: _Chunk) -> _Chunk:
            region, cells, mask = chunk
            if mask is not None or not encodes:
                return chunk
            if cells is None:
                cells = self._spooled(array, region)
            if cells.shape != dataset.chunks:
                edge = np.full(dataset.chunks, unwritten_of(dataset, array.dtype), array.dtype)
                edge[tuple(slice(0, n) for n in cells.shape)] = cells
                cells = edge
            return _Chunk(region, do(steps, cells.reshape(-1).view(np.uint8), array.dtype.itemsize), 0)

        workers = self.options.workers if encodes else 1
        chunks = (_Chunk(region) for region in dataset.iter_chunks())
        if self.joins:
            joined = Joined(dataset, self._shards[array.name], array.dtype)
            chunks = (_Chunk(region, *joined.load(region)) for region in dataset.iter_chunks())
        for region, data, mask in in_order(encoded_chunk, chunks, workers=workers, in_flight=2 * workers):
            if mask is None:
                write_through(dataset, region, self._spooled(array, region) if data is None else data)
            else:
                dataset.id.write_direct_chunk(tuple(s.start for s in region), data, mask)

    def _spooled(self, array: Pooled, region: Region) -> Array:
        """A region of a chunked array, from the spool."""
        assert self._spool is not None
        return self._spool.read(array, region)

    def close(self) -> None:
        """Remove the file and the spool unless committed."""
        self._file.abort()
        self._close()

    def _close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
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
        "libver": ("v108", "latest") if superblock >= 2 else None,
        "track_order": bool(root.get_link_creation_order()),
    }


def create_dataset(
    file: h5py.File, pooled: Pooled, compression: Compression | None, origin: h5py.Dataset | None = None
) -> h5py.Dataset:
    """Create the dataset for means, with what can be kept of the one they are means of."""
    shape = pooled.stored_shape
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_obj_track_times(False)
    own = None if origin is None else origin.id.get_create_plist()
    limits: tuple[int | None, ...] = shape
    if origin is not None and own is not None:
        limits = _limits(origin, pooled)
        creation.set_attr_creation_order(own.get_attr_creation_order())
        is_defined = own.fill_value_defined() != h5py.h5d.FILL_VALUE_UNDEFINED
        if is_defined and not is_unnamed(origin) and origin.fillvalue:
            # Of bfloat16, h5py tells and takes the fill value as float32.
            kept_as = np.float32 if pooled.numbers == "bfloat16" else pooled.dtype
            creation.set_fill_value(np.asarray(origin.fillvalue).astype(kept_as))
    if compression is not None:
        set_filters(creation, compression)
    elif own is not None:
        for code, flags, values in kept_filters(own, fitted_chunks(pooled)):
            creation.set_filter(code, flags, values)
    if limits != shape or creation.get_nfilters():
        creation.set_chunk(fitted_chunks(pooled))
        # Whoever makes the dataset longer finds in the new cells what it would in the source's.
        creation.set_fill_time(h5py.h5d.FILL_TIME_IFSET if own is None else own.get_fill_time())
    else:
        # Every cell is written, and none twice.
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space = h5py.h5s.create_simple(shape, tuple(h5py.h5s.UNLIMITED if n is None else n for n in limits))
    kind = file_type(pooled.numbers, pooled.dtype, origin)
    dataset = h5py.Dataset(h5py.h5d.create(file.id, encoded(pooled.name), kind, space, creation, links))
    dataset.attrs[PROVENANCE] = pooled.provenance
    return dataset


def _limits(origin: h5py.Dataset, pooled: Pooled) -> tuple[int | None, ...]:
    """Unlimited axes stay unlimited where pooling leaves them as they are."""
    pairs = zip(origin.maxshape, origin.shape, pooled.shape, strict=True)
    limits = [None if limit is None and before == after else after for limit, before, after in pairs]
    return (limits[0], pooled.stored_shape[1]) if pooled.flat else tuple(limits)


def notes_of_filters(source: h5py.File, pooled: Sequence[Pooled]) -> list[str]:
    """A line for each filter that means do not keep."""
    without: dict[LeftOut, list[str]] = {}
    for name in dict.fromkeys(array.source.name for array in pooled):
        for filter_ in left_out(source[encoded(name)].id.get_create_plist()):
            without.setdefault(filter_, []).append(name)
    return [f"{one.name} of {listed(names)} is left out: {one.reason}" for one, names in without.items()]


def listed(names: Sequence[str]) -> str:
    """A few of the names, and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def set_filters(creation: Any, compression: Compression) -> None:
    """Put a compression's filters on a new dataset.

    Raises
    ------
    MissingExtraError
        It needs the extra `filters`.

    """
    if compression.name == "none":
        return
    # Blosc and bitshuffle shuffle by themselves.
    if compression.name in ("gzip", "lzf", "lz4", "zstd"):
        creation.set_shuffle()
    if compression.name == "gzip":
        creation.set_deflate(4 if compression.level is None else compression.level)
    elif compression.name == "lzf":
        creation.set_filter(h5py.h5z.FILTER_LZF, h5py.h5z.FLAG_OPTIONAL)
    else:
        chosen = plugin_filter(compression)
        creation.set_filter(chosen.filter_id, h5py.h5z.FLAG_OPTIONAL, chosen.filter_options)


def plugin_filter(compression: Compression) -> Any:
    """A filter of hdf5plugin and its parameters."""
    try:
        import hdf5plugin
    except ImportError:
        raise MissingExtraError(
            f"compression {compression.name} needs the extra 'filters': pip install 'lucid-pool[filters]'"
        ) from None
    level = {} if compression.level is None else {"clevel": compression.level}
    codec = {} if compression.codec is None else {"cname": compression.codec}
    makers = {
        "lz4": hdf5plugin.LZ4,
        "zstd": hdf5plugin.Zstd,
        "bitshuffle": hdf5plugin.Bitshuffle,
        "blosc": hdf5plugin.Blosc,
        "blosc2": hdf5plugin.Blosc2,
    }
    return makers[compression.name](**level, **codec)
