"""Codecs of chunks, done and undone by numcodecs in any number of threads, without zarr.

A chunk is elements in some order, as bytes, through codecs of bytes. What a chunk decodes to is known before it is
decoded: what would become more, or fewer, is an error, takes no memory, and leaves nothing in the result that was not
decoded. Codecs that are not of this table are zarr's own business, or a package's that it knows of.
"""

import bz2
import ctypes
import gzip
import lzma
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numcodecs
import numpy as np

from lucid.errors import FormatError
from lucid.formats.arrays import Array
from lucid.formats.chunks import decode_streams, decode_zlib, most_of
from lucid.formats.regions import size_of
from lucid.formats.zarr.documents import JsonObject

#: Blosc as numcodecs has it. Its functions with a context begin no threads, whatever the user has set for all of
#: the process: chunks are decoded by our threads, and several would write blocks in the order in which they end.
_BLOSC: Any
try:
    _BLOSC = ctypes.CDLL(numcodecs.blosc.__file__)
    _BLOSC.blosc_compress_ctx.argtypes = (
        *(ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int),
    )
    _BLOSC.blosc_decompress_ctx.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
except (AttributeError, OSError):  # a numcodecs that was built without them, or hides them
    _BLOSC = None

#: Names of Blosc's shuffles in version 3, by numbers in version 2.
_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
#: Bytes that a codec adds; of those that compress nobody knows.
_ADDED_BYTES = {"crc32": 4, "crc32c": 4, "adler32": 4, "fletcher32": 4, "shuffle": 0}
#: Decoders of streams, which stop at a length.
_STREAMS: dict[str, Callable[[Any, Array, int], Array]] = {
    "gzip": lambda _, raw, most: decode_streams(partial(zlib.decompressobj, 16 + zlib.MAX_WBITS), raw, most),
    "zlib": lambda _, raw, most: decode_zlib(raw, most),
    "bz2": lambda _, raw, most: decode_streams(bz2.BZ2Decompressor, raw, most),
    "lzma": lambda codec, raw, most: decode_streams(partial(_lzma, codec), raw, most),
}


def _lzma(codec: Any) -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(
        codec.format, filters=codec.filters if codec.format == lzma.FORMAT_RAW else None
    )


def _zstd_size(head: bytes, _: int) -> int | None:
    """The size that the header of a frame declares (RFC 8878, 3.1.1.1); None where it has none."""
    if head[:4] != b"\x28\xb5\x2f\xfd":
        raise FormatError("has a chunk that is no frame of zstd")
    flags = head[4]
    width = (0, 2, 4, 8)[flags >> 6] or flags >> 5 & 1
    start = 5 + (not flags & 32) + (0, 1, 2, 4)[flags & 3]
    size = int.from_bytes(head[start : start + width], "little")
    return size + 256 * (width == 2) if width else None


def _blosc_size(head: bytes, count: int) -> int:
    """The size that a header declares; as to where the encoded bytes end, Blosc believes its header, too."""
    size, end = (int.from_bytes(head[at : at + 4], "little") for at in (4, 12))
    if count < max(16, end):
        raise FormatError(f"has a chunk of {count} bytes that says it has {end}")
    return size


#: The size that the first bytes of so many encoded ones declare, where they do.
_DECLARED_SIZES: dict[str, Callable[[bytes, int], int | None]] = {
    "zstd": _zstd_size,
    "lz4": lambda head, _: int.from_bytes(head[:4], "little"),
    "blosc": _blosc_size,
}
#: Codecs that change no number; differences are bytes, too.
LOSSLESS = frozenset((*_ADDED_BYTES, *_STREAMS, *_DECLARED_SIZES, "delta"))
#: Others that have a number for each of their bytes or bits, so that they take little memory.
_LOSSY = ("astype", "bitround", "fixedscaleoffset", "packbits", "quantize")
#: Those that version 3 has before elements become bytes, and which take them in the order of this machine.
_FILTERS = frozenset((*_LOSSY, "delta"))


def name_of(codec: JsonObject) -> str:
    """What a document calls a codec, without the prefix by which version 3 marks those of numcodecs."""
    return str(codec.get("name")).removeprefix("numcodecs.")


