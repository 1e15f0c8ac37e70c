"""Metadata documents: JSON that says what arrays and groups are, in the words of version 3 for both versions.

Those of version 2 are translated when they are read and when they are written, so that nothing else knows their words.
What differs in meaning stays: `zarr_format` is 2, and a fill value may be `null`.
"""

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from lucid.errors import DTypeError
from lucid.formats.zarr.nczarr import names_of
from lucid.pooling.dtypes import name_of, storage

#: The files that hold them: of an array or a group in version 3; in version 2 of an array, a group, attributes.
DOCUMENT_3, DOCUMENT_2, GROUP_2, ATTRIBUTES_2 = "zarr.json", ".zarray", ".zgroup", ".zattrs"
#: Where arrays of version 2 say what their axes are called, as xarray has it.
DIMENSIONS_2 = "_ARRAY_DIMENSIONS"

#: Keys of netCDF-C before 4.9.3 in documents of version 2.
NCZARR_2 = ("_NCZARR_ARRAY", "_NCZARR_GROUP", "_NCZARR_SUPERBLOCK")

#: An object of JSON, such as a codec: `{"name": …, "configuration": {…}}`.
JsonObject: TypeAlias = Mapping[str, Any]

#: Two bytes without a type, which ml_dtypes' bfloat16 is stored as; older stores have the second name.
TWO_BYTES = {"name": "raw_bytes", "configuration": {"length_bytes": 2}}, "r16"
#: Codecs that version 2 calls filters, wherever they stand.
_FILTERS_2 = ("shuffle", "delta", "crc32", "crc32c", "adler32", "fletcher32")
#: Numbers that JSON has no other name for.
_NAMED_NUMBERS = ("NaN", "Infinity", "-Infinity")


