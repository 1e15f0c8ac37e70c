"""What is carried over from one store to another: files, byte for byte and undecoded.

So it does not matter which codecs and types arrays have. Only summaries are left behind, which are made anew.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from lucid.errors import FileError
from lucid.formats.choosing import is_meant
from lucid.formats.contract import Carried
from lucid.formats.zarr.nodes import DOCUMENT_3, SUMMARY_2, Node, joined
from lucid.formats.zarr.summary import without_summary
from lucid.formats.zarr.tree import Tree


def carry(tree: Tree, nodes: Iterable[Node], root: Path, left_out: Collection[str]) -> Carried:
    """Copy every file but those of the groups and arrays at some paths; how many arrays that were."""
    arrays = nbytes = 0
    for node in nodes:
        if node.path in left_out:
            continue
        if node.is_group:
            _copy(tree, node.path, node.files, root)
        else:
            arrays += 1
            nbytes += _copy_all(tree, node.path, root)
    return Carried(arrays, nbytes)


def dropped(nodes: Iterable[Node], patterns: Sequence[str]) -> set[str]:
    """Paths of what the user leaves out, groups with all that is in them."""
    found: set[str] = set()
    for node in nodes:  # parents come first
        if node.path and (node.folder in found or is_meant(node.name, patterns)):
            found.add(node.path)
    return found


def _copy_all(tree: Tree, folder: str, root: Path) -> int:
    """Copy a folder with all in it; the bytes of its files."""
    try:
        folders, files = tree.list(folder)
    except (OSError, NotImplementedError) as error:
        raise FileError(
            f"array /{folder} is behind a server that lists no files, so it cannot be carried over; "
            "`carry=False` leaves it out"
        ) from error
    nbytes = _copy(tree, folder, files, root)
    return nbytes + sum(_copy_all(tree, joined(folder, name), root) for name in folders)


def _copy(tree: Tree, folder: str, names: Iterable[str], root: Path) -> int:
    nbytes = 0
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        data = tree.read(joined(folder, name))
        if data is None or name == SUMMARY_2:
            continue
        nbytes += (root / folder / name).write_bytes(without_summary(data) if name == DOCUMENT_3 else data)
    return nbytes
