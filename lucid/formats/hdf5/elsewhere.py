"""Other files that an HDF5 file names: external links, external storage, sources of virtual datasets.

The library looks for a relative name beside the file that has it. An output in another folder therefore gets
other names for the same files. For what it does not find, the library hands out the fill value, mostly zeros:
made-up numbers. So what is missing is an error, or a line where the fill value is NaN and shows. A series (`%b`)
ends with its last file.
"""

import os
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from lucid.errors import DatasetError
from lucid.formats.choosing import is_left_out, name_list
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.regions import size_of

#: The name of a file for itself.
ITSELF = b"."
#: Virtual datasets of virtual datasets are followed so far.
MOST_LEVELS = 8
#: Files of a series that are looked for.
MOST_FILES = 100_000

#: What is missing, and whether the library shows the fill value for it, where it does not fail.
MissingSource: TypeAlias = tuple[str, bool]


class Elsewhere:
    """Names of other files, as a file in another folder has to say them."""

    def __init__(self, source: Path, target: Path) -> None:
        self._from, self._to = Path(os.path.realpath(source)).parent, Path(os.path.realpath(target)).parent
        #: Whether names stay: a stream was spooled to a file without a name, and nobody knows its folder.
        self.keeps_names = self._from == self._to or not source.exists()

    def link_name(self, name: bytes) -> bytes:
        """A file's name; relative ones lead there from the other folder, too."""
        path = os.fsdecode(name)
        if self.keeps_names or Path(path).is_absolute() or name in (ITSELF, b""):
            return name
        return os.fsencode(os.path.relpath(self._from / path, self._to))

    def storage_name(self, name: bytes) -> bytes:
        """A file of external storage, which the library looks for in the current folder whatever that is."""
        path = Path(os.fsdecode(name))
        places = () if path.is_absolute() else (self._from / path, path)
        return next((os.fsencode(place.resolve()) for place in places if place.exists()), name)


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


def copy_mappings(creation: Any, elsewhere: Elsewhere) -> None:
    """Make the properties of a virtual dataset name the same cells of the same files."""
    mappings = list(sources_of(creation))
    creation.set_layout(h5py.h5d.CONTIGUOUS)  # forgets the mappings
    for region, file, dataset, source_space in mappings:
        if source_space.get_select_type() == h5py.h5s.SEL_ALL:
            # Of a dataset that is shown whole, the file does not say the shape; of a region without end, one block.
            if is_unlimited(region):
                _, _, counts, blocks = region.get_regular_hyperslab()
                count = size_of([n for n in (*counts, *blocks) if n != h5py.h5s.UNLIMITED])
            else:
                count = region.get_select_npoints()
            source_space = h5py.h5s.create_simple((count,))
        creation.set_virtual(region, elsewhere.link_name(file), dataset, source_space)


def external_properties(dataset: Dataset, elsewhere: Elsewhere) -> Any:
    """Properties of a dataset whose elements lie in the same files."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_obj_track_times(False)
    creation.set_fill_time(dataset.creation.get_fill_time())
    creation.set_attr_creation_order(dataset.creation.get_attr_creation_order())
    if dataset.has_own_fill:
        creation.set_fill_value(np.asarray(dataset.fillvalue))
    for i in range(dataset.creation.get_external_count()):
        file, offset, size = dataset.creation.get_external(i)
        creation.set_external(elsewhere.storage_name(file), offset, size)
    return creation


def check_sources(name: str, dataset: Dataset) -> str | None:
    """A line about what is missing of a dataset in other files, if that shows as NaN; a DatasetError if as numbers."""
    missing_sources = dict(_missing_sources(dataset, 0))
    if not missing_sources:
        return None
    fault = f"dataset {name} shows {name_list(list(missing_sources))}"
    if not all(missing_sources.values()):
        raise DatasetError(fault)
    if dataset.dtype.kind == "f" and np.isnan(dataset.fillvalue):
        return f"{fault}; its cells are NaN"
    raise DatasetError(f"{fault}; its cells would read as {dataset.fillvalue}")


def _missing_sources(dataset: Dataset, level: int) -> Iterator[MissingSource]:
    """What of a dataset's sources is not there, and why."""
    yield from _missing_bytes(dataset)
    if not dataset.is_virtual or level > MOST_LEVELS:
        return
    by_file: dict[bytes, list[tuple[bytes, Any, Any]]] = {}
    for region, file, path, source_space in sources_of(dataset.creation):
        for own_file, own_path in _series(dataset, region, file, path):
            by_file.setdefault(own_file, []).append((own_path, region, source_space))
    holder = Path(dataset.file.filename)
    for file, mappings in by_file.items():
        name = os.fsdecode(file)
        # The library looks for it beside the one that names it, and in the current folder.
        places = (holder,) if file == ITSELF else (Path(os.path.realpath(holder)).parent / name, Path(name))
        place = next(filter(Path.is_file, places), None)
        if place is None:
            yield f"{name}, which is not there", True
            continue
        try:
            with h5py.File(place, "r") as other:
                for path, region, source_space in mappings:
                    yield from _missing_of(other, name, path, region, source_space, level)
        except OSError:
            yield f"{name}, which cannot be opened", False


def _missing_of(
    file: h5py.File, name: str, path: bytes, region: Any, source_space: Any, level: int
) -> Iterator[MissingSource]:
    """What one mapping shows that is not there."""
    label = f"{tree.name_text(path)} in {name}"
    try:
        source = tree.object_at(file, tree.name_text(path))
    except tree.HDF5_ERRORS:
        yield f"{label}, which is not there", True
        return
    if not isinstance(source, Dataset):
        yield f"{label}, which is no dataset", False
        return
    if source_space.get_select_type() == h5py.h5s.SEL_ALL:
        is_short = not is_unlimited(region) and region.get_select_npoints() > size_of(source.shape)
    else:
        # Of a selection without end, the library shows what there is.
        ends = () if is_unlimited(source_space) else source_space.get_select_bounds()[1]
        is_short = any(end >= n for end, n in zip(ends, source.shape, strict=False))
    if is_short:
        yield f"more of {label} than it holds, {source.shape}", False
    yield from _missing_sources(source, level + 1)


def _missing_bytes(dataset: Dataset) -> Iterator[MissingSource]:
    """Files of external storage that are not there, or too short: of the latter the library reads zeros."""
    rest = (dataset.size or 0) * dataset.h5_type.get_size()
    for i in range(dataset.creation.get_external_count()):
        file, offset, size = dataset.creation.get_external(i)
        path = Path(os.fsdecode(file))
        end = offset + min(rest, size)
        rest -= min(rest, size)
        if not path.is_file():
            yield f"{path}, which is not there", False
        elif (size_bytes := path.stat().st_size) < end:
            yield f"{path}, which has {size_bytes} of {end} bytes", False


def _series(dataset: Dataset, region: Any, file: bytes, path: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The files and datasets of a mapping: one, or as many as fit the shape where its name has a number."""
    if b"%b" not in file and b"%b" not in path:
        yield file, path
        return
    start, stride, count, block = region.get_regular_hyperslab()
    for axis, n in enumerate(count):
        if n == h5py.h5s.UNLIMITED:
            length = dataset.shape[axis] - start[axis] - block[axis]
            for k in range(min(length // stride[axis] + 1, MOST_FILES)):
                number = str(k).encode()
                yield file.replace(b"%b", number), path.replace(b"%b", number)
