"""An HDF5 file copied but for what is pooled: groups, datasets, types, links and attributes.

What refers to other objects comes last, when all is there that it can refer to. Of all objects only names
and addresses are remembered, so that memory does not grow with what is copied.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import h5py

from lucid.errors import FormatError
from lucid.formats.choosing import is_meant
from lucid.formats.contract import Carried, Pooled
from lucid.formats.grid import COORDINATES
from lucid.formats.hdf5.attributes import copy_attributes, write_references
from lucid.formats.hdf5.copy import group_properties, has_fill_in_heap, remake_dataset
from lucid.formats.hdf5.elsewhere import (
    Elsewhere,
    is_virtual,
    remade_external,
    remade_virtual,
    shows_one_of,
    written_out,
)
from lucid.formats.hdf5.geography import DIMENSIONS, Geography
from lucid.formats.hdf5.meaning import changes_in
from lucid.formats.hdf5.references import References, hold_references
from lucid.formats.hdf5.tree import Identity, Link, absolute, encoded, identity, opened, walk
from lucid.formats.result import Changes

#: Notes that there may be one of for each of many objects are only counted beyond these.
GONE_LINKS = "links of a kind that only their own software can make"


class Made(NamedTuple):
    """A dataset that takes the place of a pooled one, and how to make it."""

    pooled: Pooled
    make: Callable[[h5py.Dataset], h5py.Dataset]

    @property
    def name(self) -> str:
        """Its path."""
        return self.pooled.name

    @property
    def suffix(self) -> str:
        """What its path has more than its source's, where there are several sizes."""
        return self.name.removeprefix(self.pooled.source.name)


class _Late(NamedTuple):
    """What is still to be done to an object when all are there: paths in both files, names of attributes."""

    origin: bytes
    copy: bytes
    attributes: list[bytes]
    made: Made | None = None
    has_references: bool = False


