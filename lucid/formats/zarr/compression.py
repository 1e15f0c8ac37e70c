"""Which codecs results have: as chosen, or as the source has them, or those that zarr takes.

Lossless ones are kept. Others round to a tolerance, or pack by a scale, that was chosen for the source's numbers;
what is unknown may be either, and is left out like them.
"""

from typing import Any

import numpy as np

from lucid.compression import Compression
from lucid.errors import ArgumentError
from lucid.formats.zarr.codecs import LOSSLESS, name_of
from lucid.formats.zarr.documents import JsonObject, codec
from lucid.formats.zarr.layout import SHARDS
from lucid.formats.zarr.nodes import Node
from lucid.pooling.dtypes import storage

#: Codecs that order elements in memory and change none.
_ORDERS = ("transpose", "bytes")


def codecs_of_results(
    compression: Compression | None, node: Node | None, version: int, numbers: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """The codecs of bytes of results for an array of a source, first to last; and names of those that are left out."""
    dtype = storage(numbers)
    if compression is not None:
        return _codecs_of_choice(compression, version, dtype.itemsize), []
    if node is None or node.document is None:
        return [codec("zstd", level=0, checksum=False)], []
    codecs: list[dict[str, Any]] = []
    lossy: list[str] = []
    for one in node.document["codecs"]:
        for inner in one["configuration"]["codecs"] if name_of(one) == SHARDS else [one]:
            name = name_of(inner)
            if name in LOSSLESS and (name != "delta" or (version == 2 and dtype.kind in "iu")):
                codecs.append(_fit_parameters(inner, dtype))
            elif name not in _ORDERS and name not in lossy:
                lossy.append(name)
    return codecs, lossy


def _fit_parameters(source_codec: JsonObject, dtype: np.dtype[Any]) -> dict[str, Any]:
    """A codec of the source with the parameters that the type of results needs."""
    type_name = dtype.newbyteorder("<").str
    # Differences of integers are exact, those of floats are not. Version 3 has them as a filter of arrays.
    new = {"elementsize": dtype.itemsize, "typesize": dtype.itemsize, "dtype": type_name, "astype": type_name}
    parameters = source_codec.get("configuration")
    if not parameters:
        return dict(source_codec)
    return {**source_codec, "configuration": {key: new.get(key, value) for key, value in parameters.items()}}


def _codecs_of_choice(compression: Compression, version: int, itemsize: int) -> list[dict[str, Any]]:
    """The codec that the user chose; one that Zarr has not is an error."""
    name, level = compression.name, compression.level
    if name == "none":
        return []
    if name == "gzip":
        return [codec(name, level=4 if level is None else level)]
    if name == "zstd":
        return [codec(name, level=level or 0, **({"checksum": False} if version == 3 else {}))]
    if name == "lz4":
        return [codec(name, acceleration=1) if version == 2 else codec(f"numcodecs.{name}")]
    if name != "blosc":
        raise ArgumentError(
            f"`compression` is {name!r}; Zarr has none, gzip, zstd, lz4, blosc and blosc-zstd, …"
        )
    parameters = {"cname": compression.codec or "lz4", "clevel": 5 if level is None else level}
    if version == 2:
        return [codec(name, **parameters, shuffle=1, blocksize=0)]
    return [codec(name, typesize=itemsize, **parameters, shuffle="shuffle", blocksize=0)]
