"""What is carried over from one store to another: files, byte for byte and undecoded.

So it does not matter which codecs and types arrays have. Only summaries (consolidated metadata: the documents of all
groups and arrays below a group, in one) are left behind. They are gathered anew from the documents of the finished
store, for the groups that had one in the source; what it said does not matter.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from lucid.errors import FileError
from lucid.formats.choosing import is_meant
from lucid.formats.contract import CarriedArrays
from lucid.formats.zarr.documents import (
    ATTRIBUTES_2,
    DOCUMENT_2,
    DOCUMENT_3,
    GROUP_2,
    parse_document,
    write_document,
)
from lucid.formats.zarr.nodes import SUMMARY_2, SUMMARY_3, Node
from lucid.formats.zarr.source import ZarrSource
from lucid.formats.zarr.store import Store, key_in


def dropped_paths(nodes: Iterable[Node], patterns: Sequence[str]) -> set[str]:
    """Paths of what the user leaves out, groups with all that is in them."""
    paths: set[str] = set()
    for node in nodes:  # parents come first
        if node.path and (node.folder in paths or is_meant(node.name, patterns)):
            paths.add(node.path)
    return paths


def carry(source: ZarrSource, root: Path | None, left_out: Collection[str]) -> CarriedArrays:
    """Copy all but the groups and arrays at some paths, or, without a root, only see how many arrays that is."""
    store = source.store
    kept = [node for node in source.nodes.values() if node.path not in left_out]
    sizes = store.each(
        lambda node: _copy(store, node.path, root, node.files if node.is_group else None), kept
    )
    arrays = [nbytes for node, nbytes in zip(kept, sizes, strict=True) if not node.is_group]
    return CarriedArrays(len(arrays), sum(arrays))


def _copy(store: Store, folder: str, root: Path | None, files: Iterable[str] | None = None) -> int:
    """Copy some files of a folder, or all that is in it, if there is a root; how many bytes they are."""
    entries = [(name, False) for name in files or ()]
    if files is None:
        try:
            entries = sorted(store.entries(folder))
        except (OSError, NotImplementedError) as error:
            raise FileError(
                f"array /{folder} is behind a server that lists no files, so it cannot be carried over; "
                "`carry=False` leaves it out"
            ) from error
    if root is not None:
        (root / folder).mkdir(parents=True, exist_ok=True)
    nbytes = 0
    for name, is_folder in entries:
        key = key_in(folder, name)
        if is_folder:
            nbytes += _copy(store, key, root)
            continue
        document = parse_document(store.read(key) or b"")[0] if name == DOCUMENT_3 else {}
        if SUMMARY_3 in document:
            del document[SUMMARY_3]
            if root is not None:
                write_document(root / key, document)
        elif name != SUMMARY_2:
            nbytes += store.size_bytes(key) if root is None else store.copy(key, root / key)
    return nbytes


def write_summaries(source: ZarrSource, root: Path, paths: Iterable[str]) -> None:
    """Write the summaries of the groups at some paths, which are all of a store, that have one in the source."""
    # The summaries of inner groups stand within those of outer ones.
    for group in sorted(paths, key=len, reverse=True):
        node = source.nodes.get(group)
        if node is None or not node.is_group:
            continue
        folder, start = root / group, f"{group}/" if group else ""
        inner = [path[len(group) :].strip("/") for path in sorted(paths) if f"{path}/".startswith(start)]
        if SUMMARY_2 in node.files:
            metadata = _documents(folder, inner, (GROUP_2, DOCUMENT_2, ATTRIBUTES_2))
            write_document(folder / SUMMARY_2, {"zarr_consolidated_format": 1, "metadata": metadata})
        old, _ = parse_document(source.store.read(key_in(group, DOCUMENT_3)) or b"")
        if isinstance(old.get(SUMMARY_3), dict):
            summary = {"kind": "inline", "must_understand": False}
            (_, document), *others = _documents(folder, inner, (DOCUMENT_3,)).items()
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
