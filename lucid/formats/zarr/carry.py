"""What is carried over from one store to another: files, byte for byte and undecoded.

So it does not matter which codecs and types arrays have. Only summaries (consolidated metadata: the documents of all
groups and arrays below a group, in one) are left behind. They are gathered anew from the documents of the finished
store, for the groups that had one in the source; what it said does not matter.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from lucid.errors import FileError
from lucid.formats.choosing import is_meant
from lucid.formats.contract import Carried
from lucid.formats.zarr.documents import ATTRIBUTES_2, DOCUMENT_2, DOCUMENT_3, GROUP_2, parsed, write
from lucid.formats.zarr.nodes import SUMMARY_2, SUMMARY_3, Node
from lucid.formats.zarr.store import Store, joined


def dropped(nodes: Iterable[Node], patterns: Sequence[str]) -> set[str]:
    """Paths of what the user leaves out, groups with all that is in them."""
    paths: set[str] = set()
    for node in nodes:  # parents come first
        if node.path and (node.folder in paths or is_meant(node.name, patterns)):
            paths.add(node.path)
    return paths


def carry(store: Store, nodes: Iterable[Node], root: Path, left_out: Collection[str]) -> Carried:
    """Copy every file but those of the groups and arrays at some paths; how many arrays that were."""
    arrays = nbytes = 0
    for node in nodes:
        if node.path not in left_out and node.is_group:
            _copy(store, node.path, root, node.files)
        elif node.path not in left_out:
            arrays += 1
            nbytes += _copy(store, node.path, root)
    return Carried(arrays, nbytes)


def _copy(store: Store, folder: str, root: Path, files: Iterable[str] | None = None) -> int:
    """Copy some files of a folder, or all that is in it; how many bytes that were."""
    folders: list[str] = []
    if files is None:
        try:
            folders, files = store.list(folder)
        except (OSError, NotImplementedError) as error:
            raise FileError(
                f"array /{folder} is behind a server that lists no files, so it cannot be carried over; "
                "`carry=False` leaves it out"
            ) from error
    (root / folder).mkdir(parents=True, exist_ok=True)
    nbytes = sum(_copy(store, joined(folder, name), root) for name in folders)
    for name in files:
        data = store.read(joined(folder, name))
        if data is None or name == SUMMARY_2:
            continue
        if name == DOCUMENT_3 and SUMMARY_3 in (document := parsed(data)[0]):
            del document[SUMMARY_3]
            data = json.dumps(document, indent=2).encode()
        nbytes += (root / folder / name).write_bytes(data)
    return nbytes


def write_summaries(store: Store, nodes: Iterable[Node], root: Path, left_out: Collection[str]) -> None:
    """Write the summaries of the groups that have one in the source."""
    # The summaries of inner groups stand within those of outer ones.
    for node in sorted(nodes, key=lambda node: -len(node.path)):
        if not node.is_group or node.path in left_out:
            continue
        folder = root / node.path
        if SUMMARY_2 in node.files:
            metadata = _documents(folder, (GROUP_2, DOCUMENT_2, ATTRIBUTES_2))
            write(folder / SUMMARY_2, {"zarr_consolidated_format": 1, "metadata": metadata})
        if DOCUMENT_3 in node.files:
            document, _ = parsed(store.read(joined(node.path, DOCUMENT_3)) or b"")
            if isinstance(document.get(SUMMARY_3), dict):
                _write_summary_3(folder)


def _write_summary_3(folder: Path) -> None:
    """Write the summary of a group of version 3 into its document."""
    summary = {"kind": "inline", "must_understand": False}
    documents = _documents(folder, (DOCUMENT_3,))
    own = documents.pop(DOCUMENT_3)
    for document in documents.values():
        document.pop(SUMMARY_3, None)
        if document.get("node_type") == "group":
            # zarr looks for the members of inner groups in the store unless they say that they have a summary.
            document[SUMMARY_3] = {**summary, "metadata": {}}
    metadata = {key.removesuffix(f"/{DOCUMENT_3}"): document for key, document in documents.items()}
    write(folder / DOCUMENT_3, {**own, SUMMARY_3: {**summary, "metadata": metadata}})


def _documents(folder: Path, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Documents of these names below a folder by their keys, in one order; not below arrays, where chunks are."""
    documents: dict[str, dict[str, Any]] = {}
    pending = [folder]
    while pending:
        inner = pending.pop()
        is_array = (inner / DOCUMENT_2).is_file()
        for path in (inner / name for name in names if (inner / name).is_file()):
            document, damage = parsed(path.read_bytes())
            if not damage:
                documents[path.relative_to(folder).as_posix()] = document
                is_array = is_array or document.get("node_type") == "array"
        if not is_array:
            pending += sorted((path for path in inner.iterdir() if path.is_dir()), reverse=True)
    return documents
