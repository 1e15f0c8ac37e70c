"""The codecs of Zarr outputs, such that the same numbers become the same bytes."""

import gzip
from functools import cached_property
from typing import Any

import numcodecs
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


def compressors(compression: Compression | None, origin: Any, zarr_format: Any) -> Any:
    """The codecs of an output: as chosen, or as the source has them, or those that zarr takes."""
    if compression is None:
        return "auto" if origin is None else [_kept(codec) for codec in origin.compressors] or None
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


def _kept(codec: Any) -> Any:
    """A compressor of the source for an output."""
    if isinstance(codec, GzipCodec):
        return TimelessGzipCodec(level=codec.level)
    if isinstance(codec, numcodecs.GZip):
        return TimelessGzip(level=codec.level)
    if isinstance(codec, BloscCodec):  # it notes the size of the source's elements
        return BloscCodec(
            cname=codec.cname, clevel=codec.clevel, shuffle=codec.shuffle, blocksize=codec.blocksize
        )
    return codec
