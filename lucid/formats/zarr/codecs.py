"""The codecs of Zarr outputs, such that the same numbers become the same bytes."""

import gzip
from functools import cached_property
from typing import Any, NamedTuple

import numcodecs
import numpy as np
import zarr
from numcodecs.compat import ensure_contiguous_ndarray
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from lucid.compression import Compression
from lucid.errors import ArgumentError


class TimelessGzip(numcodecs.GZip):  # type: ignore[misc]
    """gzip without the time of day, which numcodecs lets Python write into every chunk."""

    def encode(self, buf: Any) -> bytes:
        """Compress a buffer."""
        return gzip.compress(ensure_contiguous_ndarray(buf), self.level, mtime=0)


class TimelessGzipCodec(GzipCodec):
    """The same for version 3."""

    @cached_property
    def _gzip_codec(self) -> TimelessGzip:
        return TimelessGzip(self.level)


def check_compression(compression: Compression | None) -> None:
    """Raise for what Zarr has no codec for."""
    if compression is not None and compression.name not in ("none", "gzip", "zstd", "lz4", "blosc"):
        raise ArgumentError(
            f"`compression` is {compression.name!r}; Zarr has none, gzip, zstd, lz4, blosc and blosc-zstd, …"
        )


class Kept(NamedTuple):
    """The codecs of results: filters and compressors, as zarr takes them, and names of those that are left out."""

    filters: Any
    compressors: Any
    left_out: tuple[str, ...] = ()


#: Lossless codecs of bytes, by the names that both versions have for them. Their parameters fit any bytes.
_LOSSLESS = frozenset(
    ("zlib", "gzip", "bz2", "lzma", "blosc", "zstd", "lz4", "crc32", "crc32c", "adler32", "fletcher32")
)
#: Codecs that order elements in memory and change none.
_ORDERS = frozenset(("transpose", "bytes"))


def codecs_of(compression: Compression | None, origin: Any, zarr_format: Any, result: np.dtype[Any]) -> Kept:
    """The codecs of results: as chosen, or as the source has them, or those that zarr takes.

    Lossless ones are kept. Others round to a tolerance, or pack by a scale, that was chosen for the source's numbers;
    what is unknown may be either, and is left out like them.
    """
    if compression is not None:
        return Kept(None, _chosen(compression, zarr_format))
    if origin is None:
        return Kept(None, "auto")
    filters = [(codec, _kept_filter(codec, result)) for codec in origin.filters]
    compressors = [(codec, _kept(codec, result)) for codec in origin.compressors]
    # A serializer of version 3 that is none of zarr's own packs numbers in its own way.
    others = [(one, one) if _name(one) in _ORDERS else (one, None) for one in _serializers(origin)]
    pairs = [*filters, *compressors, *others]
    gone = [_name(codec) for codec, kept in pairs if kept is None and _name(codec) not in _ORDERS]
    return Kept(
        [kept for _, kept in filters if kept is not None] or None,
        [kept for _, kept in compressors if kept is not None] or None,
        tuple(dict.fromkeys(gone)),
    )


def _serializers(origin: Any) -> list[Any]:
    serializer = getattr(origin, "serializer", None)
    return [] if serializer is None else [serializer]


def _name(codec: Any) -> str:
    """What a codec is called, without the prefix by which version 3 marks those of numcodecs."""
    name = getattr(codec, "codec_id", None) or codec.to_dict().get("name", type(codec).__name__)
    return str(name).removeprefix("numcodecs.")


def _kept(codec: Any, result: np.dtype[Any]) -> Any:
    """A compressor of the source for results; None where it is left out."""
    if isinstance(codec, GzipCodec):
        return TimelessGzipCodec(level=codec.level)
    if isinstance(codec, numcodecs.GZip):
        return TimelessGzip(level=codec.level)
    if isinstance(codec, BloscCodec):  # it notes the size of the source's elements
        return BloscCodec(
            cname=codec.cname, clevel=codec.clevel, shuffle=codec.shuffle, blocksize=codec.blocksize
        )
    if _name(codec) == "shuffle":
        return _shuffle(codec, result)
    return codec if _name(codec) in _LOSSLESS else None


def _kept_filter(codec: Any, result: np.dtype[Any]) -> Any:
    """A filter of the source for results: differences of integers are exact, those of floats are not."""
    if isinstance(codec, numcodecs.Delta) and result.kind in "iu":
        return numcodecs.Delta(dtype=result.newbyteorder("<").str)
    if _name(codec) == "shuffle":
        return _shuffle(codec, result)
    return codec if isinstance(codec, numcodecs.abc.Codec) and _name(codec) in _LOSSLESS else None


def _shuffle(codec: Any, result: np.dtype[Any]) -> Any:
    """The shuffle of bytes for elements of this size."""
    if isinstance(codec, numcodecs.abc.Codec):
        return numcodecs.Shuffle(elementsize=result.itemsize)
    return zarr.codecs.numcodecs.Shuffle(elementsize=result.itemsize)


def _chosen(compression: Compression, zarr_format: Any) -> Any:
    """The codec that somebody chose."""
    name, level = compression.name, compression.level
    if name == "none":
        return None
    if name == "gzip":
        level = 4 if level is None else level
        return TimelessGzipCodec(level=level) if zarr_format == 3 else TimelessGzip(level=level)
    if name == "zstd":
        level = level or 0
        return ZstdCodec(level=level) if zarr_format == 3 else numcodecs.Zstd(level=level)
    if name == "lz4":
        return zarr.codecs.numcodecs.LZ4() if zarr_format == 3 else numcodecs.LZ4()
    codec: Any = compression.codec or "lz4"
    level = 5 if level is None else level
    if zarr_format == 3:
        return BloscCodec(cname=codec, clevel=level, shuffle="shuffle")
    return numcodecs.Blosc(cname=codec, clevel=level, shuffle=numcodecs.Blosc.SHUFFLE)
