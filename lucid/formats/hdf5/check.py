"""The finished file, opened once and walked before it is put in place.

Whatever was carried over has to be readable: types, fill values, attributes, the first and the last
element. The source is the measure: what cannot be read there either is carried as it is.
"""

from collections.abc import Iterator

import h5py

from lucid.errors import FileError
from lucid.formats.contract import Region, size_of
from lucid.formats.hdf5.copy import read_attribute, read_cells
from lucid.formats.hdf5.tree import HDF5_ERRORS, reason

#: Largest chunk that is decoded for its first element.
MOST_CHUNK_BYTES = 1 << 24


def check_copy(file: h5py.File, source: h5py.File | None, pooled: frozenset[bytes]) -> None:
    """Raise if an object of an output cannot be read, though it can be in the source.

    `pooled` are the paths of the means, whose values are not read.

    Raises
    ------
    FileError
        The output would be damaged.

    """

    def check(name: bytes) -> None:
        path = b"/" + name
        if path in pooled:
            return
        try:
            _read_some(file, path)
        except HDF5_ERRORS as error:
            if source is None or not _is_unreadable(source, path):
                shown = path.decode("utf-8", "replace")
                raise FileError(f"{shown} cannot be read back from the output: {reason(error)}") from error

    check(b"")
    h5py.h5o.visit(file.id, check)


def _is_unreadable(file: h5py.File, path: bytes) -> bool:
    """Whether a file has an object that cannot be read."""
    try:
        h5py.h5o.open(file.id, path)
    except HDF5_ERRORS:
        return False
    try:
        _read_some(file, path)
    except HDF5_ERRORS:
        return True
    return False


def _read_some(file: h5py.File, path: bytes) -> None:
    """Read what can be broken of an object, and little else."""
    item = h5py.h5o.open(file.id, path)
    for i in range(h5py.h5a.get_num_attrs(item)):
        read_attribute(h5py.h5a.open(item, index=i))
    if isinstance(item, h5py.h5d.DatasetID):
        dataset = h5py.Dataset(item)
        item.get_create_plist()
        for region in _ends(dataset):
            read_cells(dataset, region)


def _ends(dataset: h5py.Dataset) -> Iterator[Region]:
    """The first and the last element, unless they are in other files or would take long to decode."""
    creation = dataset.id.get_create_plist()
    is_elsewhere = creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count()
    chunk_bytes = size_of(dataset.chunks or ()) * dataset.id.get_type().get_size()
    if is_elsewhere or not dataset.size or chunk_bytes > MOST_CHUNK_BYTES:
        return
    yield (slice(0, 1),) * dataset.ndim
    if dataset.size > 1:
        yield tuple(slice(n - 1, n) for n in dataset.shape)
