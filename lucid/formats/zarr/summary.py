"""Consolidated metadata: the documents of all groups and arrays below a group, in one.

They are gathered from the documents as these are written, so that an array of an unknown type is listed, too.
Which groups had a summary is told by the source; what it said does not matter.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lucid.formats.zarr.nodes import ATTRIBUTES_2, DOCUMENT_2, DOCUMENT_3, GROUP_2, SUMMARY_2, Node, parsed
from lucid.formats.zarr.tree import Tree

#: The key in a group's document of version 3 that holds them.
CONSOLIDATED = "consolidated_metadata"


def with_summary(tree: Tree, nodes: Iterable[Node]) -> list[tuple[str, str]]:
    """The groups that have a summary: path and name of the document that holds it."""
    found = []
    for node in nodes:
        if node.is_group:
            if SUMMARY_2 in node.files:
                found.append((node.path, SUMMARY_2))
            if DOCUMENT_3 in node.files:
                text = tree.read(f"{node.path}/{DOCUMENT_3}".lstrip("/"))
                if text is not None and isinstance(parsed(text)[0].get(CONSOLIDATED), dict):
                    found.append((node.path, DOCUMENT_3))
    # The summaries of inner groups stand within those of outer ones.
    return sorted(found, key=lambda pair: -len(pair[0]))


def without_summary(text: bytes) -> bytes:
    """A document of version 3 without one; the very bytes where it has none."""
    document, _ = parsed(text)
    if CONSOLIDATED not in document:
        return text
    del document[CONSOLIDATED]
    return json.dumps(document, indent=2).encode()


def write_summary(root: Path, group: str, name: str) -> None:
    """Write the summary of a group of a finished store."""
    folder = root / group
    if name == SUMMARY_2:
        metadata: dict[str, Any] = dict(_documents(folder, (GROUP_2, DOCUMENT_2, ATTRIBUTES_2)))
        text = json.dumps({"zarr_consolidated_format": 1, "metadata": metadata}, indent=4)
        (folder / SUMMARY_2).write_text(text)
        return
    metadata = {}
    for key, document in _documents(folder, (DOCUMENT_3,)):
        path = key.removesuffix(DOCUMENT_3).rstrip("/")
        if path:
            document.pop(CONSOLIDATED, None)
            if document.get("node_type") == "group":
                # zarr looks for the members of inner groups in the store unless they say that they have a summary.
                document[CONSOLIDATED] = {"kind": "inline", "must_understand": False, "metadata": {}}
            metadata[path] = document
    document, _ = parsed((folder / DOCUMENT_3).read_bytes())
    document[CONSOLIDATED] = {"kind": "inline", "must_understand": False, "metadata": metadata}
    (folder / DOCUMENT_3).write_text(json.dumps(document, indent=2))


def _documents(folder: Path, names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Documents of these names below a folder by their keys, in one order; not below arrays, where chunks are."""
    pending = [folder]
    while pending:
        here = pending.pop()
        is_array = (here / DOCUMENT_2).is_file()
        for name in names:
            path = here / name
            document, damage = parsed(path.read_bytes()) if path.is_file() else ({}, "none")
            if not damage:
                yield path.relative_to(folder).as_posix(), document
                is_array = is_array or document.get("node_type") == "array"
        if not is_array:
            pending += sorted((path for path in here.iterdir() if path.is_dir()), reverse=True)
