"""The tree of an HDF5 file: what there is, walked without following links, and how objects are known.

Objects are opened one at a time and let go of, since the library takes some 20 KB of memory for each that is open.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import h5py

from lucid import errors
from lucid.formats.hdf5.dataset import Dataset

#: What h5py raises where the library fails; it picks one by the words of the library's message.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, TypeError, ValueError, NotImplementedError, OverflowError)

#: Kinds of links: an object's name, or one to another path or another file; there are others.
HARD, SOFT, EXTERNAL = h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT, h5py.h5l.TYPE_EXTERNAL
#: What two names of one object in a file have in common: its address.
Address = int
#: The address of a link that is no object's name, and of what is not there.
NOBODY: Address = -1
#: Soft links that are followed, one after another.
MOST_LINKS = 32
#: Bytes of metadata that the library keeps of a file, and those of a group. In memory they take tens of times as much,
#: and by itself the library keeps up to 32 MiB, which is no faster (benchmarks/decisions.md).
CACHED_BYTES, LEVEL_BYTES = 1 << 18, 2 << 10


def reason(error: Exception) -> str:
    """The part of an HDF5 error that a person can use: what stands in the last parentheses."""
    text = str(error).strip()
    return text[text.find("(") + 1 : text.rfind(")")] if "(" in text and text.endswith(")") else text


#: Raises an error of the library as one of ours that says what failed.
translate_errors = partial(errors.translate_errors, kinds=HDF5_ERRORS, words=reason)


def name_bytes(name: str) -> bytes:
    """A name as it is in the file, UTF-8 or not."""
    return name.encode("utf-8", "surrogateescape")


def name_text(name: bytes) -> str:
    """The text for a name in a file, UTF-8 or not."""
    return name.decode("utf-8", "surrogateescape")


class Link(NamedTuple):
    """What is at a name that is not the first one of an object."""

    type: int
    #: A soft link's path, or an external link's file and path, as bytes of any encoding; an object's first path.
    value: Any


def link_of(group: Any, name: bytes) -> Link | None:
    """A link of a group that is not simply the object's name; None where it is."""
    link_type = group.links.get_info(name).type
    if link_type == HARD:
        return None
    return Link(link_type, group.links.get_val(name) if link_type in (SOFT, EXTERNAL) else None)


def object_at(file: h5py.File, path: str) -> Any:
    """An object by its path."""
    return object_of(h5py.h5o.open(file.id, name_bytes(path)))


def object_of(h5_id: Any) -> Any:
    """A group, dataset or named type from what the library calls it by."""
    if isinstance(h5_id, h5py.h5d.DatasetID):
        return Dataset(h5_id)
    return h5py.Group(h5_id) if isinstance(h5_id, h5py.h5g.GroupID) else h5py.Datatype(h5_id)


def link_hard(file: h5py.File | None, path: str, first_path: str) -> None:
    """Give an object of a file another name, unless there is something of that name; nothing where there is no file."""
    name = name_bytes(path)
    if file is not None and not file.id.links.exists(name):
        file.id.links.create_hard(name, file.id, name_bytes(first_path))


def limit_cache(file: h5py.File, size_bytes: int = CACHED_BYTES) -> None:
    """Keep the library's cache of metadata from growing with the number of objects."""
    config = file.id.get_mdc_config()
    config.set_initial_size = True
    config.min_size = config.max_size = config.initial_size = config.max_increment = size_bytes
    file.id.set_mdc_config(config)


class Entry(NamedTuple):
    """A name in a file, what is there, and the address of the object."""

    path: str
    #: An object at its first name, or a `Link`; None for an object that is not opened.
    obj: Any
    address: Address = NOBODY


