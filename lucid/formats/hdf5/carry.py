"""An HDF5 file copied but for what is pooled: groups, datasets, types, links and attributes.

What refers to other objects comes last, when all is there that it can refer to. Of all objects only names
and addresses are remembered, so that memory does not grow with what is copied.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Any

import h5py

from lucid.formats.arrays import Pooled
from lucid.formats.choosing import is_meant
from lucid.formats.contract import Carried
from lucid.formats.grid import ANCILLARY, COORDINATES
from lucid.formats.hdf5.attributes import attributes_in, copy_attributes, write_references
from lucid.formats.hdf5.elsewhere import Elsewhere, shows_one_of
from lucid.formats.hdf5.geography import DIMENSIONS, Scales
from lucid.formats.hdf5.meaning import changes_in
from lucid.formats.hdf5.references import References, hold_references, refuse_unknown_references
from lucid.formats.hdf5.remake import group_properties, refuse_more_than_there_is, remake
from lucid.formats.hdf5.tree import (
    EXTERNAL,
    HARD,
    SOFT,
    Dataset,
    Identity,
    Link,
    absolute,
    decoded,
    encoded,
    identity,
    opened,
    resolved,
    walk,
)

#: Notes that there may be one of for each of many objects are only counted beyond these.
GONE_LINKS = "links of a kind that only their own software can make"
WRITTEN_OUT = "virtual datasets of what is pooled are written out"


class Carry:
    """One file on its way into another."""

    def __init__(
        self,
        source: h5py.File,
        target: h5py.File,
        means: Mapping[str, Sequence[Pooled]],
        make: Callable[[Pooled, Dataset | None], Dataset],
        where: Elsewhere,
        drop: Sequence[str],
        plain: Container[str],
    ) -> None:
        self._source, self._target, self._make, self._where, self._drop = source, target, make, where, drop
        self._names = means
        addresses = {name: source.id.links.get_info(encoded(name)).u for name in means}
        self._means: dict[Identity, Sequence[Pooled]] = {addresses[name]: means[name] for name in means}
        #: Pooled datasets of which there is nothing to know but their specs.
        self._plain = {own for name, own in addresses.items() if name in plain}
        self._held = source.id.get_filesize()
        #: The path of each object whose copy is there.
        self._paths: dict[Identity, str] = {identity(source): "/"}
        self._references = References(source, target, self.copies, self._means)
        self._geography = Scales(source, target, self._references, self.copies)
        #: What is still to be done when all objects are there.
        self._late: list[Callable[[], None]] = []
        #: What the user should know, by kind: names.
        self.notes = self._geography.notes
        #: Datasets that are copied.
        self.carried = Carried()

    def all(self) -> None:
        """Copy everything; what is pooled is made instead."""
        self._note("/", self._source, copy_attributes(self._source, self._target, {}))
        for path, item, own in walk(self._source, self._drops, self._plain, self._target):
            if own in self._means:
                self._pool(path, item, own)
            elif isinstance(item, Link):
                self._link(path, item)
            else:
                self._paths[own] = path
                self._object(path, item)
        # What is in a group that is dropped was not met on the way.
        for own, (first, *_) in self._means.items() if self._drop else ():
            if encoded(first.name) not in self._target:
                self._pool(first.source.name, opened(self._source, encoded(first.source.name)), own)
        self._finish()
        self._geography.finish()

    def only_pooled(self) -> None:
        """Make what is pooled, with its provenance, and nothing else."""
        for name, several in self._names.items():
            origin = opened(self._source, encoded(name))
            for pooled in several:
                copy = self._make(pooled, origin)
                # There is nothing that these could lead to.
                changes = changes_in(origin, pooled) | dict.fromkeys((COORDINATES, ANCILLARY, *DIMENSIONS))
                self._refer(encoded(name), encoded(pooled.name), copy_attributes(origin, copy, changes))
        self._finish()

    def copies(self, own: Identity) -> list[str]:
        """The paths of the copies of an object; of a pooled dataset there may be several."""
        path = self._paths.get(own)
        return [pooled.name for pooled in self._means.get(own, ())] or ([] if path is None else [path])

    def _drops(self, path: str) -> bool:
        """Whether the user does not want an object in the output; what is pooled is always wanted."""
        return bool(self._drop) and is_meant(path, self._drop) and path not in self._names

    def _pool(self, path: str, item: Any, own: Identity) -> None:
        """Make what takes the place of a pooled dataset where that has the name by which it was chosen; link others."""
        item = opened(self._source, encoded(path)) if isinstance(item, Link) else item
        for pooled in self._means[own]:
            if path != pooled.source.name:
                link = partial(self._hard, path + _suffix(pooled), pooled.name)
                if encoded(pooled.name) in self._target:
                    link()
                else:
                    self._late.append(link)
                continue
            copy = self._make(pooled, item)
            if item is not None and self._geography.concerns(item):
                self._late.append(partial(self._place, encoded(path), pooled))
            else:
                names = copy_attributes(item, copy, changes_in(item, pooled))
                self._refer(encoded(path), encoded(pooled.name), names)

    def _place(self, origin: bytes, pooled: Pooled) -> None:
        """Write the attributes of means that say where their cells are."""
        item, copy = opened(self._source, origin), opened(self._target, encoded(pooled.name))
        changes = changes_in(item, pooled)
        changes |= self._geography.attach(item, copy, pooled)
        self._write_references(origin, encoded(pooled.name), copy_attributes(item, copy, changes))

    def _hard(self, path: str, first: str) -> None:
        """Give an object of the output another name, unless it has it."""
        if not self._target.id.links.exists(encoded(path)):
            self._target.id.links.create_hard(encoded(path), self._target.id, encoded(first))

    def _link(self, path: str, link: Link) -> None:
        """Make a link that leads to the same place."""
        if link.kind == HARD:
            self._hard(path, link.value)
        elif link.kind == EXTERNAL:
            file, name = link.value
            self._target.id.links.create_external(encoded(path), self._where.moved(file), name)
        elif link.kind == SOFT:
            for suffix in self._suffixes(path, link):
                self._target.id.links.create_soft(encoded(path + suffix), link.value + encoded(suffix))
        else:
            self.notes.setdefault(GONE_LINKS, []).append(path)

    def _suffixes(self, path: str, link: Link) -> list[str]:
        """The ends of the names to which a soft link leads: several where it led to what became several."""
        if max(map(len, self._means.values()), default=0) < 2:
            return [""]
        name = resolved(self._source, absolute(path, decoded(link.value)))
        own = identity(opened(self._source, encoded(name))) if isinstance(name, str) else -1
        return [_suffix(pooled) for pooled in self._means.get(own, ())] or [""]

    def _object(self, path: str, item: Any) -> None:
        """Copy a group without its members, a dataset or a named type; by the library where its copy is right."""
        name, copy = encoded(path), None
        if isinstance(item, h5py.Group):
            copy = h5py.Group(h5py.h5g.create(self._target.id, name, gcpl=group_properties(item)))
        elif isinstance(item, Dataset):
            self.carried = Carried(self.carried.items + 1, self.carried.nbytes + item.id.get_storage_size())
            refuse_more_than_there_is(path, item, self._held)
            refuse_unknown_references(path, item)
            is_written_out = shows_one_of(item, self._names)
            if is_written_out:
                self.notes.setdefault(WRITTEN_OUT, []).append(path)
            copy = remake(item, self._target, name, self._where, is_written_out=is_written_out)
        if copy is not None:
            names = copy_attributes(item, copy, {})
        else:
            h5py.h5o.copy(item.id, b".", self._target.id, name)
            names = [one.get_name() for one in attributes_in(item) if hold_references(one)]
        self._note(path, item, names)

    def _note(self, path: str, item: Any, names: list[bytes]) -> None:
        """Note what is still to be done to a copy, whose attributes of these names hold references."""
        self._geography.note(path, item)
        self._refer(encoded(path), encoded(path), names)
        if isinstance(item, Dataset) and hold_references(item):
            self._late.append(partial(self._rewrite, encoded(path)))

    def _finish(self) -> None:
        for work in self._late:
            work()

    def _refer(self, origin: bytes, copy: bytes, names: list[bytes]) -> None:
        if names:
            self._late.append(partial(self._write_references, origin, copy, names))

    def _write_references(self, origin: bytes, copy: bytes, names: list[bytes]) -> None:
        """Write the attributes of these names, which refer to other objects."""
        item, there = opened(self._source, origin), opened(self._target, copy)
        for name in names:
            if self._geography.is_its(name):
                self._geography.take_over(item, there)
            else:
                write_references(item, there, name, self._references)

    def _rewrite(self, path: bytes) -> None:
        """Write the references of a dataset anew."""
        self._references.rewrite(opened(self._source, path), opened(self._target, path))


def _suffix(pooled: Pooled) -> str:
    """What the path of means has more than their source's, where there are several sizes."""
    return pooled.name.removeprefix(pooled.source.name)
