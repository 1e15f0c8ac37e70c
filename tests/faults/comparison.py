"""What an output should be: the means of what the input's own library reads."""

import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import h5py
import numpy as np
from specimens import ARRAY

from lucid.nn.functional import adaptive_avg_pool2d

#: Numbers of HDF5's filters. Those of others, and Blosc in Zarr, leave parts of what they make of a broken chunk as they lay in
#: memory, other ones each time; so they are compared where nothing was changed.
SHUFFLE, LZF = 2, 32000
OWN_FILTERS = {1, SHUFFLE, 3, 4, LZF}


def disagreement(source: Path, target: Path, size: int, is_mutated: bool) -> str:
    """In what an output is not the means of what the format's own library reads; empty if it is."""
    try:
        for name, x, y in pairs(source, target, is_mutated):
            expected = adaptive_avg_pool2d(np.asarray(x), size)
            if expected.dtype != y.dtype or not np.array_equal(expected, y, equal_nan=True):
                return f"{name} has other means than the numbers that its library reads"
    except zipfile.BadZipFile:
        return ""  # regions of stored members are read in any order, so their checksums are not held against them
    except Exception as error:
        return f"its library does not read it: {error!r}"
    return ""


def pairs(source: Path, target: Path, is_mutated: bool) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Arrays of an input, as its library reads them, with those that they were pooled to."""
    if source.suffix == ".npy":
        yield "x", np.load(source), np.load(target)
    elif source.suffix == ".npz":
        with np.load(source) as theirs, np.load(target) as ours:
            for name in {"x", "y"} & {*ours.files}:
                if (
                    ours[name].ndim == 4 and ours[name].shape != theirs[name].shape
                ):  # else it was carried over
                    yield name, theirs[name], ours[name]
    elif source.suffix == ".h5":
        with h5py.File(source) as theirs, h5py.File(target) as ours:
            names: list[str] = []
            ours.visititems(lambda name, node: names.append(name) if "lucid_pool" in node.attrs else None)
            for name in names:
                if not is_mutated or can_be_compared(theirs[name]):
                    yield name, theirs[name][()], ours[name][()]
    elif source.suffix in (".zarr", ".zip"):
        is_blosc = source.is_dir() and any(
            b"blosc" in file.read_bytes() for file in (source / ARRAY).glob("*z*r*")
        )
        if not is_mutated or not is_blosc:
            yield ARRAY, zarr_numbers(source), zarr_numbers(target)


def can_be_compared(dataset: h5py.Dataset) -> bool:
    """Whether the library reads one and the same of a broken dataset, however it is asked."""
    if dataset.chunks is None:
        return True
    properties = dataset.id.get_create_plist()
    filters = {
        number: values
        for number, _, values, _ in map(properties.get_filter, range(properties.get_nfilters()))
    }
    if not {*filters} <= OWN_FILTERS or filters.get(SHUFFLE, (dataset.dtype.itemsize,)) != (
        dataset.dtype.itemsize,
    ):
        return False
    try:  # a broken index has chunks that the library lists, and does not find
        for i in range(dataset.id.get_num_chunks()):
            dataset.id.read_direct_chunk(dataset.id.get_chunk_info(i).chunk_offset)
    except Exception:
        return False
    return True


def zarr_numbers(path: Path) -> np.ndarray:
    """The array of a store."""
    import zarr

    where = ARRAY
    if path.is_file() and not any(name.startswith(ARRAY) for name in zipfile.ZipFile(path).namelist()):
        where = ""  # the names of folders with one thing in them are those of what was packed
    with zarr.storage.ZipStore(path, mode="r") if path.is_file() else nullcontext(path) as store:
        return zarr.open_array(store, path=where, mode="r")[...]
