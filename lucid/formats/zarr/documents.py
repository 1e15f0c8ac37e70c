"""The documents of outputs: groups and arrays as zarr would write them, attributes and all."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lucid.formats.zarr.codecs import Said
from lucid.formats.zarr.kept import said
from lucid.formats.zarr.layout import data_type, in_json
from lucid.formats.zarr.nodes import ATTRIBUTES_2, DOCUMENT_2, DOCUMENT_3, GROUP_2, Node, parsed


class Made(NamedTuple):
    """An array to be made, but for its attributes."""

    shape: tuple[int, ...]
    numbers: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    codecs: Sequence[Said]
    #: Its fill value, None for `null`, which only version 2 has.
    fill: Any
    #: How the files of its chunks are called, as the source says it; None where there is none.
    keys: Any
    dims: Sequence[str | None]


def array_document(made: Made, version: int) -> dict[str, Any]:
    """The document of an array, without attributes."""
    dtype = np.dtype("uint16" if made.numbers == "bfloat16" else made.numbers).newbyteorder("<")
    if version == 2:
        # What compresses comes last, and there can be one.
        filters = [*made.codecs]
        compressor = filters.pop() if filters and filters[-1]["id"] not in _FILTERS else None
        return {
            "shape": [*made.shape],
            "chunks": [*made.chunks],
            "dtype": "|V2" if made.numbers == "bfloat16" else dtype.str,
            "fill_value": None if made.fill is None else in_json(made.fill, dtype),
            "order": "C",
            "filters": filters or None,
            "dimension_separator": made.keys or ".",
            "compressor": compressor,
            "zarr_format": 2,
        }
    has_order = dtype.itemsize > 1 and made.numbers != "bfloat16"
    codecs = [said(3, "bytes", endian="little") if has_order else {"name": "bytes"}, *made.codecs]
    if made.shards is not None:
        index = [said(3, "bytes", endian="little"), {"name": "crc32c"}]
        codecs = [
            said(
                3,
                "sharding_indexed",
                chunk_shape=[*made.chunks],
                codecs=codecs,
                index_codecs=index,
                index_location="end",
            )
        ]
    fill: Any = in_json(0 if made.fill is None else made.fill, dtype)
    return {
        "shape": [*made.shape],
        "data_type": data_type(made.numbers),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [*(made.shards or made.chunks)]}},
        "chunk_key_encoding": made.keys or {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "AAA=" if made.numbers == "bfloat16" else fill,
        "codecs": codecs,
        "attributes": {},
        **({"dimension_names": [*made.dims]} if any(made.dims) else {}),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


#: Codecs that zarr calls filters in version 2, wherever they stand.
_FILTERS = ("shuffle", "delta", "crc32", "crc32c", "adler32", "fletcher32")


def keys_of(node: Node) -> Any:
    """How the files of an array's chunks are called, as its document says; OME-Zarr wants slashes in version 2."""
    assert node.document is not None
    if node.version == 2:
        return node.document.get("dimension_separator")
    keys = node.document["chunk_key_encoding"]
    return keys if keys.get("name") in ("default", "v2") else None


def write_array(folder: Path, document: dict[str, Any], attributes: dict[str, Any]) -> None:
    """Write the documents of an array."""
    folder.mkdir(parents=True, exist_ok=True)
    if document["zarr_format"] == 2:
        _write(folder / DOCUMENT_2, document)
        _write(folder / ATTRIBUTES_2, attributes)
    else:
        _write(folder / DOCUMENT_3, document | {"attributes": attributes})


def write_groups(root: Path, path: str, version: int) -> None:
    """Make a group and those around it, which may be there already."""
    while True:
        folder = root / path
        if (folder / (GROUP_2 if version == 2 else DOCUMENT_3)).is_file():
            return
        folder.mkdir(parents=True, exist_ok=True)
        if version == 2:
            _write(folder / GROUP_2, {"zarr_format": 2})
            _write(folder / ATTRIBUTES_2, {})
        else:
            _write(folder / DOCUMENT_3, {"attributes": {}, "zarr_format": 3, "node_type": "group"})
        if not path:
            return
        path = path.rpartition("/")[0]


def write_attributes(folder: Path, attributes: dict[str, Any], version: int) -> None:
    """Write the attributes of a group that was carried over; all else in its document stays."""
    if version == 2:
        _write(folder / ATTRIBUTES_2, attributes)
        return
    document, _ = parsed((folder / DOCUMENT_3).read_bytes())
    _write(folder / DOCUMENT_3, document | {"attributes": attributes})


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
