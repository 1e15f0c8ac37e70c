"""Codecs of chunks, done and undone by numcodecs in any number of threads, without zarr.

A chunk is elements in some order, as bytes, through codecs of bytes. What a chunk decodes to is known before it is
decoded: what would become more, or fewer, is an error, and takes no memory. Codecs that are not of this table are
zarr's own business, or a package's that it knows of.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numcodecs
import numpy as np

from lucid.errors import FormatError
from lucid.formats.arrays import Array
from lucid.formats.regions import size_of

#: What a document says of one codec: `id` and parameters in version 2, `name` and `configuration` in version 3.
Said: TypeAlias = Mapping[str, Any]

# As zarr has it: several chunks are decoded at once, so that each is decoded by one thread.
numcodecs.blosc.use_threads = False

#: Names of Blosc's shuffles in version 3, by numbers in version 2.
_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
#: Bytes that a codec adds; of those that compress nobody knows.
_ADDED = {"crc32": 4, "crc32c": 4, "adler32": 4, "fletcher32": 4, "shuffle": 0}
#: Decoders of streams, which stop at a length.
_STREAMS: dict[str, Callable[[Any], Any]] = {
    "gzip": lambda _: zlib.decompressobj(16 + zlib.MAX_WBITS),
    "zlib": lambda _: zlib.decompressobj(),
    "bz2": lambda _: bz2.BZ2Decompressor(),
    "lzma": lambda codec: lzma.LZMADecompressor(
        codec.format, filters=codec.filters if codec.format == lzma.FORMAT_RAW else None
    ),
}


def _zstd_size(raw: bytes) -> int | None:
    """The size that the header of a frame declares (RFC 8878, 3.1.1.1); None where it has none."""
    flags = raw[4]
    width = (0, 2, 4, 8)[flags >> 6] or flags >> 5 & 1
    start = 5 + (not flags & 32) + (0, 1, 2, 4)[flags & 3]
    size = int.from_bytes(raw[start : start + width], "little")
    return size + 256 * (width == 2) if width else None


#: The size that the beginning of encoded bytes declares, where it does.
_DECLARED: dict[str, Callable[[bytes], int | None]] = {
    "zstd": _zstd_size,
    "lz4": lambda raw: int.from_bytes(raw[:4], "little"),
    "blosc": lambda raw: int.from_bytes(raw[4:8], "little"),
}
#: Codecs of bytes that change none; differences are bytes, too.
KNOWN = frozenset((*_ADDED, *_STREAMS, *_DECLARED, "delta"))


def name_of(said: Said) -> str:
    """What a codec is called, without the prefix by which version 3 marks those of numcodecs."""
    return str(said.get("name", said.get("id"))).removeprefix("numcodecs.")


class Codec(NamedTuple):
    """One codec of bytes."""

    name: str
    codec: Any

    def undo(self, raw: Array, size: int | None, most: int, out: Array | None) -> Array:
        """Decode to so many bytes, or where these are not known to `most` at most; into `out` where that goes.

        Raises
        ------
        FormatError
            It would become another size.

        """
        if self.name in _STREAMS:
            return _streamed(lambda: _STREAMS[self.name](self.codec), raw, most)
        if self.name not in _DECLARED:
            return _bytes(self.codec.decode(raw))
        declared = _DECLARED[self.name](raw[:18].tobytes().ljust(18, b"\0"))
        declared = size if declared is None else declared
        if declared is None or declared > most or size not in (None, declared):
            raise FormatError(f"has a chunk that decodes to {declared} bytes; expected {size or most}")
        if out is None or len(out) != declared:
            out = np.empty(declared, np.uint8)
        self.codec.decode(raw, out)
        return out

    def do(self, data: Any) -> Any:
        """Encode, to the bytes that zarr would write; but gzip notes no time of day."""
        if self.name == "gzip":
            return gzip.compress(np.ascontiguousarray(data).data, self.codec.level, mtime=0)
        return self.codec.encode(data)


def codec_of(said: Said) -> Codec | None:
    """The codec that a document speaks of; None where it is not of this table, or wrong."""
    name = name_of(said)
    if name not in KNOWN:
        return None
    parameters = dict(said.get("configuration", {}) if "name" in said else said)
    if said.get("name") == "blosc":
        parameters["shuffle"] = _SHUFFLES.index(parameters["shuffle"])
    if said.get("name") == "crc32c":
        parameters["location"] = "end"
    return Codec(name, numcodecs.get_codec(parameters | {"id": name}))


class Chain(NamedTuple):
    """How the elements of a chunk become bytes."""

    dtype: np.dtype[Any]
    codecs: tuple[Codec, ...]
    #: The axes of the chunk in the order in which they lie, where that is another one.
    order: tuple[int, ...] | None = None
    #: Whether codecs are given elements to encode, not bytes, as in version 2: Blosc looks at their size.
    typed: bool = False

    def decode(self, raw: Array, shape: tuple[int, ...], target: Array | None = None) -> Array:
        """The elements of a chunk; `target` where they could be decoded there, which is contiguous.

        Raises
        ------
        FormatError
            The bytes become another size.

        """
        nbytes = size_of(shape) * self.dtype.itemsize
        sizes: list[int | None] = [nbytes]
        for codec in self.codecs[:-1]:
            added, size = _ADDED.get(codec.name), sizes[-1]
            sizes.append(None if size is None or added is None else size + added)
        straight = None if target is None or self.order else target.reshape(-1).view(np.uint8)
        for codec, size in zip(reversed(self.codecs), reversed(sizes), strict=False):
            raw = codec.undo(raw, size, 2 * nbytes + 4096, straight)
        if raw is straight and target is not None:
            return target
        if len(raw) != nbytes:
            raise FormatError(f"has a chunk that decodes to {len(raw)} bytes; expected {nbytes}")
        cells = raw.view(self.dtype)
        if self.order is None:
            return cells.reshape(shape)
        return cells.reshape([shape[axis] for axis in self.order]).transpose(np.argsort(self.order))

    def encode(self, cells: Array) -> bytes:
        """The bytes of a chunk."""
        if self.order is not None:
            cells = cells.transpose(self.order)
        data: Any = np.ascontiguousarray(cells, self.dtype)
        data = data if self.typed else _bytes(data)
        for codec in self.codecs:
            data = codec.do(data)
        return data.tobytes() if isinstance(data, np.ndarray) else bytes(data)

    @property
    def added(self) -> int | None:
        """Bytes that the codecs add to any chunk; None where that varies."""
        added = [_ADDED.get(codec.name) for codec in self.codecs]
        return None if None in added else sum(n for n in added if n is not None)


def chain_2(document: Said, dtype: np.dtype[Any], rank: int) -> Chain | None:
    """What the codecs of a document of version 2 make of elements of a type; None where one is not known here."""
    said = [
        *(document.get("filters") or []),
        *([document["compressor"]] if document.get("compressor") else []),
    ]
    codecs = [codec_of(one) for one in said]
    order = tuple(reversed(range(rank))) if document["order"] == "F" and rank > 1 else None
    known = tuple(codec for codec in codecs if codec is not None)
    return Chain(dtype, known, order, typed=True) if len(known) == len(codecs) else None


def chain_3(said: Sequence[Said], dtype: np.dtype[Any], rank: int) -> Chain | None:
    """The same of a list of codecs of version 3."""
    order: tuple[int, ...] | None = None
    is_bytes = False
    codecs: list[Codec] = []
    for one in said:
        parameters = one.get("configuration") or {}
        if one.get("name") == "transpose" and not is_bytes and order is None:
            order = tuple(parameters["order"])
            if sorted(order) != [*range(rank)]:
                return None
        elif one.get("name") == "bytes" and not is_bytes:
            is_bytes = True
            endian = parameters.get("endian")
            if dtype.itemsize > 1 and endian not in ("little", "big") and dtype.kind != "V":
                return None
            dtype = dtype.newbyteorder(">" if endian == "big" else "<")
        elif is_bytes and (codec := codec_of(one)) is not None:
            codecs.append(codec)
        else:
            return None
    return Chain(dtype, tuple(codecs), order) if is_bytes else None


def _streamed(new: Callable[[], Any], raw: Array, most: int) -> Array:
    """Decode streams, one behind the other, of so many bytes at most."""
    found, left, data = 0, most, raw.tobytes()
    parts: list[bytes] = []
    while data or not parts:
        stream = new()
        part = stream.decompress(data, left + 1)
        found, left = found + len(part), left - len(part)
        if left < 0 or not stream.eof:
            raise FormatError(f"has a chunk that is cut off, or decodes to more than {most} bytes")
        parts.append(part)
        data = stream.unused_data
    return np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), np.uint8)


def _bytes(data: Any) -> Array:
    """What a codec returns, as bytes."""
    return (
        np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else data.reshape(-1).view(np.uint8)
    )
