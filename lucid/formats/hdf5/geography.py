"""Dimensions and coordinates of HDF5 files: dimension scales, as netCDF uses them.

A dataset names the scales of its axes in `DIMENSION_LIST`, and each scale its users in `REFERENCE_LIST`. Which of
them results have is said in `lucid.formats.geography`; here they are read and written.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import h5py
import numpy as np

from lucid.formats.arrays import Array, ResultSpec
from lucid.formats.choosing import CarriedNames
from lucid.formats.geography import Dimension, Geography, Paths, dims_elsewhere
from lucid.formats.grid import COORDINATES, GRID_MAPPING, TRANSFORM, base_of
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.attributes import copy_attributes, write_attribute
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.hdf5.meaning import SCALES, Variables, attributes_of, scales_of
from lucid.formats.hdf5.references import References
from lucid.formats.result import Changes, own_attributes
from lucid.formats.values import numbers_in, text_of
from lucid.formats.variables import Variable

USERS = "REFERENCE_LIST"
#: What netCDF notes of the dimensions of a variable; of a pooled one it would be wrong.
DIMENSION_NUMBER = "_Netcdf4Dimid"
DIMENSIONS = (SCALES, USERS, "_Netcdf4Coordinates", DIMENSION_NUMBER)
#: What makes a dataset a scale, which is written anew.
_SCALE_ATTRIBUTES = ("CLASS", "NAME", *DIMENSIONS)
#: How netCDF names the scale of a dimension that has a length and no coordinates.
NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable."
_USER_DTYPE = np.dtype([("dataset", h5py.ref_dtype), ("dimension", np.int32)])
_SCALES_OF_AXES = h5py.vlen_dtype(h5py.ref_dtype)


class Scales(Geography):
    """The dimension scales of an output, each known by its address, and what lies along them.

    Without an output, old coordinates are read, and nothing is made.
    """

    def __init__(self, references: References, names: CarriedNames) -> None:
        #: Those of the source.
        self.variables = Variables(references.source)
        super().__init__(self.variables.at, references.means, names)
        self._references, self._path_of_copy = references, references.path_of_copy
        self._target = references.target
        #: Users of scales that are written anew: (dataset, axis), by path of the scale.
        self._users: dict[str, list[tuple[str, int]]] = {}
        #: Scales of the axes of datasets that are written anew, by path; those may name what is made later.
        self._scales: dict[str, Paths] = {}
        #: The last of netCDF's numbers that is in use; below 0 where the file has none.
        self._last_number = -1
        #: Paths of scales without a number.
        self._paths_without_number: list[str] = []

    def has_geography(self, dataset: Dataset) -> bool:
        """Whether a dataset says where its cells are, or may name what is not carried over."""
        names = (SCALES, COORDINATES, GRID_MAPPING, TRANSFORM)
        is_placed = any(h5py.h5a.exists(dataset.id, name.encode()) for name in names)
        return is_placed or self._names.is_alone or bool(self._names.patterns)

    def note(self, path: str, obj: Any) -> None:
        """Note the number of a dimension that is carried over; make what is carried over name what is in the output."""
        if self._target is None or not isinstance(obj, Dataset):
            return
        if self.renames:
            for key, text in self.references_of_carried(self.variables.of(path, obj)).items():
                write_attribute(tree.object_at(self._target, path), key, text)
        # The library's own question fails where another convention has a `CLASS`.
        attributes = attributes_of(obj)
        if text_of(attributes.get("CLASS")) != "DIMENSION_SCALE":
            return
        numbers = numbers_in(attributes.get(DIMENSION_NUMBER))
        if numbers:
            self._last_number = max(self._last_number, int(numbers[0]))
        else:
            self._paths_without_number.append(path)

    def note_users(self, origin: Dataset, path: str) -> None:
        """Note who uses a scale that is carried over to a path; what is pooled says so itself."""
        users = self._users.setdefault(path, [])
        for address, axis in self._users_of(origin):
            if address not in self._references.means:
                user = self._path_of_copy(address)
                if user is not None:
                    users.append((user, axis))

    def _users_of(self, scale: Dataset) -> list[tuple[tree.Address, int]]:
        """The addresses of the users of a scale, each with its axis."""
        with suppress(*tree.HDF5_ERRORS, IndexError):  # it is no list of references and axes
            entries = [(entry[0], int(entry[1])) for entry in scale.attrs[USERS]]
            return [(self._references.address_of(reference), axis) for reference, axis in entries]
        return []

    def keep_length(self, path: str, obj: Any) -> None:
        """Make a dimension without coordinates for a scale that is dropped, if anything that stays lies along it.

        netCDF cannot read a variable of which one axis has a dimension and another has none.
        """
        if self._target is None or not isinstance(obj, Dataset) or len(obj.shape or ()) != 1:
            return
        address = tree.address_of(obj)
        is_there = address in self._references.paths  # under another name
        if is_there or not any(self._path_of_copy(user) for user, _ in self._users_of(obj)):
            return
        create_bare_scale(self._target, path, *obj.shape, *obj.maxshape)
        copy = tree.object_at(self._target, path)
        self._references.paths[address] = path
        for number in numbers_in(attributes_of(obj).get(DIMENSION_NUMBER))[:1]:
            write_attribute(copy, DIMENSION_NUMBER, np.int32(number))
        self.note(path, copy)
        self.note_users(obj, path)

    def attach(self, origin: Dataset, result: ResultSpec) -> Changes:
        """Note which scales a result has; the attributes that differ from those of its source."""
        changes: Changes = dict.fromkeys((*DIMENSIONS, *["DIMENSION_LABELS"] * result.flat))
        dims, others = self.describe(self.variables.of(tree.path_of(origin), origin), result)
        self._attach(result.name, dims)
        return changes | others

    def dimensions(self, variable: Variable) -> list[list[Dimension]]:
        scales = scales_of(variable.handle) if not self._names.is_alone else [[]] * len(variable.shape)
        return [[self._dimension_of(scale) for scale in several] for several in scales]

    def _dimension_of(self, scale: Dataset) -> Dimension:
        address, path = self.variables.address_and_path(scale)
        return Dimension(
            key=address,
            path=path,
            path_in_output=self._path_of_copy(address),
            coordinates=lambda: None if _is_bare(scale) else self.variables.of(path, scale),
        )

    def read(self, variable: Variable) -> Array:
        values: Array = variable.handle[()]
        return values if variable.dtype is None else np.asarray(values, variable.dtype.newbyteorder("="))

    def holds(self, path: str, shape: tuple[int, ...], values: Array | None) -> bool | None:
        if self._target is None or tree.name_bytes(path) not in self._target:
            return None
        dataset = tree.object_at(self._target, path)
        if not isinstance(dataset, Dataset) or dataset.shape != shape:
            return False
        if values is None:
            return _is_bare(dataset)
        is_float = dataset.dtype.kind == "f"
        return bool(dataset.dtype == values.dtype and np.array_equal(dataset[()], values, equal_nan=is_float))

    def declare(self, path: str, length: int) -> None:
        if self._target is not None:
            create_bare_scale(self._target, path, length, length)
        self._paths_without_number.append(path)

    def make(self, path: str, origin: Variable, values: Array, dims: Paths, changes: Changes) -> None:
        dataset, is_scale = None, dims == [[path]]
        if self._target is not None:
            dataset = self._target.create_dataset(tree.name_bytes(path), data=values)
            if is_scale:
                h5py.h5ds.set_scale(dataset.id, tree.name_bytes(base_of(path)))
        if is_scale:
            self._paths_without_number.append(path)
        else:
            self._attach(path, dims)
        changes = dict.fromkeys(_SCALE_ATTRIBUTES) | changes
        copy_attributes(origin.handle, dataset, changes, self._references)

    def _attach(self, user: str, scales: Paths) -> None:
        """Note the scales of the axes of a dataset, and the dataset as a user of them."""
        if any(scales):
            self._scales[user] = scales
        for axis, paths in enumerate(scales):
            for path in paths:
                self._users.setdefault(path, []).append((user, axis))

    def finish(self) -> None:
        """Name the scales of all axes, and the users of all scales; number the scales, if any of them has a number.

        To a scale without a number netCDF would give that of another one, and take one dimension for the other.
        """
        if self._target is None:
            return
        for number, path in enumerate(self._paths_without_number, self._last_number + 1):
            if self._last_number >= 0:
                write_attribute(tree.object_at(self._target, path), DIMENSION_NUMBER, np.int32(number))
        for path, scales in self._scales.items():
            lists = np.empty(len(scales), _SCALES_OF_AXES)
            for axis, paths in enumerate(scales):
                references = [self._references.reference_to(scale) for scale in paths]
                lists[axis] = np.array(references, h5py.ref_dtype)
            write_attribute(tree.object_at(self._target, path), SCALES, lists, dtype=_SCALES_OF_AXES)
        for path, users in self._users.items():
            entries = [(self._references.reference_to(user), axis) for user, axis in users]
            value = np.array(entries, _USER_DTYPE) if users else None
            write_attribute(tree.object_at(self._target, path), USERS, value, dtype=_USER_DTYPE)


def _is_bare(scale: Dataset) -> bool:
    """Whether a scale holds no coordinates."""
    return text_of(attributes_of(scale).get("NAME")).startswith(NO_VARIABLE)


def create_bare_scale(file: h5py.File, path: str, length: int, limit: int | None) -> None:
    """Create the scale of a dimension that has no coordinates, and may grow to a limit."""
    limits = None if limit == length else (limit,)
    scale = file.create_dataset(tree.name_bytes(path), (length,), ">f4", maxshape=limits)
    h5py.h5ds.set_scale(scale.id, tree.name_bytes(f"{NO_VARIABLE}{length:10d}"))


def create_with_scales(
    file: h5py.File, results: Sequence[ResultSpec], make: Callable[[ResultSpec], Dataset]
) -> None:
    """Make results of a source of another format, whose axes are named by scales without coordinates."""
    for result, paths in dims_elsewhere(results):
        dataset = make(result)
        copy_attributes(None, dataset, own_attributes(result))
        for axis, path in enumerate(paths):
            if tree.name_bytes(path) not in file:
                length = dataset.shape[axis]
                create_bare_scale(file, path, length, length)
            h5py.h5ds.attach_scale(dataset.id, tree.object_at(file, path).id, axis)