def parse_document(text: bytes) -> tuple[dict[str, Any], str]:
    """A document, and why it is none; NaN and infinities are taken as Python writes them."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}, "has metadata that are no JSON"
    return (document, "") if isinstance(document, dict) else ({}, "has metadata that are no JSON object")


def codec(name: str, **configuration: Any) -> dict[str, Any]:
    """A codec in a document."""
    return {"name": name, "configuration": configuration}


def from_version_2(document: JsonObject, attributes: JsonObject) -> dict[str, Any]:
    """The document of an array of version 2 in the words of version 3; what is wrong there stays wrong."""
    data_type = document.get("dtype")
    endian = "big" if str(data_type).startswith(">") else "little"
    # Structured types are lists; of None, NumPy would make a type, too.
    with suppress(DTypeError, SyntaxError, TypeError, ValueError):
        dtype = np.dtype(data_type if isinstance(data_type, str) else "V")
        data_type = TWO_BYTES[0] if dtype == np.dtype("V2") else name_of(dtype)
    order, compressor = document.get("order"), document.get("compressor")
    codecs = [*([] if order == "C" else [codec("transpose", order=order)]), codec("bytes", endian=endian)]
    for one in (*(document.get("filters") or ()), *([compressor] if compressor else ())):
        configuration = {key: value for key, value in one.items() if key != "id"}
        codecs.append({"name": one.get("id"), "configuration": configuration})
    separator = document.get("dimension_separator", ".")
    return {
        "zarr_format": 2,
        "shape": document["shape"],
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": document.get("chunks")}},
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": separator}},
        "codecs": codecs,
        "dimension_names": attributes.get(DIMENSIONS_2, names_of({**attributes, **nczarr_in(document)})),
    } | ({"fill_value": document["fill_value"]} if "fill_value" in document else {})


def to_version_2(document: JsonObject) -> dict[str, Any]:
    """A document that `array_document` made, in the words of version 2."""
    data_type = document["data_type"]
    filters = [{"id": one["name"]} | one["configuration"] for one in document["codecs"][1:]]
    # What compresses comes last, and there can be one.
    compressor = filters.pop() if filters and filters[-1]["id"] not in _FILTERS_2 else None
    return {
        "shape": document["shape"],
        "chunks": document["chunk_grid"]["configuration"]["chunk_shape"],
        "dtype": "|V2" if data_type in TWO_BYTES else np.dtype(data_type).newbyteorder("<").str,
        "fill_value": document["fill_value"],
        "order": "C",
        "filters": filters or None,
        "dimension_separator": document["chunk_key_encoding"]["configuration"]["separator"],
        "compressor": compressor,
        "zarr_format": 2,
    }


def array_document(
    version: int,
    *,
    shape: tuple[int, ...],
    numbers: str,
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
    codecs: list[dict[str, Any]],
    fill: Any,
    keys: JsonObject | None,
    dims: list[str | None],
) -> dict[str, Any]:
    """The document of an array, but for its attributes; a fill value of None is `null`, which only version 2 has."""
    is_typed = numbers != "bfloat16"
    dtype = storage(numbers)
    in_order = codec("bytes", endian="little")
    codecs = [in_order if is_typed and dtype.itemsize > 1 else {"name": "bytes"}, *codecs]
    if shards is not None:
        inner = {"chunk_shape": [*chunks], "codecs": codecs, "index_codecs": [in_order, {"name": "crc32c"}]}
        codecs = [codec("sharding_indexed", **inner, index_location="end")]
    if fill is not None or version == 3:
        fill = fill_to_json(0 if fill is None else fill, dtype) if is_typed else "AAA="
    return {
        "shape": [*shape],
        "data_type": numbers if is_typed else TWO_BYTES[0],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [*(shards or chunks)]}},
        "chunk_key_encoding": keys or {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": {},
        **({"dimension_names": [*dims]} if any(dims) else {}),
        "zarr_format": version,
        "node_type": "array",
        "storage_transformers": [],
    }


def fill_from_json(value: Any, dtype: np.dtype[Any]) -> Any:
    """A fill value of JSON as an element; a TypeError, ValueError or OverflowError where it is none of this type.

    >>> fill_from_json("-Infinity", np.dtype("f2")), fill_from_json(3, np.dtype("i2"))
    (np.float16(-inf), np.int16(3))

    """
    native = dtype.newbyteorder("=")
    if isinstance(value, str) and dtype.kind == "f" and value in _NAMED_NUMBERS:
        return native.type(value)
    if dtype.kind == "b":
        if value not in (True, False):
            raise ValueError(value)
        return native.type(value)
    if isinstance(value, str | list):  # of two bytes without a type
        raw = base64.b64decode(value, validate=True) if isinstance(value, str) else bytes(value)
        return np.frombuffer(raw, native)[0]
    if isinstance(value, bool) or (dtype.kind in "iu" and value != int(value)):
        raise ValueError(value)
    return native.type(int(value) if dtype.kind in "iu" else float(value))


def fill_to_json(value: Any, dtype: np.dtype[Any]) -> Any:
    """A fill value as it stands in a document.

    >>> fill_to_json(np.nan, np.dtype("f4")), fill_to_json(7.0, np.dtype("i2"))
    ('NaN', 7)

    """
    make: Callable[[Any], Any] = {"b": bool, "f": float}.get(dtype.kind, int)
    element = make(np.asarray(value).astype(dtype)[()])
    if dtype.kind != "f" or np.isfinite(element):
        return element
    return "NaN" if element != element else "Infinity" if element > 0 else "-Infinity"


def write_array(folder: Path, document: JsonObject, attributes: JsonObject) -> None:
    """Write the documents of an array."""
    if document["zarr_format"] == 2:
        _write_version_2(folder, DOCUMENT_2, to_version_2(document), attributes)
    else:
        write_document(folder / DOCUMENT_3, {**document, "attributes": attributes})


def write_attributes(folder: Path, version: int, attributes: JsonObject) -> None:
    """Write the attributes of an array that is there, or of a group, which may be there; all else stays."""
    if version == 2:
        is_array = (folder / DOCUMENT_2).is_file()
        document = parse_document((folder / DOCUMENT_2).read_bytes())[0] if is_array else {"zarr_format": 2}
        _write_version_2(folder, DOCUMENT_2 if is_array else GROUP_2, document, attributes)
        return
    path = folder / DOCUMENT_3
    document = parse_document(path.read_bytes())[0] if path.is_file() else {}
    group = {"zarr_format": 3, "node_type": "group"}
    write_document(path, {**group, **document, "attributes": attributes})


def nczarr_in(document: JsonObject) -> dict[str, Any]:
    """What netCDF-C before 4.9.3 has in documents of version 2; since then it stands among the attributes."""
    return {key: value for key, value in document.items() if key in NCZARR_2}


def _write_version_2(folder: Path, name: str, document: JsonObject, attributes: JsonObject) -> None:
    write_document(folder / name, {**document, **nczarr_in(attributes)})
    write_document(folder / ATTRIBUTES_2, {key: attributes[key] for key in attributes if key not in NCZARR_2})


def write_document(path: Path, document: JsonObject) -> None:
    """Write a document, and the folder that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
