"""The tree of an HDF5 file: walked without following links, and copied but for what is pooled."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np

from lucid.errors import FormatError

#: What h5py raises where the library fails; it picks one by the words of the library's message.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, TypeError, ValueError, NotImplementedError)


def reason(error: Exception) -> str:
    """The part of an HDF5 error that a person can use: what stands in the last parentheses."""
    text = str(error).strip()
    return text[text.find("(") + 1 : text.rfind(")")] if "(" in text and text.endswith(")") else text


def encoded(name: str) -> bytes:
    """A name as it is in the file, UTF-8 or not."""
    return name.encode("utf-8", "surrogateescape")


class Link(NamedTuple):
    """A soft link's path, or an external link's file and path, as bytes of any encoding."""

    kind: int
    value: Any


def walk(file: h5py.File) -> Iterator[tuple[str, Any, bool]]:
    """Every link as (path, object, whether it is the first to that object).

    Soft and external links come as a `Link` and are not followed.
    """
    seen = {_identity(file)}
    pending: list[tuple[str, Iterator[str | bytes], h5py.Group]] = [("", iter(file), file)]
    while pending:
        path, names, group = pending[-1]
        name = next(names, None)
        if name is None:
            pending.pop()
            continue
        if isinstance(name, bytes):  # h5py leaves what is not UTF-8 as it is
            name = name.decode("utf-8", "surrogateescape")
        full = f"{path}/{name}"
        kind = group.id.links.get_info(encoded(name)).type
        if kind != h5py.h5l.TYPE_HARD:
            yield full, Link(kind, group.id.links.get_val(encoded(name))), True
            continue
        item = group[encoded(name)]
        identity = _identity(item)
        first = identity not in seen
        seen.add(identity)
        yield full, item, first
        if first and isinstance(item, h5py.Group):
            pending.append((full, iter(item), item))


def datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset once, by its first path through hard links, parents before children."""
    for name, item, first in walk(file):
        if first and isinstance(item, h5py.Dataset):
            yield name, item


def _identity(item: Any) -> tuple[int, bytes]:
    info = h5py.h5o.get_info(item.id)
    return info.fileno, bytes(str(info.addr), "ascii")


#: Makes the dataset that takes the place of a pooled one.
Make = Callable[[h5py.Dataset], h5py.Dataset]


def carry(source: h5py.File, target: h5py.File, made: Mapping[str, Make]) -> None:
    """Copy groups, datasets, types, links and attributes; what `made` names is made instead."""
    copied: dict[tuple[int, bytes], str] = {_identity(source): "/"}
    remade: list[tuple[Any, Any]] = [(source, target)]
    for name, item, first in walk(source):
        if isinstance(item, Link):
            make_link(target, encoded(name), item)
        elif not first:
            target[encoded(name)] = target[encoded(copied[_identity(item)])]
        else:
            copied[_identity(item)] = name
            if name in made:
                remade.append((item, made[name](item)))
            elif isinstance(item, h5py.Group):
                remade.append((item, target.create_group(encoded(name))))
            else:
                h5py.h5o.copy(source.id, encoded(name), target.id, encoded(name))
    # Last, when all is there that an attribute can refer to.
    for old, new in remade:
        copy_attributes(old, new)


def make_link(file: h5py.File, name: bytes, link: Link) -> None:
    """Make a soft or external link; other kinds only their own software can make."""
    if link.kind == h5py.h5l.TYPE_SOFT:
        file.id.links.create_soft(name, link.value)
    elif link.kind == h5py.h5l.TYPE_EXTERNAL:
        file.id.links.create_external(name, *link.value)
    else:
        raise FormatError(f"link {name.decode('utf-8', 'replace')} is of a kind that cannot be copied")


def copy_attributes(source: Any, target: Any) -> None:
    """Copy attributes with their types and shapes; references then point into the target's file."""
    for name in source.attrs:
        kind = source.attrs.get_id(name)
        value = _redirected(source.attrs[name], source.file, target.file)
        target.attrs.create(name, value, dtype=kind.dtype)


def _redirected(value: Any, source: h5py.File, target: h5py.File) -> Any:
    """An attribute's value with its object references replaced by those to the objects' copies."""
    if isinstance(value, h5py.Reference):
        return target[source[value].name].ref if value else value
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        changed = value.copy()
        for field in value.dtype.names or (Ellipsis,):
            part = value[field]
            if part.dtype.hasobject:
                cells = np.empty(part.shape, object)
                for at in np.ndindex(part.shape):
                    cells[at] = _redirected(part[at], source, target)
                changed[field] = cells
        return changed
    return value
