"""What is carried over from one store to another: files, byte for byte and undecoded.

So it does not matter which codecs and types arrays have. Only summaries are left behind, which are made anew.
"""

from collections.abc import Collection
from pathlib import Path

from lucid.errors import FileError
from lucid.formats.zarr.nodes import DOCUMENT_3, SUMMARY_2, Node, joined
from lucid.formats.zarr.summary import without_summary
from lucid.formats.zarr.tree import Tree


def carry(tree: Tree, nodes: Collection[Node], root: Path, left_out: Collection[str]) -> int:
    """Copy every file but those of the arrays at some paths; how many bytes that were."""
    total = 0
    for node in nodes:
        if node.document is None and not node.damage:
            total += _copy(tree, node.path, node.files, root)
        elif node.path not in left_out:
            total += _copy_all(tree, node.path, root)
    return total


def _copy_all(tree: Tree, folder: str, root: Path) -> int:
    try:
        folders, files = tree.list(folder)
    except (OSError, NotImplementedError) as error:
        raise FileError(
            f"array /{folder} is behind a server that lists no files, so it cannot be carried over; "
            "--no-carry leaves it out"
        ) from error
    return _copy(tree, folder, files, root) + sum(_copy_all(tree, joined(folder, n), root) for n in folders)


def _copy(tree: Tree, folder: str, names: Collection[str], root: Path) -> int:
    total = 0
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        data = tree.read(joined(folder, name))
        if data is None or name == SUMMARY_2:
            continue
        if name == DOCUMENT_3:
            data = without_summary(data)
        (root / folder / name).write_bytes(data)
        total += len(data)
    return total
