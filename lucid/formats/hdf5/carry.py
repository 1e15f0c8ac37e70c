"""An HDF5 file copied but for what is pooled: groups, datasets, types, links and attributes.

What refers to other objects comes last, when all is there that it can refer to. Of all objects only names
and addresses are remembered, so that memory does not grow with what is copied.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from typing import Any

import h5py

from lucid.backlog import Backlog
from lucid.formats.arrays import Pooled
from lucid.formats.choosing import is_meant
from lucid.formats.contract import Carried
from lucid.formats.grid import ANCILLARY, COORDINATES
from lucid.formats.hdf5.attributes import attributes_in, copy_attributes, write_references
from lucid.formats.hdf5.elsewhere import Elsewhere, shows_one_of
from lucid.formats.hdf5.geography import DIMENSIONS, Scales
from lucid.formats.hdf5.meaning import changes_in
from lucid.formats.hdf5.references import References, hold_references, refuse_unknown_references
from lucid.formats.hdf5.remake import checked_bytes, group_properties, remake
from lucid.formats.hdf5.source import Hdf5Source
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
STRANGE_LINKS = "links of a kind that only their own software can make"
WRITTEN_OUT = "virtual datasets of what is pooled are written out"


class Carry:
    """One file on its way into another."""

    def __init__(
        self,
        source: Hdf5Source,
        target: h5py.File,
        pooled: Iterable[Pooled],
        make: Callable[[Pooled, Dataset | None], Dataset],
        where: Elsewhere,
        drop: Sequence[str],
    ) -> None:
        self._source, self._target, self._make, self._where, self._drop = (
            source.file,
            target,
            make,
            where,
            drop,
        )
        #: Pooled datasets of which there is nothing to know but their specs.
        self._plain = source.plain
        #: What takes the place of each pooled dataset, of several sizes.
        self._means = means_of(self._source, pooled)
        self._held = self._source.id.get_filesize()
        self._references = References(self._source, target, self._means)
        self._geography = Scales(self._references)
        #: What is still to be done when all objects are there.
        self._late: list[Callable[[], None]] = []
        #: What the user should know, by kind: names.
        self.notes = self._geography.notes
        #: Datasets that are copied.
        self.carried = Carried()
        #: Paths of copies that are to be read once, for there is more to them than elements and their type.
        self.unread = Backlog[str]()
        #: Paths that the user does not want.
        self._dropped = Backlog[str]()

    def all(self) -> None:
        """Copy everything; what is pooled is made instead."""
        root, copy = self._both("/", "/")
        self._note("/", root, copy_attributes(root, copy, {}))
        for path, item, own in walk(self._source, self._drops, self._is_plain, self._target):
            if own in self._means:
                self._pool(path, item, own)
            elif isinstance(item, Link):
                self._link(path, item)
            else:
                self._references.paths[own] = path
                self._object(path, item)
        # What is in a group that is dropped was not met on the way.
        for own, (first, *_) in self._means.items() if self._drop else ():
            if encoded(first.name) not in self._target:
                self._pool(first.source.name, opened(self._source, first.source.name), own)
        for path in self._dropped:
            if self._source.id.links.get_info(encoded(path)).type == HARD:
                self._geography.keep_length(path, opened(self._source, path))
        self._finish()

    def only_pooled(self) -> None:
        """Make what is pooled, with its provenance, and nothing else."""
        for several in self._means.values():
            origin = opened(self._source, several[0].source.name)
            for pooled in several:
                # There is nothing that these could lead to.
                changes = changes_in(origin, pooled) | dict.fromkeys((COORDINATES, ANCILLARY, *DIMENSIONS))
                copy = self._make(pooled, origin)
                self._refer(pooled.source.name, pooled.name, copy_attributes(origin, copy, changes))
        self._finish()

    def _drops(self, path: str) -> bool:
        """Whether the user does not want an object in the output; what is pooled is always wanted."""
        drops = bool(self._drop) and is_meant(path, self._drop) and path not in self._names
        if drops:
            self._dropped.append(path)
        return drops

    @cached_property
    def _names(self) -> set[str]:
        return {first.source.name for first, *_ in self._means.values()}

    def _is_plain(self, own: Identity) -> bool:
        """Whether a dataset is pooled, and there is nothing to know of it but its spec."""
        return own in self._means and self._means[own][0].source.name in self._plain

    def _pool(self, path: str, item: Any, own: Identity) -> None:
        """Make what takes the place of a pooled dataset where that has the name by which it was chosen; link others."""
        for pooled in self._means[own]:
            if path != pooled.source.name:
                link = partial(self._hard, path + _suffix(pooled), pooled.name)
                if encoded(pooled.name) in self._target:
                    link()
                else:
                    self._late.append(link)
                continue
            item = opened(self._source, path) if isinstance(item, Link) else item
            copy = self._make(pooled, item)
            if item is not None and self._geography.concerns(item):
                self._late.append(partial(self._place, path, pooled))
            else:
                self._refer(path, pooled.name, copy_attributes(item, copy, changes_in(item, pooled)))

    def _place(self, path: str, pooled: Pooled) -> None:
        """Write the attributes of means that say where their cells are."""
        item, copy = opened(self._source, path), opened(self._target, pooled.name)
        changes = changes_in(item, pooled) | self._geography.attach(item, copy, pooled)
        self._write_references(path, pooled.name, copy_attributes(item, copy, changes))

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
            self.notes.setdefault(STRANGE_LINKS, []).append(path)

    def _suffixes(self, path: str, link: Link) -> list[str]:
        """The ends of the names to which a soft link leads: several where it led to what became several."""
        if all(len(several) < 2 for several in self._means.values()):
            return [""]
        name = resolved(self._source, absolute(path, decoded(link.value)))
        own = identity(opened(self._source, name)) if isinstance(name, str) else -1
        return [_suffix(pooled) for pooled in self._means.get(own, ())] or [""]

    def _object(self, path: str, item: Any) -> None:
        """Copy a group without its members, a dataset or a named type; by the library where its copy is right."""
        name, copy, is_raw = encoded(path), None, False
        if isinstance(item, Dataset):
            nbytes, is_raw = checked_bytes(path, item, self._held), item.is_raw
            self.carried = Carried(self.carried.items + 1, self.carried.nbytes + nbytes)
            if not is_raw:
                refuse_unknown_references(path, item)
                is_written_out = shows_one_of(item, self._names)
                if is_written_out:
                    self.notes.setdefault(WRITTEN_OUT, []).append(path)
                copy = remake(item, self._target, name, self._where, is_written_out=is_written_out)
        elif isinstance(item, h5py.Group):
            copy = h5py.Group(h5py.h5g.create(self._target.id, name, gcpl=group_properties(item)))
        if copy is not None:
            names = copy_attributes(item, copy, {})
        else:
            h5py.h5o.copy(item.id, b".", self._target.id, name)
            if is_raw and not h5py.h5a.get_num_attrs(item.id):
                return
            names = [one.get_name() for one in attributes_in(item) if hold_references(one)]
        self._note(path, item, names)

    def _note(self, path: str, item: Any, names: list[bytes]) -> None:
        """Note what is still to be done to a copy, whose attributes of these names hold references."""
        self.unread.append(path)
        self._geography.note(path, item)
        self._refer(path, path, names)
        if isinstance(item, Dataset) and hold_references(item):
            # The library could only set them to zero.
            self._late.append(lambda: self._references.rewrite(*self._both(path, path)))

    def _finish(self) -> None:
        for work in self._late:
            work()
        self._geography.finish()

    def _refer(self, origin: str, copy: str, names: list[bytes]) -> None:
        if names:
            self._late.append(partial(self._write_references, origin, copy, names))

    def _write_references(self, origin: str, copy: str, names: list[bytes]) -> None:
        """Write the attributes of these names, which refer to other objects."""
        item, there = self._both(origin, copy)
        for name in names:
            if self._geography.is_its(name):
                self._geography.take_over(item, there)
            else:
                write_references(item, there, name, self._references)

    def _both(self, origin: str, copy: str) -> tuple[Any, Any]:
        """An object and its copy."""
        return opened(self._source, origin), opened(self._target, copy)


def means_of(source: h5py.File, pooled: Iterable[Pooled]) -> dict[Identity, list[Pooled]]:
    """Arrays of means by the dataset that they are made of."""
    means: dict[Identity, list[Pooled]] = {}
    for one in pooled:
        means.setdefault(source.id.links.get_info(encoded(one.source.name)).u, []).append(one)
    return means


def _suffix(pooled: Pooled) -> str:
    """What the path of means has more than their source's, where there are several sizes."""
    return pooled.name.removeprefix(pooled.source.name)
