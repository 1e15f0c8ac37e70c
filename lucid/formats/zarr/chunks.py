"""The files of chunks: whether they are where the metadata say, and in which boxes they are read.

A chunk without a file reads as the fill value, so chunks under other names than the metadata say would be zeros
in silence. A store that lost `dimension_separator`, or was copied under other names, is such a one.
"""

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

from lucid.errors import FormatError
from lucid.formats.contract import Region
from lucid.formats.zarr.nodes import joined
from lucid.formats.zarr.tree import Tree

#: What the files of chunks are called by some convention or other.
_ANY_KEY = re.compile(r"(c[./])?\d+([./]\d+)*")
#: Folders that are searched for a file, one below the other.
_MOST_FOLDERS = 64


def check_names(tree: Tree, array: Any) -> None:
    """Raise where an array has chunks, but none where its metadata say.

    Raises
    ------
    FormatError
        Its chunks have other names.

    """
    if 0 in array.shape:
        return
    encode = array.metadata.encode_chunk_key
    first = encode((0,) * array.ndim)
    if tree.has(joined(array.path, first)):
        return
    wanted = re.compile(re.sub(r"\d+", r"\\d+", re.escape(first)))
    for key in _keys(tree, array.path):
        if _ANY_KEY.fullmatch(key) and not wanted.fullmatch(key):
            what = "dimension_separator" if array.metadata.zarr_format == 2 else "chunk_key_encoding"
            raise FormatError(
                f"has its chunks in files such as {key}, where its metadata ({what}) say {first}; "
                "they would read as nothing but the fill value"
            )


def _keys(tree: Tree, path: str) -> Iterator[str]:
    """Some files of an array: all at the top, and of each folder one, however deep."""
    folders, files = tree.list(path)
    yield from files
    for folder in folders[:_MOST_FOLDERS]:
        key = folder
        for _ in range(_MOST_FOLDERS):
            below, here = tree.list(joined(path, key))
            if here:
                yield f"{key}/{here[0]}"
                break
            if not below:
                break
            key = f"{key}/{below[0]}"


def boxes(region: Region, chunks: tuple[int, ...]) -> Iterator[Region]:
    """A region in boxes of one chunk each: zarr decodes ten at a time of what it is asked for, in memory of its own."""
    axes = [
        [
            slice(max(start, s.start), min(start + chunk, s.stop))
            for start in range(s.start - s.start % chunk, s.stop, chunk)
        ]
        for s, chunk in zip(region, chunks, strict=True)
    ]
    yield from product(*axes)
