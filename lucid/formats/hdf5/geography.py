"""Dimensions and coordinates of HDF5 files: dimension scales, as netCDF uses them.

A dataset names the scales of its axes in `DIMENSION_LIST`, and each scale its users in `REFERENCE_LIST`. Which of
them results have is said in `lucid.formats.geography`; here they are read and written.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import h5py
import numpy as np

from lucid.formats.arrays import Array, Pooled
from lucid.formats.geography import Dimension, Geography, Paths, Variable
from lucid.formats.grid import BOUNDS, GRID_MAPPING, TRANSFORM, base_of
from lucid.formats.hdf5.attributes import (
    copy_attributes,
    remove,
    write_references,
    write_values,
)
from lucid.formats.hdf5.meaning import OF_RESULTS, SCALES, attributes_of, scales_of
from lucid.formats.hdf5.references import References
from lucid.formats.hdf5.tree import (
    EXTERNAL,
    HDF5_ERRORS,
    Dataset,
    absolute,
    encoded,
    identity,
    opened,
    path_of,
)
from lucid.formats.hdf5.types import numbers_of
from lucid.formats.result import Changes
from lucid.formats.values import numbers_in, text_of

USERS = "REFERENCE_LIST"
#: What netCDF notes of the dimensions of a variable; of a pooled one it would be wrong.
NUMBER = "_Netcdf4Dimid"
DIMENSIONS = (SCALES, USERS, "_Netcdf4Coordinates", NUMBER)
#: What makes a dataset a scale, which is written anew.
_OF_SCALES = ("CLASS", "NAME", *DIMENSIONS)
#: How netCDF names the scale of a dimension that has a length and no coordinates.
NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable."
#: What is read of a variable.
_READ = (*OF_RESULTS, *BOUNDS, GRID_MAPPING, TRANSFORM, "units", "standard_name")
_USER = np.dtype([("dataset", h5py.ref_dtype), ("dimension", np.int32)])
_SCALES_OF_AXES = h5py.vlen_dtype(h5py.ref_dtype)


class Scales(Geography):
    """The dimension scales of an output, each known by its address, and what lies along them."""

    def __init__(self, references: References) -> None:
        super().__init__()
        self._references, self._copies = references, references.copies
        self._source, self._target = references.source, references.target
        #: Users of scales that are written anew: (dataset, axis), by path of the scale.
        self._users: dict[str, list[tuple[str, int]]] = {}
        #: The last of netCDF's numbers that is in use; below 0 where the file has none.
        self._last_number = -1
        #: Paths of scales without one.
        self._unnumbered: list[str] = []

    def concerns(self, item: Dataset) -> bool:
        """Whether a dataset says where its cells are."""
        return any(h5py.h5a.exists(item.id, name.encode()) for name in (SCALES, GRID_MAPPING, TRANSFORM))

    def is_its(self, name: bytes) -> bool:
        """Whether an attribute is written here."""
        return name == USERS.encode()

    def note(self, path: str, item: Any) -> None:
        """Note the number of a dimension that is carried over."""
        # The library's own question fails where another convention has a `CLASS`.
        found = attributes_of(item, ("CLASS", NUMBER)) if isinstance(item, Dataset) else {}
        if text_of(found.get("CLASS")) != "DIMENSION_SCALE":
            return
        numbers = numbers_in(found.get(NUMBER))
        if numbers:
            self._last_number = max(self._last_number, int(numbers[0]))
        else:
            self._unnumbered.append(path)

    def take_over(self, origin: Dataset, copy: Dataset) -> None:
        """Note who uses a scale that is carried over; what is pooled says so itself."""
        users = self._users.setdefault(path_of(copy), [])
        with suppress(*HDF5_ERRORS, IndexError):  # it is no list of references and axes
            for reference, axis in [(entry[0], int(entry[1])) for entry in origin.attrs[USERS]]:
                own = self._references.identity(reference)
                if own is not None and own not in self._references.means:
                    users += [(path, axis) for path in self._copies(own)[:1]]
        remove(copy, USERS.encode())

    def keep_length(self, path: str, dropped: Any) -> None:
        """Make a dimension without coordinates for a scale that is dropped, if anything that stays lies along it.

        netCDF cannot read a variable of which one axis has a dimension and another has none.
        """
        users = attributes_of(dropped, (USERS,)).get(USERS, ()) if isinstance(dropped, Dataset) else ()
        with suppress(*HDF5_ERRORS, IndexError):  # it is no list of references and axes
            if not any(self._copies(self._references.identity(entry[0]) or -1) for entry in users):
                return
            (length,), (limit,) = dropped.shape, dropped.maxshape
            copy = self._declared(path, length, limit)
            self._references.paths[identity(dropped)] = path
            for number in numbers_in(attributes_of(dropped, (NUMBER,)).get(NUMBER))[:1]:
                write_values(copy, NUMBER.encode(), np.int32(number))
            self.note(path, dropped)
            self.take_over(dropped, copy)

    def attach(self, origin: Dataset, copy: Dataset, pooled: Pooled) -> Changes:
        """Give a pooled dataset its scales; the attributes that differ for it."""
        changes: Changes = dict.fromkeys(DIMENSIONS)
        if pooled.flat:
            return changes | {"DIMENSION_LABELS": None}
        dims, others = self.place(self._variable(path_of(origin), origin), pooled)
        self._attach(copy, dims)
        return changes | others

    def variable(self, path: str) -> Variable | None:
        with suppress(*HDF5_ERRORS):
            if self._source.id.links.get_info(encoded(absolute("/", path))).type != EXTERNAL:
                item = opened(self._source, absolute("/", path))
                if isinstance(item, Dataset) and item.shape is not None:
                    return self._variable(path_of(item), item)
        return None

    def _variable(self, path: str, item: Dataset) -> Variable:
        kind = numbers_of(item, None)
        return Variable(
            path=path,
            shape=item.shape,
            dims=[[self._dimension_of(scale) for scale in scales] for scales in scales_of(item)],
            attributes=attributes_of(item, _READ),
            numbers=kind[0] if kind is not None else None,
            read=lambda: item[()] if kind is None else np.asarray(item[()], kind[1].newbyteorder("=")),
            item=item,
        )

    def _dimension_of(self, scale: Dataset) -> Dimension:
        own, path = identity(scale), path_of(scale)
        kept = next(iter(self._copies(own)), None)
        return Dimension(own, path, kept, lambda: None if _is_bare(scale) else self._variable(path, scale))

    def means_of(self, variable: Variable) -> Mapping[str, tuple[int, ...]] | None:
        several = self._references.means.get(identity(variable.item))
        return None if several is None else {pooled.name: pooled.stored_shape for pooled in several}

    def holds(self, path: str, shape: tuple[int, ...], values: Array | None) -> bool | None:
        if encoded(path) not in self._target:
            return None
        there = opened(self._target, path)
        if not isinstance(there, Dataset) or there.shape != shape:
            return False
        if values is None:
            return _is_bare(there)
        is_float = there.dtype.kind == "f"
        return bool(there.dtype == values.dtype and np.array_equal(there[()], values, equal_nan=is_float))

    def declare(self, path: str, length: int) -> None:
        self._declared(path, length, length)
        self._unnumbered.append(path)

    def _declared(self, path: str, length: int, limit: int | None) -> Any:
        limits = None if length == limit else (limit,)
        new = self._target.create_dataset(encoded(path), (length,), ">f4", maxshape=limits)
        h5py.h5ds.set_scale(new.id, encoded(f"{NO_VARIABLE}{length:10d}"))
        return opened(self._target, path)

    def make(self, path: str, origin: Variable, values: Array, dims: Paths, changes: Changes) -> None:
        new = self._target.create_dataset(encoded(path), data=values)
        if dims == [[path]]:
            h5py.h5ds.set_scale(new.id, encoded(base_of(path)))
            self._unnumbered.append(path)
        else:
            self._attach(new, dims)
        for left in copy_attributes(origin.item, new, dict.fromkeys(_OF_SCALES) | changes):
            write_references(origin.item, new, left, self._references)

    def _attach(self, dataset: Any, scales: Paths) -> None:
        """Name the scales of the axes of a dataset, and the dataset as a user of them."""
        if not any(scales):
            return
        lists = np.empty(len(scales), _SCALES_OF_AXES)
        for axis, paths in enumerate(scales):
            lists[axis] = np.array([self._references.to(path) for path in paths], h5py.ref_dtype)
            for path in paths:
                self._users.setdefault(path, []).append((path_of(dataset), axis))
        write_values(dataset, SCALES.encode(), lists, _SCALES_OF_AXES)

    def finish(self) -> None:
        """Name the users of all scales; number those that have no number in a file where others have one.

        To them, netCDF would give the numbers of others, and take one dimension for another.
        """
        for number, path in enumerate(self._unnumbered, self._last_number + 1):
            if self._last_number >= 0:
                write_values(opened(self._target, path), NUMBER.encode(), np.int32(number))
        for path, users in self._users.items():
            if users:
                entries = np.array([(self._references.to(user), axis) for user, axis in users], _USER)
                write_values(opened(self._target, path), USERS.encode(), entries, _USER)


def _is_bare(scale: Dataset) -> bool:
    """Whether a scale holds no coordinates."""
    return text_of(attributes_of(scale, ("NAME",)).get("NAME")).startswith(NO_VARIABLE)
