"""The groups and arrays of a store, by their own documents: what is there counts, not a summary of it.

Documents are `zarr.json` in version 3, `.zarray`, `.zgroup` and `.zattrs` in version 2. Only a store that
cannot be listed, such as one behind plain HTTP, is walked by its summary; the document of each array is read even then.
"""

import json
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from lucid.errors import DTypeError, FormatError
from lucid.formats.regions import size_of
from lucid.formats.zarr.tree import Tree, check_key
from lucid.pooling.dtypes import ELEMENTS, name_of

#: Metadata documents: of an array or a group in version 3, of an array and a group in version 2, attributes there.
DOCUMENT_3, DOCUMENT_2, GROUP_2, ATTRIBUTES_2 = "zarr.json", ".zarray", ".zgroup", ".zattrs"
SUMMARY_2 = ".zmetadata"
#: Where arrays of version 2 say what their axes are called, as xarray has it.
DIMENSIONS_2 = "_ARRAY_DIMENSIONS"
#: Elements of two bytes without a type, as version 3 names them; ml_dtypes' bfloat16 is stored so.
_TWO_BYTES = ("r16", {"name": "raw_bytes", "configuration": {"length_bytes": 2}})


class Node(NamedTuple):
    """A group or an array: its path, "" for the root, and what its documents say."""

    path: str
    #: The metadata of an array; None for a group, a folder that is nothing, or where they are damaged.
    document: dict[str, Any] | None
    attributes: dict[str, Any]
    #: A digest of the documents as they are written, since NaN is not equal to itself.
    digest: bytes = b""
    #: Why the documents cannot be read, if so.
    damage: str = ""
    #: Names of the files of a group.
    files: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The path as names of datasets are written; nothing for the root."""
        return f"/{self.path}" if self.path else ""

    @property
    def is_group(self) -> bool:
        """Whether it is a group, or a folder in one."""
        return self.document is None and not self.damage

    @property
    def folder(self) -> str:
        """The path of the group that holds it."""
        return self.path.rpartition("/")[0]

    @property
    def version(self) -> int:
        """The version of the format."""
        return 2 if self.document is None or self.document.get("zarr_format") == 2 else 3

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an array."""
        return tuple(map(int, self.document["shape"])) if self.document else ()

    @property
    def dims(self) -> tuple[str, ...]:
        """What the axes are called, "" for those without a name; () where none has one."""
        if self.document is None:
            return ()
        names = (
            self.document.get("dimension_names") if self.version == 3 else self.attributes.get(DIMENSIONS_2)
        )
        if not isinstance(names, list) or len(names) != len(self.shape):
            return ()
        return tuple(name if isinstance(name, str) else "" for name in names) if any(names) else ()

    def numbers(self, untyped: str | None = None) -> str | None:
        """The name of the elements' type; None where they are no numbers.

        `untyped` is what two bytes without a type are.
        """
        assert self.document is not None
        if self.version == 3:
            kind = self.document.get("data_type")
            if kind in _TWO_BYTES:
                return untyped
            return kind if isinstance(kind, str) and kind in ELEMENTS else None
        try:
            dtype = np.dtype(self.document["dtype"])
            return untyped if dtype == np.dtype("V2") else name_of(dtype)
        except (DTypeError, TypeError, ValueError, KeyError):
            return None


def joined(folder: str, name: str) -> str:
    """A key in a folder, which is "" for the root."""
    return f"{folder}/{name}" if folder else name


def walk(tree: Tree) -> Iterator[Node]:
    """Every group and array, parents first; nothing where there is no store."""
    pending = [""]
    summary: list[str] | None = None
    while pending:
        folder = pending.pop()
        node = array_at(tree, folder)
        if node is not None and (node.document is not None or node.damage):
            yield node
            continue
        try:
            folders, files = tree.list(folder)
        except (OSError, NotImplementedError):
            summary = listed(tree) if summary is None else summary
            if not summary:
                raise
            folders, files = _names_in(summary, folder)
        if not folder and not {DOCUMENT_3, GROUP_2, ATTRIBUTES_2, SUMMARY_2} & {*files}:
            return
        yield (node or _group(tree, folder, files))._replace(files=tuple(files))
        pending += [joined(folder, name) for name in reversed(folders)]


