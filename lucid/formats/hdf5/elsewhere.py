"""Other files that an HDF5 file names, in its copy: external links, external storage, sources of virtual datasets.

The library looks for a relative name beside the file that has it. An output in another folder therefore gets
other names for the same files.
"""

import os
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lucid.formats.choosing import is_left_out
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.regions import size_of

#: The name of a file for itself.
ITSELF = b"."


class Elsewhere:
    """Names of other files, as a file in another folder has to say them."""

    def __init__(self, source: Path, target: Path) -> None:
        self._from, self._to = Path(os.path.realpath(source)).parent, Path(os.path.realpath(target)).parent
        #: Whether names stay: a stream was spooled to a file without a name, and nobody knows its folder.
        self._keeps_names = self._from == self._to or not source.exists()

    def link_name(self, name: bytes) -> bytes:
        """A file's name; relative ones lead there from the other folder, too."""
        path = os.fsdecode(name)
        if self._keeps_names or Path(path).is_absolute() or name in (ITSELF, b""):
            return name
        return os.fsencode(os.path.relpath(self._from / path, self._to))

    def properties(self, dataset: Dataset) -> Any:
        """Creation properties of the copy of a dataset that names other files; None where the library's are right."""
        if dataset.is_virtual:
            return self._virtual_properties(dataset)
        return None if self._keeps_names else self._external_properties(dataset)

    def _virtual_properties(self, dataset: Dataset) -> Any:
        """Those of a virtual dataset that shows the same cells of the same files."""
        creation = dataset.id.get_create_plist()
        creation.set_obj_track_times(False)
        creation.set_layout(h5py.h5d.CONTIGUOUS)  # forgets the mappings
        for region, file, path, source_space in sources_of(dataset.creation):
            if source_space.get_select_type() == h5py.h5s.SEL_ALL:
                # Of a dataset that is shown whole, the file does not say the shape; of a region without end, one block.
                if is_unlimited(region):
                    _, _, counts, blocks = region.get_regular_hyperslab()
                    count = size_of([n for n in (*counts, *blocks) if n != h5py.h5s.UNLIMITED])
                else:
                    count = region.get_select_npoints()
                source_space = h5py.h5s.create_simple((count,))
            creation.set_virtual(region, self.link_name(file), path, source_space)
        return creation

    def _external_properties(self, dataset: Dataset) -> Any:
        """Those of a dataset whose elements lie in the same files."""
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_obj_track_times(False)
        creation.set_fill_time(dataset.creation.get_fill_time())
        creation.set_attr_creation_order(dataset.creation.get_attr_creation_order())
        if dataset.has_own_fill:
            creation.set_fill_value(np.asarray(dataset.fillvalue))
        for i in range(dataset.creation.get_external_count()):
            file, offset, size = dataset.creation.get_external(i)
            creation.set_external(self._storage_name(file), offset, size)
        return creation

    def _storage_name(self, name: bytes) -> bytes:
        """A file of external storage, which the library looks for in the current folder whatever that is."""
        path = Path(os.fsdecode(name))
        candidates = () if path.is_absolute() else (self._from / path, path)
        return next((os.fsencode(path.resolve()) for path in candidates if path.exists()), name)


def sources_of(creation: Any) -> Iterator[tuple[Any, bytes, bytes, Any]]:
    """The mappings of a virtual dataset: region of it, file, dataset, region of that."""
    for i in range(creation.get_virtual_count()):
        yield (
            creation.get_virtual_vspace(i),
            os.fsencode(creation.get_virtual_filename(i)),
            tree.name_bytes(creation.get_virtual_dsetname(i)),
            creation.get_virtual_srcspace(i),
        )


def is_unlimited(space: Any) -> bool:
    """Whether a selection has no end."""
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return False
    _, _, count, block = space.get_regular_hyperslab()
    return h5py.h5s.UNLIMITED in (*count, *block)


def shows_one_of(dataset: Dataset, addresses: Container[tree.Address], drop: Sequence[str]) -> bool:
    """Whether a dataset is virtual and shows cells of its own file that are pooled or dropped, by whatever name."""
    if not dataset.is_virtual:
        return False
    names = {tree.name_text(path) for _, file, path, _ in sources_of(dataset.creation) if file == ITSELF}
    paths = [tree.follow_links(dataset.file, tree.absolute_path("/", name)) for name in names]
    return any(
        tree.address_of(tree.object_at(dataset.file, path)) in addresses or is_left_out(path, drop)
        for path in paths
        if isinstance(path, str)
    )
