"""The finished file, opened once and walked before it is put in place.

Whatever was carried over has to be readable: types, fill values, attributes, the first and the last
element. The source is the measure: what cannot be read there either is carried as it is.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import h5py

from lucid.errors import FileError
from lucid.formats.hdf5.attributes import attributes_in
from lucid.formats.hdf5.cells import read_attribute, read_cells
from lucid.formats.hdf5.elsewhere import lies_elsewhere
from lucid.formats.hdf5.tree import HDF5_ERRORS, Dataset, encoded, failing_as, opened, reason
from lucid.formats.regions import Region, size_of

#: Largest chunk that is decoded for its first element.
MOST_CHUNK_BYTES = 1 << 24


def check_copy(file: h5py.File, source: h5py.File | None, paths: Iterable[str]) -> None:
    """Raise if an object of an output cannot be read, though it can be in the source.

    Every one is met; those at these `paths` are read.

    Raises
    ------
    FileError
        The output would be damaged.

    """
    with failing_as(FileError, "cannot be read back"):
        h5py.h5o.visit(file.id, lambda _: None)
    held = file.id.get_filesize()
    for path in paths:
        name = encoded(path)
        try:
            _read_some(opened(file, name), held)
        except HDF5_ERRORS as error:
            if source is None or not _is_unreadable(source, name):
                shown = name.decode("utf-8", "replace")
                raise FileError(f"{shown} cannot be read back from the output: {reason(error)}") from error


def _is_unreadable(file: h5py.File, path: bytes) -> bool:
    """Whether a file has an object that cannot be read."""
    try:
        item = opened(file, path)
    except HDF5_ERRORS:
        return False
    try:
        _read_some(item, file.id.get_filesize())
    except HDF5_ERRORS:
        return True
    return False


def _read_some(item: Any, held: int) -> None:
    """Read what can be broken of an object, and little else; its file has so many bytes."""
    for attribute in attributes_in(item):
        read_attribute(attribute)
    if not isinstance(item, Dataset):
        return
    if item.is_raw:
        offset = item.id.get_offset()
        if offset + item.id.get_storage_size() > held:
            raise ValueError("its elements lie behind the end of the file")
        return
    for region in _ends(item):
        read_cells(item, region)


def _ends(dataset: Dataset) -> Iterator[Region]:
    """The first and the last element, unless they are in other files or would take long to decode."""
    chunk_bytes = size_of(dataset.chunks or ()) * dataset.kind.get_size()
    if lies_elsewhere(dataset.creation) or not dataset.size or chunk_bytes > MOST_CHUNK_BYTES:
        return
    yield (slice(0, 1),) * dataset.ndim
    if dataset.size > 1:
        yield tuple(slice(n - 1, n) for n in dataset.shape)
