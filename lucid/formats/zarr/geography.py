"""Dimensions and coordinates of a store, as xarray reads them: an axis has a name, and a variable of that name.

Which of them results have is said in `lucid.formats.geography`; here they are read and described.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lucid.formats.arrays import Array, Pooled
from lucid.formats.geography import Dimension, Geography, Paths, Variable
from lucid.formats.grid import base_of, references_of
from lucid.formats.meaning import meaning_of
from lucid.formats.result import Changes
from lucid.formats.zarr.meaning import Described, decoded, in_json
from lucid.formats.zarr.nodes import Node, joined
from lucid.formats.zarr.source import ZarrSource
from lucid.pooling.dtypes import name_of


class New(NamedTuple):
    """A variable of the new grid: all that a store holds of it."""

    path: str
    origin: Node
    values: Array
    dims: list[str | None]
    described: Described


class Placed(NamedTuple):
    """Names of the axes of a result, and attributes of it that differ from its source's."""

    dims: list[str | None]
    changes: Mapping[str, Any]


class Dimensions(Geography):
    """The named axes of a store, and what lies along them; `put` makes a variable."""

    def __init__(
        self,
        source: ZarrSource,
        pooled: Sequence[Pooled],
        gone: Collection[str],
        put: Callable[[New], None],
        *,
        carries: bool,
    ) -> None:
        super().__init__()
        self._source, self._put, self._carries = source, put, carries
        self._pooled: dict[str, list[Pooled]] = {}
        for array in pooled:
            self._pooled.setdefault(array.source.name.strip("/"), []).append(array)
        #: Paths that are taken, and lengths of the dimensions of what is carried over, by path.
        self._taken = {array.name.strip("/") for array in pooled}
        self._lengths: dict[str, int] = {}
        for node in source.nodes.values() if carries else ():
            if node.path not in self._pooled and node.path not in gone:
                self._taken.add(node.path)
                for name, length in zip(node.dims, node.shape, strict=False):
                    self._lengths[joined(node.folder, name)] = length

    def placed(self, node: Node, pooled: Pooled) -> Placed:
        """Where a result is: the names of its axes, and what it says of coordinates."""
        if pooled.flat:
            features = f"{base_of(pooled.name)}_features"
            names = [node.dims[0] or None, features] if node.dims else []
            return Placed(names, references_of(node.attributes, {}))
        dims, changes = self.place(self._variable(node), pooled)
        return Placed(_names(dims) if node.dims else [], changes)

    def variable(self, path: str) -> Variable | None:
        node = self._source.nodes.get(path.strip("/")) if self._carries else None
        return None if node is None or node.document is None else self._variable(node)

    def _variable(self, node: Node) -> Variable:
        pairs = zip(node.dims or ("",) * len(node.shape), node.shape, strict=True)
        return Variable(
            path=f"/{node.path}",
            shape=node.shape,
            dims=[[self._dimension_of(node.folder, *pair)] if pair[0] else [] for pair in pairs],
            attributes=decoded(node),
            numbers=node.numbers(),
            read=lambda: self._source.values(node.path),
            item=node,
        )

    def _dimension_of(self, near: str, name: str, length: int) -> Dimension:
        """A dimension by its name in a group, whose coordinates are there or in a group around."""
        folder, there = near, self._source.nodes.get(joined(near, name))
        while folder and (there is None or there.document is None):
            folder = folder.rpartition("/")[0]
            there = self._source.nodes.get(joined(folder, name))
        if not self._carries or there is None or there.document is None or there.shape != (length,):
            return Dimension((name, length), f"/{joined(near, name)}", f"/{name}", lambda: None)
        path = f"/{there.path}"
        return Dimension((name, length), path, f"/{name}", lambda: self.variable(path))

    def means_of(self, variable: Variable) -> Mapping[str, tuple[int, ...]] | None:
        arrays = self._pooled.get(variable.item.path)
        return None if arrays is None else {array.name: array.shape for array in arrays}

    def holds(self, path: str, shape: tuple[int, ...], values: Array | None) -> bool | None:
        path = path.strip("/")
        if path in self._taken:
            return values is not None and self._has(self._source.nodes.get(path), values)
        if path not in self._lengths:
            return None
        return values is None and shape == (self._lengths[path],)

    def _has(self, there: Node | None, values: Array) -> bool:
        """Whether a variable of the source has these values."""
        if there is None or there.document is None or there.path in self._pooled:
            return False
        if there.shape != values.shape or there.numbers() != values.dtype.name:
            return False
        is_float = values.dtype.kind == "f"
        return np.array_equal(self._source.values(there.path), values, equal_nan=is_float)

    def declare(self, path: str, length: int) -> None:
        self._lengths[path.strip("/")] = length

    def make(self, path: str, origin: Variable, values: Array, dims: Paths, changes: Changes) -> None:
        if dims == [[path]]:
            self._lengths[path.strip("/")] = len(values)
        self._taken.add(path.strip("/"))
        node, said = origin.item, dict(origin.attributes)
        own = self._source.layout(node.path).fill
        if origin.numbers is None:
            there = {key: value for key, value in node.attributes.items() if key not in changes}
            said = there | {key: value for key, value in changes.items() if value is not None}
            described = Described(said, own)
        else:
            meaning = meaning_of(said, origin.numbers)
            described = in_json(node, said, changes, meaning, own, name_of(values.dtype))
        self._put(New(path.strip("/"), node, values, _names(dims), described))


def _names(dims: Paths) -> list[str | None]:
    """The names of axes, None for those without one."""
    return [base_of(paths[0]) if paths else None for paths in dims]
