"""Dimensions and coordinates of HDF5 files: dimension scales, as netCDF uses them.

A dataset names the scales of its axes in `DIMENSION_LIST`, and each scale its users in `REFERENCE_LIST`. A
pooled axis has another length than its scale, so it gets a new one: one for each scale and length in
a file, the one that is there already where an earlier run made it. Coordinates that a dataset
names and that lie along its pooled axes are pooled with it, and so are the bounds of cells.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import h5py
import numpy as np

from lucid.formats.contract import Array, Pooled
from lucid.formats.grid import (
    BOUNDS,
    COORDINATES,
    bounds_name,
    coarse_bounds,
    coarse_coordinates,
    coarse_name,
    references_of,
    words_of,
)
from lucid.formats.hdf5.attributes import copy_attributes, remove, write_numbers, write_references
from lucid.formats.hdf5.meaning import attributes_of, coordinate_attributes, coordinate_changes
from lucid.formats.hdf5.references import References
from lucid.formats.hdf5.tree import (
    HDF5_ERRORS,
    Dataset,
    Identity,
    absolute,
    encoded,
    identity,
    opened,
    parent_of,
    path_of,
    wrapped,
)
from lucid.formats.hdf5.types import numbers_of
from lucid.formats.result import Changes
from lucid.formats.values import numbers_in, text_of

SCALES, USERS = "DIMENSION_LIST", "REFERENCE_LIST"
#: What netCDF notes of the dimensions of a variable; of a pooled one it would be wrong.
NUMBER = "_Netcdf4Dimid"
DIMENSIONS = (SCALES, USERS, "_Netcdf4Coordinates", NUMBER)
#: What makes a dataset a scale, which is written anew.
_OF_SCALES = ("CLASS", "NAME", *DIMENSIONS)
#: How netCDF names the scale of a dimension that has a length and no coordinates.
NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable."
#: Most coordinates that are pooled.
MOST_COORDINATES = 1 << 24
_USER = np.dtype([("dataset", h5py.ref_dtype), ("dimension", np.int32)])
_SCALES_OF_AXES = h5py.vlen_dtype(h5py.ref_dtype)


class Geography:
    """The dimensions of an output, and what lies along them."""

    def __init__(
        self,
        source: h5py.File,
        target: h5py.File,
        references: References,
        copies: Callable[[Identity], Sequence[str]],
    ) -> None:
        self._source, self._target, self._references, self._copies = source, target, references, copies
        #: Paths of the scales of pooled axes, by old scale and new length.
        self._dimensions: dict[tuple[Identity, int], str] = {}
        #: Users of scales that are written anew: (dataset, axis), by path of the scale.
        self._users: dict[str, list[tuple[str, int]]] = {}
        #: The last of netCDF's numbers that is in use; below 0 where the file has none.
        self._last_number = -1
        #: Paths of scales without one.
        self._unnumbered: list[str] = []

    def concerns(self, item: Dataset) -> bool:
        """Whether the axes of a dataset have scales."""
        return bool(h5py.h5a.exists(item.id, SCALES.encode()))

    def is_its(self, name: bytes) -> bool:
        """Whether an attribute is written here."""
        return name == USERS.encode()

    def note(self, path: str, item: Any) -> None:
        """Note the number of a dimension that is carried over."""
        # The library's own question fails where another convention has a `CLASS`.
        if (
            not isinstance(item, Dataset)
            or text_of(attributes_of(item, ("CLASS",)).get("CLASS")) != "DIMENSION_SCALE"
        ):
            return
        numbers = numbers_in(attributes_of(item, (NUMBER,)).get(NUMBER))
        if numbers:
            self._last_number = max(self._last_number, int(numbers[0]))
        else:
            self._unnumbered.append(path)

    def take_over(self, origin: Dataset, copy: Dataset) -> None:
        """Note who uses a scale that is carried over; what is pooled says so itself."""
        users = self._users.setdefault(path_of(copy), [])
        try:
            entries = [(entry[0], int(entry[1])) for entry in origin.attrs[USERS]]
        except (*HDF5_ERRORS, IndexError):
            entries = []  # it is no list of references and axes
        for reference, axis in entries:
            own = self._references.identity(reference)
            if own is not None and own not in self._references.pooled:
                users += [(path, axis) for path in self._copies(own)[:1]]
        remove(copy, USERS.encode())

    def place(self, origin: Dataset, copy: Dataset, pooled: Pooled) -> Changes:
        """Give a pooled dataset its scales; the attributes that differ for it."""
        changes: Changes = dict.fromkeys(DIMENSIONS)
        if pooled.flat:
            return changes | {"DIMENSION_LABELS": None}
        scales: list[list[str]] = []
        names: dict[str, str | None] = {}
        sizes: dict[Identity, int] = {}
        for axis, own in enumerate(scales_of(origin)):
            before, after = origin.shape[axis], copy.shape[axis]
            if before == after:
                scales.append([path for scale in own for path in self._copies(identity(scale))[:1]])
                continue
            scales.append([self._dimension(scale, after, pooled) for scale in own])
            for scale, new in zip(own, scales[-1], strict=True):
                names[base_of(path_of(scale))] = base_of(new)
                sizes[identity(scale)] = after
        if any(scales):
            self._attach(copy, scales)
        attributes = attributes_of(origin, (COORDINATES, "cell_methods", "cell_measures"))
        for name in words_of(attributes, COORDINATES):
            item = self._found(path_of(origin), name)
            if item is not None:
                coarse = self._coordinate(item, sizes, pooled)
                if coarse != path_of(item):
                    names[name] = None if coarse is None else base_of(coarse)
        return changes | (references_of(attributes, names) if sizes else {})

    def _dimension(self, scale: Dataset, after: int, pooled: Pooled) -> str:
        """The path of the scale of a pooled axis; made if there is none."""
        key = identity(scale), after
        if key not in self._dimensions:
            is_variable = not text_of(attributes_of(scale, ("NAME",)).get("NAME")).startswith(NO_VARIABLE)
            values = coarse_values(scale, (after,), pooled) if is_variable else None
            path, is_there = self._free(path_of(scale), [after], (after,), values)
            self._dimensions[key] = path
            if not is_there:
                self._make_dimension(scale, path, after, values)
        return self._dimensions[key]

    def _make_dimension(self, scale: Dataset, path: str, after: int, values: Array | None) -> None:
        if values is None:
            new = self._target.create_dataset(encoded(path), (after,), ">f4")
        else:
            new = self._target.create_dataset(encoded(path), data=values)
        label = base_of(path) if values is not None else f"{NO_VARIABLE}{after:10d}"
        h5py.h5ds.set_scale(new.id, encoded(label))
        self._unnumbered.append(path)
        self._describe(scale, new, [[path]], (after,))

    def _free(
        self, path: str, sizes: Sequence[int], shape: tuple[int, ...], values: Array | None
    ) -> tuple[str, bool]:
        """A name for a variable of the new grid, and whether it is there already, from an earlier run."""
        name = coarse_name(path, sizes)
        while encoded(name) in self._target:
            there = opened(self._target, encoded(name))
            if isinstance(there, Dataset) and there.shape == shape and self._has(there, values):
                return name, True
            name += "_"
        return name, False

    def _has(self, there: Dataset, values: Array | None) -> bool:
        """Whether a dataset of the output has these values; a dimension without coordinates has none."""
        if values is None:
            return text_of(attributes_of(there, ("NAME",)).get("NAME")).startswith(NO_VARIABLE)
        return there.dtype == values.dtype and np.array_equal(there[()], values, equal_nan=True)

    def _coordinate(self, item: Dataset, sizes: Mapping[Identity, int], pooled: Pooled) -> str | None:
        """The path of a coordinate that goes with a result; None where it cannot be made."""
        own, name = identity(item), path_of(item)
        dimensions = [identity(scales[0]) if scales else None for scales in scales_of(item)]
        after = [sizes[d] for d in dimensions if d is not None and d in sizes]
        if not after:
            return name
        size = tuple(
            sizes.get(d, n) if d is not None else n for d, n in zip(dimensions, item.shape, strict=True)
        )
        if own in self._references.pooled:
            return next(
                (p for p in self._copies(own) if opened(self._target, encoded(p)).shape == size), None
            )
        values = coarse_values(item, size, pooled)
        if values is None:
            return None
        path, is_there = self._free(name, after, size, values)
        if not is_there:
            new = self._target.create_dataset(encoded(path), data=values)
            scales = [
                [
                    self._dimensions[identity(s), sizes[identity(s)]]
                    for s in own_scales
                    if identity(s) in sizes
                ]
                or [p for s in own_scales for p in self._copies(identity(s))[:1]]
                for own_scales in scales_of(item)
            ]
            self._describe(item, new, scales, size)
            self._attach(new, scales)
        return path

    def _describe(
        self, origin: Dataset, new: Dataset, scales: list[list[str]], size: tuple[int, ...]
    ) -> None:
        """Give a coordinate of the new grid the attributes of the old one, and bounds of its own."""
        changes: Changes = dict.fromkeys(_OF_SCALES)
        if new.dtype.kind == "f" and origin.dtype.kind in "iuf":
            changes |= coordinate_changes(origin, new.dtype.name)
        named = bounds_name(attributes_of(origin, BOUNDS))
        if named is not None:
            key, name = named
            path = self._bounds(path_of(origin), name, scales, size)
            changes[key] = None if path is None else base_of(path)
        for left in copy_attributes(origin, new, changes):
            write_references(origin, new, left, self._references)

    def _bounds(self, path: str, name: str, scales: list[list[str]], size: tuple[int, ...]) -> str | None:
        """The path of the bounds of the new cells; None where they cannot be told."""
        item = self._found(path, name)
        if (
            item is None
            or item.ndim != len(size) + 1
            or numbers_of(item, None) is None
            or not 0 < item.size <= MOST_COORDINATES
        ):
            return None
        values = coarse_bounds(item[()], size)
        if values is None:
            return None
        new, is_there = self._free(path_of(item), size, values.shape, values)
        if not is_there:
            made = self._target.create_dataset(encoded(new), data=values)
            for key in copy_attributes(item, made, dict.fromkeys(DIMENSIONS)):
                write_references(item, made, key, self._references)
            last = scales_of(item)[-1:] or [[]]
            corners = [p for scale in last[0] for p in self._copies(identity(scale))[:1]]
            self._attach(made, [*scales, corners])
        return new

    def _found(self, path: str, name: str) -> Dataset | None:
        """A variable by the name that another one has for it: in its group, or in those around."""
        group = parent_of(path)
        while True:
            whole = absolute(f"{group.rstrip('/')}/x", name)
            try:
                item = opened(self._source, encoded(whole))
            except HDF5_ERRORS:
                if group == "/" or name.startswith("/"):
                    return None
                group = parent_of(group)
                continue
            return item if isinstance(item, Dataset) else None

    def _attach(self, dataset: Dataset, scales: list[list[str]]) -> None:
        """Name the scales of the axes of a dataset, and the dataset as a user of them."""
        lists = np.empty(len(scales), _SCALES_OF_AXES)
        for axis, paths in enumerate(scales):
            lists[axis] = np.array([self._references.to(path) for path in paths], h5py.ref_dtype)
            for path in paths:
                self._users.setdefault(path, []).append((path_of(dataset), axis))
        remove(dataset, SCALES.encode())
        kind = h5py.h5t.py_create(_SCALES_OF_AXES, logical=True)
        made = h5py.h5a.create(dataset.id, SCALES.encode(), kind, h5py.h5s.create_simple((len(scales),)))
        made.write(lists, mtype=h5py.h5t.py_create(_SCALES_OF_AXES))

    def finish(self) -> None:
        """Name the users of all scales; number those that have no number in a file where others have one.

        To them, netCDF would give the numbers of others, and take one dimension for another.
        """
        for number, path in enumerate(self._unnumbered, self._last_number + 1):
            if self._last_number >= 0:
                write_numbers(opened(self._target, encoded(path)), NUMBER.encode(), np.int32(number))
        for path, users in self._users.items():
            if users:
                scale = opened(self._target, encoded(path))
                entries = np.array([(self._references.to(user), axis) for user, axis in users], _USER)
                remove(scale, USERS.encode())
                kind = h5py.h5t.py_create(_USER, logical=True)
                space = h5py.h5s.create_simple(entries.shape)
                h5py.h5a.create(scale.id, USERS.encode(), kind, space).write(
                    entries, mtype=h5py.h5t.py_create(_USER)
                )


def coarse_values(item: Dataset, size: tuple[int, ...], pooled: Pooled) -> Array | None:
    """The coordinates of the new cells; None where the old ones are no numbers, or too many."""
    if pooled.coarsen is None or len(size) != item.ndim or not 0 < item.ndim <= 2:
        return None
    kind = numbers_of(item, None)
    if kind is None or kind[0] in ("bool", "bfloat16") or not 0 < item.size <= MOST_COORDINATES or 0 in size:
        return None
    values = item[()].astype(kind[1].newbyteorder("="))
    return coarse_coordinates(values, coordinate_attributes(item), size, pooled.coarsen)


def scales_of(dataset: Dataset) -> list[list[Dataset]]:
    """The dimension scales of each axis."""
    scales: list[list[Dataset]] = [[] for _ in dataset.shape]
    if h5py.h5a.exists(dataset.id, SCALES.encode()):
        with suppress(*HDF5_ERRORS):  # it is no list of references
            for own, references in zip(scales, dataset.attrs[SCALES], strict=True):
                own += [scale for scale in map(partial(_behind, dataset), references) if scale is not None]
    return scales


def _behind(dataset: Dataset, reference: Any) -> Dataset | None:
    """The scale that a reference points to; None where it dangles."""
    try:
        item = wrapped(h5py.h5r.dereference(reference, dataset.id)) if reference else None
    except HDF5_ERRORS:
        return None
    return item if isinstance(item, Dataset) else None


def base_of(path: str) -> str:
    """The last name of a path."""
    return path.rpartition("/")[2]