class Chain(NamedTuple):
    """How the elements of a chunk become bytes: in an order, then by codecs of numcodecs."""

    dtype: np.dtype[Any]
    codecs: tuple[Any, ...]
    #: The axes of the chunk in the order in which they lie, where that is another one.
    order: tuple[int, ...] | None = None

    @property
    def copies(self) -> int:
        """How many times a chunk lies in memory while it is decoded: encoded, and as codecs leave it."""
        return max(2, 1 + len(self.codecs))

    def decode(self, raw: Array, shape: tuple[int, ...], target: Array | None = None) -> Array:
        """The elements of a chunk; `target` where they could be decoded there, which is contiguous."""
        nbytes = size_of(shape) * self.dtype.itemsize
        sizes = self.sizes(nbytes)
        direct = None if target is None or self.order else target.reshape(-1).view(np.uint8)
        for step in reversed(range(len(self.codecs))):
            out = direct if step == 0 else None
            raw = _decode(self.codecs[step], raw, sizes[step], most_of(nbytes), out)
        if raw is direct and target is not None:
            return target
        if len(raw) != nbytes:
            raise FormatError(f"has a chunk that decodes to {len(raw)} bytes; expected {nbytes}")
        cells = raw.view(self.dtype)
        if self.order is None:
            return cells.reshape(shape)
        return cells.reshape([shape[axis] for axis in self.order]).transpose(np.argsort(self.order))

    def encode(self, cells: Array) -> bytes:
        """The bytes of a chunk, as zarr would write them; but gzip notes no time of day."""
        # Not as bytes: where nothing else says it, Blosc takes the size of elements from what it is given.
        data: Any = np.ascontiguousarray(cells, self.dtype)
        for codec in self.codecs:
            if codec.codec_id == "blosc" and _BLOSC is not None:
                data = _encode_blosc(codec, data)
            elif codec.codec_id == "gzip":
                data = gzip.compress(np.ascontiguousarray(data).data, codec.level, mtime=0)
            else:
                data = codec.encode(data)
        return data.tobytes() if isinstance(data, np.ndarray) else bytes(data)

    def sizes(self, nbytes: int) -> list[int | None]:
        """Bytes of a chunk before each codec, and behind the last; None where that varies."""
        sizes: list[int | None] = [nbytes]
        for codec in self.codecs:
            added, size = _ADDED_BYTES.get(codec.codec_id), sizes[-1]
            sizes.append(None if size is None or added is None else size + added)
        return sizes


def chain_of(codecs: Sequence[JsonObject], dtype: np.dtype[Any], rank: int) -> Chain | None:
    """What the codecs of a document make of elements of a type; None where one is not known here.

    Where one says nonsense, whatever it leads to is raised.
    """
    order: tuple[int, ...] | None = None
    is_bytes = False
    numcodecs_codecs: list[Any] = []
    for one in codecs:
        if not one.keys() <= {"name", "configuration"}:
            return None  # what else stands there may mean that it is to be read in another way
        name, parameters = name_of(one), dict(one.get("configuration") or {})
        if name == "transpose" and not (is_bytes or numcodecs_codecs) and order is None:
            order = tuple(reversed(range(rank))) if parameters["order"] == "F" else tuple(parameters["order"])
            if sorted(order) != [*range(rank)]:
                return None
        elif name == "bytes" and not is_bytes:
            is_bytes = True
            endian = parameters.get("endian")
            if dtype.itemsize > 1 and endian not in ("little", "big") and dtype.kind != "V":
                return None
            if endian == "big" and numcodecs_codecs:
                return None  # of elements of another type
            dtype = dtype.newbyteorder(">" if endian == "big" else "<")
        elif name in _FILTERS or (is_bytes and name in LOSSLESS):
            if name == "blosc" and isinstance(parameters.get("shuffle"), str):
                parameters["shuffle"] = _SHUFFLES.index(parameters["shuffle"])
            numcodecs_codecs.append(numcodecs.get_codec(parameters | {"id": name}))
        else:
            return None
    return Chain(dtype, tuple(numcodecs_codecs), order) if is_bytes else None


def _encode_blosc(codec: Any, data: Array | bytes) -> Array:
    """The bytes that `numcodecs.Blosc` makes; where nothing else says it, the size of elements is that of the data."""
    data = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    typesize, shuffle = getattr(codec, "_typesize", None) or data.itemsize, codec.shuffle
    if shuffle == codec.AUTOSHUFFLE:
        shuffle = codec.BITSHUFFLE if typesize == 1 else codec.SHUFFLE
    out = np.empty(data.nbytes + numcodecs.blosc.MAX_OVERHEAD, np.uint8)
    buffers = data.nbytes, data.ctypes.data, out.ctypes.data, len(out)
    name, block_bytes = codec.cname.encode(), codec.blocksize
    size = _BLOSC.blosc_compress_ctx(codec.clevel, shuffle, typesize, *buffers, name, block_bytes, 1)
    if size <= 0:
        raise FormatError(f"has a chunk of {data.nbytes} bytes that Blosc ({codec.cname}) cannot encode")
    return out[:size]


def _decode(codec: Any, raw: Array, size: int | None, most: int, out: Array | None) -> Array:
    """Decode to so many bytes, or where these are not known to `most` at most; into `out` where that goes."""
    name = codec.codec_id
    if name in _STREAMS:
        return _STREAMS[name](codec, raw, most if size is None else size)
    if name not in _DECLARED_SIZES:
        data = codec.decode(raw)
        data = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
        return data.reshape(-1).view(np.uint8)
    declared = _DECLARED_SIZES[name](raw[:18].tobytes().ljust(18, b"\0"), len(raw))
    declared = size if declared is None else declared
    if declared is None or declared > most or size not in (None, declared):
        raise FormatError(f"has a chunk that decodes to {declared} bytes; expected {size or most}")
    if out is None or len(out) != declared:
        out = np.empty(declared, np.uint8)
    if name != "blosc" or _BLOSC is None:
        codec.decode(raw, out)
    elif _BLOSC.blosc_decompress_ctx(raw.ctypes.data, out.ctypes.data, len(out), 1) <= 0:
        raise FormatError("has a chunk that Blosc cannot decode")
    return out
