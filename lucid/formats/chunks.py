"""Chunks of an array, whatever its format: regions are read chunk by chunk, and no chunk becomes more than it may.

A format says how a chunk lies in its file, and how it is decoded (`ChunkReader`). What an encoded chunk says of itself
is a stranger's word, so a stream is decoded to the bytes that a chunk has and no further.
"""

import lzma
import threading
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from lucid.errors import FormatError
from lucid.formats.arrays import Array
from lucid.formats.regions import Region, overlaps, size_of
from lucid.threads import Item, Result

_deflate: ModuleType | None
try:
    import deflate as _deflate
except ImportError:
    _deflate = None

#: Bytes of a stream that are decoded at once, and most of those that they become.
STREAM_BYTES, DECODED_BYTES = 1 << 14, 1 << 18

Index: TypeAlias = tuple[int, ...]
#: A chunk as it lies in its file.
Stored = TypeVar("Stored")


class KeptChunk(threading.local):
    """The chunk that a thread decoded last, for reads of less than a chunk: the next one is mostly of the same."""

    array: Any = None
    index: Index | None = None
    cells: Array | None = None

    def keep(self, array: Any, index: Index, cells: Array) -> None:
        """Keep a chunk of an array, in place of the one before."""
        self.array, self.index, self.cells = array, index, cells

    def let_go(self) -> None:
        """Keep none."""
        self.array = self.index = self.cells = None


class ChunkReader(ABC, Generic[Stored]):
    """An array that lies in chunks, read by any thread."""

    def __init__(self, chunks: tuple[int, ...], fill: Any, kept: KeptChunk) -> None:
        #: The shape of a chunk; what is read where there is none.
        self._chunks, self._fill = chunks, fill
        self._kept = kept

    @abstractmethod
    def _fetch(self, index: Index) -> Stored | None:
        """A chunk as it lies in its file; None where it was never written."""

    @abstractmethod
    def _decode(self, chunk: Stored, inside: Region, out: Array, outside: Region) -> Array | None:
        """All cells of a chunk; None where those `inside` were decoded to `outside` in `out`."""

    def _each(self, work: Callable[[Item], Result], items: Iterable[Item], most: int) -> Iterator[Result]:  # noqa: ARG002
        """What is done with each item, in order; where that is sooner, with several at once, `most` at most."""
        return map(work, items)

    def read(self, region: Region, out: Array) -> None:
        """Fill `out`, of the shape of the region, with the cells of all chunks that it touches."""
        kept, most = self._kept, out.size // size_of(self._chunks)
        if most or kept.array is not self:
            kept.let_go()

        def fetch(overlap: tuple[Index, Region, Region]) -> tuple[Any, Stored | None]:
            return overlap, None if overlap[0] == kept.index else self._fetch(overlap[0])

        # Encoded chunks take the memory of cells at most, so there may be as many of them at once.
        for (index, inside, outside), stored in self._each(fetch, overlaps(region, self._chunks), most):
            if kept.cells is not None and index == kept.index:
                cells_at(out, outside)[...] = kept.cells[inside]
            elif stored is None:
                cells_at(out, outside)[...] = self._fill
            else:
                kept.let_go()  # there is memory for one
                cells = self._decode(stored, inside, out, outside)
                if cells is not None:
                    cells_at(out, outside)[...] = cells[inside]
                    if not most:
                        kept.keep(self, index, cells)
                del cells, stored  # before the next chunk is read


def cells_at(array: Array, region: Region) -> Array:
    """The cells in a region, where they are; of an array without axes, an array, too."""
    return array[(*region, ...)]  # type: ignore[arg-type]


def most_of(nbytes: int) -> int:
    """Most bytes that a chunk may have, encoded or not: codecs make a few more of what they cannot compress."""
    return 2 * nbytes + 4096


def check_stored_bytes(size: int, nbytes: int) -> None:
    """Raise where a chunk has more bytes in its file than codecs would make of it."""
    if size > most_of(nbytes):
        raise FormatError(f"has a chunk of {size} bytes or more; expected about {nbytes}")


def decode_zlib(raw: Array, limit: int) -> Array:
    """What a stream of zlib becomes, `limit` bytes at most; what stands behind it is passed over."""
    if _deflate is not None:
        # It takes a third of zlib's time, but refuses without a reason: zlib says what is wrong.
        with suppress(_deflate.DeflateError):
            return np.frombuffer(_deflate.zlib_decompress(raw.data, limit), np.uint8)
    return decode_streams(zlib.decompressobj, raw, limit, are_several=False)


def decode_streams(new: Callable[[], Any], raw: Array, limit: int, *, are_several: bool = True) -> Array:
    """What a stream becomes, `limit` bytes at most; with `are_several`, another may begin where one ends.

    Python joins blocks to what is decoded at once, so all of it at once would be a further copy of the chunk.
    """
    data, size, start = np.empty(limit, np.uint8), 0, 0
    stream = new()
    try:
        while True:
            # bzip2 and lzma keep input that they have no room for, and say so by `needs_input`, even if none is left of
            # it; zlib hands it back.
            block = raw[start : start + STREAM_BYTES * getattr(stream, "needs_input", True)].data
            decoded = stream.decompress(block, min(limit - size + 1, DECODED_BYTES))
            start += len(block) - len(getattr(stream, "unconsumed_tail", b""))
            size += len(decoded)
            if size > limit or not (block or decoded or stream.eof or start < len(raw)):
                break
            data[size - len(decoded) : size] = np.frombuffer(decoded, np.uint8)
            if stream.eof:
                start -= len(stream.unused_data)
                if not are_several or start == len(raw):
                    return data[:size]
                stream = new()
    except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
        raise FormatError(f"has a chunk that cannot be decompressed: {error}") from None
    raise FormatError("has a chunk that decompresses to another size than declared")
