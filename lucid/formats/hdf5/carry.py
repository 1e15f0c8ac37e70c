"""An HDF5 file copied but for what is pooled: groups, datasets, types, links and attributes.

What refers to other objects comes last, when all is there that it can refer to. Of all objects only names
and addresses are remembered, so that memory does not grow with what is copied.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

import h5py

from lucid.formats.arrays import Pooled
from lucid.formats.choosing import is_meant
from lucid.formats.contract import Carried
from lucid.formats.grid import COORDINATES
from lucid.formats.hdf5.attributes import attributes_in, copy_attributes, write_references
from lucid.formats.hdf5.copy import (
    group_properties,
    has_fill_in_heap,
    refuse_more_than_there_is,
    remake_dataset,
)
from lucid.formats.hdf5.elsewhere import (
    Elsewhere,
    is_virtual,
    remade_external,
    remade_virtual,
    shows_one_of,
    written_out,
)
from lucid.formats.hdf5.geography import DIMENSIONS, Scales
from lucid.formats.hdf5.meaning import changes_in
from lucid.formats.hdf5.references import References, hold_references
from lucid.formats.hdf5.tree import (
    Dataset,
    Entry,
    Identity,
    Link,
    absolute,
    decoded,
    encoded,
    identity,
    limit_cache,
    opened,
    resolved,
    walk,
)
from lucid.formats.result import Changes

#: Notes that there may be one of for each of many objects are only counted beyond these.
GONE_LINKS = "links of a kind that only their own software can make"


class _Late(NamedTuple):
    """What is still to be done to an object when all are there: paths in both files, names of attributes."""

    origin: bytes
    copy: bytes
    attributes: list[bytes]
    pooled: Pooled | None = None
    has_references: bool = False


class Carry:
    """One file on its way into another."""

    def __init__(
        self,
        source: h5py.File,
        target: h5py.File,
        means: Mapping[str, Sequence[Pooled]],
        make: Callable[[Pooled, Dataset | None], Dataset],
        where: Elsewhere,
        drop: Sequence[str] = (),
        known: Container[str] = (),
    ) -> None:
        self._source, self._target, self._means, self._make = source, target, means, make
        #: Pooled datasets of which there is nothing to know but their specs.
        self._where, self._drop, self._known = where, drop, known
        self._held = source.id.get_filesize()
        #: The path of each object whose copy is there, that of a pooled one by which it was chosen.
        self._paths: dict[Identity, str] = {identity(source): "/"}
        self._references = References(source, target, self._path)
        self._geography = Scales(source, target, self._references, self._copies)
        self._late: list[_Late] = []
        #: Pooled datasets that have several names, by address.
        self._named: dict[Identity, str] | None = None
        #: What the user should know, by kind: names.
        self.notes = self._geography.notes
        #: Datasets that are copied.
        self.carried = Carried()

    def all(self) -> None:
        """Copy everything; what is pooled is made instead."""
        self._attributes(self._source, self._target, b"/")
        limit_cache(self._target, h5py.h5g.open(self._source.id, b"/"))
        for entry in walk(self._source, self._drops if self._drop else None, self._known):
            name, item = entry.path, entry.item
            if isinstance(item, Link):
                self._link(name, item)
                continue
            pooled = self._pooled_name(entry)
            if pooled is not None:
                self._pool(entry, pooled)
            elif not entry.is_first:
                self._hard(name, self._paths[entry.own])
            elif isinstance(item, h5py.Group):
                made = h5py.h5g.create(self._target.id, encoded(name), gcpl=group_properties(item))
                self._paths[entry.own] = name
                limit_cache(self._target, item.id, name)
                self._attributes(item, h5py.Group(made), encoded(name))
            else:
                self._paths[entry.own] = name
                self._object(name, item)
        for name in self._means if self._drop else ():  # what is in a group that is dropped
            item = opened(self._source, encoded(name))
            if identity(item) not in self._paths:
                self._pool(Entry(name, item, own=identity(item)), name)
        self._finish()

    def _drops(self, name: str) -> bool:
        """Whether the user does not want an object in the output; what is pooled is always wanted."""
        return is_meant(name, self._drop) and name not in self._means

    def only_pooled(self) -> None:
        """Make what is pooled, with its provenance, and nothing else."""
        for name, several in self._means.items():
            origin = opened(self._source, encoded(name))
            for pooled in several:
                copy = self._make(pooled, origin)
                # There is nothing that these could lead to.
                changes = changes_in(origin, pooled) | dict.fromkeys((COORDINATES, *DIMENSIONS))
                for attribute in copy_attributes(origin, copy, changes):
                    write_references(origin, copy, attribute, self._references)

    def _pooled_name(self, entry: Entry) -> str | None:
        """The name under which an object is pooled, which may be another one of its names."""
        if entry.path in self._means:
            return entry.path
        if not (entry.is_dataset and entry.has_names):
            return None
        if self._named is None:
            self._named = {identity(opened(self._source, encoded(n))): n for n in self._means}
        return self._named.get(entry.own)

    def _pool(self, entry: Entry, name: str) -> None:
        """Make what takes the place of a pooled dataset, or give it a further name."""
        item, origin = entry.item, encoded(entry.path)
        if entry.own not in self._paths:
            self._paths[entry.own] = name
            self._references.pooled.add(entry.own)
            for pooled in self._means[name]:
                copy = self._make(pooled, item)
                if item is not None and self._geography.concerns(item):
                    self._late.append(_Late(origin, encoded(pooled.name), [], pooled))
                else:
                    left = copy_attributes(item, copy, changes_in(item, pooled))
                    if left:
                        self._late.append(_Late(origin, encoded(pooled.name), left))
        if entry.path != name:
            for pooled in self._means[name]:
                self._hard(f"{entry.path}{_suffix(pooled)}", pooled.name)

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
        if max(map(len, self._means.values()), default=0) < 2:
            return [""]
        path = resolved(self._source, absolute(name, decoded(link.value)))
        if not isinstance(path, str):
            return [""]
        item = opened(self._source, encoded(path))
        pooled = self._pooled_name(Entry(path, item, has_names=True, own=identity(item)))
        return [""] if pooled is None else list(map(_suffix, self._means[pooled]))

    def _object(self, name: str, item: Any) -> None:
        """Copy a dataset or a named type, by the library where its copy is right."""
        if isinstance(item, Dataset):
            self.carried = Carried(self.carried.items + 1, self.carried.nbytes + item.id.get_storage_size())
        path, holds = encoded(name), hold_references(item)
        # What has a place in the file is neither virtual nor in another one.
        creation = item.creation if isinstance(item, Dataset) and item.id.get_offset() is None else None
        if creation is not None and is_virtual(creation):
            copy = self._virtual(name, item)
        elif creation is not None and creation.get_external_count() and not self._where.is_same:
            copy = remade_external(item, self._target, path, self._where)
        else:
            if isinstance(item, Dataset):
                refuse_more_than_there_is(name, item, self._held)
            if not has_fill_in_heap(item):
                h5py.h5o.copy(item.id, b".", self._target.id, path)
                names = [one.get_name() for one in attributes_in(item) if hold_references(one)]
                if names or holds:
                    self._late.append(_Late(path, path, names, has_references=holds))
                self._geography.note(name, item)
                return
            copy = remake_dataset(item, self._target, path)
        self._attributes(item, copy, path)
        if holds:
            self._late.append(_Late(path, path, [], has_references=True))

    def _virtual(self, name: str, item: Dataset) -> Dataset:
        if not shows_one_of(item.creation, self._means):
            return remade_virtual(item, self._target, encoded(name), self._where)
        self.notes.setdefault("virtual datasets of what is pooled are written out", []).append(name)
        return written_out(item, self._target, encoded(name))

    def _attributes(self, item: Any, copy: Any, path: bytes) -> None:
        """Copy the attributes of an object, but for those that refer to others."""
        left = copy_attributes(item, copy, {})
        if left:
            self._late.append(_Late(path, path, left))
        self._geography.note(decoded(path), item)

    def _finish(self) -> None:
        """Make what refers to other objects: dimensions and coordinates, attributes, datasets."""
        for late in self._late:
            origin, copy = opened(self._source, late.origin), opened(self._target, late.copy)
            names = late.attributes
            if late.pooled is not None:
                changes: Changes = changes_in(origin, late.pooled)
                changes |= self._geography.attach(origin, copy, late.pooled)
                names = copy_attributes(origin, copy, changes)
            for name in names:
                if not self._geography.is_its(name):
                    write_references(origin, copy, name, self._references)
                elif late.pooled is None:
                    self._geography.take_over(origin, copy)
            if late.has_references:
                self._references.rewrite(origin, copy)
        self._geography.finish()

    def _path(self, own: Identity) -> str | None:
        return next(iter(self._copies(own)), None)

    def _copies(self, own: Identity) -> list[str]:
        """The paths of the copies of an object; of a pooled dataset there may be several."""
        name = self._paths.get(own)
        if name is None:
            return []
        return [pooled.name for pooled in self._means[name]] if name in self._means else [name]


def _suffix(pooled: Pooled) -> str:
    """What the path of means has more than their source's, where there are several sizes."""
    return pooled.name.removeprefix(pooled.source.name)
