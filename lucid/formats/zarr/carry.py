"""What is carried over from one store to another: files, byte for byte and undecoded.

So it does not matter which codecs and types arrays have. Only summaries (consolidated metadata: the documents of all
groups and arrays below a group, in one) are made anew in the finished store, of the documents that are there by
then; what they said does not matter.
"""

from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from lucid.formats.contract import CarriedArrays
from lucid.formats.zarr.documents import (
    ATTRIBUTES_2,
    DOCUMENT_2,
    DOCUMENT_3,
    GROUP_2,
    parse_document,
    write_document,
)
from lucid.formats.zarr.nodes import SUMMARY_2, SUMMARY_3, Node, nodes_of
from lucid.formats.zarr.store import FolderStore, Store, key_in


def carry(store: Store, root: Path | None, nodes: Collection[Node]) -> CarriedArrays:
    """Copy groups and arrays, or, without a root, only see how many arrays these are."""
    sizes = store.each(partial(_copy, store, root), nodes)
    arrays = [nbytes for node, nbytes in zip(nodes, sizes, strict=True) if not node.is_group]
    return CarriedArrays(len(arrays), sum(arrays))


def _copy(store: Store, root: Path | None, node: Node) -> int:
    """Copy all files of an array, or those of a group, if there is a root; how many bytes they are."""
    if root is not None:
        (root / node.path).mkdir(parents=True, exist_ok=True)
    own_keys = (key_in(node.path, name) for name in node.files)
    keys = own_keys if node.is_group else store.files(node.path)
    return sum(store.size_bytes(key) if root is None else store.copy(key, root / key) for key in keys)


def renew_summaries(root: Path) -> None:
    """Write the summaries in a store anew, of the documents that are in it."""
    nodes = nodes_of(FolderStore(root))
    for group in (node for node in nodes.values() if node.has_summary):
        folder, start = root / group.path, key_in(group.path, "")
        inner = [path[len(start) :] for path in nodes if f"{path}/".startswith(start)]
        if SUMMARY_2 in group.files:
            metadata = _documents(folder, inner, (GROUP_2, DOCUMENT_2, ATTRIBUTES_2))
            write_document(folder / SUMMARY_2, {"zarr_consolidated_format": 1, "metadata": metadata})
        (own, document), *others = _documents(folder, inner, (DOCUMENT_3,)).items() or [("", {})]
        if own == DOCUMENT_3 and isinstance(document.pop(SUMMARY_3, None), dict):
            summary = {"kind": "inline", "must_understand": False}
            for _, other in others:
                other.pop(SUMMARY_3, None)
                if other.get("node_type") == "group":
                    # zarr looks for the members of inner groups in the store unless they have a summary, too.
                    other[SUMMARY_3] = {**summary, "metadata": {}}
            metadata = {key.removesuffix(f"/{DOCUMENT_3}"): other for key, other in others}
            write_document(folder / DOCUMENT_3, document | {SUMMARY_3: {**summary, "metadata": metadata}})


def _documents(folder: Path, paths: Iterable[str], names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The documents of these names of the groups and arrays at some paths, by their keys, the group's own first."""
    keys = [key for path in paths for name in names if (folder / (key := key_in(path, name))).is_file()]
    documents = ((key, *parse_document((folder / key).read_bytes())) for key in keys)
    return {key: document for key, document, damage in documents if not damage}
