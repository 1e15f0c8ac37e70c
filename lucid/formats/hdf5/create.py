"""Datasets for means: created by the type, shape, chunks, filters and fill value of their sources, and filled."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import h5py
import numpy as np

from lucid import forks
from lucid.compression import Compression
from lucid.errors import FileError, MissingExtraError
from lucid.formats.arrays import ResultSpec, pad_chunk
from lucid.formats.choosing import name_list
from lucid.formats.contract import PROVENANCE
from lucid.formats.disk.spool import Spool
from lucid.formats.hdf5.attributes import write_attribute
from lucid.formats.hdf5.codec import Codec
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.hdf5.filters import filters_of, filters_of_results
from lucid.formats.hdf5.meaning import fill_of_result
from lucid.formats.hdf5.tree import HDF5_ERRORS, name_bytes, object_at
from lucid.formats.hdf5.types import file_type, unwritten_fill_of
from lucid.formats.regions import Region, size_of
from lucid.formats.result import chunks_of, notes_on_software
from lucid.options import Options

#: Links are made with the groups that lead to them.
_WITH_GROUPS = h5py.h5p.create(h5py.h5p.LINK_CREATE)
_WITH_GROUPS.set_create_intermediate_group(True)


def create_dataset(
    file: h5py.File,
    result: ResultSpec,
    compression: Compression | None,
    origin: Dataset | None = None,
    *,
    is_classic: bool = False,
) -> Dataset:
    """Create the dataset for means, with what can be kept of the one they are means of."""
    shape = result.stored_shape
    limits = shape if origin is None or origin.is_contiguous else _limits(origin, result)
    creation = _properties(result, compression, origin, is_extendible=limits != shape)
    space = h5py.h5s.create_simple(shape, tuple(h5py.h5s.UNLIMITED if n is None else n for n in limits))
    h5_type = file_type(result.numbers, result.dtype, origin)
    try:
        dataset = Dataset(
            h5py.h5d.create(file.id, name_bytes(result.name), h5_type, space, creation, _WITH_GROUPS)
        )
    except HDF5_ERRORS as error:
        if "callback" not in str(error):
            raise
        # The plugin speaks to the HDF5 that the other package brought.
        raise FileError(
            f"output cannot have the filters of {result.name}: hdf5plugin was imported after another package with "
            "an HDF5 of its own, such as netCDF4, or HDF5_PLUGIN_PATH leads there; import hdf5plugin first, or say "
            "`compression='gzip'`"
        ) from error
    # netCDF's classic model has no strings of any length.
    write_attribute(dataset, PROVENANCE, result.provenance, like=h5py.h5t.C_S1 if is_classic else None)
    return dataset


def _properties(
    result: ResultSpec, compression: Compression | None, origin: Dataset | None, *, is_extendible: bool
) -> Any:
    """The creation properties of a dataset for means: fill value, filters, chunks."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_obj_track_times(False)
    if origin is not None:
        creation.set_attr_creation_order(origin.creation.get_attr_creation_order())
        fill = fill_of_result(origin, result)
        if fill is not None:
            creation.set_fill_value(fill)
    if compression is not None:
        set_filters(creation, compression)
    elif origin is not None:
        for filter_ in filters_of_results(origin.creation, chunks_of(result)):
            creation.set_filter(*filter_)
    if is_extendible or creation.get_nfilters():
        creation.set_chunk(chunks_of(result))
        # Whoever makes the dataset longer finds in the new cells what it would in the source's.
        creation.set_fill_time(
            h5py.h5d.FILL_TIME_IFSET if origin is None else origin.creation.get_fill_time()
        )
    else:
        # Every cell is written, and none twice.
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    return creation


def _limits(origin: Dataset, result: ResultSpec) -> tuple[int | None, ...]:
    """Unlimited axes stay unlimited where pooling leaves them as they are."""
    pairs = zip(origin.maxshape, origin.shape, result.shape, strict=True)
    limits = [None if limit is None and before == after else after for limit, before, after in pairs]
    return (limits[0], result.stored_shape[1]) if result.flat else tuple(limits)


def fill_dataset(dataset: Dataset, result: ResultSpec, spool: Spool, options: Options) -> None:
    """Write all chunks of a dataset, from a spool; where it is large, processes encode them."""
    codec = Codec(dataset, filters_of_results(dataset.creation, dataset.chunks))
    fill = np.asarray(unwritten_fill_of(dataset, result.dtype), result.dtype)

    def encoded_chunk(region: Region) -> tuple[bytes, int]:
        return codec.encode(pad_chunk(spool.read(result, region), dataset.chunks, fill))

    # Some copies of a chunk for each process, of cells and of bytes, and as many on their way.
    chunk_bytes = size_of(dataset.chunks) * result.dtype.itemsize
    workers = options.workers_for(8 * chunk_bytes + forks.PROCESS_BYTES)
    if result.nbytes > chunk_bytes:
        forks.give_memory_back()
    chunks: Iterable[tuple[bytes, int]] = map(encoded_chunk, dataset.iter_chunks())
    if forks.pay_off(result.nbytes, workers):
        chunks = forks.in_order(encoded_chunk, dataset.iter_chunks(), workers=workers, in_flight=2 * workers)
    for region, (data, mask) in zip(dataset.iter_chunks(), chunks, strict=True):
        dataset.id.write_direct_chunk(tuple(s.start for s in region), data, mask)


def notes_of_filters(source: h5py.File, results: Sequence[ResultSpec], suffix: str) -> list[str]:
    """A line for each filter that means do not keep, or that the software for files with that suffix lacks."""
    faults: dict[tuple[str, str], list[str]] = {}
    others = dict[str, None]()
    for name in dict.fromkeys(array.source.name for array in results if array.source.chunk_copies):
        for filter_ in filters_of(object_at(source, name).creation):
            if filter_.fault is not None:
                faults.setdefault((filter_.name, filter_.fault), []).append(name)
            else:
                others[filter_.name] = None
    lines = [f"{name} of {name_list(names)} is left out: {fault}" for (name, fault), names in faults.items()]
    return [*lines, *chain.from_iterable(notes_on_software(suffix, (), name) for name in others)]


def set_filters(creation: Any, compression: Compression) -> None:
    """Put a compression's filters on a new dataset; a MissingExtraError where it needs the extra `filters`."""
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
        try:
            import hdf5plugin  # which gives its filters to the library for as long as the process lives
        except ImportError:
            raise MissingExtraError(
                f"compression {compression.name} needs the extra 'filters': pip install 'lucid-pool[filters]'"
            ) from None
        make = getattr(hdf5plugin, "LZ4" if compression.name == "lz4" else compression.name.capitalize())
        parameters = {"clevel": compression.level, "cname": compression.codec}
        plugin = make(**{key: value for key, value in parameters.items() if value is not None})
        creation.set_filter(plugin.filter_id, h5py.h5z.FLAG_OPTIONAL, plugin.filter_options)
