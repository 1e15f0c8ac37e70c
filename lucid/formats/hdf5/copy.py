"""Objects of an HDF5 file made again in another one, where the library's own copy would be broken.

`H5Ocopy` takes some addresses of the source along: those of fill values that live in the file's heap, as
strings and sequences of any length do. A dataset that has one is made anew, with all its
properties, and its elements are copied. The creation properties of a group hold addresses, too.
"""

import os
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from lucid.errors import FormatError
from lucid.formats.arrays import Array
from lucid.formats.hdf5.tree import Dataset
from lucid.formats.regions import Region, boxes_of, shape_of, size_of

#: Elements that are copied at once: each may point to some bytes in the heap.
MOST_ELEMENTS = 1 << 14
#: Largest chunk that is kept decoded while its elements are copied.
MOST_CACHE_BYTES = 1 << 26


def group_properties(group: h5py.Group) -> Any:
    """Creation properties of a copy: the orders that are kept, none of the source's addresses."""
    own = group.id.get_create_plist()
    made = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    made.set_obj_track_times(False)
    made.set_link_creation_order(own.get_link_creation_order())
    made.set_attr_creation_order(own.get_attr_creation_order())
    made.set_attr_phase_change(*own.get_attr_phase_change())
    return made


def has_fill_in_heap(item: Any) -> bool:
    """Whether the fill value of a dataset points into its file."""
    return (
        isinstance(item, Dataset)
        and lies_in_heap(item.kind)
        and item.creation.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED
    )


def lies_in_heap(kind: Any) -> bool:
    """Whether elements of a type, or some of their members, are of any length."""
    group = kind.get_class()
    if group == h5py.h5t.STRING:
        return bool(kind.is_variable_str())
    if group == h5py.h5t.COMPOUND:
        return any(lies_in_heap(kind.get_member_type(i)) for i in range(kind.get_nmembers()))
    if group == h5py.h5t.ARRAY:
        return lies_in_heap(kind.get_super())
    return bool(group == h5py.h5t.VLEN)


def refuse_more_than_there_is(name: str, item: Dataset, held: int) -> None:
    """Raise for a dataset whose elements a file of so many bytes cannot hold.

    The library would copy zeros for days, or make room for a text before it finds that it is not there.
    """
    if item.id.get_offset() is None and item.creation.get_external_count():
        return
    claimed = item.id.get_storage_size()
    if claimed <= held:
        claimed = max(_lengths(item), default=0)
    if claimed > held:
        raise FormatError(f"dataset {name} claims {claimed} bytes, the whole file has {held}")