def array_at(tree: Tree, folder: str) -> Node | None:
    """The array at a path, or a group of version 3, which has a document of the same name; None for all else."""
    text = tree.read(joined(folder, DOCUMENT_3))
    if text is not None:
        document, damage = parsed(text)
        damage = damage or _damage_of(document, 3)
        attributes = document.get("attributes")
        return Node(
            path=folder,
            document=document if not damage and document.get("node_type", "array") == "array" else None,
            attributes=attributes if isinstance(attributes, dict) else {},
            digest=_digest(text),
            damage=damage,
        )
    text = tree.read(joined(folder, DOCUMENT_2))
    if text is None:
        return None
    document, damage = parsed(text)
    said = tree.read(joined(folder, ATTRIBUTES_2))
    attributes, more = parsed(said) if said is not None else ({}, "")
    damage = damage or more or _damage_of(document | {"node_type": "array"}, 2)
    return Node(
        path=folder,
        document=None if damage else document | {"zarr_format": 2},
        attributes=attributes,
        digest=_digest(text, said or b""),
        damage=damage,
    )


def _group(tree: Tree, folder: str, files: list[str]) -> Node:
    said = tree.read(joined(folder, ATTRIBUTES_2)) if ATTRIBUTES_2 in files else None
    return Node(folder, None, parsed(said)[0] if said is not None else {}, _digest(said or b""))


def parsed(text: bytes) -> tuple[dict[str, Any], str]:
    """A document, and why it is none; NaN and infinities are taken as Python writes them."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}, "has metadata that are no JSON"
    return (document, "") if isinstance(document, dict) else ({}, "has metadata that are no JSON object")


def _damage_of(document: dict[str, Any], version: int) -> str:
    """Why a document is no array's; nothing where it is, or where it is a group's."""
    if document.get("node_type", "array") != "array":
        return ""
    if document.get("zarr_format", version) != version:
        return f"has metadata of version {str(document['zarr_format'])[:20]}; expected {version}"
    shape = document.get("shape")
    if not isinstance(shape, list):
        return "has metadata without a shape"
    is_shape = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape)
    return "" if is_shape and size_of(shape) < 1 << 63 else "has metadata without a shape"


def _digest(*texts: bytes) -> bytes:
    return blake2b(b"\0".join(texts), digest_size=16).digest()


def listed(tree: Tree) -> list[str]:
    """Keys of the documents that the summary of a store lists."""
    text, key = tree.read(DOCUMENT_3), DOCUMENT_3
    if text is None:
        text, key = tree.read(SUMMARY_2), SUMMARY_2
    if text is None:
        return []
    document, _ = parsed(text)
    holder = document if key == SUMMARY_2 else document.get("consolidated_metadata") or {}
    metadata = holder.get("metadata") if isinstance(holder, dict) else None
    if not isinstance(metadata, dict):
        return []
    keys = [*metadata] if key == SUMMARY_2 else [f"{path}/{DOCUMENT_3}" for path in metadata]
    for one in keys:
        check_key(one)
    return [*keys, key]


def _names_in(keys: list[str], folder: str) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, by keys."""
    start = f"{folder}/" if folder else ""
    rest = [key.removeprefix(start).split("/") for key in keys if key.startswith(start)]
    return sorted({r[0] for r in rest if len(r) > 1}), sorted({r[0] for r in rest if len(r) == 1})


def nodes_of(tree: Tree) -> dict[str, Node]:
    """Every group and array by path.

    Raises
    ------
    FormatError
        There is no store.

    """
    found = {node.path: node for node in walk(tree)}
    if not found:
        raise FormatError("holds no Zarr store")
    return found
