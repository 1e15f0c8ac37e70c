"""How the elements of an array lie in the files of a store, by its document alone.

element → chunk, which is decoded at once → file: a chunk, or a shard of chunks with an index of places
"""

import base64
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lucid.formats.zarr.codecs import Chain, Said, chain_2, chain_3
from lucid.formats.zarr.nodes import Node
from lucid.pooling.dtypes import ELEMENTS

#: What a document of version 3 may hold; what else stands there may mean that it is to be read in another way.
_KEYS_3 = {
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value"),
    *("codecs", "attributes", "dimension_names", "storage_transformers"),
}
#: Numbers that JSON has no other name for.
_NAMED = ("NaN", "Infinity", "-Infinity")


class Layout(NamedTuple):
    """How an array lies in its files."""

    shape: tuple[int, ...]
    #: The elements; uint16 where two bytes without a type are bfloat16.
    dtype: np.dtype[Any]
    #: What is read where there is no chunk; None for `null`.
    fill: Any
    #: Cells that are decoded at once, and those of a file.
    chunks: tuple[int, ...]
    files: tuple[int, ...]
    #: Before the indices of a file in its name, if anything, and between all of these.
    start: tuple[str, ...]
    separator: str
    #: Of chunks and of the index of a shard; None where zarr has to decode them, or where there are none.
    codecs: Chain | None
    shard_index: Chain | None = None
    index_is_first: bool = False

    def key(self, index: tuple[int, ...]) -> str:
        """The name of a file below the array."""
        return self.separator.join((*self.start, *map(str, index))) or "0"

    @property
    def is_sharded(self) -> bool:
        """Whether a file is a shard."""
        return self.shard_index is not None

    @property
    def grid(self) -> tuple[int, ...]:
        """How many chunks a file has along each axis."""
        return tuple(n // c for n, c in zip(self.files, self.chunks, strict=True))


def layout_of(node: Node, untyped: str | None = None) -> Layout | None:
    """How an array of numbers lies; None where only zarr can say, whether it is right or wrong.

    `untyped` is what two bytes without a type are.
    """
    document = node.document
    numbers = None if document is None else node.numbers(untyped)
    if document is None or numbers is None:
        return None
    try:
        layout = (_layout_2 if node.version == 2 else _layout_3)(document, node.shape, numbers)
    except (AttributeError, ImportError, KeyError, TypeError, ValueError, OverflowError):
        return None
    if layout is None or len(layout.chunks) != len(layout.shape) or len(layout.files) != len(layout.shape):
        return None
    # Another separator may lead out of the store.
    fits = layout.separator in (".", "/")
    fits &= all(c > 0 and f > 0 and f % c == 0 for c, f in zip(layout.chunks, layout.files, strict=True))
    return layout if fits else None


def _lengths(said: Any) -> tuple[int, ...]:
    if not isinstance(said, list) or not all(isinstance(n, int) for n in said):
        raise TypeError(said)
    return tuple(said)


def _layout_2(document: Said, shape: tuple[int, ...], numbers: str) -> Layout:
    dtype = np.dtype("<u2") if numbers == "bfloat16" else np.dtype(document["dtype"])
    chunks = _lengths(document["chunks"])
    fill = document["fill_value"]
    fill = None if fill is None else fill_in(fill, dtype)
    if document["order"] not in ("C", "F"):
        raise ValueError(document["order"])
    codecs = chain_2(document, dtype, len(shape))
    return Layout(shape, dtype, fill, chunks, chunks, (), document.get("dimension_separator", "."), codecs)


def _layout_3(document: Said, shape: tuple[int, ...], numbers: str) -> Layout | None:
    grid, keys = document["chunk_grid"], document["chunk_key_encoding"]
    parts = keys.get("configuration", {})
    is_default = keys["name"] == "default"
    strange = document.get("storage_transformers") or document.keys() - _KEYS_3
    if strange or grid["name"] != "regular" or keys["name"] not in ("default", "v2"):
        return None
    separator = parts.get("separator", "/" if is_default else ".")
    files = _lengths(grid["configuration"]["chunk_shape"])
    dtype = np.dtype("V2" if numbers == "bfloat16" else numbers)
    codecs, chunks, rank = document["codecs"], files, len(shape)
    index, is_first = None, False
    if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed":
        said = codecs[0]["configuration"]
        codecs, chunks = said["codecs"], _lengths(said["chunk_shape"])
        index = chain_3(said["index_codecs"], np.dtype("<u8"), rank + 1)
        is_first = said.get("index_location", "end") == "start"
        if index is None or index.added is None:
            return None
    chain = chain_3(codecs, dtype, rank)
    dtype = np.dtype("<u2") if dtype.kind == "V" else dtype if chain is None else chain.dtype
    chain = None if chain is None else chain._replace(dtype=dtype)
    fill = fill_in(document["fill_value"], dtype)
    start = ("c",) * is_default
    return Layout(shape, dtype, fill, chunks, files, start, separator, chain, index, is_first)


def fill_in(value: Any, dtype: np.dtype[Any]) -> Any:
    """A fill value of JSON as an element.

    Raises
    ------
    TypeError, ValueError, OverflowError
        It is none of this type.

    >>> fill_in("-Infinity", np.dtype("f2")), fill_in("0x7fc00000", np.dtype("f4")), fill_in(3, np.dtype("i2"))
    (np.float16(-inf), np.float32(nan), np.int16(3))

    """
    if isinstance(value, str) and dtype.kind == "f" and value in _NAMED:
        return dtype.type(value)
    if isinstance(value, str) and dtype.kind == "f" and value.startswith("0x"):
        return np.array(int(value, 16), f"u{dtype.itemsize}").view(dtype.newbyteorder("="))[()]
    if dtype.kind == "b":
        if value not in (True, False):
            raise ValueError(value)
        return dtype.type(value)
    if isinstance(value, str | list):  # of two bytes without a type
        raw = base64.b64decode(value, validate=True) if isinstance(value, str) else bytes(value)
        return np.frombuffer(raw, dtype.newbyteorder("="))[0]
    if isinstance(value, bool) or (dtype.kind in "iu" and value != int(value)):
        raise ValueError(value)
    return dtype.newbyteorder("=").type(int(value) if dtype.kind in "iu" else float(value))


def in_json(value: Any, dtype: np.dtype[Any]) -> Any:
    """A fill value as it stands in a document.

    >>> in_json(np.nan, np.dtype("f4")), in_json(7.0, np.dtype("i2"))
    ('NaN', 7)

    """
    make: Callable[[Any], Any] = {"b": bool, "f": float}.get(dtype.kind, int)
    element = make(np.asarray(value).astype(dtype)[()])
    if dtype.kind != "f" or np.isfinite(element):
        return element
    return "NaN" if element != element else "Infinity" if element > 0 else "-Infinity"


def data_type(numbers: str) -> Any:
    """How version 3 names a type of elements; bfloat16, which it has no name for, is two bytes."""
    assert numbers in ELEMENTS
    two_bytes = {"name": "raw_bytes", "configuration": {"length_bytes": 2}}
    return two_bytes if numbers == "bfloat16" else numbers
