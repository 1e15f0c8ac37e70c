"""Dimensions and coordinates of a store, as xarray reads them: an axis has a name, and a variable of that name.

A pooled axis has another length, so it gets a new name: one for each old one and length in a group, the one that is
there already where an earlier run made it. Coordinates of the axis, those that a variable names and that lie along
its pooled axes, and the bounds of cells are pooled with it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lucid.formats.contract import Array, Pooled, size_of
from lucid.formats.grid import (
    COORDINATES,
    bounds_name,
    coarse_bounds,
    coarse_coordinates,
    coarse_name,
    references_of,
    words_of,
)
from lucid.formats.meaning import Meaning, meaning_of
from lucid.formats.result import changes_of
from lucid.formats.zarr.meaning import Described, decoded, in_json
from lucid.formats.zarr.nodes import Node, joined
from lucid.formats.zarr.source import ZarrSource
from lucid.pooling.dtypes import name_of

#: Most coordinates that are pooled.
MOST_COORDINATES = 1 << 24


class Variable(NamedTuple):
    """A coordinate of the new grid, or the bounds of its cells: all that a store holds of it."""

    path: str
    origin: Node
    values: Array
    dims: list[str | None]
    described: Described


class Placed(NamedTuple):
    """Names of the axes of a result, and attributes of it that differ from its source's."""

    dims: list[str | None]
    changes: Mapping[str, Any]


