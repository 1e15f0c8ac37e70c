"""Which codecs results have: as chosen, or as the source has them, or those that zarr takes.

Lossless ones are kept. Others round to a tolerance, or pack by a scale, that was chosen for the source's numbers;
what is unknown may be either, and is left out like them. All of it is text, as documents have it.
"""

from typing import Any, NamedTuple

import numpy as np

from lucid.compression import Compression
from lucid.errors import ArgumentError
from lucid.formats.zarr.codecs import KNOWN, Said, name_of
from lucid.formats.zarr.nodes import Node

#: Codecs that order elements in memory and change none.
_ORDERS = ("transpose", "bytes")
_SHARDS = "sharding_indexed"


class Kept(NamedTuple):
    """The codecs of results, first to last, and names of those that are left out."""

    codecs: list[Said]
    left_out: tuple[str, ...] = ()


def check_compression(compression: Compression | None) -> None:
    """Raise for what Zarr has no codec for."""
    if compression is not None and compression.name not in ("none", "gzip", "zstd", "lz4", "blosc"):
        raise ArgumentError(
            f"`compression` is {compression.name!r}; Zarr has none, gzip, zstd, lz4, blosc and blosc-zstd, …"
        )


def kept_codecs(
    compression: Compression | None, node: Node | None, version: int, dtype: np.dtype[Any]
) -> Kept:
    """The codecs of results of a type, for an array of a source."""
    if compression is not None:
        return Kept(_chosen(compression, version, dtype.itemsize))
    if node is None or node.document is None:
        return Kept([said(version, "zstd", level=0, checksum=False)])
    pairs = [(one, _kept(one, dtype)) for one in codecs_in(node.document)]
    gone = [name_of(one) for one, kept in pairs if kept is None and name_of(one) not in _ORDERS]
    return Kept([kept for _, kept in pairs if kept is not None], tuple(dict.fromkeys(gone)))


def codecs_in(document: Said) -> list[Said]:
    """The codecs of chunks that a document speaks of, first to last; in shards those of inner chunks."""
    if "codecs" not in document:
        compressor = document.get("compressor")
        return [*(document.get("filters") or []), *([compressor] if compressor else [])]
    found: list[Said] = []
    for one in document["codecs"]:
        inner = one.get("configuration", {}).get("codecs", []) if name_of(one) == _SHARDS else [one]
        found += inner
    return found


def said(version: int, name: str, **parameters: Any) -> Said:
    """What a document of a version says of a codec that both versions know."""
    return {"id": name} | parameters if version == 2 else {"name": name, "configuration": parameters}


def _kept(one: Said, dtype: np.dtype[Any]) -> Said | None:
    """A codec of the source for results; None where it is left out."""
    name = name_of(one)
    # Differences of integers are exact, those of floats are not. Version 3 has them as a filter of arrays.
    if name == "delta":
        kind = dtype.newbyteorder("<").str
        return {"id": name, "dtype": kind, "astype": kind} if "id" in one and dtype.kind in "iu" else None
    if name not in KNOWN:
        return None
    changed = {"shuffle": "elementsize"} | ({"blosc": "typesize"} if one.get("name") == "blosc" else {})
    if name not in changed:
        return one
    if "id" in one:
        return dict(one) | {changed[name]: dtype.itemsize}
    return dict(one) | {"configuration": one.get("configuration", {}) | {changed[name]: dtype.itemsize}}


def _chosen(compression: Compression, version: int, itemsize: int) -> list[Said]:
    """The codec that the user chose."""
    name, level = compression.name, compression.level
    if name == "none":
        return []
    if name == "gzip":
        return [said(version, name, level=4 if level is None else level)]
    if name == "zstd":
        return [said(version, name, level=level or 0, **({"checksum": False} if version == 3 else {}))]
    if name == "lz4":
        return [said(2, name, acceleration=1) if version == 2 else said(3, f"numcodecs.{name}")]
    parameters = {"cname": compression.codec or "lz4", "clevel": 5 if level is None else level}
    if version == 2:
        return [said(2, name, **parameters, shuffle=1, blocksize=0)]
    return [said(3, name, typesize=itemsize, **parameters, shuffle="shuffle", blocksize=0)]
