"""Chunks: where their files are, and how they are read, from any thread.

A chunk without a file reads as the fill value, so chunks under other names than the metadata say would be zeros
in silence. A store that lost `dimension_separator`, or was copied under other names, is such a one.
"""

import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from lucid.errors import FormatError, MemoryLimitError
from lucid.formats.arrays import Array
from lucid.formats.regions import Region, overlaps, size_of
from lucid.formats.zarr.layout import Layout
from lucid.formats.zarr.nodes import joined
from lucid.formats.zarr.tree import Tree

#: What the files of chunks are called by some convention or other.
_ANY_KEY = re.compile(r"(c[./])?\d+([./]\d+)*")
#: Folders that are searched for a file, one below the other.
_MOST_FOLDERS = 64
#: Where the index of a shard has no chunk; and where no file reaches to.
NOWHERE, _FAR = (1 << 64) - 1, 1 << 62
#: Indices of shards that are kept, each of at most this fraction of the memory.
_MOST_INDICES, _OF_MEMORY = 4, 16


class Chunks:
    """The chunks of a store."""

    def __init__(self, tree: Tree, max_memory: int) -> None:
        self._tree, self._max_memory = tree, max_memory
        self._indices: dict[str, Array | None] = {}
        self._lock = threading.Lock()

    def read(self, path: str, layout: Layout, region: Region, out: Array) -> None:
        """Fill `out`, of the region's shape, with the cells of all chunks that it touches.

        Raises
        ------
        FormatError
            A chunk decodes to another size, or its shard says nonsense.

        """
        assert layout.codecs is not None
        for index, inside, outside in overlaps(region, layout.chunks):
            place: tuple[Any, ...] = (*outside, ...)  # of an array without axes, an array, too
            target = out[place]
            raw = self._encoded(path, layout, index)
            if raw is None:
                target[...] = 0 if layout.fill is None else layout.fill
                continue
            is_whole = target.shape == layout.chunks and target.flags.c_contiguous
            cells = layout.codecs.decode(
                np.frombuffer(raw, np.uint8), layout.chunks, target if is_whole else None
            )
            if cells is not target:
                np.copyto(target, cells[inside])

    def _encoded(self, path: str, layout: Layout, index: tuple[int, ...]) -> bytes | None:
        """A chunk as it lies in its file; None where it was never written."""
        most = 2 * size_of(layout.chunks) * layout.dtype.itemsize + 4096
        if not layout.is_sharded:
            raw = self._tree.read(joined(path, layout.key(index)), 0, most + 1)
            count = 0 if raw is None else len(raw)
        else:
            grid = layout.grid
            key = joined(path, layout.key(tuple(i // n for i, n in zip(index, grid, strict=True))))
            places = self._index(key, layout)
            if places is None:
                return None
            start, count = map(int, places[tuple(i % n for i, n in zip(index, grid, strict=True))])
            if start == count == NOWHERE:
                return None
            raw = self._tree.read(key, start, start + count) if count <= most and start < _FAR else b""
            if count <= most and (raw is None or len(raw) != count):
                raise FormatError("has a shard that ends before the chunks that its index lists")
        if count > most:
            raise FormatError(f"has a chunk of more than {most} bytes; expected at most that")
        return raw

    def _index(self, key: str, layout: Layout) -> Array | None:
        """Places and lengths of the chunks of a shard; None where it was never written."""
        with self._lock:
            if key in self._indices:
                return self._indices[key]
        chain, shape = layout.shard_index, (*layout.grid, 2)
        assert chain is not None
        size = 8 * size_of(shape) + (chain.added or 0)
        if size > max(1 << 16, self._max_memory // _OF_MEMORY):
            raise MemoryLimitError(
                f"has shards of {size_of(layout.grid)} chunks, whose index needs `max_memory` of "
                f"{size * _OF_MEMORY} bytes; it is {self._max_memory}"
            )
        raw = self._tree.read(key, *((0, size) if layout.index_is_first else (-size, None)))
        places = None
        if raw is not None:
            if len(raw) != size:
                raise FormatError("has a shard that is shorter than its index")
            places = chain.decode(np.frombuffer(raw, np.uint8), shape)
        with self._lock:
            while len(self._indices) >= _MOST_INDICES:
                self._indices.pop(next(iter(self._indices)))
            self._indices[key] = places
        return places


def check_names(tree: Tree, path: str, layout: Layout, version: int) -> None:
    """Raise where an array has chunks, but none where its metadata say.

    Raises
    ------
    FormatError
        Its chunks have other names.

    """
    first = layout.key((0,) * len(layout.shape))
    if 0 in layout.shape or tree.has(joined(path, first)):
        return
    wanted = re.compile(re.sub(r"\d+", r"\\d+", re.escape(first)))
    for key in _keys(tree, path):
        if _ANY_KEY.fullmatch(key) and not wanted.fullmatch(key):
            what = "dimension_separator" if version == 2 else "chunk_key_encoding"
            raise FormatError(
                f"has its chunks in files such as {key}, where its metadata ({what}) say {first}; "
                "they would read as nothing but the fill value"
            )


def _keys(tree: Tree, path: str) -> Iterator[str]:
    """Some files of an array: all at the top, and of each folder one, however deep."""
    folders, files = tree.list(path)
    yield from files
    for folder in folders[:_MOST_FOLDERS]:
        key = folder
        for _ in range(_MOST_FOLDERS):
            below, here = tree.list(joined(path, key))
            if here:
                yield f"{key}/{here[0]}"
                break
            if not below:
                break
            key = f"{key}/{below[0]}"