class Carry:
    """One file on its way into another."""

    def __init__(
        self,
        source: h5py.File,
        target: h5py.File,
        made: Mapping[str, Sequence[Made]],
        where: Elsewhere,
        drop: Sequence[str] = (),
    ) -> None:
        self._source, self._target, self._made, self._where = source, target, made, where
        #: Paths of the copies of each object; of a pooled dataset there may be several.
        self._paths: dict[Identity, list[str]] = {identity(source): ["/"]}
        self._references = References(source, target, self._path)
        self._geography = Geography(source, target, self._references, self._kept)
        self._late: list[_Late] = []
        self._drop = drop
        #: Pooled datasets that have several names, by address.
        self._named: dict[Identity, str] | None = None
        #: What somebody should know, by kind: names.
        self.notes: dict[str, list[str]] = {}
        #: Datasets that are copied.
        self.carried = Carried()

    def all(self) -> None:
        """Copy everything; what is pooled is made instead."""
        self._attributes(self._source, self._target, b"/")
        for name, item, first in walk(self._source, self._drops):
            if isinstance(item, Link):
                self._link(name, item)
                continue
            own = identity(item)
            pooled = self._pooled_name(name, item, own)
            if pooled is not None:
                self._pool(name, item, own, pooled)
            elif not first:
                self._further_name(name, self._paths[own])
            elif isinstance(item, h5py.Group):
                made = h5py.Group(
                    h5py.h5g.create(self._target.id, encoded(name), gcpl=group_properties(item))
                )
                self._paths[own] = [name]
                self._attributes(item, made, encoded(name))
            else:
                self._paths[own] = [name]
                self._object(name, item)
        for name in self._made if self._drop else ():  # what is in a group that is dropped
            item = opened(self._source, encoded(name))
            if identity(item) not in self._paths:
                self._pool(name, item, identity(item), name)
        self._finish()

    def _drops(self, name: str) -> bool:
        """Whether somebody does not want an object in the output; what is pooled is always wanted."""
        return is_meant(name, self._drop) and name not in self._made

    def only_pooled(self) -> None:
        """Make what is pooled, with its provenance, and nothing else."""
        for name, made in self._made.items():
            origin = opened(self._source, encoded(name))
            for one in made:
                copy = one.make(origin)
                # There is nothing that these could lead to.
                changes = changes_in(origin, one.pooled) | dict.fromkeys((COORDINATES, *DIMENSIONS))
                for attribute in copy_attributes(origin, copy, changes):
                    write_references(origin, copy, attribute, self._references)

    def _pooled_name(self, name: str, item: Any, own: Identity) -> str | None:
        """The name under which an object is pooled, which may be another one of its names."""
        if name in self._made:
            return name
        if not isinstance(item, h5py.Dataset) or h5py.h5o.get_info(item.id).rc < 2:
            return None
        if self._named is None:
            self._named = {identity(opened(self._source, encoded(n))): n for n in self._made}
        return self._named.get(own)

    def _pool(self, name: str, item: h5py.Dataset, own: Identity, pooled: str) -> None:
        """Make what takes the place of a pooled dataset, or give it a further name."""
        several = self._made[pooled]
        if own not in self._paths:
            self._paths[own] = [one.name for one in several]
            self._references.pooled.add(own)
            for one in several:
                copy = one.make(item)
                if self._geography.concerns(item):
                    self._late.append(_Late(encoded(name), encoded(one.name), [], one))
                else:
                    changes = changes_in(item, one.pooled)
                    left = copy_attributes(item, copy, changes)
                    if left:
                        self._late.append(_Late(encoded(name), encoded(one.name), left))
        if name != pooled:
            for one in several:
                self._hard(f"{name}{one.suffix}", one.name)

    def _further_name(self, name: str, paths: list[str]) -> None:
        self._hard(name, paths[0])

    def _hard(self, name: str, path: str) -> None:
        if not self._target.id.links.exists(encoded(name)):
            self._target.id.links.create_hard(encoded(name), self._target.id, encoded(path))

    def _link(self, name: str, link: Link) -> None:
        """Make a link that leads to the same place."""
        if link.is_external:
            file, path = link.value
            self._target.id.links.create_external(encoded(name), self._where.moved(file), path)
        elif link.is_soft:
            suffixes = self._suffixes(name, link)
            for suffix in suffixes:
                self._target.id.links.create_soft(encoded(name + suffix), link.value + encoded(suffix))
        else:
            self.notes.setdefault(GONE_LINKS, []).append(name)

    def _suffixes(self, name: str, link: Link) -> list[str]:
        """The ends of the names to which a soft link leads: several where it led to what became several."""
        several = max(map(len, self._made.values()), default=0)
        if several < 2:
            return [""]
        seen = set()
        path = absolute(name, link.value.decode("utf-8", "surrogateescape"))
        while path not in seen:
            seen.add(path)
            if path in self._made:
                return [one.suffix for one in self._made[path]]
            try:
                kind = self._source.id.links.get_info(encoded(path)).type
                if kind == h5py.h5l.TYPE_HARD:
                    return self._suffixes_of(path)
                if kind != h5py.h5l.TYPE_SOFT:
                    break
                value = self._source.id.links.get_val(encoded(path))
            except KeyError:
                break
            path = absolute(path, value.decode("utf-8", "surrogateescape"))
        return [""]

    def _suffixes_of(self, path: str) -> list[str]:
        item = opened(self._source, encoded(path))
        pooled = self._pooled_name(path, item, identity(item))
        return [""] if pooled is None else [one.suffix for one in self._made[pooled]]

    def _object(self, name: str, item: Any) -> None:
        """Copy a dataset or a named type, by the library where its copy is right."""
        if isinstance(item, h5py.Dataset):
            self.carried = Carried(self.carried.items + 1, self.carried.nbytes + item.id.get_storage_size())
        path = encoded(name)
        creation = item.id.get_create_plist() if isinstance(item, h5py.Dataset) else None
        if creation is not None and is_virtual(creation):
            copy = self._virtual(name, item, creation)
        elif creation is not None and creation.get_external_count() and not self._where.is_same:
            copy = remade_external(item, self._target, path, self._where)
        elif has_fill_in_heap(item):
            refuse_more_than_there_is(name, item)
            copy = remake_dataset(item, self._target, path)
        else:
            refuse_more_than_there_is(name, item)
            h5py.h5o.copy(self._source.id, path, self._target.id, path)
            names = _with_references(item)
            is_late = isinstance(item, h5py.Dataset) and hold_references(item.id)
            if names or is_late:
                self._late.append(_Late(path, path, names, has_references=is_late))
            if isinstance(item, h5py.Dataset):
                self._geography.note(item)
            return
        self._attributes(item, copy, path)
        if hold_references(item.id):
            self._late.append(_Late(path, path, [], has_references=True))

    def _virtual(self, name: str, item: h5py.Dataset, creation: Any) -> h5py.Dataset:
        if not shows_one_of(creation, self._made):
            return remade_virtual(item, self._target, encoded(name), self._where)
        self.notes.setdefault("virtual datasets of what is pooled are written out", []).append(name)
        return written_out(item, self._target, encoded(name))

    def _attributes(self, item: Any, copy: Any, path: bytes) -> None:
        """Copy the attributes of an object, but for those that refer to others."""
        left = copy_attributes(item, copy, {})
        if left:
            self._late.append(_Late(path, path, left))
        if isinstance(item, h5py.Dataset):
            self._geography.note(item)

    def _finish(self) -> None:
        """Make what refers to other objects: dimensions and coordinates, attributes, datasets."""
        for late in self._late:
            origin, copy = opened(self._source, late.origin), opened(self._target, late.copy)
            names = late.attributes
            if late.made is not None:
                changes: Changes = changes_in(origin, late.made.pooled)
                changes |= self._geography.place(origin, copy, late.made.pooled)
                names = copy_attributes(origin, copy, changes)
            for name in names:
                if not self._geography.is_its(name):
                    write_references(origin, copy, name, self._references)
                elif late.made is None:
                    self._geography.take_over(origin, copy)
            if late.has_references:
                self._references.rewrite(origin, copy)
        self._geography.finish()

    def _path(self, own: Identity) -> str | None:
        paths = self._paths.get(own)
        return paths[0] if paths else None

    def _kept(self, own: Identity) -> list[str]:
        """The paths of the copies of an object."""
        return self._paths.get(own, [])


def _with_references(item: Any) -> list[bytes]:
    """The names of attributes that hold references."""
    names = []
    for i in range(h5py.h5a.get_num_attrs(item.id)):
        attribute = h5py.h5a.open(item.id, index=i)
        if hold_references(attribute):
            names.append(attribute.get_name())
    return names


def refuse_more_than_there_is(name: str, item: Any) -> None:
    """Raise for a dataset whose storage the file cannot hold: the library would copy zeros for days."""
    if not isinstance(item, h5py.Dataset) or item.id.get_create_plist().get_external_count():
        return
    claimed, held = item.id.get_storage_size(), item.file.id.get_filesize()
    if claimed > held:
        raise FormatError(f"dataset {name} claims {claimed} bytes, the whole file has {held}")