def walk(
    file: h5py.File,
    skips: Callable[[str], bool] | None = None,
    is_known: Callable[[Address], bool] = lambda _: False,
    copy: h5py.File | None = None,
) -> Iterator[Entry]:
    """Every name in a file, a group before what is in it.

    Where `skips` is true of a path, that is left out with all that is in it. An object whose address `is_known` is not
    opened; it has no other name. In `copy` the caller makes the same groups, so its cache has to hold as much.
    """
    # Of objects that have several names.
    first_paths = {address_of(file): "/"}
    pending: list[tuple[str, Any, Iterator[bytes]]] = []
    cached_bytes = CACHED_BYTES

    def enter(path: str, group: Any) -> None:
        nonlocal cached_bytes
        names = list(group)
        needed_bytes = _needed_bytes(path, names)
        if needed_bytes > cached_bytes:
            cached_bytes = needed_bytes
            limit_cache(file, cached_bytes)
            if copy is not None:
                limit_cache(copy, cached_bytes)
        pending.append((path, group, iter(names)))

    enter("", h5py.h5g.open(file.id, b"/"))
    while pending:
        path, group, names = pending[-1]
        name = next(names, None)
        if name is None:
            pending.pop()
            continue
        full = f"{path}/{name_text(name)}"
        if skips is None or not skips(full):
            entry = _entry(full, group, name, first_paths, is_known)
            yield entry
            if type(entry.obj) is h5py.Group:  # `isinstance` takes longer, as of an abstract class
                enter(full, entry.obj.id)


def _needed_bytes(path: str, names: list[bytes]) -> int:
    """Bytes of metadata that the library needs at once to walk through the names of a group.

    It holds the names together, in words of 8 bytes, with room for as many again, and all groups that the path leads
    through. With room for these alone it would read them anew for every object.
    """
    names_bytes = sum(len(name) // 8 + 1 for name in names) * 16
    return names_bytes + LEVEL_BYTES * path.count("/") + CACHED_BYTES // 4


def _entry(
    path: str, group: Any, name: bytes, first_paths: dict[Address, str], is_known: Callable[[Address], bool]
) -> Entry:
    """What is at a name of a group; an object that has several is put among the first paths."""
    info = group.links.get_info(name)
    if info.type != HARD:
        return Entry(path, link_of(group, name))
    if is_known(info.u):
        return Entry(path, None, info.u)
    if info.u in first_paths:
        return Entry(path, Link(HARD, first_paths[info.u]), info.u)
    h5_id = h5py.h5o.open(group, name)
    # This takes less time than `h5o.get_info`, which asks for more.
    if h5py.h5g.get_objinfo(h5_id).nlink > 1:
        first_paths[info.u] = path
    return Entry(path, object_of(h5_id), info.u)


def follow_links(file: h5py.File, path: str) -> str | Link | None:
    """The path at which a walk meets an object that a path leads to; None where it leads to nothing.

    Where a link leads out of the file, or a soft one to nothing, it is that link.
    """
    start, names, soft = "/", [*filter(None, path.split("/"))], list[Link]()
    while names:
        step = f"{start.rstrip('/')}/{names[0]}"
        try:
            link = link_of(object_at(file, start).id, name_bytes(names[0]))
        except (AttributeError, *HDF5_ERRORS):
            return soft[0] if soft else None
        if link is None:
            start = step if len(names) == 1 else _first_path(file, step)
            names = names[1:]
        elif link.type != SOFT:
            return link
        else:
            soft.append(link)
            if len(soft) > MOST_LINKS:
                return link
            whole = absolute_path(step, name_text(link.value))
            start, names = "/", [*filter(None, whole.split("/")), *names[1:]]
    return start


def _first_path(file: h5py.File, path: str) -> str:
    """The first of the paths of a group that may have several."""
    info = h5py.h5o.get_info(object_at(file, path).id)
    if info.addr == address_of(file):
        return "/"
    return path if info.rc < 2 else next(entry.path for entry in walk(file) if entry.address == info.addr)


def address_of(obj: Any) -> Address:
    """What two names of one object have in common."""
    return int(h5py.h5o.get_info(obj.id).addr)


def path_of(obj: Any) -> str:
    """The path by which an object was opened."""
    return name_text(h5py.h5i.get_name(obj.id) or b"")


def absolute_path(path: str, value: str) -> str:
    """Where a soft link leads, without following it.

    >>> absolute_path("/g/link", "x"), absolute_path("/g/link", "/x"), absolute_path("/link", "./g//x/")
    ('/g/x', '/x', '/g/x')

    """
    whole = value if value.startswith("/") else f"{path.rpartition('/')[0]}/{value}"
    return "/" + "/".join(name for name in whole.split("/") if name not in ("", "."))
