"""Other files that an HDF5 file names: external links, external storage, sources of virtual datasets.

The library looks for a relative name beside the file that has it. An output in another folder therefore gets
other names for the same files.
"""

import os
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lucid.formats.hdf5.tree import Dataset, absolute, decoded, encoded
from lucid.formats.regions import size_of

#: The name of a file for itself.
ITSELF = b"."


class Elsewhere:
    """Names of other files, as a file in another folder has to say them."""

    def __init__(self, source: Path, target: Path) -> None:
        self._from, self._to = Path(os.path.realpath(source)).parent, Path(os.path.realpath(target)).parent
        #: A stream was spooled to a file that has no name any more, and nobody knows its folder.
        self.is_known = source.exists()
        self.is_same = self._from == self._to

    def moved(self, name: bytes) -> bytes:
        """A file's name; relative ones lead there from the other folder, too."""
        path = os.fsdecode(name)
        if self.is_same or not self.is_known or Path(path).is_absolute() or name == ITSELF or not path:
            return name
        return os.fsencode(os.path.relpath(self._from / path, self._to))

    def stored(self, name: bytes) -> bytes:
        """A file of external storage, which the library looks for in the current folder whatever that is."""
        path = Path(os.fsdecode(name))
        places = () if self.is_same or not self.is_known or path.is_absolute() else (self._from / path, path)
        return next((os.fsencode(place.resolve()) for place in places if place.exists()), name)


def sources_of(creation: Any) -> Iterator[tuple[Any, bytes, bytes, Any]]:
    """The mappings of a virtual dataset: region of it, file, dataset, region of that."""
    for i in range(creation.get_virtual_count()):
        yield (
            creation.get_virtual_vspace(i),
            os.fsencode(creation.get_virtual_filename(i)),
            encoded(creation.get_virtual_dsetname(i)),
            creation.get_virtual_srcspace(i),
        )


def is_unlimited(space: Any) -> bool:
    """Whether a selection has no end."""
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return False
    _, _, count, block = space.get_regular_hyperslab()
    return h5py.h5s.UNLIMITED in (*count, *block)


def _elements_of(region: Any) -> int:
    """Elements of a region; of one without end, those of one of its blocks."""
    if not is_unlimited(region):
        return int(region.get_select_npoints())
    _, _, count, block = region.get_regular_hyperslab()
    return size_of([n for n in (*count, *block) if n != h5py.h5s.UNLIMITED])


def is_virtual(creation: Any) -> bool:
    """Whether elements are those of other datasets."""
    return bool(creation.get_layout() == h5py.h5d.VIRTUAL)


def lies_elsewhere(creation: Any) -> bool:
    """Whether elements are those of other datasets, or lie in other files."""
    return is_virtual(creation) or bool(creation.get_external_count())


def shows_one_of(item: Dataset, pooled: Container[str]) -> bool:
    """Whether a dataset is virtual and shows cells of one of its own file that is pooled."""
    # What has a place in the file is not virtual.
    if item.id.get_offset() is not None or not is_virtual(item.creation):
        return False
    sources = sources_of(item.creation)
    return any(file == ITSELF and absolute("/", decoded(path)) in pooled for _, file, path, _ in sources)


def lead_to_sources(creation: Any, where: Elsewhere) -> None:
    """Make the properties of a virtual dataset name the same cells of the same files."""
    mappings = list(sources_of(creation))
    creation.set_layout(h5py.h5d.CONTIGUOUS)  # forgets the mappings
    for region, file, dataset, there in mappings:
        if there.get_select_type() == h5py.h5s.SEL_ALL:
            # Of a dataset that is shown whole, the file does not say the shape.
            there = h5py.h5s.create_simple((_elements_of(region),))
        creation.set_virtual(region, where.moved(file), dataset, there)


def stored_outside(item: Dataset, where: Elsewhere) -> Any:
    """Properties of a dataset whose elements lie in the same files."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_fill_time(item.creation.get_fill_time())
    creation.set_attr_creation_order(item.creation.get_attr_creation_order())
    if item.creation.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED:
        creation.set_fill_value(np.asarray(item.fillvalue))
    for i in range(item.creation.get_external_count()):
        file, offset, size = item.creation.get_external(i)
        creation.set_external(where.stored(file), offset, size)
    return creation
