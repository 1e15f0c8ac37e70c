"""An array of a store: where the files of its chunks are, and how they are read, from any thread.

A chunk without a file reads as the fill value, so chunks under other names than the metadata say would be zeros
in silence. A store that lost `dimension_separator`, or was copied under other names, is such a one.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property, lru_cache, partial
from itertools import islice, product
from typing import Any

import numpy as np

from lucid.errors import FormatError, MemoryLimitError
from lucid.formats.arrays import Array
from lucid.formats.chunks import ChunkReader, Index, KeptChunk, cells_at, check_stored_bytes, most_of
from lucid.formats.contract import FAR_READS
from lucid.formats.regions import Region, overlaps, shift, size_of
from lucid.formats.zarr.layout import Layout, layout_of
from lucid.formats.zarr.nodes import Node
from lucid.formats.zarr.store import Store, key_in
from lucid.options import Options
from lucid.threads import Item, Result

#: What the files of chunks, or the folders that they are in, are called by some convention or other.
_ANY_NAME = re.compile(r"c|(c\.)?\d+(\.\d+)*")
#: Files of an array that one look into its folder tells; of more, each is opened to see whether it is there.
_MOST_LISTED = 1 << 15
#: Where the index of a shard has no chunk.
NOWHERE = (1 << 64) - 1
#: The indices of shards that are kept take at most this fraction of the memory, or two of them do.
_OF_MEMORY = 16
#: An index may have as many bytes, whatever the memory.
_LEAST_INDEX_BYTES = 1 << 16


class StoredArray(ChunkReader[bytes]):
    """An array of numbers in a store."""

    def __init__(self, store: Store, node: Node, options: Options) -> None:
        self._store, self._node = store, node
        self._index_locks = [threading.Lock() for _ in range(FAR_READS)]
        self.layout = layout_of(node, options.input_dtype) or _layout_by_zarr(self._zarr_array, node)
        super().__init__(self.layout.chunks, 0 if self.layout.fill is None else self.layout.fill, KeptChunk())
        count = options.max_memory // _OF_MEMORY // (16 * size_of(self.layout.grid))
        # Not a method, or the array would keep itself, and all that it remembers, until garbage is collected.
        self._index = lru_cache(max(2, count))(partial(_read_index, store, self.layout, options.max_memory))

    @cached_property
    def _zarr_array(self) -> Any:
        """The array as zarr knows it, which decodes what is not known here."""
        if "pickle" in json.dumps((self._node.document or {}).get("codecs")):
            raise FormatError("is encoded as pickles, which are not read because a pickle can run code")
        import zarr  # takes longer to load than most stores to read

        # What it warns of, as of codecs that the specification has not yet, is for the user's filters: those are the
        # process's, and any thread may be here.
        path = f"{self._store.prefix}{self._node.path}"
        return zarr.open_array(self._store.address, path=path, mode="r")

    @cached_property
    def _file_indices(self) -> frozenset[Index] | None:
        """The files by as many indices as the layout lists; None where one look does not show them."""
        layout = self.layout
        if layout.codecs is None or not layout.shape or self._store.is_far:
            return None
        names, files = self._store.names(key_in(self._node.path, layout.folder)), set[Index]()
        first_names = [*islice(names, _MOST_LISTED + 1)]
        for name in first_names:
            with suppress(ValueError):  # it is no file of a chunk
                files.add(tuple(map(int, name.removeprefix("c.").split("."))))
        return frozenset(files) if len(first_names) <= _MOST_LISTED else None

    def read(self, region: Region, out: Array) -> None:
        """Fill `out`, of the region's shape, with the cells of all chunks that it touches."""
        layout = self.layout
        if layout.codecs is None:
            for _, _, outside in overlaps(region, layout.chunks):
                # zarr decodes ten chunks at a time of what it is asked for, in memory of its own.
                cells = self._zarr_array[shift(outside, [axis.start for axis in region])]
                cells_at(out, outside).view(self._zarr_array.dtype)[...] = cells
            return
        if self._file_indices is not None:
            axes = [range(s.start // f, -(-s.stop // f)) for s, f in zip(region, layout.files, strict=True)]
            if self._file_indices.isdisjoint(product(*axes[: layout.listed_axes])):
                out[...] = self._fill
                return
        super().read(region, out)

    def _each(self, work: Callable[[Item], Result], items: Iterable[Item], most: int) -> Iterator[Result]:
        return self._store.each(work, items, most)

    def _decode(self, chunk: bytes, inside: Region, out: Array, outside: Region) -> Array | None:  # noqa: ARG002
        assert self.layout.codecs is not None
        target = cells_at(out, outside)
        is_whole = target.shape == self._chunks and target.flags.c_contiguous
        raw = np.frombuffer(chunk, np.uint8)
        cells = self.layout.codecs.decode(raw, self._chunks, target if is_whole else None)
        return None if cells is target else cells

    def _fetch(self, index: Index) -> bytes | None:
        layout, grid = self.layout, self.layout.grid
        file = tuple(i // n for i, n in zip(index, grid, strict=True))
        if self._file_indices is not None and file[: layout.listed_axes] not in self._file_indices:
            return None
        nbytes = size_of(layout.chunks) * layout.dtype.itemsize
        key = key_in(self._node.path, layout.key(file))
        if layout.shard_index is None:
            raw = self._store.read(key, 0, most_of(nbytes) + 1)
            check_stored_bytes(len(raw or b""), nbytes)
        else:
            with self._index_locks[hash(file) % FAR_READS]:  # else all who want it ask for the same one
                entries = self._index(key)
            if entries is None:
                return None
            start, count = map(int, entries[tuple(i % n for i, n in zip(index, grid, strict=True))])
            if start == count == NOWHERE:
                return None
            check_stored_bytes(count, nbytes)
            raw = self._store.read(key, start, start + count)
            if raw is None or len(raw) != count:
                raise FormatError("has a shard that ends before the chunks that its index lists")
        return raw

    def check_names(self) -> None:
        """Raise where it has chunks, but none where its metadata say."""
        path, first = self._node.path, self.layout.key((0,) * len(self.layout.shape))
        if 0 in self.layout.shape or self._store.read(key_in(path, first), 0, 1) is not None:
            return
        own_name = re.compile(re.sub(r"\d+", r"\\d+", re.escape(first.partition("/")[0])))
        for name in self._store.names(path):
            if _ANY_NAME.fullmatch(name) and not own_name.fullmatch(name):
                what = "dimension_separator" if self._node.version == 2 else "chunk_key_encoding"
                raise FormatError(
                    f"has its chunks in files such as {name}, where its metadata ({what}) say {first}; "
                    "they would read as nothing but the fill value"
                )


def _read_index(store: Store, layout: Layout, max_memory: int, key: str) -> Array | None:
    """Offsets and lengths of the chunks of a shard; None where it was never written."""
    chain, shape = layout.shard_index, (*layout.grid, 2)
    assert chain is not None
    size = chain.sizes(8 * size_of(shape))[-1] or 0
    if size > max(_LEAST_INDEX_BYTES, max_memory // _OF_MEMORY):
        raise MemoryLimitError(
            f"has shards of {size_of(layout.grid)} chunks, whose index needs `max_memory` of "
            f"{size * _OF_MEMORY} bytes; it is {max_memory}"
        )
    raw = store.read(key, *((0, size) if layout.index_is_first else (-size, None)))
    if raw is None:
        return None
    if len(raw) != size:
        raise FormatError("has a shard that is shorter than its index")
    return chain.decode(np.frombuffer(raw, np.uint8), shape)


def _layout_by_zarr(array: Any, node: Node) -> Layout:
    """The layout of an array that only zarr understands; some versions of it take a length of 0 for another."""
    with suppress(KeyError, TypeError):  # a grid of its own
        chunks = (node.document or {})["chunk_grid"]["configuration"]["chunk_shape"]
        if 0 in chunks:
            raise FormatError(f"has chunks of {tuple(chunks)}, which hold no cells")
    is_2 = array.metadata.zarr_format == 2
    separator = array.metadata.dimension_separator if is_2 else array.metadata.chunk_key_encoding.separator
    return Layout(
        shape=array.shape,
        dtype=np.dtype("<u2") if array.dtype.kind == "V" else array.dtype,
        fill=array.fill_value,
        chunks=array.chunks,
        files=array.shards or array.chunks,
        start=() if is_2 or array.metadata.chunk_key_encoding.name == "v2" else ("c",),
        separator=separator,
        codecs=None,
    )