def _lengths(item: Dataset) -> Iterator[int]:
    """The longest of some texts or sequences at a time, as elements in one place say them before their heap is read."""
    is_text = item.kind.get_class() == h5py.h5t.STRING
    offset = item.id.get_offset() if lies_in_heap(item.kind) else None
    if offset is None or not (is_text or item.kind.get_class() == h5py.h5t.VLEN):
        return
    file = h5py.h5i.get_file_id(item.id)
    creation = file.get_create_plist()
    # In the file, an element is a length, and an address and a number in the heap.
    each = 4 + creation.get_sizes()[0] + 4
    item_bytes = 1 if is_text else item.kind.get_super().get_size()
    start = creation.get_userblock() + offset
    for begin in range(0, item.id.get_storage_size(), MOST_ELEMENTS * each):
        count = min(MOST_ELEMENTS * each, item.id.get_storage_size() - begin)
        raw = np.frombuffer(os.pread(file.get_vfd_handle(), count, start + begin), np.uint8)
        lengths = raw[: len(raw) // each * each].reshape(-1, each)[:, :4]
        if len(lengths):
            yield int(np.ascontiguousarray(lengths).view("<u4").max()) * item_bytes


def remake_dataset(item: Dataset, target: h5py.File, name: bytes) -> Dataset:
    """Make a dataset of the same properties and elements; references among them are still to be written."""
    # The library converts the fill value of these properties from one file to the other.
    creation = item.id.get_create_plist()
    creation.set_obj_track_times(False)
    kind = _type_in(target, item.kind)
    h5py.h5d.create(target.id, name, kind, item.id.get_space(), creation)
    cached = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    if item.chunks is not None:
        chunk_bytes = size_of(item.chunks) * kind.get_size()
        cached.set_chunk_cache(521, min(max(chunk_bytes, 1 << 20), MOST_CACHE_BYTES), 0.75)
    made = Dataset(h5py.h5d.open(target.id, name, cached))
    if not kind.detect_class(h5py.h5t.REFERENCE):
        path = h5py.h5i.get_name(item.id)
        origin = Dataset(h5py.h5d.open(item.file.id, path, cached))
        for region in _stored(origin):
            write_cells(made, region, read_cells(origin, region))
    return made


def _type_in(target: Any, kind: Any) -> Any:
    """A type for the file of an object: its own committed one of the same name if it is there already."""
    if not kind.committed():
        return kind
    file, path = target.file, h5py.h5i.get_name(kind)
    if path and path in file and isinstance(file[path], h5py.Datatype) and file[path].id.equal(kind):
        return file[path].id
    # Of the copy of a committed type, only what it says is left.
    return kind.copy()


def _stored(dataset: Dataset) -> Iterator[Region]:
    """Regions that cover what was written, each of few elements; what was not is left unwritten."""
    creation = dataset.creation
    layout = creation.get_layout()
    if not dataset.size or layout == h5py.h5d.VIRTUAL or creation.get_external_count():
        return
    if layout == h5py.h5d.CHUNKED:
        corners: list[tuple[int, ...]] = []
        dataset.id.chunk_iter(lambda chunk: corners.append(chunk.chunk_offset))
    elif dataset.id.get_space_status() == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED:
        return
    else:
        corners = [(0,) * dataset.ndim]
    extent = dataset.chunks or dataset.shape
    for corner in corners:
        # A dataset made smaller has chunks left over, behind its end.
        ends = [min(n, a + c) for n, a, c in zip(dataset.shape, corner, extent, strict=True)]
        shape = tuple(max(0, end - a) for end, a in zip(ends, corner, strict=True))
        for box in boxes_of(shape, MOST_ELEMENTS):
            yield tuple(slice(a + s.start, a + s.stop) for a, s in zip(corner, box, strict=True))


def read_cells(dataset: Dataset, region: Region) -> Array:
    """Elements as they are in the file, as bytes; as Python's objects where they lie in the heap."""
    dtype, memory_type = _in_memory(dataset.id, dataset.kind)
    cells = np.zeros(shape_of(region), dtype)
    dataset.id.read(*_spaces(dataset, region), cells, mtype=memory_type)
    return cells


def write_cells(dataset: Dataset, region: Region, cells: Array) -> None:
    """Write elements that `read_cells` read from a dataset of the same type."""
    dataset.id.write(*_spaces(dataset, region), cells, mtype=_in_memory(dataset.id, dataset.kind)[1])


def _in_memory(holder: Any, kind: Any) -> tuple[np.dtype[Any], Any]:
    """How elements of a dataset or an attribute are held: dtype, and what HDF5 calls it."""
    if lies_in_heap(kind) or kind.detect_class(h5py.h5t.REFERENCE):
        return holder.dtype, h5py.h5t.py_create(holder.dtype)
    return np.dtype((np.void, kind.get_size())), kind


def _spaces(dataset: Dataset, region: Region) -> tuple[Any, Any]:
    stored = dataset.id.get_space()
    if not region:
        return h5py.h5s.create(h5py.h5s.SCALAR), stored
    stored.select_hyperslab(tuple(s.start for s in region), shape_of(region))
    return h5py.h5s.create_simple(shape_of(region)), stored


def copy_attribute(attribute: Any, target: Any, name: bytes) -> None:
    """Make an attribute of the same type, shape and value; it holds no references."""
    own = attribute.get_type()
    made = h5py.h5a.create(target.id, name, _type_in(target, own), attribute.get_space())
    values = read_attribute(attribute)
    if values is not None:
        made.write(values, mtype=_in_memory(attribute, own)[1])


def read_attribute(attribute: Any) -> Array | None:
    """An attribute's values, as `read_cells` reads elements; None where it has none."""
    if attribute.get_space().get_simple_extent_type() == h5py.h5s.NULL:
        return None
    dtype, memory_type = _in_memory(attribute, attribute.get_type())
    values = np.zeros(attribute.shape, dtype)
    attribute.read(values, mtype=memory_type)
    return values
