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
from lucid.formats.contract import CarriedArrays
from lucid.formats.grid import ANCILLARY, COORDINATES
from lucid.formats.hdf5.attributes import attributes_in, copy_attributes, write_references
from lucid.formats.hdf5.elsewhere import Elsewhere, shows_one_of
from lucid.formats.hdf5.geography import DIMENSIONS, USERS, Scales
from lucid.formats.hdf5.meaning import changes_of_result
from lucid.formats.hdf5.references import References, has_references, refuse_unknown_references
from lucid.formats.hdf5.remake import group_properties, remake, storage_bytes
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.hdf5.tree import (
    EXTERNAL,
    HARD,
    SOFT,
    Address,
    Dataset,
    Link,
    absolute_path,
    address_of,
    follow_links,
    name_bytes,
    name_text,
    object_at,
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
        self._plain_paths = source.plain
        #: What takes the place of each pooled dataset, of several sizes.
        self._means = means_of(self._source, pooled)
        self._file_bytes = self._source.id.get_filesize()
        self._references = References(self._source, target, self._means)
        self._geography = Scales(self._references)
        #: What is still to be done when all objects are there.
        self._pending: list[Callable[[], None]] = []
        #: What the user should know, by kind: names.
        self.notes = self._geography.notes
        #: Datasets that are copied.
        self.carried = CarriedArrays()
        #: Paths of copies that are to be read once, for there is more to them than elements and their type.
        self.unread_paths = Backlog[str]()
        #: Paths that the user does not want.
        self._dropped = Backlog[str]()

    def copy_all(self) -> None:
        """Copy everything; what is pooled is made instead."""
        root, copy = self._object_pair("/", "/")
        self._note("/", root, copy_attributes(root, copy, {}))
        for path, obj, address in walk(self._source, self._is_dropped, self._is_plain, self._target):
            if address in self._means:
                self._pool(path, obj, address)
            elif isinstance(obj, Link):
                self._copy_link(path, obj)
            else:
                self._references.paths[address] = path
                self._copy_object(path, obj)
        # What is in a group that is dropped was not met on the way.
        for address, (first, *_) in self._means.items() if self._drop else ():
            if name_bytes(first.name) not in self._target:
                self._pool(first.source.name, object_at(self._source, first.source.name), address)
        for path in self._dropped:
            if self._source.id.links.get_info(name_bytes(path)).type == HARD:
                self._geography.keep_length(path, object_at(self._source, path))
        self._finish()

    def make_results(self) -> None:
        """Make what is pooled, with its provenance, and nothing else."""
        for several in self._means.values():
            origin = object_at(self._source, several[0].source.name)
            for pooled in several:
                # There is nothing that these could lead to.
                changes = changes_of_result(origin, pooled) | dict.fromkeys(
                    (COORDINATES, ANCILLARY, *DIMENSIONS)
                )
                copy = self._make(pooled, origin)
                self._postpone_references(
                    pooled.source.name, pooled.name, copy_attributes(origin, copy, changes)
                )
        self._finish()

    def _is_dropped(self, path: str) -> bool:
        """Whether the user does not want an object in the output; what is pooled is always wanted."""
        drops = bool(self._drop) and is_meant(path, self._drop) and path not in self._pooled_paths
        if drops:
            self._dropped.append(path)
        return drops

    @cached_property
    def _pooled_paths(self) -> set[str]:
        return {first.source.name for first, *_ in self._means.values()}

    def _is_plain(self, address: Address) -> bool:
        """Whether a dataset is pooled, and there is nothing to know of it but its spec."""
        return address in self._means and self._means[address][0].source.name in self._plain_paths

    def _pool(self, path: str, obj: Any, address: Address) -> None:
        """Make what takes the place of a pooled dataset where that has the name by which it was chosen; link others."""
        for pooled in self._means[address]:
            if path != pooled.source.name:
                link = partial(self._link_hard, path + _suffix(pooled), pooled.name)
                if name_bytes(pooled.name) in self._target:
                    link()
                else:
                    self._pending.append(link)
                continue
            obj = object_at(self._source, path) if isinstance(obj, Link) else obj
            copy = self._make(pooled, obj)
            if obj is not None and self._geography.has_geography(obj):
                self._pending.append(partial(self._write_coordinates, path, pooled))
            else:
                self._postpone_references(
                    path, pooled.name, copy_attributes(obj, copy, changes_of_result(obj, pooled))
                )

    def _write_coordinates(self, path: str, pooled: Pooled) -> None:
        """Write the attributes of means that say where their cells are."""
        obj, copy = object_at(self._source, path), object_at(self._target, pooled.name)
        changes = changes_of_result(obj, pooled) | self._geography.attach(obj, copy, pooled)
        self._write_references(path, pooled.name, copy_attributes(obj, copy, changes))

    def _link_hard(self, path: str, first: str) -> None:
        """Give an object of the output another name, unless it has it."""
        if not self._target.id.links.exists(name_bytes(path)):
            self._target.id.links.create_hard(name_bytes(path), self._target.id, name_bytes(first))

    def _copy_link(self, path: str, link: Link) -> None:
        """Make a link that leads to the same place."""
        if link.type == HARD:
            self._link_hard(path, link.value)
        elif link.type == EXTERNAL:
            file, name = link.value
            self._target.id.links.create_external(name_bytes(path), self._where.link_name(file), name)
        elif link.type == SOFT:
            for suffix in self._suffixes(path, link):
                self._target.id.links.create_soft(name_bytes(path + suffix), link.value + name_bytes(suffix))
        else:
            self.notes.setdefault(STRANGE_LINKS, []).append(path)

    def _suffixes(self, path: str, link: Link) -> list[str]:
        """The ends of the names to which a soft link leads: several where it led to what became several."""
        if all(len(several) < 2 for several in self._means.values()):
            return [""]
        name = follow_links(self._source, absolute_path(path, name_text(link.value)))
        address = address_of(object_at(self._source, name)) if isinstance(name, str) else -1
        return [_suffix(pooled) for pooled in self._means.get(address, ())] or [""]

    def _copy_object(self, path: str, obj: Any) -> None:
        """Copy a group without its members, a dataset or a named type; by the library where its copy is right."""
        name, copy, is_raw = name_bytes(path), None, False
        if isinstance(obj, Dataset):
            nbytes, is_raw = storage_bytes(path, obj, self._file_bytes), obj.is_raw
            self.carried = CarriedArrays(self.carried.arrays + 1, self.carried.nbytes + nbytes)
            if not is_raw:
                refuse_unknown_references(path, obj)
                is_written_out = shows_one_of(obj, self._pooled_paths)
                if is_written_out:
                    self.notes.setdefault(WRITTEN_OUT, []).append(path)
                copy = remake(obj, self._target, name, self._where, is_written_out=is_written_out)
        elif isinstance(obj, h5py.Group):
            copy = h5py.Group(h5py.h5g.create(self._target.id, name, gcpl=group_properties(obj)))
        if copy is not None:
            names = copy_attributes(obj, copy, {})
        else:
            h5py.h5o.copy(obj.id, b".", self._target.id, name)
            if is_raw and not h5py.h5a.get_num_attrs(obj.id):
                return
            names = [one.get_name() for one in attributes_in(obj) if has_references(one)]
        self._note(path, obj, names)

    def _note(self, path: str, obj: Any, names: list[bytes]) -> None:
        """Note what is still to be done to a copy, whose attributes of these names hold references."""
        self.unread_paths.append(path)
        self._geography.note(path, obj)
        self._postpone_references(path, path, names)
        if isinstance(obj, Dataset) and has_references(obj):
            # The library could only set them to zero.
            self._pending.append(lambda: self._references.rewrite(*self._object_pair(path, path)))

    def _finish(self) -> None:
        for work in self._pending:
            work()
        self._geography.finish()

    def _postpone_references(self, origin: str, copy: str, names: list[bytes]) -> None:
        if names:
            self._pending.append(partial(self._write_references, origin, copy, names))

    def _write_references(self, origin: str, copy: str, names: list[bytes]) -> None:
        """Write the attributes of these names, which refer to other objects."""
        obj, target = self._object_pair(origin, copy)
        for name in names:
            if name == USERS.encode():
                self._geography.note_users(obj, target)
            else:
                write_references(obj, target, name, self._references)

    def _object_pair(self, origin: str, copy: str) -> tuple[Any, Any]:
        """An object and its copy."""
        return object_at(self._source, origin), object_at(self._target, copy)


def means_of(source: h5py.File, pooled: Iterable[Pooled]) -> dict[Address, list[Pooled]]:
    """Arrays of means by the dataset that they are made of."""
    means: dict[Address, list[Pooled]] = {}
    for one in pooled:
        means.setdefault(source.id.links.get_info(name_bytes(one.source.name)).u, []).append(one)
    return means


def _suffix(pooled: Pooled) -> str:
    """What the path of means has more than their source's, where there are several sizes."""
    return pooled.name.removeprefix(pooled.source.name)
