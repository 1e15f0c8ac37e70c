"""Which dimensions and coordinates results have, and which variables are made for them: one set of rules.

    a pooled axis          a new dimension, one for each old one and length in a file, or that of an earlier run
    coordinates            those of a dimension, or named by a variable, that lie along pooled axes are pooled with it
    bounds of their cells  are made anew
    a grid mapping         with a GeoTransform, which says where cells are, is made anew

A format says what variables there are (`Variable`), and makes them (the abstract methods of `Geography`). Paths
begin with a slash.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from lucid.formats.arrays import Array, Coarsen, Pooled
from lucid.formats.choosing import candidate_paths
from lucid.formats.grid import (
    ANCILLARY,
    COORDINATES,
    GRID_MAPPING,
    TRANSFORM,
    base_of,
    bounds_name,
    coarse_bounds,
    coarse_coordinates,
    coarse_transform,
    is_longitude,
    references_of,
    words_of,
)
from lucid.formats.meaning import Attributes, meaning_of
from lucid.formats.regions import size_of
from lucid.formats.result import Changes, changes_of

#: Most coordinates that are pooled.
MOST_COORDINATES = 1 << 24

#: Names of axes from west to east; a transform has them second.
ACROSS = ("x", "lon", "longitude", "easting", "projection_x_coordinate")

#: For each axis the paths of its dimensions: one or none, but in HDF5, where there may be several.
Paths: TypeAlias = list[list[str]]


class Dimension(NamedTuple):
    """A dimension of the source, as a variable sees it."""

    #: What tells it from others that a variable may have.
    key: Hashable
    path: str
    #: Its path in the output, where its length stays.
    path_in_output: str | None
    #: The variable that holds its coordinates, if there is one.
    coordinates: "Callable[[], Variable | None]"


class Variable(NamedTuple):
    """A variable of the source, as these rules see it."""

    path: str
    shape: tuple[int, ...]
    dims: Sequence[Sequence[Dimension]]
    #: As xarray decodes them.
    attributes: Attributes
    #: The type of the elements by name; None where they are no numbers.
    numbers: str | None
    read: Callable[[], Array]
    #: What the format itself has for it.
    handle: Any


class Geography(ABC):
    """The dimensions of an output, and what lies along them."""

    def __init__(self) -> None:
        #: Paths of the dimensions of pooled axes, by old dimension and new length.
        self._dimensions: dict[tuple[str, int], str] = {}
        #: Paths of coarse coordinates, by what they are made of and their shape; None where there are none.
        self._coordinates: dict[tuple[str, tuple[int, ...]], str | None] = {}
        #: What the user should know, by kind: names.
        self.notes: dict[str, list[str]] = {}

    @abstractmethod
    def variable(self, path: str) -> Variable | None:
        """A variable of the source; None where there is none."""

    @abstractmethod
    def means_of(self, variable: Variable) -> Mapping[str, tuple[int, ...]] | None:
        """The results that take the place of a variable, and their shapes; None where it is not pooled."""

    @abstractmethod
    def holds(self, path: str, shape: tuple[int, ...], values: Array | None) -> bool | None:
        """Whether the output has this very variable, of no values if it is a dimension alone; None if it has none."""

    @abstractmethod
    def declare(self, path: str, length: int) -> None:
        """Make a dimension that has no coordinates."""

    @abstractmethod
    def make(self, path: str, origin: Variable, values: Array, dims: Paths, changes: Changes) -> None:
        """Make a variable with what another one says of itself, but for changes."""

    def place(self, variable: Variable, pooled: Pooled) -> tuple[Paths, Changes]:
        """Where a result is: the dimensions of its axes, and what it says of coordinates."""
        dims: Paths = []
        sizes: dict[Hashable, int] = {}
        names: dict[str, str | None] = {}
        for dimensions, before, after in zip(variable.dims, variable.shape, pooled.shape, strict=True):
            if before == after:
                dims.append(_paths_in_output(dimensions))
                continue
            dims.append([self._dimension(dimension, after, pooled.coarsen) for dimension in dimensions])
            sizes |= dict.fromkeys((dimension.key for dimension in dimensions), after)
            names |= {
                base_of(dimension.path): base_of(path)
                for dimension, path in zip(dimensions, dims[-1], strict=True)
            }
        for name in words_of(variable.attributes, COORDINATES):
            other = self._variable_named(variable, name)
            coarse = None if other is None else self._coordinate(other, sizes, pooled.coarsen)
            if other is not None and coarse != other.path:
                names[name] = None if coarse is None else base_of(coarse)
        for name in words_of(variable.attributes, ANCILLARY):
            other = self._variable_named(variable, name)
            if other is not None and (size := _size(other, sizes)) != other.shape:
                means = self.means_of(other) or {}
                names[name] = next((base_of(path) for path, shape in means.items() if shape == size), None)
        changes = self._mapping(variable, pooled, names)
        return dims, changes | references_of(variable.attributes, names) if names else changes

    def _variable_named(self, near: Variable, name: str) -> Variable | None:
        """A variable by the name that another one has for it."""
        return next(
            (found for path in candidate_paths(near.path, name) if (found := self.variable(path))), None
        )

    def _dimension(self, dimension: Dimension, after: int, coarsen: Coarsen | None) -> str:
        """The path of the dimension of a pooled axis; made if there is none."""
        key = (dimension.path, after)
        if key not in self._dimensions:
            old = dimension.coordinates()
            values = None if old is None else self._coarse_values(old, (after,), coarsen)
            path, is_there = self._free_path(dimension.path, (after,), (after,), values)
            self._dimensions[key] = path
            if not is_there and old is not None and values is not None:
                self._make_coordinate(path, old, values, [[path]])
            elif not is_there:
                self.declare(path, after)
        return self._dimensions[key]

    def _free_path(
        self, old: str, sizes: Sequence[int], shape: tuple[int, ...], values: Array | None
    ) -> tuple[str, bool]:
        """A path for what is new, and whether it is there already, from an earlier run."""
        path = f"{old}_{'x'.join(map(str, sizes))}"
        while (is_there := self.holds(path, shape, values)) is False:
            path += "_"
        return path, is_there is True

    def _coordinate(
        self, variable: Variable, sizes: Mapping[Hashable, int], coarsen: Coarsen | None
    ) -> str | None:
        """The path of a coordinate that goes with a result; None where it cannot be made."""
        size = _size(variable, sizes)
        if size == variable.shape:
            return variable.path
        means = self.means_of(variable)
        if means is not None:
            return next((path for path, shape in means.items() if shape == size), None)
        key = (variable.path, size)
        if key in self._coordinates:
            return self._coordinates[key]
        values = self._coarse_values(variable, size, coarsen)
        if values is None:
            self._coordinates[key] = None
            return None
        after = [new for new, old in zip(size, variable.shape, strict=True) if new != old]
        path, is_there = self._free_path(variable.path, after, size, values)
        self._coordinates[key] = path
        if not is_there:
            dims = [
                [
                    self._dimension(dimension, sizes[dimension.key], coarsen)
                    for dimension in dimensions
                    if dimension.key in sizes
                ]
                or _paths_in_output(dimensions)
                for dimensions in variable.dims
            ]
            self._make_coordinate(path, variable, values, dims)
        return path

    def _coarse_values(
        self, variable: Variable, size: tuple[int, ...], coarsen: Coarsen | None
    ) -> Array | None:
        """The coordinates of the new cells; None where the old ones are no numbers, or too many."""
        if coarsen is None or len(size) != len(variable.shape) or 0 in size or not _is_small(variable):
            return None
        return coarse_coordinates(variable.read(), variable.attributes, size, coarsen)

    def _make_coordinate(self, path: str, origin: Variable, values: Array, dims: Paths) -> None:
        """Make a coordinate of the new grid with what the old one says of itself, then the bounds of its cells."""
        changes = _changes(origin, values) | references_of(origin.attributes, {})
        key, name = bounds_name(origin.attributes) or (None, "")
        bounds_variable = self._variable_named(origin, name) if key is not None else None
        bounds = None
        if (
            bounds_variable is not None
            and len(bounds_variable.shape) == values.ndim + 1
            and _is_small(bounds_variable)
        ):
            are_turns = is_longitude(origin.attributes)
            bounds = coarse_bounds(bounds_variable.read(), values.shape, are_turns=are_turns)
        if key is None or bounds_variable is None or bounds is None:
            self.make(path, origin, values, dims, changes if key is None else changes | {key: None})
            return
        place, is_there = self._free_path(bounds_variable.path, values.shape, bounds.shape, bounds)
        self.make(path, origin, values, dims, changes | {key: base_of(place)})
        if not is_there:
            every = zip(
                bounds_variable.dims, [*dims, _paths_in_output(bounds_variable.dims[-1])], strict=True
            )
            # What has no dimensions gets none: of a variable of which some axes have one, netCDF reads nothing.
            dims = [paths if dimensions else [] for dimensions, paths in every]
            self.make(place, bounds_variable, bounds, dims, _changes(bounds_variable, bounds))

    def _mapping(self, variable: Variable, pooled: Pooled, names: dict[str, str | None]) -> Changes:
        """What a result says of the transform from cells to the ground; the variable that holds it gets a new name."""
        h = pooled.height_axis
        plane, size = variable.shape[h : h + 2], pooled.shape[h : h + 2]
        if plane == size:
            return {}
        changes: Changes = {}
        if any(base_of(dimension.path).lower() in ACROSS for dimension in variable.dims[h]):
            plane, size = plane[::-1], size[::-1]
        if TRANSFORM in variable.attributes:
            changes[TRANSFORM] = self._transform(variable, plane, size)
        words = words_of(variable.attributes, GRID_MAPPING)
        # A word with a colon is a mapping, and those behind it are its coordinates.
        mappings = [word[:-1] for word in words if word.endswith(":")] or words
        mapping = self._variable_named(variable, mappings[0]) if len(mappings) == 1 else None
        if mapping is not None and TRANSFORM in mapping.attributes and len(mapping.shape) == 0:
            values = mapping.read()
            path, is_there = self._free_path(mapping.path, pooled.shape[h : h + 2], (), values)
            if not is_there:
                self.make(path, mapping, values, [], {TRANSFORM: self._transform(mapping, plane, size)})
            names[mappings[0]] = base_of(path)
        return changes

    def _transform(
        self, variable: Variable, plane: tuple[int, ...], size: tuple[int, ...]
    ) -> str | Array | None:
        coarse = coarse_transform(variable.attributes[TRANSFORM], plane, size)
        if coarse is None:
            why = f"since a grid of {size[0]}x{size[1]} has windows of several sizes"
            self.notes.setdefault(f"{TRANSFORM} is left out, {why}", []).append(variable.path)
        return coarse


def _is_small(variable: Variable) -> bool:
    """Whether a variable holds numbers, and not too many of them to be read."""
    return (
        variable.numbers not in (None, "bool", "bfloat16") and 0 < size_of(variable.shape) <= MOST_COORDINATES
    )


def _size(variable: Variable, sizes: Mapping[Hashable, int]) -> tuple[int, ...]:
    """The shape of a variable on the new grid, by the new lengths of dimensions."""
    news = (
        next((sizes[dimension.key] for dimension in dimensions if dimension.key in sizes), None)
        for dimensions in variable.dims
    )
    return tuple(n if new is None else new for new, n in zip(news, variable.shape, strict=True))


def _paths_in_output(dimensions: Sequence[Dimension]) -> list[str]:
    """The paths in the output of dimensions whose length stays."""
    return [dimension.path_in_output for dimension in dimensions if dimension.path_in_output is not None]


def _changes(origin: Variable, values: Array) -> Changes:
    """The attributes of coarse coordinates that differ from those of the old ones."""
    if origin.numbers is None:
        return {}
    meaning = meaning_of(origin.attributes, origin.numbers)
    return changes_of(origin.attributes, meaning, values.dtype.name)
