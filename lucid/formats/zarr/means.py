"""The files of chunks of an output, each written by whoever brings its last cell.

A block that holds a file's cells whole writes it at once, the others meet in a spool. A shard is written chunk after
chunk, so it takes the memory of one. The bytes are those that zarr would write: chunks of nothing but the fill value
have no file, and stand in no index.
"""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import numpy as np

from lucid.formats.arrays import Array, ResultSpec, pad_chunk
from lucid.formats.disk.spool import Spool
from lucid.formats.regions import Region, overlaps, shape_of, shift, size_of
from lucid.formats.zarr.chunks import NOWHERE, Index
from lucid.formats.zarr.documents import write_array
from lucid.formats.zarr.layout import layout_of
from lucid.formats.zarr.nodes import FILES, Node, digest_of_files
from lucid.formats.zarr.store import FolderStore

#: Reads a region of a file's cells.
Reader: TypeAlias = Callable[[Region], Array]


class ArrayFiles:
    """The files of one array."""

    def __init__(self, root: Path, node: Node) -> None:
        layout = layout_of(node, "bfloat16")
        assert layout is not None
        assert layout.codecs is not None
        self._folder, self.node, self.layout, self._codecs = root / node.path, node, layout, layout.codecs
        self._order = _morton_order(layout.grid)

    def region(self, index: Index) -> Region:
        """The cells of a file."""
        units = zip(index, self.layout.files, self.layout.shape, strict=True)
        return tuple(slice(i * u, min((i + 1) * u, n)) for i, u, n in units)

    def write_file(self, index: Index, read: Reader) -> None:
        """Write the file whose cells `read` gives, chunk after chunk; there is none for the fill value alone."""
        layout, region, path = self.layout, self.region(index), self._folder / self.layout.key(index)
        places = np.full((*layout.grid, 2), NOWHERE, "<u8")
        file, end = None, 0
        with ExitStack() as stack:
            for chunk in self._order:
                axes = zip(chunk, layout.chunks, region, strict=True)
                inner = tuple(slice(s.start + i * c, min(s.start + (i + 1) * c, s.stop)) for i, c, s in axes)
                is_inside = all(axis.start < axis.stop for axis in inner)
                data = self._encode(read(inner)) if is_inside else None
                if data is not None:
                    if file is None:
                        path.parent.mkdir(parents=True, exist_ok=True)
                        file = stack.enter_context(path.open("wb"))
                    file.write(data)
                    places[chunk] = end, len(data)
                    end += len(data)
            if file is not None and layout.shard_index is not None:
                file.write(layout.shard_index.encode(places))

    def _encode(self, cells: Array) -> bytes | None:
        """The bytes of a chunk, which the fill value fills up at the edge; None for nothing but that value."""
        native = self._codecs.dtype.newbyteorder("=")
        fill = np.asarray(0 if self.layout.fill is None else self.layout.fill, native)
        cells = np.ascontiguousarray(cells).view(native)
        if _is_only_fill(cells, fill):
            return None
        return self._codecs.encode(pad_chunk(cells, self.layout.chunks, fill))


class Means(ArrayFiles):
    """An array of means, and how much is still missing of it, and of files that come in several regions."""

    def __init__(self, root: Path, node: Node, result: ResultSpec) -> None:
        super().__init__(root, node)
        self._root, self._result = root, result
        self._spool: Spool | None = None
        self._left_cells = size_of(self.layout.shape)
        self._missing_cells: dict[Index, int] = {}
        self._lock = threading.Lock()

    def write(self, shape: Index, region: Region, values: Array) -> bool:
        """Write a region of an array of this shape, of which the axes may be joined; whether it was the last one."""
        stored, unit = self.layout.shape, self.layout.files
        if len(shape) != len(stored):
            self._wait(region, values, shape)
            for index, inside, _ in overlaps(region[:1], unit[:1]):
                self._count((*index, 0), shape_of(inside)[0] * size_of(shape_of(region)[1:]))
        else:
            corner = [axis.start for axis in region]
            for index, _, outside in overlaps(region, unit):
                place = shift(outside, corner)
                if place == self.region(index):
                    self.write_file(index, lambda inner: values[shift(inner, [-n for n in corner])])
                else:
                    self._wait(place, np.ascontiguousarray(values[outside]), stored)
                    self._count(index, size_of(shape_of(place)))
        with self._lock:
            self._left_cells -= values.size
            is_last = self._left_cells == 0
        if is_last:
            self.close()
            if self._result.is_shard:
                self._seal()
        return is_last

    def _wait(self, region: Region, values: Array, shape: Index) -> None:
        """Keep cells that do not fill a file."""
        with self._lock:
            if self._spool is None:
                self._spool = Spool(self._root.parent)
                self._spool.hold([self._result], claims=False)
        self._spool.write(self._result, region, values, shape)

    def _count(self, index: Index, cells: int) -> None:
        """Note cells that are in the spool; store the file with its last."""
        with self._lock:
            missing = self._missing_cells.get(index, size_of(shape_of(self.region(index)))) - cells
            self._missing_cells[index] = missing
            if missing == 0:
                del self._missing_cells[index]
        if missing == 0:
            spool = self._spool
            assert spool is not None
            self.write_file(index, lambda region: spool.read(self._result, region))

    def _seal(self) -> None:
        """Say in a shard which files there are: those that are lost later would be read as the fill value."""
        assert self.node.document is not None
        files = digest_of_files(FolderStore(self._folder), "")
        write_array(self._folder, self.node.document, self.node.attributes | {FILES: files})

    def close(self) -> None:
        """Let go of cells that wait."""
        if self._spool is not None:
            self._spool.close()


def _is_only_fill(cells: Array, fill: Array) -> bool:
    """Whether all cells are the fill value: any NaN is NaN, but 0 is not -0."""
    if fill != fill:
        return bool(np.isnan(cells).all())
    word_type = f"u{fill.dtype.itemsize}"
    words, word = cells.view(word_type), fill.view(word_type)
    return bool(words.flat[0] == word) and bool((words == word).all())


def _morton_order(grid: Index) -> list[Index]:
    """The chunks of a shard as zarr orders them: by the bits of their indices, the last bits of all axes first."""
    places = ((bit, axis) for axis, n in enumerate(grid) for bit in range((n - 1).bit_length()))
    highest_first = sorted(places, reverse=True)
    return sorted(
        np.ndindex(*grid), key=lambda index: [index[axis] >> bit & 1 for bit, axis in highest_first]
    )
