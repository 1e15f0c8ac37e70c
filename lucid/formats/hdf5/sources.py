"""Whether the files are there in which a dataset keeps its elements, and hold as much as it shows of them.

The library hands out the fill value, mostly zeros, for what it does not find: made-up numbers. So what is
missing is an error, or a line where the fill value is NaN and shows. A series (`%b`) ends with its last file.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from lucid.errors import DatasetError
from lucid.formats.choosing import name_list
from lucid.formats.hdf5.elsewhere import ITSELF, is_unlimited, is_virtual, sources_of
from lucid.formats.hdf5.tree import HDF5_ERRORS, Dataset, decoded, opened
from lucid.formats.regions import size_of

#: Virtual datasets of virtual datasets are followed so far.
MOST_LEVELS = 8
#: Files of a series that are looked for.
MOST_FILES = 100_000

#: What is missing, and whether the library shows the fill value for it, where it does not fail.
Missing: TypeAlias = tuple[str, bool]


def check_sources(name: str, dataset: Dataset) -> str | None:
    """A line about what is missing of a dataset whose elements are in other files, if that shows as NaN.

    Raises
    ------
    DatasetError
        Something is missing, and would read as a number.

    """
    missing = dict(_missing(dataset, 0))
    if not missing:
        return None
    what = f"dataset {name} shows {name_list(list(missing))}"
    if not all(missing.values()):
        raise DatasetError(what)
    if dataset.dtype.kind == "f" and np.isnan(dataset.fillvalue):
        return f"{what}; its cells are NaN"
    raise DatasetError(f"{what}; its cells would read as {dataset.fillvalue}")


def _missing(dataset: Dataset, level: int) -> Iterator[Missing]:
    """What of a dataset's sources is not there, and why."""
    if dataset.creation.get_external_count():
        yield from _missing_bytes(dataset)
    if not is_virtual(dataset.creation) or level > MOST_LEVELS:
        return
    by_file: dict[bytes, list[tuple[bytes, Any, Any]]] = {}
    for region, file, path, there in sources_of(dataset.creation):
        for own_file, own_path in _series(dataset, region, file, path):
            by_file.setdefault(own_file, []).append((own_path, region, there))
    folder = Path(os.path.realpath(dataset.file.filename)).parent
    for file, mappings in by_file.items():
        name = os.fsdecode(file)
        # The library looks for it beside the one that names it, and in the current folder.
        places = (Path(dataset.file.filename),) if file == ITSELF else (folder / name, Path(name))
        place = next(filter(Path.is_file, places), None)
        if place is None:
            yield f"{name}, which is not there", True
            continue
        try:
            with h5py.File(place, "r") as other:
                for path, region, there in mappings:
                    yield from _missing_of(other, name, path, region, there, level)
        except OSError:
            yield f"{name}, which cannot be opened", False


def _missing_of(
    file: h5py.File, name: str, path: bytes, region: Any, there: Any, level: int
) -> Iterator[Missing]:
    """What one mapping shows that is not there."""
    shown = f"{decoded(path)} in {name}"
    try:
        source = opened(file, path)
    except HDF5_ERRORS:
        yield f"{shown}, which is not there", True
        return
    if not isinstance(source, Dataset):
        yield f"{shown}, which is no dataset", False
        return
    if there.get_select_type() == h5py.h5s.SEL_ALL:
        is_short = not is_unlimited(region) and region.get_select_npoints() > size_of(source.shape)
    else:
        # Of a selection without end, the library shows what there is.
        ends = () if is_unlimited(there) else there.get_select_bounds()[1]
        is_short = any(end >= n for end, n in zip(ends, source.shape, strict=False))
    if is_short:
        yield f"more of {shown} than it holds, {source.shape}", False
    yield from _missing(source, level + 1)


def _missing_bytes(dataset: Dataset) -> Iterator[Missing]:
    """Files of external storage that are not there, or too short: of the latter the library reads zeros."""
    left = dataset.size * dataset.kind.get_size()
    for i in range(dataset.creation.get_external_count()):
        file, offset, size = dataset.creation.get_external(i)
        path = Path(os.fsdecode(file))
        held = min(left, size)
        left -= held
        if not path.is_file():
            yield f"{path}, which is not there", False
        elif path.stat().st_size < offset + held:
            have = path.stat().st_size
            yield f"{path}, which has {have} of {offset + held} bytes", False


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
