"""Elements of datasets and attributes as they are in a file: read and written without conversion.

Those of any length lie in the heap of the file, and references point into it: these are Python's objects.
"""

from typing import Any

import h5py
import numpy as np

from lucid.formats.arrays import Array
from lucid.formats.hdf5.dataset import Dataset, has_references, lies_in_heap
from lucid.formats.regions import Region, shape_of


def read_cells(dataset: Dataset, region: Region) -> Array:
    """Elements of a region, as bytes or objects."""
    dtype, memory_type = memory_type_of(dataset.id, dataset.h5_type)
    cells = np.zeros(shape_of(region), dtype)
    dataset.id.read(*_spaces(dataset, region), cells, mtype=memory_type)
    return cells


def read_into(out: Array, dataset: Dataset, region: Region) -> None:
    """Read numbers of a region; where the library would leave `out` as it is, they are zero."""
    if dataset.leaves_gaps:
        out[...] = np.zeros((), out.dtype)
        if dataset.has_no_fill and dataset.is_unwritten:
            return  # the library would refuse
    dataset.id.read(*_spaces(dataset, region), out, mtype=dataset.h5_type)


def write_cells(dataset: Dataset, region: Region, cells: Array) -> None:
    """Write elements that were read from a dataset of the same type, or numbers of its type."""
    dataset.id.write(*_spaces(dataset, region), cells, mtype=memory_type_of(dataset.id, dataset.h5_type)[1])


def _spaces(dataset: Dataset, region: Region) -> tuple[Any, Any]:
    stored = dataset.id.get_space()
    if not region:
        return h5py.h5s.create(h5py.h5s.SCALAR), stored
    return h5py.h5s.create_simple(shape_of(region)), select_region(stored, region)


def select_region(space: Any, region: Region) -> Any:
    """A dataspace of which only a region is read or written."""
    space.select_hyperslab(tuple(s.start for s in region), shape_of(region))
    return space


def memory_type_of(holder: Any, h5_type: Any) -> tuple[np.dtype[Any], Any]:
    """How elements of a dataset or an attribute are held: dtype, and what HDF5 calls it."""
    if lies_in_heap(h5_type) or has_references(h5_type):
        return holder.dtype, h5py.h5t.py_create(holder.dtype)
    return np.dtype((np.void, h5_type.get_size())), h5_type


def read_attribute(attribute: Any) -> Array | None:
    """An attribute's values, as `read_cells` reads elements; None where it has none."""
    if attribute.get_space().get_simple_extent_type() == h5py.h5s.NULL:
        return None
    dtype, memory_type = memory_type_of(attribute, attribute.get_type())
    values = np.zeros(attribute.shape, dtype)
    attribute.read(values, mtype=memory_type)
    return values
