"""The finished file, opened once and walked before it is put in place.

Whatever was carried over has to be readable: types, fill values, attributes, the first and the last
element. The source is the measure: what cannot be read there either is carried as it is.
"""

from collections.abc import Iterable
from pathlib import Path

import h5py

from lucid.errors import FileError
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.attributes import attributes_in
from lucid.formats.hdf5.cells import read_attribute, read_cells
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.regions import size_of

#: Largest chunk that is decoded for its first element.
MOST_CHUNK_BYTES = 1 << 24


def check_copy(copy: Path, source: h5py.File | None, paths: Iterable[str]) -> None:
    """Raise a FileError if an object of an output cannot be read, though it can be in the source.

    Every one is met; those at these `paths` are read.
    """
    # The file is locked already.
    with tree.translate_errors("cannot be read back"), h5py.File(copy, locking=False) as file:
        tree.limit_cache(file)
        h5py.h5o.visit(file.id, lambda _: None)
        for path in paths:
            error = _read_error(file, path)
            if error is not None and (source is None or _read_error(source, path) is None):
                label = tree.name_bytes(path).decode("utf-8", "replace")
                raise FileError(f"{label} cannot be read back: {tree.reason(error)}") from error


def _read_error(file: h5py.File, path: str) -> Exception | None:
    """Why an object cannot be read, as far as it can be broken; None where it can."""
    try:
        obj = tree.object_at(file, path)
        for attribute in attributes_in(obj):
            read_attribute(attribute)
        if isinstance(obj, Dataset):
            _read_ends(obj, file.id.get_filesize())
    except tree.HDF5_ERRORS as error:
        return error
    return None


def _read_ends(dataset: Dataset, file_bytes: int) -> None:
    """Read the first and the last element, unless they are in other files or would take long to decode."""
    if dataset.is_raw:
        # Any bytes are elements of these types.
        if dataset.id.get_offset() + dataset.id.get_storage_size() > file_bytes:
            raise ValueError("its elements lie behind the end of the file")
        return
    chunk_bytes = size_of(dataset.chunks or ()) * dataset.h5_type.get_size()
    if dataset.is_elsewhere or not dataset.size or chunk_bytes > MOST_CHUNK_BYTES:
        return
    read_cells(dataset, (slice(0, 1),) * dataset.ndim)
    if dataset.size > 1:
        read_cells(dataset, tuple(slice(n - 1, n) for n in dataset.shape))
