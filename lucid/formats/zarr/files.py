"""The files of chunks of an output, written when all its cells are known.

A shard is written chunk after chunk, so it takes the memory of one. The bytes are those that zarr would write: chunks
of nothing but the fill value have no file, and stand in no index.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from typing import TypeAlias

import numpy as np

from lucid.formats.arrays import Array, pad_chunk
from lucid.formats.chunks import Index
from lucid.formats.regions import Region, size_of
from lucid.formats.zarr.chunks import NOWHERE
from lucid.formats.zarr.documents import write_array
from lucid.formats.zarr.layout import layout_of
from lucid.formats.zarr.nodes import FILES, Node, digest_of_files
from lucid.formats.zarr.store import FolderStore
from lucid.options import Options
from lucid.threads import for_each

#: Copies of a chunk that lie in memory while it is encoded: its cells, filled up and in order, and bytes.
COPIES = 4
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

    def write_all(self, read: Reader, options: Options) -> None:
        """Write all files, by as many workers as have room for their chunks."""
        chunk_bytes = size_of(self.layout.chunks) * self.layout.dtype.itemsize
        grid = [range(-(-n // unit)) for n, unit in zip(self.layout.shape, self.layout.files, strict=True)]
        # A single file begins no thread, since there may be thousands of small arrays.
        workers = max(1, min(options.workers_for(COPIES * chunk_bytes), prod(map(len, grid))))
        for_each(partial(self.write_file, read=read), product(*grid), workers=workers)

    def seal(self) -> None:
        """Say in a shard which files there are: those that are lost later would be read as the fill value."""
        assert self.node.document is not None
        files = digest_of_files(FolderStore(self._folder), "")
        write_array(self._folder, self.node.document, self.node.attributes | {FILES: files})

    def write_file(self, index: Index, read: Reader) -> None:
        """Write the file whose cells `read` gives, chunk after chunk; there is none for the fill value alone."""
        layout, path = self.layout, self._folder / self.layout.key(index)
        units = zip(index, layout.files, layout.shape, strict=True)
        region = [slice(i * u, min((i + 1) * u, n)) for i, u, n in units]
        entries = np.full((*layout.grid, 2), NOWHERE, "<u8")
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
                    entries[chunk] = end, len(data)
                    end += len(data)
            if file is not None and layout.shard_index is not None:
                file.write(layout.shard_index.encode(entries))

    def _encode(self, cells: Array) -> bytes | None:
        """The bytes of a chunk, which the fill value fills up at the edge; None for nothing but that value."""
        native = self._codecs.dtype.newbyteorder("=")
        fill = np.asarray(0 if self.layout.fill is None else self.layout.fill, native)
        cells = np.ascontiguousarray(cells).view(native)
        if _is_only_fill(cells, fill):
            return None
        return self._codecs.encode(pad_chunk(cells, self.layout.chunks, fill))


def _is_only_fill(cells: Array, fill: Array) -> bool:
    """Whether all cells are the fill value: any NaN is NaN, but 0 is not -0."""
    if fill != fill:
        return bool(np.isnan(cells).all())
    word_type = f"u{fill.dtype.itemsize}"
    words, word = cells.view(word_type), fill.view(word_type)
    return bool(words.flat[0] == word) and bool((words == word).all())


def _morton_order(grid: Index) -> list[Index]:
    """The chunks of a shard as zarr orders them: by the bits of their indices, the last bits of all axes first."""
    bits = ((bit, axis) for axis, n in enumerate(grid) for bit in range((n - 1).bit_length()))
    highest_first = sorted(bits, reverse=True)
    return sorted(
        np.ndindex(*grid), key=lambda index: [index[axis] >> bit & 1 for bit, axis in highest_first]
    )
