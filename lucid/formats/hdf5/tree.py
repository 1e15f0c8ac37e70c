"""The tree of an HDF5 file: what there is, walked without following links, and how objects are known.

Objects are opened one at a time and let go of: each that is open costs the library some 20 KB.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import h5py

#: What h5py raises where the library fails; it picks one by the words of the library's message.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, TypeError, ValueError, NotImplementedError, OverflowError)

#: What two names of one object have in common: the number of the file, and the address in it.
Identity = tuple[int, int]


def reason(error: Exception) -> str:
    """The part of an HDF5 error that a person can use: what stands in the last parentheses."""
    text = str(error).strip()
    return text[text.find("(") + 1 : text.rfind(")")] if "(" in text and text.endswith(")") else text


def encoded(name: str) -> bytes:
    """A name as it is in the file, UTF-8 or not."""
    return name.encode("utf-8", "surrogateescape")


def decoded(name: bytes) -> str:
    """The text for a name in a file, UTF-8 or not."""
    return name.decode("utf-8", "surrogateescape")


class Link(NamedTuple):
    """A soft link's path, or an external link's file and path, as bytes of any encoding."""

    kind: int
    value: Any

    @property
    def is_soft(self) -> bool:
        """Whether it leads to another path of its file."""
        return bool(self.kind == h5py.h5l.TYPE_SOFT)

    @property
    def is_external(self) -> bool:
        """Whether it leads to another file."""
        return bool(self.kind == h5py.h5l.TYPE_EXTERNAL)


def link_of(group: h5py.Group, name: bytes) -> Link | None:
    """A link that is not simply the object's name; None where it is."""
    kind = group.id.links.get_info(name).type
    if kind == h5py.h5l.TYPE_HARD:
        return None
    if kind in (h5py.h5l.TYPE_SOFT, h5py.h5l.TYPE_EXTERNAL):
        return Link(kind, group.id.links.get_val(name))
    return Link(kind, None)


def opened(file: h5py.File, name: bytes) -> Any:
    """An object by its path."""
    return wrapped(h5py.h5o.open(file.id, name))


def wrapped(own: Any) -> Any:
    """A group, dataset or named type from what the library calls it by."""
    if isinstance(own, h5py.h5d.DatasetID):
        return h5py.Dataset(own)
    return h5py.Group(own) if isinstance(own, h5py.h5g.GroupID) else h5py.Datatype(own)


def walk(file: h5py.File, skips: Callable[[str], bool] = lambda _: False) -> Iterator[tuple[str, Any, bool]]:
    """Every link as (path, object, whether it is the first to that object).

    Links of other kinds come as a `Link` and are not followed. What `skips` says to skip by its path does not
    come, nor what is in it.
    """
    seen = {identity(file)}
    root = h5py.Group(h5py.h5g.open(file.id, b"/"))
    pending: list[tuple[str, Iterator[bytes], h5py.Group]] = [("", iter(root.id), root)]
    while pending:
        path, names, group = pending[-1]
        raw = next(names, None)
        if raw is None:
            pending.pop()
            continue
        full = f"{path}/{decoded(raw)}"
        if skips(full):
            continue
        link = link_of(group, raw)
        if link is not None:
            yield full, link, True
            continue
        item = wrapped(h5py.h5o.open(group.id, raw))
        info = h5py.h5o.get_info(item.id)
        # An object with one name is met once.
        first = info.rc < 2 or (info.fileno, info.addr) not in seen
        if info.rc >= 2:
            seen.add((info.fileno, info.addr))
        yield full, item, first
        if first and isinstance(item, h5py.Group):
            pending.append((full, iter(item.id), item))


def datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset once, by its first path through hard links, parents before children."""
    for name, item, first in walk(file):
        if first and isinstance(item, h5py.Dataset):
            yield name, item


def identity(item: Any) -> Identity:
    """What two names of one object have in common."""
    info = h5py.h5o.get_info(item.id)
    return info.fileno, info.addr


def path_of(item: Any) -> str:
    """The path by which an object was opened."""
    return decoded(h5py.h5i.get_name(item.id) or b"")


def parent_of(path: str) -> str:
    """The path of the group that holds an object.

    >>> parent_of("/g/x"), parent_of("/x")
    ('/g', '/')

    """
    return path.rpartition("/")[0] or "/"


def absolute(path: str, value: str) -> str:
    """Where a soft link leads, without following it.

    >>> absolute("/g/link", "x"), absolute("/g/link", "/x"), absolute("/link", "./g//x/")
    ('/g/x', '/x', '/g/x')

    """
    whole = value if value.startswith("/") else f"{parent_of(path)}/{value}"
    return "/" + "/".join(name for name in whole.split("/") if name not in ("", "."))
