"""Objects of an HDF5 file made again in another one, where the library's own copy would be wrong.

`H5Ocopy` takes some addresses of the source along: those of fill values that live in the file's heap, as
strings and sequences of any length do. A dataset that has one is made anew, with all its
properties, and its elements are copied; likewise one of a named type, of which the library's copy would
lose the name, and one that names other files, for these must be found from the copy's folder. The
creation properties of a group hold addresses, too.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import h5py

from lucid.formats.hdf5.cells import read_cells, write_cells
from lucid.formats.hdf5.dataset import Dataset, has_references, lies_in_heap
from lucid.formats.hdf5.elsewhere import Elsewhere
from lucid.formats.hdf5.filters import filters_of, load_filter
from lucid.formats.regions import Region, regions_of, shift

#: Copied at once: elements, where each may point to some bytes in the heap; bytes, of all others.
MOST_ELEMENTS, MOST_BYTES = 1 << 14, 1 << 24

#: Creation properties of a dataset that is made anew, and the regions whose elements are copied.
Properties: TypeAlias = tuple[Any, Iterable[Region]]


def make_group(group: h5py.Group, target: h5py.File, name: bytes) -> h5py.Group:
    """A group without members: with the orders that are kept, and none of the source's addresses."""
    source_creation = group.id.get_create_plist()
    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    creation.set_obj_track_times(False)
    creation.set_link_creation_order(source_creation.get_link_creation_order())
    creation.set_attr_creation_order(source_creation.get_attr_creation_order())
    creation.set_attr_phase_change(*source_creation.get_attr_phase_change())
    return h5py.Group(h5py.h5g.create(target.id, name, gcpl=creation))


def properties_of_copy(dataset: Dataset, elsewhere: Elsewhere, *, is_changed: bool) -> Properties | None:
    """How a dataset is made anew; None where the library's own copy is right.

    Where attributes are added to the library's copy, it `is_changed`, and may say when that was.
    """
    elsewhere_properties = elsewhere.properties(dataset) if dataset.is_elsewhere else None
    if elsewhere_properties is not None:
        return elsewhere_properties, ()
    is_dated = is_changed and dataset.creation.get_obj_track_times()
    if not (dataset.has_fill_in_heap or dataset.h5_type.committed() or is_dated):
        return None
    filters = filters_of(dataset.creation)
    # Elements have to stay as they are when they are decoded and encoded again.
    if not all(load_filter(filter_.code) and filter_.fault is None for filter_ in filters):
        return None
    creation = _dateless_properties(dataset)
    if filters:
        # Most filters add to their parameters when a dataset is made.
        creation.remove_filter(h5py.h5z.FILTER_ALL)
        for filter_ in filters:
            creation.set_filter(*filter_.for_chunks(dataset.chunks))
    return creation, _written_regions(dataset)


def properties_written_out(dataset: Dataset) -> Properties:
    """How a virtual dataset is made anew with elements of its own."""
    creation = _dateless_properties(dataset)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    if dataset.maxshape != dataset.shape:
        creation.set_chunk(tuple(max(1, min(n, 64)) for n in dataset.shape))
    return creation, regions_of(dataset.shape, MOST_ELEMENTS)


def _dateless_properties(dataset: Dataset) -> Any:
    """The creation properties of a dataset, whose fill value the library converts from one file to the other."""
    creation = dataset.id.get_create_plist()
    creation.set_obj_track_times(False)
    return creation


def make_dataset(
    dataset: Dataset, h5_type: Any, creation: Any, regions: Iterable[Region], target: h5py.File, name: bytes
) -> Dataset:
    """A dataset made anew, with the elements of some regions; its references are still to be written."""
    copy = Dataset(h5py.h5d.create(target.id, name, h5_type, dataset.id.get_space(), creation))
    for region in regions if not has_references(h5_type) else ():
        write_cells(copy, region, read_cells(dataset, region))
    return copy


def _written_regions(dataset: Dataset) -> Iterator[Region]:
    """Regions that cover what was written, each of few elements; what was not is left unwritten."""
    if not dataset.size:
        return
    if dataset.chunks is not None:
        corners: list[tuple[int, ...]] = []
        dataset.id.chunk_iter(lambda chunk: corners.append(chunk.chunk_offset))
    elif dataset.is_unwritten:
        return
    else:
        corners = [(0,) * dataset.ndim]
    lengths = dataset.chunks or dataset.shape
    in_heap = lies_in_heap(dataset.h5_type)
    most = MOST_ELEMENTS if in_heap else max(1, MOST_BYTES // dataset.h5_type.get_size())
    for corner in corners:
        # A dataset made smaller has chunks left over, behind its end.
        ends = [min(n, a + c) for n, a, c in zip(dataset.shape, corner, lengths, strict=True)]
        shape = tuple(max(0, end - a) for end, a in zip(ends, corner, strict=True))
        for region in regions_of(shape, most):
            yield shift(region, corner)
