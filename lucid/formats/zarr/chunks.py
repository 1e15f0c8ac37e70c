"""Chunks: where their files are, and how they are read, from any thread.

A chunk without a file reads as the fill value, so chunks under other names than the metadata say would be zeros
in silence. A store that lost `dimension_separator`, or was copied under other names, is such a one.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np

from lucid.errors import FormatError, MemoryLimitError
from lucid.formats.arrays import Array
from lucid.formats.regions import Region, overlaps, shifted, size_of
from lucid.formats.zarr.layout import Layout
from lucid.formats.zarr.store import Store, joined

#: What the files of chunks are called by some convention or other.
_ANY_KEY = re.compile(r"(c[./])?\d+([./]\d+)*")
#: Folders of an array that are searched for a file.
_MOST_FOLDERS = 64
#: Where the index of a shard has no chunk; and where no file reaches to.
NOWHERE, _FAR = (1 << 64) - 1, 1 << 62
#: Indices of shards that are kept, each of at most this fraction of the memory.
_MOST_INDICES, _OF_MEMORY = 4, 16


class Chunks:
    """The chunks of a store, whose arrays lie as `layout` says of their paths; `foreign` are those as zarr has them."""

    def __init__(
        self, store: Store, layout: Callable[[str], Layout], foreign: Callable[[str], Any], max_memory: int
    ) -> None:
        self._store, self._layout, self._foreign, self._max_memory = store, layout, foreign, max_memory
        self._index = lru_cache(_MOST_INDICES)(self._read_index)

    def read(self, path: str, region: Region, out: Array) -> None:
        """Fill `out`, of the region's shape, with the cells of all chunks of an array that it touches."""
        layout = self._layout(path)
        for index, inside, outside in overlaps(region, layout.chunks):
            place: tuple[Any, ...] = (*outside, ...)  # of an array without axes, an array, too
            target = out[place]
            if layout.codecs is None:
                # zarr decodes ten chunks at a time of what it is asked for, in memory of its own.
                array = self._foreign(path)
                target.view(array.dtype)[...] = array[shifted(outside, [axis.start for axis in region])]
                continue
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
        if layout.shard_index is None:
            raw = self._store.read(joined(path, layout.key(index)), 0, most + 1)
            count = 0 if raw is None else len(raw)
        else:
            grid = layout.grid
            key = joined(path, layout.key(tuple(i // n for i, n in zip(index, grid, strict=True))))
            places = self._index(path, key)
            if places is None:
                return None
            start, count = map(int, places[tuple(i % n for i, n in zip(index, grid, strict=True))])
            if start == count == NOWHERE:
                return None
            raw = self._store.read(key, start, start + count) if count <= most and start < _FAR else b""
            if count <= most and (raw is None or len(raw) != count):
                raise FormatError("has a shard that ends before the chunks that its index lists")
        if count > most:
            raise FormatError(f"has a chunk of more than {most} bytes; expected at most that")
        return raw

    def _read_index(self, path: str, key: str) -> Array | None:
        """Places and lengths of the chunks of a shard of an array; None where it was never written."""
        layout = self._layout(path)
        chain, shape = layout.shard_index, (*layout.grid, 2)
        assert chain is not None
        size = chain.sizes(8 * size_of(shape))[-1] or 0
        if size > max(1 << 16, self._max_memory // _OF_MEMORY):
            raise MemoryLimitError(
                f"has shards of {size_of(layout.grid)} chunks, whose index needs `max_memory` of "
                f"{size * _OF_MEMORY} bytes; it is {self._max_memory}"
            )
        raw = self._store.read(key, *((0, size) if layout.index_is_first else (-size, None)))
        if raw is None:
            return None
        if len(raw) != size:
            raise FormatError("has a shard that is shorter than its index")
        return chain.decode(np.frombuffer(raw, np.uint8), shape)


def check_names(store: Store, path: str, layout: Layout, version: int) -> None:
    """Raise where an array has chunks, but none where its metadata say."""
    first = layout.key((0,) * len(layout.shape))
    if 0 in layout.shape or store.read(joined(path, first), 0, 1) is not None:
        return
    right = re.compile(re.sub(r"\d+", r"\\d+", re.escape(first)))
    for key in _keys(store, path):
        if _ANY_KEY.fullmatch(key) and not right.fullmatch(key):
            what = "dimension_separator" if version == 2 else "chunk_key_encoding"
            raise FormatError(
                f"has its chunks in files such as {key}, where its metadata ({what}) say {first}; "
                "they would read as nothing but the fill value"
            )


def _keys(store: Store, path: str, most: int = _MOST_FOLDERS) -> Iterator[str]:
    """Some files of an array: all at the top, and of each folder one, however deep."""
    folders, files = store.list(path)
    yield from files
    for folder in folders[:most]:
        yield from (f"{folder}/{key}" for key in islice(_keys(store, joined(path, folder), 1), 1))
