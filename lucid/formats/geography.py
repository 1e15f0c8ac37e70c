"""Which dimensions and coordinates results have, and which variables are made for them: one set of rules.

    a pooled axis          a new dimension, one for each old one and length in a file, or that of an earlier run
    coordinates            those of a dimension, or named by a variable, that lie along pooled axes are pooled with it
    bounds of their cells  are made anew
    a grid mapping         with a GeoTransform, which says where cells are, is made anew

A format says what variables there are (`Variable`), and makes them (the abstract methods of `Geography`). Paths
begin with a slash.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from lucid.formats import grid
from lucid.formats.arrays import Array, ResultSpec
from lucid.formats.choosing import CarriedNames, is_left_out
from lucid.formats.meaning import meaning_of
from lucid.formats.regions import size_of
from lucid.formats.result import Changes, changes_of
from lucid.formats.variables import Variable, candidate_paths

#: Most coordinates that are pooled.
MOST_COORDINATES = 1 << 24

#: Names of axes from west to east; a transform has them second.
ACROSS = ("x", "lon", "longitude", "easting", "projection_x_coordinate")

#: For each axis the paths of its dimensions: one or none, but in HDF5, where there may be several.
Paths: TypeAlias = list[list[str]]
#: New lengths of dimensions by their keys; of variables that have none, new shapes by the old ones.
Sizes: TypeAlias = dict[Hashable, Any]


class Dimension(NamedTuple):
    """A dimension of the source, as a variable sees it."""

    #: What tells it from others that a variable may have.
    key: Hashable
    path: str
    #: Its path in the output, where its length stays.
    path_in_output: str | None
    #: The variable that holds its coordinates, if there is one.
    coordinates: Callable[[], Variable | None]


class Geography(ABC):
    """The dimensions of an output, and what lies along them."""

    def __init__(
        self,
        find: Callable[[str], Variable | str | None],
        results: Mapping[Any, Sequence[ResultSpec]],
        names: CarriedNames,
    ) -> None:
        #: Finds a variable of the source at a path; the results of those that are pooled, by their keys.
        self._find, self._results, self._names = find, results, names
        #: Whether attributes that are carried over may name what is not there: it became several arrays, or is dropped.
        self.renames = bool(names.patterns) or any(len(arrays) > 1 for arrays in results.values())
        #: Paths of new coordinates, by the old path and the new shape; of the dimensions of pooled axes likewise.
        self._paths: dict[tuple[str, tuple[int, ...]], str] = {}
        self._dimension_paths: dict[tuple[str, int], str] = {}
        #: What the user should know, by kind: names.
        self.notes: dict[str, list[str]] = {}

    @abstractmethod
    def dimensions(self, variable: Variable) -> Sequence[Sequence[Dimension]]:
        """The dimensions of each axis of a variable."""

    @abstractmethod
    def read(self, variable: Variable) -> Array:
        """All elements of a variable, in native order."""

    @abstractmethod
    def holds(self, path: str, shape: tuple[int, ...], values: Array | None) -> bool | None:
        """Whether the output has this very variable, of no values if it is a dimension alone; None if it has none."""

    @abstractmethod
    def declare(self, path: str, length: int) -> None:
        """Make a dimension that has no coordinates."""

    @abstractmethod
    def make(self, path: str, origin: Variable, values: Array, dims: Paths, changes: Changes) -> None:
        """Make a variable with what another one says of itself, but for changes."""

    def describe(self, variable: Variable, result: ResultSpec) -> tuple[Paths, Changes]:
        """Where a result is: the dimensions of its axes, and what it says of coordinates."""
        nowhere: Changes = dict.fromkeys(grid.NAMING * self._names.is_alone)
        dims: Paths = []
        sizes: Sizes = {}
        names, axes = self._left_out_names(variable), self.dimensions(variable)
        if not any(axes):
            # Nothing says along which axes a coordinate lies but its shape.
            plane = slice(result.height_axis, result.height_axis + 2)
            sizes = {variable.shape: result.shape, variable.shape[plane]: result.shape[plane]}
        if result.flat:
            # Along joined axes lies nothing that others do, and no transform says where cells are.
            nothing = {dimension.key: 0 for dimension in chain(*axes[1:])} | dict.fromkeys(sizes, (0,))
            names |= self._names_on_grid(variable, nothing)
            if any(axes):
                features = self._bare_dimension(result.name, "features", result.stored_shape[1])
                dims = [_paths_in_output(axes[0]), [features]]
            nowhere |= dict.fromkeys((grid.GRID_MAPPING, grid.TRANSFORM))
            return dims, grid.references_of(variable.attributes, names) | nowhere
        for dimensions, before, after in zip(axes, variable.shape, result.shape, strict=True):
            if before == after:
                dims.append(_paths_in_output(dimensions))
                continue
            dims.append([self._dimension(dimension, after) for dimension in dimensions])
            sizes |= {dimension.key: after for dimension in dimensions}
            names |= {
                grid.base_of(dimension.path): grid.base_of(path)
                for dimension, path in zip(dimensions, dims[-1], strict=True)
            }
        names |= self._names_on_grid(variable, sizes)
        changes = self._mapping(variable, result, names)
        return dims, changes | (grid.references_of(variable.attributes, names) if names else {}) | nowhere

    def references_of_carried(self, variable: Variable) -> Changes:
        """What a variable that is carried over says of others: of one that became several it names the first."""
        names = self._left_out_names(variable)
        for name, other in self._others(variable, grid.VARIABLES).items():
            results = self._results.get(other.key, ())
            if len(results) > 1:
                names[name] = grid.name_beside(name, results[0].name)
        return {**grid.references_of(variable.attributes, names, is_carried=True)}

    def _left_out_names(self, variable: Variable) -> dict[str, str | None]:
        """The names by which a variable means what is dropped."""
        patterns = self._names.patterns
        others = self._others(variable, grid.NAMING if patterns else ()).items()
        carried = ((name, other.path) for name, other in others if other.key not in self._results)
        return {name: None for name, path in carried if is_left_out(path, patterns)}

    def _others(self, variable: Variable, keys: Sequence[str]) -> dict[str, Variable]:
        """The variables that attributes name, by these names."""
        names = chain.from_iterable(grid.names_in(variable.attributes, key) for key in keys)
        others = {name: self.variable_named(variable.path, name) for name in names}
        return {name: other for name, other in others.items() if other is not None}

    def variable_named(self, near: str, name: str) -> Variable | None:
        """A variable by the name that the one at a path has for it."""
        every = map(self._find, candidate_paths(near, name) if not self._names.is_alone else ())
        return next((other for other in every if isinstance(other, Variable) and not other.fault), None)

    def _dimension(self, dimension: Dimension, after: int) -> str:
        """The path of the dimension of a pooled axis; made if there is none."""
        key = (dimension.path, after)
        if key not in self._dimension_paths:
            old = dimension.coordinates()
            path = None if old is None else self._coarse(old, (after,), None, {dimension.key: after})
            self._dimension_paths[key] = path or self._bare_dimension(dimension.path, after, after)
        return self._dimension_paths[key]

    def _bare_dimension(self, old: str, name: object, length: int) -> str:
        """The path of a dimension without coordinates, called after an old path; made if there is none."""
        path, is_there = self._free_path(old, (name,), (length,), None)
        if not is_there:
            self.declare(path, length)
        return path

    def _names_on_grid(
        self, variable: Variable, sizes: Sizes, *, is_pooled: bool = True
    ) -> dict[str, str | None]:
        """New names of what a variable names, on the grid of new lengths of dimensions; None for what is not on it.

        What says more of each cell follows to results of the same size, but is not pooled along.
        """
        names: dict[str, str | None] = {}
        for key in (grid.COORDINATES, grid.FORMULA_TERMS, grid.ANCILLARY):
            for name, other in self._others(variable, [key]).items():
                path = self._path_on_grid(other, sizes, is_pooled=is_pooled and key != grid.ANCILLARY)
                if path != other.path:
                    names[name] = path and grid.name_beside(name, path)
        return names

    def _path_on_grid(self, variable: Variable, sizes: Sizes, *, is_pooled: bool) -> str | None:
        """The path of a variable on the grid of new lengths of dimensions: its own, a result's, or a new one's."""
        axes = self.dimensions(variable)
        size: tuple[int, ...] = tuple(
            next((sizes[dimension.key] for dimension in dimensions if dimension.key in sizes), n)
            for n, dimensions in zip(variable.shape, axes, strict=True)
        )
        if not any(axes):
            size = sizes.get(variable.shape, size)
        if results := self._results.get(variable.key):
            return next((result.name for result in results if result.stored_shape == size), None)
        if size == variable.shape:
            return variable.path
        if not is_pooled or 0 in size:
            return self._paths.get((variable.path, size))
        dims = [
            [
                self._dimension(dimension, sizes[dimension.key])
                for dimension in dimensions
                if dimension.key in sizes
            ]
            or _paths_in_output(dimensions)
            for dimensions in axes
        ]
        return self._coarse(variable, size, dims, sizes)

    def _free_path(
        self, old: str, sizes: Sequence[object], shape: tuple[int, ...], values: Array | None
    ) -> tuple[str, bool]:
        """A path for what is new, and whether it is there already, from an earlier run."""
        path = f"{old}_{'x'.join(map(str, sizes))}"
        while (is_there := self.holds(path, shape, values)) is False:
            path += "_"
        return path, is_there is True

    def _coarse(
        self, origin: Variable, size: tuple[int, ...], dims: Paths | None, sizes: Sizes
    ) -> str | None:
        """The path of a coordinate at a size, made with the bounds of its cells if there is none.

        Without `dims`, it is the dimension along which it lies. None where the old one is no numbers, or too many.
        """
        key = (origin.path, size)
        if key in self._paths:
            return self._paths[key]
        if len(size) != len(origin.shape) or not _is_small(origin):
            return None
        values = grid.coarse_coordinates(self.read(origin), origin.attributes, size)
        if values is None:
            return None
        lengths = [after for before, after in zip(origin.shape, size, strict=True) if before != after]
        path, is_there = self._free_path(origin.path, lengths, size, values)
        self._paths[key] = path
        if not is_there:
            self._make_with_bounds(path, origin, values, [[path]] if dims is None else dims, sizes)
        return path

    def _make_with_bounds(
        self, path: str, origin: Variable, values: Array, dims: Paths, sizes: Sizes
    ) -> None:
        """Make a coordinate with the bounds of its cells, where the old one has some."""
        changes = self._changes(origin, values, sizes)
        attribute, name = grid.bounds_name(origin.attributes) or ("", "")
        old = self.variable_named(origin.path, name) if name else None
        bounds = None
        if old is not None and _is_small(old):
            are_turns = grid.is_longitude(origin.attributes)
            bounds = grid.coarse_bounds(self.read(old), values.shape, are_turns=are_turns)
        if old is None or bounds is None:
            self.make(path, origin, values, dims, changes | ({attribute: None} if name else {}))
            return
        lengths = [after for before, after in zip(origin.shape, values.shape, strict=True) if before != after]
        bounds_path, is_there = self._free_path(old.path, lengths, bounds.shape, bounds)
        self.make(path, origin, values, dims, changes | {attribute: grid.name_beside(name, bounds_path)})
        if not is_there:
            axes = self.dimensions(old)
            pairs = zip(axes, [*dims, _paths_in_output(axes[-1])], strict=True)
            # What has no dimensions gets none: of a variable of which some axes have one, netCDF reads nothing.
            dims = [paths if dimensions else [] for dimensions, paths in pairs]
            self.make(bounds_path, old, bounds, dims, self._changes(old, bounds, sizes, is_pooled=False))

    def _changes(self, origin: Variable, values: Array, sizes: Sizes, *, is_pooled: bool = True) -> Changes:
        """The attributes of coarse coordinates that differ from those of the old ones."""
        names = self._left_out_names(origin) | self._names_on_grid(origin, sizes, is_pooled=is_pooled)
        changes: Changes = {**grid.references_of(origin.attributes, names)}
        if origin.numbers is not None:
            meaning = meaning_of(origin.attributes, origin.numbers)
            changes |= changes_of(origin.attributes, meaning, values.dtype.name)
        return changes

    def _mapping(self, variable: Variable, result: ResultSpec, names: dict[str, str | None]) -> Changes:
        """What a result says of the transform from cells to the ground; the variable that holds it gets a new name."""
        h = result.height_axis
        plane, size = variable.shape[h : h + 2], result.shape[h : h + 2]
        if plane == size:
            return {}
        changes: Changes = {}
        if any(name.lower() in ACROSS for name in variable.dims()[h : h + 1]):
            plane, size = plane[::-1], size[::-1]
        if grid.TRANSFORM in variable.attributes:
            changes[grid.TRANSFORM] = self._transform(variable, plane, size)
        words = grid.words_of(variable.attributes, grid.GRID_MAPPING)
        # A word with a colon is a mapping, and those behind it are its coordinates.
        mappings = [word[:-1] for word in words if word.endswith(":")] or words
        mapping = self.variable_named(variable.path, mappings[0]) if len(mappings) == 1 else None
        if mapping is not None and grid.TRANSFORM in mapping.attributes and len(mapping.shape) == 0:
            key = (mapping.path, result.shape[h : h + 2])
            if key not in self._paths:
                values = self.read(mapping)
                path, is_there = self._free_path(*key, (), values)
                self._paths[key] = path
                if not is_there:
                    self.make(
                        path, mapping, values, [], {grid.TRANSFORM: self._transform(mapping, plane, size)}
                    )
            names[mappings[0]] = grid.name_beside(mappings[0], self._paths[key])
        return changes

    def _transform(
        self, variable: Variable, plane: tuple[int, ...], size: tuple[int, ...]
    ) -> str | Array | None:
        coarse = grid.coarse_transform(variable.attributes[grid.TRANSFORM], plane, size)
        if coarse is None:
            reason = f"since a grid of {size[0]}x{size[1]} has windows of several sizes"
            self.notes.setdefault(f"{grid.TRANSFORM} is left out, {reason}", []).append(variable.path)
        return coarse


def _is_small(variable: Variable) -> bool:
    """Whether a variable holds numbers, and not too many of them to be read."""
    return (
        variable.numbers not in (None, "bool", "bfloat16") and 0 < size_of(variable.shape) <= MOST_COORDINATES
    )


def _paths_in_output(dimensions: Sequence[Dimension]) -> list[str]:
    """The paths in the output of dimensions whose length stays."""
    return [dimension.path_in_output for dimension in dimensions if dimension.path_in_output is not None]


def dims_elsewhere(results: Sequence[ResultSpec]) -> Iterator[tuple[ResultSpec, list[str]]]:
    """Results with paths of their dimensions in a file of another format, to which no dimensions are carried over.

    A pooled axis has a new name, and so has one whose name stands for another length, an array or a group beside the
    result. No axis has one where the source does not name all.
    """
    lengths: dict[str, int] = {}
    have_names = any(result.source.dims for result in results)
    for path in (result.name for result in results if have_names):
        while path and path not in lengths:
            lengths[path], path = -1, path.rpartition("/")[0]
    for result in results:
        names, shape, h = list(result.source.dims), result.stored_shape, result.height_axis
        folder, _, own_name = result.name.rpartition("/")
        if not all(names) or any("/" in name or "\0" in name or name == "." for name in names):
            names = []
        elif result.flat:
            names = [*names[:1], *[f"{own_name}_features"] * bool(names)]
        else:
            pooled = (axis for axis in (h, h + 1) if names and shape[axis] != result.source.shape[axis])
            for axis in pooled:
                names[axis] += f"_{shape[axis]}"
        for axis, name in enumerate(names):
            for new_name in (name, f"{name}_{shape[axis]}", f"{own_name}_{name}_{shape[axis]}"):
                if lengths.setdefault(f"{folder}/{new_name}", shape[axis]) == shape[axis]:
                    names[axis] = f"{folder}/{new_name}"
                    break
        yield result, names
