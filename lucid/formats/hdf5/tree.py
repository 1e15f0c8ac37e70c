"""The tree of an HDF5 file: what there is, walked without following links, and how objects are known.

Objects are opened one at a time and let go of: each that is open costs the library some 20 KB. What is
asked of a dataset costs microseconds each time, which tell where there are a hundred thousand.
"""

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import h5py

from lucid.errors import LucidError

#: What h5py raises where the library fails; it picks one by the words of the library's message.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, TypeError, ValueError, NotImplementedError, OverflowError)

#: What two names of one object in a file have in common: its address.
Identity = int
#: Soft links that are followed, one after another.
MOST_LINKS = 32
#: Bytes of metadata that the library keeps of a file. In memory they take ten times as much, and by itself the
#: library keeps up to 32 MiB. The names of a group it holds together, and a path leads through all groups above.
CACHED_BYTES, LINK_BYTES, LEVEL_BYTES = 1 << 20, 32, 2 << 10


def reason(error: Exception) -> str:
    """The part of an HDF5 error that a person can use: what stands in the last parentheses."""
    text = str(error).strip()
    return text[text.find("(") + 1 : text.rfind(")")] if "(" in text and text.endswith(")") else text


@contextmanager
def failing_as(kind: type[LucidError], what: str) -> Iterator[None]:
    """Raise an error of the library as one of ours that says what failed."""
    try:
        yield
    except LucidError:
        raise
    except HDF5_ERRORS as error:
        raise kind(f"{what}: {reason(error)}") from error


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


def link_of(group: Any, name: bytes) -> Link | None:
    """A link of a group that is not simply the object's name; None where it is."""
    kind = group.links.get_info(name).type
    if kind == h5py.h5l.TYPE_HARD:
        return None
    if kind in (h5py.h5l.TYPE_SOFT, h5py.h5l.TYPE_EXTERNAL):
        return Link(kind, group.links.get_val(name))
    return Link(kind, None)


class Dataset:
    """A dataset that asks the library once for what is wanted of it often; h5py answers the rest."""

    def __init__(self, own: Any) -> None:
        self.id = own

    @cached_property
    def kind(self) -> Any:
        """The type of the elements in the file."""
        return self.id.get_type()

    @cached_property
    def creation(self) -> Any:
        """The creation properties."""
        return self.id.get_create_plist()

    @cached_property
    def shape(self) -> Any:
        """The lengths of the axes; None where there is not even one element."""
        return self.id.shape

    @cached_property
    def _h5py(self) -> Any:
        return h5py.Dataset(self.id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._h5py, name)

    def __getitem__(self, key: Any) -> Any:
        return self._h5py[key]


def opened(file: h5py.File, name: bytes) -> Any:
    """An object by its path."""
    return wrapped(h5py.h5o.open(file.id, name))


def wrapped(own: Any) -> Any:
    """A group, dataset or named type from what the library calls it by."""
    if isinstance(own, h5py.h5d.DatasetID):
        return Dataset(own)
    return h5py.Group(own) if isinstance(own, h5py.h5g.GroupID) else h5py.Datatype(own)


def limit_cache(file: h5py.File, group: Any = None, path: str = "") -> None:
    """Keep the library's cache of metadata from growing with the number of objects.

    It grows for a group, by the library's identifier, of very many links or deep down: it has to hold what leads to
    an object, or it holds nothing.
    """
    more = 0 if group is None else LINK_BYTES * group.get_num_objs() + LEVEL_BYTES * path.count("/")
    if group is not None and more < CACHED_BYTES // 2:
        return
    config = file.id.get_mdc_config()
    wanted = CACHED_BYTES + more
    if group is None or wanted > config.max_size:
        config.set_initial_size = True
        config.max_size = config.initial_size = config.max_increment = wanted
        file.id.set_mdc_config(config)


class Entry(NamedTuple):
    """A name of an object, and the object, None where it is known; or a link that is not followed."""

    path: str
    item: Any
    #: Whether it is the first name of the object; whether there may be others.
    is_first: bool = True
    has_names: bool = False
    own: Identity = -1

    @property
    def is_dataset(self) -> bool:
        """Whether it is a dataset."""
        return isinstance(self.item, Dataset)


def walk(
    file: h5py.File, skips: Callable[[str], bool] | None = None, known: Container[str] = ()
) -> Iterator[Entry]:
    """Every link, a group before what is in it.

    What `skips` says to skip by its path does not come, nor what is in it. What is `known` by its path, its
    only one, is not opened.
    """
    seen = {identity(file)}
    root = h5py.h5g.open(file.id, b"/")
    limit_cache(file, root)
    pending: list[tuple[str, Iterator[bytes], Any]] = [("", iter(root), root)]
    while pending:
        path, names, group = pending[-1]
        raw = next(names, None)
        if raw is None:
            pending.pop()
            continue
        full = f"{path}/{decoded(raw)}"
        if skips is not None and skips(full):
            continue
        link = group.links.get_info(raw)
        if link.type != h5py.h5l.TYPE_HARD:
            yield Entry(full, link_of(group, raw))
            continue
        if full in known:
            yield Entry(full, None, own=link.u)
            continue
        own = h5py.h5o.open(group, raw)
        info = h5py.h5o.get_info(own)
        # An object with one name is met once.
        has_names = info.rc > 1
        is_first = not has_names or info.addr not in seen
        if has_names:
            seen.add(info.addr)
        yield Entry(full, wrapped(own), is_first, has_names, info.addr)
        if is_first and isinstance(own, h5py.h5g.GroupID):
            limit_cache(file, own, full)
            pending.append((full, iter(own), own))


def resolved(file: h5py.File, path: str) -> str | Link | None:
    """The path at which a walk meets an object that a path leads to; None where it leads to nothing.

    Where a link leads out of the file, or a soft one to nothing, it is that link.
    """
    here, names, soft = "/", path.split("/")[1:], list[Link]()
    while names and names[0]:
        there = f"{here.rstrip('/')}/{names[0]}"
        try:
            link = link_of(opened(file, encoded(here)).id, encoded(names[0]))
        except (AttributeError, *HDF5_ERRORS):
            return soft[0] if soft else None
        if link is None:
            here = there if len(names) == 1 else _first_path(file, there)
            names = names[1:]
        elif not link.is_soft:
            return link
        else:
            soft.append(link)
            if len(soft) > MOST_LINKS:
                return link
            here, names = "/", absolute(there, decoded(link.value)).split("/")[1:] + names[1:]
    return here


def _first_path(file: h5py.File, path: str) -> str:
    """The first of the paths of a group that may have several."""
    info = h5py.h5o.get_info(opened(file, encoded(path)).id)
    if info.addr == identity(file):
        return "/"
    return path if info.rc < 2 else next(entry.path for entry in walk(file) if entry.own == info.addr)


def datasets(file: h5py.File) -> Iterator[Entry]:
    """Every dataset once, by its first path through hard links, parents before children."""
    return (entry for entry in walk(file) if entry.is_first and entry.is_dataset)


def identity(item: Any) -> Identity:
    """What two names of one object have in common."""
    return int(h5py.h5o.get_info(item.id).addr)


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