class Geography:
    """The dimensions of an output, and what lies along them; `make` puts a variable into the store."""

    def __init__(
        self,
        source: ZarrSource,
        pooled: Sequence[Pooled],
        gone: Collection[str],
        make: Callable[[Variable], None],
        *,
        carries: bool,
    ) -> None:
        self._source, self._make, self._carries = source, make, carries
        self._pooled: dict[str, list[Pooled]] = {}
        for array in pooled:
            self._pooled.setdefault(array.source.name.strip("/"), []).append(array)
        #: Paths that are taken, and lengths of the dimensions of what is carried over, by group and name.
        self._taken = {array.name.strip("/") for array in pooled}
        self._lengths: dict[tuple[str, str], int] = {}
        for node in source.nodes.values() if carries else ():
            if node.path not in self._pooled and node.path not in gone:
                self._taken.add(node.path)
                for name, length in zip(node.dims, node.shape, strict=False):
                    self._lengths[node.folder, name] = length
        #: New names of dimensions by group, old name, old and new length.
        self._names: dict[tuple[str, str, int, int], str] = {}
        #: Names of coordinates by what they are made of and their shape; None where they could not be made.
        self._made: dict[tuple[str, tuple[int, ...]], str | None] = {}

    def place(self, node: Node, pooled: Pooled) -> Placed:
        """Where a result is: the names of its axes, and what it says of coordinates."""
        if not node.dims and not words_of(node.attributes, COORDINATES):
            return Placed([], {})
        if pooled.flat:
            name = node.dims[0] if node.dims else ""
            features = f"{pooled.name.rpartition('/')[2]}_features"
            return Placed([name or None, features] if node.dims else [], references_of(node.attributes, {}))
        dims, sizes = list[str | None](), dict[str, tuple[int, int]]()
        names: dict[str, str | None] = {}
        for old, before, after in zip(node.dims, pooled.source.shape, pooled.shape, strict=False):
            if old and before != after:
                new = self._dimension(node.folder, old, before, after, pooled)
                sizes[old], names[old] = (before, after), new
                dims.append(new)
            else:
                dims.append(old or None)
        for word in words_of(node.attributes, COORDINATES):
            item = self._found(node.folder, word)
            if item is not None and self._carries:
                coarse = self._coordinate(item, sizes, pooled)
                if coarse != item.base:
                    names[word] = coarse
        return Placed(dims, references_of(node.attributes, names) if sizes else {})

    def _found(self, folder: str, name: str) -> Node | None:
        """A variable by the name that another one has for it: in its group, or in those around."""
        while True:
            node = self._source.nodes.get(joined(folder, name).lstrip("/"))
            if node is not None and node.document is not None:
                return node
            if not folder:
                return None
            folder = folder.rpartition("/")[0]

    def _dimension(self, folder: str, old: str, before: int, after: int, pooled: Pooled) -> str:
        """The new name of a dimension, with coordinates if the old one has some, in its group or one around."""
        node = self._found(folder, old) if self._carries else None
        if node is not None and node.shape != (before,):
            node = None
        folder = folder if node is None else node.folder
        key = (folder, old, before, after)
        if key not in self._names:
            values = None if node is None else self._coarse_values(node, (after,), pooled)
            name, is_there = self._free(folder, old, [after], values, (after,))
            self._names[key] = name
            self._lengths[folder, name] = after
            if node is not None and values is not None and not is_there:
                self._variable(node, joined(folder, name), values, [name])
        return self._names[key]

    def _free(
        self, folder: str, old: str, sizes: Sequence[int], values: Array | None, shape: tuple[int, ...]
    ) -> tuple[str, bool]:
        """A name for what is new, and whether it is there already, from an earlier run."""
        name = coarse_name(old, sizes)
        while True:
            there = self._source.nodes.get(joined(folder, name))
            if joined(folder, name) in self._taken:
                if values is not None and there is not None and self._has(there, values):
                    return name, True
            elif self._lengths.get((folder, name)) is None:
                return name, False
            elif len(sizes) == 1 and values is None and self._lengths[folder, name] == shape[0]:
                return name, True
            name += "_"

    def _has(self, there: Node, values: Array) -> bool:
        """Whether a variable of the source has these values."""
        if there.document is None or there.path in self._pooled or there.shape != values.shape:
            return False
        return there.numbers() == values.dtype.name and np.array_equal(
            self._source.values(there.path), values, equal_nan=True
        )

    def _coordinate(self, item: Node, sizes: Mapping[str, tuple[int, int]], pooled: Pooled) -> str | None:
        """The name of a coordinate that goes with a result; None where it cannot be made."""
        after = [sizes[d][1] for d in item.dims if d in sizes]
        if not after:
            return item.base
        size = tuple(sizes[d][1] if d in sizes else n for d, n in zip(item.dims, item.shape, strict=True))
        if item.path in self._pooled:
            shapes = {array.name: array.shape for array in self._pooled[item.path]}
            return next((name.rpartition("/")[2] for name, shape in shapes.items() if shape == size), None)
        key = (item.path, size)
        if key not in self._made:
            values = self._coarse_values(item, size, pooled)
            self._made[key] = None
            if values is not None:
                name, is_there = self._free(item.folder, item.base, after, values, size)
                dims = [
                    self._dimension(item.folder, d, *sizes[d], pooled) if d in sizes else d or None
                    for d in item.dims
                ]
                if not is_there:
                    self._variable(item, joined(item.folder, name), values, dims)
                self._made[key] = name
        return self._made[key]

    def _coarse_values(self, item: Node, size: tuple[int, ...], pooled: Pooled) -> Array | None:
        """The coordinates of the new cells; None where the old ones are no numbers, or too many."""
        if pooled.coarsen is None or len(size) != len(item.shape) or len(size) > 2 or 0 in size:
            return None
        if item.numbers() in (None, "bool", "bfloat16") or not 0 < size_of(item.shape) <= MOST_COORDINATES:
            return None
        values = self._source.values(item.path)
        return coarse_coordinates(values, decoded(item), size, pooled.coarsen)

    def _variable(self, origin: Node, path: str, values: Array, dims: list[str | None]) -> None:
        """Make a coordinate of the new grid with what the old one says of itself, and bounds of its own."""
        said, kind = decoded(origin), values.dtype.name
        meaning = meaning_of(said, str(origin.numbers()))
        changes = dict(changes_of(said, meaning, kind)) | references_of(origin.attributes, {})
        named = bounds_name(origin.attributes)
        if named is not None:
            changes[named[0]] = self._bounds(origin, named[1], dims, values.shape)
        self._put(path, origin, values, dims, changes, meaning)

    def _bounds(self, origin: Node, name: str, dims: list[str | None], size: tuple[int, ...]) -> str | None:
        """The name of the bounds of the new cells; None where they cannot be told."""
        item = self._found(origin.folder, name)
        if item is None or item.numbers() in (None, "bool", "bfloat16") or len(item.shape) != len(size) + 1:
            return None
        if not 0 < size_of(item.shape) <= MOST_COORDINATES:
            return None
        values = coarse_bounds(self._source.values(item.path), size)
        if values is None:
            return None
        new, is_there = self._free(item.folder, item.base, size, values, values.shape)
        if not is_there:
            corners = [item.dims[-1] or None] if item.dims else [None]
            meaning = meaning_of(decoded(item), str(item.numbers()))
            changes = changes_of(decoded(item), meaning, values.dtype.name)
            self._put(joined(item.folder, new), item, values, [*dims, *corners], dict(changes), meaning)
        return new

    def _put(
        self,
        path: str,
        origin: Node,
        values: Array,
        dims: list[str | None],
        changes: dict[str, Any],
        meaning: Meaning,
    ) -> None:
        own = self._source.layout(origin.path).fill
        described = in_json(origin, decoded(origin), changes, meaning, own, name_of(values.dtype))
        self._taken.add(path)
        self._make(Variable(path, origin, values, dims, described))
