"""An HDF5 file carried over into another, but for what is pooled: every object and every link is met once.

Of each object that is copied, its path and its address are remembered. A dry run goes the same way without a target,
so that it refuses, notes and counts what a run would: attributes and coordinates are read, and nothing is made.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py

from lucid.backlog import Backlog
from lucid.formats.arrays import ResultSpec
from lucid.formats.choosing import CarriedNames, is_left_out
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.attributes import copy_attributes
from lucid.formats.hdf5.copies import Copies
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.hdf5.elsewhere import Elsewhere
from lucid.formats.hdf5.geography import Scales
from lucid.formats.hdf5.meaning import CLASSIC_MODEL, changes_of_result, notes_on_classic_model
from lucid.formats.hdf5.means import Means
from lucid.formats.hdf5.references import References
from lucid.formats.hdf5.source import Hdf5Source

#: A kind of notes; of many links, it names some and counts the others.
STRANGE_LINKS = "links of a kind that only their own software can make"


class Carry:
    """One file on its way into another, which is to be at `path`; `make` makes room for means there."""

    def __init__(
        self,
        source: Hdf5Source,
        results: Sequence[ResultSpec],
        names: CarriedNames,
        path: Path,
        target: h5py.File | None,
        make: Callable[[ResultSpec, Dataset | None], Dataset | None],
    ) -> None:
        self._source, self._target, self._names, self._make = source.file, target, names, make
        self._results = results
        self._elsewhere = Elsewhere(source.path, path)
        #: What takes the place of each pooled dataset.
        self._means = Means(source.file, results)
        self._references = References(source.file, target, self._means)
        self._geography = Scales(self._references, names)
        self.copies = Copies(self._references, self._geography, self._elsewhere, names)
        #: What is still to be done when all objects are there.
        self._last_steps: list[Callable[[], None]] = []
        #: Paths that the user does not want.
        self._dropped_paths = Backlog[str]()
        self._notes: dict[str, list[str]] = {}

    @property
    def notes(self) -> dict[str, list[str]]:
        """What the user should know, by kind: names."""
        return self._notes | self.copies.notes | self._names.notes | self._geography.notes

    def carry_out(self) -> None:
        """Copy everything, or nothing where there are to be results alone; what is pooled is made instead."""
        is_alone, patterns = self._names.is_alone, self._names.patterns
        if not is_alone:
            self._carry_all()
        for address, (first, *_) in self._means.items() if is_alone or patterns else ():
            path = first.source.name
            group = path.rpartition("/")[0]
            # What is in a group that is dropped was not met on the way.
            if is_alone or (group and is_left_out(group, patterns)):
                self._make_means(path, tree.object_at(self._source, path), address)
        for path, obj in self._dropped_objects():
            self._names.drops(path)
            # What is pooled, and what is carried over, may lie along a dimension that is dropped.
            self._geography.keep_length(path, obj)
        self.copies.finish()
        for step in self._last_steps:
            step()
        self._geography.finish()

    def _carry_all(self) -> None:
        """Make what becomes of every object and every link."""
        (root, copy), notes = self.copies.pair("/", "/"), notes_on_classic_model(self._source, self._results)
        self.copies.add("/", root, copy_attributes(root, copy, {CLASSIC_MODEL: None} if notes else {}))
        self._notes |= notes
        drops = self._drops if self._names.patterns else None
        for path, obj, address in tree.walk(self._source, drops, self._is_plain, self._target):
            if address in self._means:
                self._make_means(path, obj, address)
                continue
            self._names.check(path)
            if isinstance(obj, tree.Link):
                self._make_link(path, obj)
            else:
                self.copies.copy(path, obj, address)

    def _is_plain(self, address: tree.Address) -> bool:
        """Whether a dataset is pooled, and there is nothing to know of it but its spec."""
        return address in self._means and self._means[address][0].source.handle is not None

    def _drops(self, path: str) -> bool:
        drops = self._names.drops(path)
        if drops:
            self._dropped_paths.append(path)
        return drops

    def _dropped_objects(self) -> Iterator[tuple[str, Any]]:
        """What is dropped, and what is in it, which was not met."""
        for path in self._dropped_paths:
            if self._source.id.links.get_info(tree.name_bytes(path)).type != tree.HARD:
                continue
            obj = tree.object_at(self._source, path)
            yield path, obj
            names: list[bytes] = []
            if isinstance(obj, h5py.Group):
                h5py.h5o.visit(obj.id, names.append)
            for inner in (f"{path}/{tree.name_text(name)}" for name in names):
                yield inner, tree.object_at(self._source, inner)

    def _make_means(self, path: str, obj: Any, address: tree.Address) -> None:
        """Make what takes the place of a pooled dataset where that has the name by which it was chosen; link others."""
        for result in self._means[address]:
            if path != result.source.name:
                link = partial(tree.link_hard, self._target, path + _suffix(result), result.name)
                if self._target is not None and tree.name_bytes(result.name) in self._target:
                    link()
                else:
                    self._last_steps.append(link)
                continue
            obj = tree.object_at(self._source, path) if isinstance(obj, tree.Link) else obj
            copy = self._make(result, obj)
            if obj is not None and self._geography.has_geography(obj):
                self._last_steps.append(partial(self._write_coordinates, path, result))
            else:
                names = copy_attributes(obj, copy, changes_of_result(obj, result))
                self.copies.postpone(path, result.name, names)

    def _write_coordinates(self, path: str, result: ResultSpec) -> None:
        """Write the attributes of means that say where their cells are."""
        obj, copy = self.copies.pair(path, result.name)
        changes = changes_of_result(obj, result) | self._geography.attach(obj, result)
        copy_attributes(obj, copy, changes, self._references)

    def _make_link(self, path: str, link: tree.Link) -> None:
        """Make a link that leads to the same place."""
        if link.value is None:
            self._notes.setdefault(STRANGE_LINKS, []).append(path)
        if self._target is None:
            return
        links, name = self._target.id.links, tree.name_bytes(path)
        if link.type == tree.HARD:
            tree.link_hard(self._target, path, link.value)
        elif link.type == tree.EXTERNAL:
            file, inner = link.value
            links.create_external(name, self._elsewhere.link_name(file), inner)
        elif link.type == tree.SOFT:
            for suffix in map(tree.name_bytes, self._suffixes(path, link)):
                links.create_soft(name + suffix, link.value + suffix)

    def _suffixes(self, path: str, link: tree.Link) -> list[str]:
        """The ends of the names to which a soft link leads: several where it led to what became several."""
        if not self._names.new_names:
            return [""]
        name = tree.follow_links(self._source, tree.absolute_path(path, tree.name_text(link.value)))
        address = tree.NOBODY
        if isinstance(name, str):
            address = tree.address_of(tree.object_at(self._source, name))
        return [_suffix(result) for result in self._means.get(address, ())] or [""]


def _suffix(result: ResultSpec) -> str:
    """What the path of means has more than their source's, where there are several sizes."""
    return result.name.removeprefix(result.source.name)
