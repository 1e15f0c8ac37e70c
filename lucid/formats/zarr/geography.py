"""Dimensions and coordinates of a store, as xarray reads them: an axis has a name, and a variable of that name.

Which of them results have is said in `lucid.formats.geography`; here they are read and described.
"""

from collections.abc import Callable, Collection
from typing import TypeAlias

import numpy as np

from lucid.formats.arrays import Array
from lucid.formats.choosing import CarriedNames
from lucid.formats.geography import Dimension, Geography, Paths
from lucid.formats.grid import base_of
from lucid.formats.meaning import meaning_of
from lucid.formats.result import Changes
from lucid.formats.variables import Variable
from lucid.formats.zarr.meaning import Description, describe_result
from lucid.formats.zarr.nodes import Node
from lucid.formats.zarr.ome import Results
from lucid.formats.zarr.source import ZarrSource
from lucid.formats.zarr.store import key_in
from lucid.pooling.dtypes import name_of

#: Makes a variable of the new grid: its path, the array that it is made of, its values, what it says of itself.
Make: TypeAlias = Callable[[str, Node, Array, Description], None]


class Dimensions(Geography):
    """The named axes of a store, and what lies along them."""

    def __init__(
        self, source: ZarrSource, results: Results, names: CarriedNames, carried: Collection[Node], make: Make
    ) -> None:
        super().__init__(source.variable_at, results, names)
        self._source, self._make_array = source, make
        #: Paths that are taken, and lengths of the dimensions of what is carried over, by path.
        self._taken_paths = {array.name.strip("/") for arrays in results.values() for array in arrays}
        self._lengths: dict[str, int] = {}
        for node in carried:
            self._taken_paths.add(node.path)
            for name, length in zip(node.dims, node.shape, strict=False):
                self._lengths[key_in(node.folder, name)] = length

    def dimensions(self, variable: Variable) -> list[list[Dimension]]:
        node = variable.handle
        pairs = zip(node.dims or ("",) * len(node.shape), node.shape, strict=True)
        return [[self._dimension_of(node, *pair)] if pair[0] else [] for pair in pairs]

    def _dimension_of(self, node: Node, name: str, length: int) -> Dimension:
        """A dimension by its name in a group, whose coordinates are there or in a group around."""
        old = self.variable_named(node.name, name)
        old = old if old is not None and old.shape == (length,) else None
        path = f"/{key_in(node.folder, name)}" if old is None else old.path
        return Dimension((name, length), path, f"/{name}", lambda: old)

    def read(self, variable: Variable) -> Array:
        return self._source.values(variable.key)

    def holds(self, path: str, shape: tuple[int, ...], values: Array | None) -> bool | None:
        path = path.strip("/")
        if path not in self._taken_paths:
            return values is None and shape == (self._lengths[path],) if path in self._lengths else None
        node = self._source.nodes.get(path)
        if values is None or node is None or path in self._results:
            return False
        fits = (node.shape, node.numbers()) == (values.shape, values.dtype.name)
        return fits and np.array_equal(self._source.values(path), values, equal_nan=values.dtype.kind == "f")

    def declare(self, path: str, length: int) -> None:
        self._lengths[path.strip("/")] = length

    def make(self, path: str, origin: Variable, values: Array, dims: Paths, changes: Changes) -> None:
        if dims == [[path]]:
            self.declare(path, len(values))
        path, node, fill = path.strip("/"), origin.handle, None
        self._taken_paths.add(path)
        if origin.numbers is None:  # of a grid mapping, whose value says nothing
            values = np.zeros(values.shape, np.int32)
        else:
            fill = self._source.array(node.path).layout.fill
        numbers = name_of(values.dtype)
        meaning = meaning_of(origin.attributes, origin.numbers or numbers)
        description = describe_result(origin, changes, meaning, fill, numbers, names_of_axes(dims))
        self._make_array(path, node, values, description)


def names_of_axes(dims: Paths) -> list[str | None]:
    """The names of axes, None for those without one."""
    return [base_of(paths[0]) if paths else None for paths in dims]
