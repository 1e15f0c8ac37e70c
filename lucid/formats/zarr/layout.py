"""How the elements of an array lie in the files of a store, by its document alone.

element → chunk, which is decoded at once → file: a chunk, or a shard of chunks with an index of places
"""

from contextlib import suppress
from operator import index
from typing import Any, NamedTuple

import numpy as np

from lucid.formats.zarr.codecs import Chain, chain_of, name_of
from lucid.formats.zarr.documents import fill_from_json
from lucid.formats.zarr.nodes import Node

SHARDS = "sharding_indexed"
#: What a document may hold; what else stands there may mean that it is to be read in another way.
_KEYS = {
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value"),
    *("codecs", "attributes", "dimension_names", "storage_transformers"),
}
_SHARD_KEYS = {"chunk_shape", "codecs", "index_codecs", "index_location"}


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
    #: Of chunks, None where zarr has to decode them; and of the index of a shard, None where there are none.
    codecs: Chain | None
    shard_index: Chain | None = None
    index_is_first: bool = False

    def key(self, file: tuple[int, ...]) -> str:
        """The name of a file below the array."""
        return self.separator.join((*self.start, *map(str, file))) or "0"

    @property
    def folder(self) -> str:
        """The folder below the array in which its files are, or a folder for each of their first indices."""
        return "".join(self.start) if self.separator == "/" else ""

    @property
    def listed_axes(self) -> int:
        """How many indices of a file stand in the names of that folder."""
        return 1 if self.separator == "/" else len(self.shape)

    @property
    def grid(self) -> tuple[int, ...]:
        """How many chunks a file has along each axis."""
        return tuple(n // c for n, c in zip(self.files, self.chunks, strict=True))


def layout_of(node: Node, untyped: str | None) -> Layout | None:
    """How an array of numbers lies; None where only zarr can say, whether it is right or wrong.

    `untyped` is what two bytes without a type are.
    """
    with suppress(AttributeError, ImportError, KeyError, TypeError, ValueError, OverflowError):
        layout = _layout_of(node, untyped)
        # Another separator may lead out of the store.
        if layout is not None and layout.separator in (".", "/") and len(layout.files) == len(layout.shape):
            pairs = zip(layout.chunks, layout.files, strict=True)
            return layout if all(c > 0 and f > 0 and f % c == 0 for c, f in pairs) else None
    return None


def _layout_of(node: Node, untyped: str | None) -> Layout | None:
    document, numbers, rank = node.document, node.numbers(untyped), len(node.shape)
    if document is None or numbers is None:
        return None
    grid, keys = document["chunk_grid"], document["chunk_key_encoding"]
    is_default = keys["name"] == "default"
    unknown_keys = document.get("storage_transformers") or document.keys() - _KEYS
    if unknown_keys or grid["name"] != "regular" or keys["name"] not in ("default", "v2"):
        return None
    codecs = document["codecs"]
    files = chunks = tuple(map(index, grid["configuration"]["chunk_shape"]))
    shard_index, is_first = None, False
    if len(codecs) == 1 and name_of(codecs[0]) == SHARDS:
        shards = codecs[0]["configuration"]
        codecs, chunks = shards["codecs"], tuple(map(index, shards["chunk_shape"]))
        shard_index = chain_of(shards["index_codecs"], np.dtype("<u8"), rank + 1)
        location = shards.get("index_location", "end")
        is_first = location == "start"
        if shard_index is None or shard_index.sizes(0)[-1] is None:
            return None
        if location not in ("start", "end") or not shards.keys() <= _SHARD_KEYS:
            return None
    chain = chain_of(codecs, np.dtype("V2" if numbers == "bfloat16" else numbers), rank)
    if chain is None:
        return None
    dtype = np.dtype("<u2") if numbers == "bfloat16" else chain.dtype
    fill = document["fill_value"]
    return Layout(
        shape=node.shape,
        dtype=dtype,
        fill=None if fill is None and node.version == 2 else fill_from_json(fill, dtype),
        chunks=chunks,
        files=files,
        start=("c",) * is_default,
        separator=keys.get("configuration", {}).get("separator", "/" if is_default else "."),
        codecs=chain._replace(dtype=dtype),
        shard_index=shard_index,
        index_is_first=is_first,
    )
