"""The groups and arrays of a store, by their own documents: what is there counts, not a summary of it.

Only a store that cannot be listed, such as one behind plain HTTP, is walked by its summary; the document of each
array is read even then.
"""

from functools import cache
from typing import Any, NamedTuple

from lucid.errors import FormatError
from lucid.formats.contract import PROVENANCE
from lucid.formats.disk.files import digest
from lucid.formats.regions import size_of
from lucid.formats.zarr.documents import (
    ATTRIBUTES_2,
    DOCUMENT_2,
    DOCUMENT_3,
    GROUP_2,
    TWO_BYTES,
    from_version_2,
    nczarr_in,
    parse_document,
)
from lucid.formats.zarr.store import Store, folders_of, key_in
from lucid.pooling.dtypes import ELEMENTS

#: The summary of all documents in version 2, and the key of that in a group's document in version 3.
SUMMARY_2, SUMMARY_3 = ".zmetadata", "consolidated_metadata"

#: The attribute that says which files an array of a shard has, by `digest_of_files`.
FILES = f"{PROVENANCE}_files"


class Node(NamedTuple):
    """A group or an array: its path, "" for the root, and what its documents say."""

    path: str
    #: The metadata of an array in the words of version 3; None for a group, or where they are damaged.
    document: dict[str, Any] | None
    attributes: dict[str, Any]
    #: Why the documents cannot be read, if so.
    damage: str = ""
    #: Of a group, names of its files, and whether it has a summary.
    files: tuple[str, ...] = ()
    has_summary: bool = False

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
        """The version of the format that an array is of."""
        return int(self.document["zarr_format"]) if self.document else 3

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an array."""
        return tuple(self.document["shape"]) if self.document else ()

    @property
    def dims(self) -> tuple[str, ...]:
        """What the axes are called, "" for those without a name; () where none has one."""
        names = self.document.get("dimension_names") if self.document else None
        if not isinstance(names, list) or len(names) != len(self.shape) or not any(names):
            return ()
        return tuple(name if isinstance(name, str) else "" for name in names)

    def numbers(self, untyped: str | None = None) -> str | None:
        """The name of the elements' type, `untyped` for two bytes without one; None where they are no numbers."""
        data_type = self.document["data_type"] if self.document else None
        if data_type in TWO_BYTES:
            return untyped
        return data_type if isinstance(data_type, str) and data_type in ELEMENTS else None


def nodes_of(store: Store) -> dict[str, Node]:
    """Every group and array by path, parents first; an error where there is no store."""
    summary = cache(lambda: folders_of(_keys_of_summary(store)))

    def look(path: str) -> tuple[Node, list[str]]:
        """What is at a path, and the paths of what is in it, if it is a group."""
        node = node_at(store, path)
        if not node.is_group:
            return node, []
        try:
            entries = sorted(store.entries(path))
        except (OSError, NotImplementedError):
            if not summary():
                raise
            entries = sorted(summary()[path])
        files = tuple(name for name, is_folder in entries if not is_folder)
        if not path and store.is_far and not {DOCUMENT_3, GROUP_2, ATTRIBUTES_2, SUMMARY_2} & {*files}:
            raise FormatError("holds no Zarr store")
        node = node._replace(files=files, has_summary=node.has_summary or SUMMARY_2 in files)
        return node, [key_in(path, name) for name, is_folder in entries if is_folder]

    nodes: dict[str, Node] = {}
    level = [""]
    while level:
        pairs = [*store.each(look, level)]
        nodes |= {node.path: node for node, _ in pairs}
        level = [path for _, paths in pairs for path in paths]
    return dict(sorted(nodes.items()))


def digest_of_files(store: Store, folder: str) -> str:
    """A digest of the names and sizes of the files of chunks that an array has."""
    documents, start = (DOCUMENT_2, DOCUMENT_3, ATTRIBUTES_2), len(key_in(folder, ""))
    keys = (key for key in store.files(folder) if key.rpartition("/")[2] not in documents)
    return digest(sorted((key[start:], store.size_bytes(key)) for key in keys))


def node_at(store: Store, path: str) -> Node:
    """What the documents at a path say of it; a folder without any is a group that says nothing."""
    names = DOCUMENT_3, DOCUMENT_2, ATTRIBUTES_2, GROUP_2
    texts = store.each(lambda name: store.read(key_in(path, name)), names)
    text = next(texts)
    if text is not None:
        document, damage = parse_document(text)
        attributes = document.get("attributes")
        attributes = attributes if isinstance(attributes, dict) else {}
        if document.get("node_type", "array") != "array":
            return Node(path, None, attributes, has_summary=isinstance(document.get(SUMMARY_3), dict))
        damage = damage or _damage_of(document, 3)
        document.setdefault("data_type", None)
        document.setdefault("zarr_format", 3)
        return Node(path, None if damage else document, attributes, damage)
    text = next(texts)
    own = next(texts)  # none is no damage, but an empty file is
    attributes, damage = parse_document(b"{}" if own is None else own)
    if text is None:
        group, _ = parse_document(next(texts) or b"")
        return Node(path, None, attributes | nczarr_in(group))
    document, why_not = parse_document(text)
    damage = why_not or damage or _damage_of(document, 2)
    translated = None
    try:
        translated = None if damage else from_version_2(document, attributes)
    except (AttributeError, TypeError, ValueError):
        damage = "has metadata with codecs that are none"
    return Node(path, translated, attributes | nczarr_in(document), damage)


def _damage_of(document: dict[str, Any], version: int) -> str:
    """Why a document is no array's; nothing where it is."""
    if document.get("zarr_format", version) != version:
        return f"has metadata of version {str(document['zarr_format'])[:20]}; expected {version}"
    shape = document.get("shape")
    is_shape = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    return "" if is_shape and size_of(shape or ()) < 1 << 63 else "has metadata without a shape"


def _keys_of_summary(store: Store) -> list[str]:
    """Keys of the documents that the summary of a store lists, and of its own."""
    text, name = store.read(DOCUMENT_3), DOCUMENT_3
    if text is None:
        text, name = store.read(SUMMARY_2), SUMMARY_2
    document, _ = parse_document(text or b"")
    holder = document if name == SUMMARY_2 else document.get(SUMMARY_3)
    metadata = holder.get("metadata") if isinstance(holder, dict) else None
    if not isinstance(metadata, dict):
        return []
    return [name, *(metadata if name == SUMMARY_2 else [f"{path}/{DOCUMENT_3}" for path in metadata])]
