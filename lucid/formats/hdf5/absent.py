"""What is missing of the other files in which the elements of a dataset are: external storage, sources of virtual ones.

For what it does not find, the library hands out the fill value, mostly zeros: made-up numbers. So what is missing is
an error, or a line where the fill value is NaN and shows. A series (`%b`) ends with its last file.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from lucid.errors import DatasetError
from lucid.formats.choosing import name_list
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.hdf5.elsewhere import ITSELF, is_unlimited, sources_of
from lucid.formats.regions import size_of

#: Virtual datasets of virtual datasets are followed so far.
MOST_LEVELS = 8
#: Files of a series that are looked for.
MOST_FILES = 100_000

#: What is missing, and whether the library shows the fill value for it, where it does not fail.
MissingSource: TypeAlias = tuple[str, bool]


def notes_on_sources(name: str, dataset: Dataset) -> list[str]:
    """A line about what is missing of a dataset in other files, if that shows as NaN; a DatasetError if as numbers."""
    missing_sources = dict(_missing_sources(dataset, 0))
    if not missing_sources:
        return []
    fault = f"dataset {name} shows {name_list(list(missing_sources))}"
    if not all(missing_sources.values()):
        raise DatasetError(fault)
    if dataset.dtype.kind == "f" and np.isnan(dataset.fillvalue):
        return [f"{fault}; its cells are NaN"]
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
    holder = Path(os.path.realpath(dataset.file.filename))
    for file, mappings in by_file.items():
        name = os.fsdecode(file)
        # The library looks for it beside the one that names it, and in the current folder.
        candidates = (holder,) if file == ITSELF else (holder.parent / name, Path(name))
        file_path = next(filter(Path.is_file, candidates), None)
        if file_path is None:
            yield f"{name}, which is not there", True
            continue
        try:
            with h5py.File(file_path, "r") as other:
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
