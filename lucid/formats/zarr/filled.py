"""The files of chunks of an output, each written by whoever brings its last cell.

A block that holds a file's cells whole writes it at once, the others meet in a spool. A shard is written chunk after
chunk, so it takes the memory of one. The bytes are those that zarr would write: chunks of nothing but the fill value
have no file, and stand in no index.
"""

import threading
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from lucid.formats.arrays import Array, Pooled
from lucid.formats.contract import ShardArray
from lucid.formats.disk.spool import Spool
from lucid.formats.regions import Region, overlaps, shape_of, shifted, size_of
from lucid.formats.zarr.chunks import NOWHERE
from lucid.formats.zarr.layout import Layout
from lucid.formats.zarr.nodes import Node, joined
from lucid.formats.zarr.source import ZarrSource

Index = tuple[int, ...]


class Filled:
    """The files of one array."""

    def __init__(self, root: Path, node: Node, layout: Layout) -> None:
        self._folder, self._layout, self.node = root / node.path, layout, node
        assert layout.codecs is not None
        self._codecs = layout.codecs

    def region(self, index: Index) -> Region:
        """The cells of a file."""
        units = zip(index, self._layout.files, self._layout.shape, strict=True)
        return tuple(slice(i * u, min((i + 1) * u, n)) for i, u, n in units)

    def store(self, index: Index, values: Array | Callable[[Region], Array]) -> None:
        """Write a file whose cells are these, or are read by region of it, chunk after chunk."""
        layout = self._layout
        if not layout.is_sharded:
            whole = self.region(index)
            data = self._encoded(values(whole) if callable(values) else values)
            if data is not None:
                self._open(index).write_bytes(data)
            return
        self._store_shard(index, values)

    def _store_shard(self, index: Index, values: Array | Callable[[Region], Array]) -> None:
        layout, region = self._layout, self.region(index)
        assert layout.shard_index is not None
        places = np.full((*layout.grid, 2), NOWHERE, "<u8")
        path, at = self._open(index), 0
        with path.open("wb") as file:
            for one in _in_morton_order(layout.grid):
                axes = zip(one, layout.chunks, shape_of(region), strict=True)
                inner = tuple(slice(min(i * c, n), min((i + 1) * c, n)) for i, c, n in axes)
                if 0 in shape_of(inner):
                    continue
                place = shifted(inner, [axis.start for axis in region])
                data = self._encoded(values(place) if callable(values) else values[inner])
                if data is not None:
                    file.write(data)
                    places[one] = at, len(data)
                    at += len(data)
            file.write(layout.shard_index.encode(places))
        if at == 0:
            path.unlink()

    def _encoded(self, cells: Array) -> bytes | None:
        """The bytes of a chunk, which the fill value fills up at the edge; None for nothing but that value."""
        native = self._codecs.dtype.newbyteorder("=")
        fill = np.asarray(0 if self._layout.fill is None else self._layout.fill, native)
        cells = np.ascontiguousarray(cells).view(native)
        if _is_all(cells, fill):
            return None
        if cells.shape != self._layout.chunks:
            edge = np.full(self._layout.chunks, fill, native)
            edge[tuple(slice(0, n) for n in cells.shape)] = cells
            cells = edge
        return self._codecs.encode(cells)

    def _open(self, index: Index) -> Path:
        path = self._folder / self._layout.key(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class Means(Filled):
    """An array of means, and how much is still missing of files that come in several regions."""

    def __init__(self, root: Path, node: Node, layout: Layout, pooled: Pooled, spool: Spool) -> None:
        super().__init__(root, node, layout)
        self._pooled, self._spool = pooled, spool
        self._missing: dict[Index, int] = {}
        self._lock = threading.Lock()

    def write(self, shape: Index, region: Region, values: Array) -> None:
        """Write a region of an array of this shape; the stored one may have its axes joined."""
        stored, unit = self._layout.shape, self._layout.files
        if len(shape) != len(stored):
            samples = region[0]
            if shape_of(region)[1:] != shape[1:]:
                self._spool.write(self._pooled, region, values, shape)
                cells = size_of(shape_of(region)[1:])
                for index, inside, _ in overlaps((samples,), unit[:1]):
                    self._count((*index, 0), shape_of(inside)[0] * cells)
                return
            region = (samples, slice(0, stored[1]))
            values = values.reshape(shape_of(region))
        for index, _, outside in overlaps(region, unit):
            held = values[outside]
            if held.shape == shape_of(self.region(index)):
                self.store(index, held)
                continue
            place = shifted(outside, [axis.start for axis in region])
            self._spool.write(self._pooled, place, np.ascontiguousarray(held), stored)
            self._count(index, held.size)

    def _count(self, index: Index, cells: int) -> None:
        """Note cells that are in the spool; store the file with its last."""
        with self._lock:
            missing = self._missing.get(index, size_of(shape_of(self.region(index)))) - cells
            self._missing[index] = missing
            if missing == 0:
                del self._missing[index]
        if missing == 0:
            self.store(index, lambda region: self._spool.read(self._pooled, region))

    def move(self, one: ShardArray) -> int:
        """Copy the files of a shard's chunks that are those of the whole; how many samples that were."""
        shard = one.open()
        layout = self._layout
        unit, length = layout.files[0], layout.shape[0]
        start, end = one.offset[0], one.offset[0] + one.spec.shape[0]
        has_all = one.spec.shape[1:] == layout.shape[1:]
        if not isinstance(shard, ZarrSource) or not has_all or start % unit:
            return 0
        node = shard.nodes[one.spec.name.strip("/")]
        if _but_shape(node) != _but_shape(self.node):
            return 0
        stop = end if end == length else end - end % unit
        others = (range(-(-n // u)) for n, u in zip(layout.shape[1:], layout.files[1:], strict=True))
        for first, *rest in product(range(start // unit, -(-stop // unit)), *others):
            there = layout.key((first - start // unit, *rest))
            data = shard.tree.read(joined(node.path, there))
            if data is not None:  # a chunk of nothing but fill values has no file
                self._open((first, *rest)).write_bytes(data)
        return stop - start


def _but_shape(node: Node) -> dict[str, Any]:
    """All that says how the chunks of an array are cut and encoded."""
    document = node.document or {}
    return {name: value for name, value in document.items() if name not in ("shape", "attributes")}


def _is_all(cells: Array, fill: Array) -> bool:
    """Whether all cells are the fill value: any NaN is NaN, but 0 is not -0."""
    if fill != fill:
        return bool(np.isnan(cells).all())
    kind = f"u{fill.dtype.itemsize}"
    words, word = cells.view(kind), fill.view(kind)
    return bool(words.flat[0] == word) and bool((words == word).all())


def _in_morton_order(grid: Index) -> Iterator[Index]:
    """The chunks of a shard as zarr orders them: by the bits of their indices, the last bits of all axes first."""
    bits = [(n - 1).bit_length() for n in grid]

    def code(index: Index) -> int:
        total = at = 0
        for bit in range(max(bits, default=0)):
            for axis, i in enumerate(index):
                if bit < bits[axis]:
                    total |= (i >> bit & 1) << at
                    at += 1
        return total

    yield from sorted(product(*map(range, grid)), key=code)
