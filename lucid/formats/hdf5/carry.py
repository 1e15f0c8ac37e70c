"""An HDF5 file copied but for what is pooled: groups, datasets, types, links and attributes.

What refers to other objects comes last, when all is there that it can refer to. Of each object that is copied,
its path and its address are remembered. A dry run goes the same way without a target, so that it refuses,
notes and counts what a run would: attributes and coordinates are read, and nothing is made.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import h5py

from lucid.backlog import Backlog
from lucid.formats.arrays import ResultSpec
from lucid.formats.choosing import CarriedNames, is_left_out
from lucid.formats.contract import CarriedArrays
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.attributes import attributes_in, copy_attribute, copy_attributes, leads_to_others
from lucid.formats.hdf5.dataset import Dataset, has_references
from lucid.formats.hdf5.elsewhere import Elsewhere, shows_one_of
from lucid.formats.hdf5.geography import USERS, Scales
from lucid.formats.hdf5.meaning import CLASSIC_MODEL, CLASSIC_NUMBERS, attributes_of, changes_of_result
from lucid.formats.hdf5.means import Means
from lucid.formats.hdf5.references import References
from lucid.formats.hdf5.remake import make_dataset, make_group, properties_of_copy, storage_bytes
from lucid.formats.hdf5.source import Hdf5Source

#: Kinds of notes; of many objects, a note names some and counts the others.
STRANGE_LINKS = "links of a kind that only their own software can make"
WRITTEN_OUT = "virtual datasets of what is pooled or dropped are written out"
_NAMELESS = "types with a name have none, or that of an equal one, where filters may not be lossless"
#: The library's flag for a copy that is of the type with a name in the new file which is the same as in the old.
_FINDS_TYPES = h5py.h5p.create(h5py.h5p.OBJECT_COPY)
_FINDS_TYPES.set_copy_object(0x40)


class Carry:
    """One file on its way into another, which is to be at `path`."""

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
        self._file_bytes = source.file.id.get_filesize()
        self._elsewhere = Elsewhere(source.path, path)
        #: What takes the place of each pooled dataset.
        self._means = Means(source.file, results)
        self._references = References(source.file, target, self._means)
        self._geography = Scales(self._references, names)
        #: What is still to be done when all objects are there.
        self._last_steps: list[Callable[[], None]] = []
        #: Paths that the user does not want.
        self._dropped_paths = Backlog[str]()
        #: Paths of copies that are to be read once, for there is more to them than elements and their type.
        self.unread_paths = Backlog[str]()
        #: The datasets that are copied.
        self.carried = CarriedArrays()
        self._notes: dict[str, list[str]] = {}

    @property
    def notes(self) -> dict[str, list[str]]:
        """What the user should know, by kind: names."""
        return self._notes | self._names.notes | self._geography.notes

    def carry_out(self) -> None:
        """Copy everything, or nothing where there are to be results alone; what is pooled is made instead."""
        if not self._names.is_alone:
            self._carry_all()
        is_alone, patterns = self._names.is_alone, self._names.patterns
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
        for step in self._last_steps:
            step()
        self._geography.finish()

    def _carry_all(self) -> None:
        """Make what becomes of every object and every link."""
        root, copy = self._object_pair("/", "/")
        changes = {} if self._keeps_classic_model() else {CLASSIC_MODEL: None}
        self._postpone("/", root, copy_attributes(root, copy, changes))
        drops = self._drops if self._names.patterns else None
        for path, obj, address in tree.walk(self._source, drops, self._is_plain, self._target):
            if address in self._means:
                self._make_means(path, obj, address)
                continue
            self._names.check(path)
            if isinstance(obj, tree.Link):
                self._make_link(path, obj)
            else:
                self._copy(path, obj, address)

    def _keeps_classic_model(self) -> bool:
        """Whether netCDF's classic model has the types of all results, if the file keeps to it."""
        if CLASSIC_MODEL not in attributes_of(self._source):
            return True
        results = chain.from_iterable(self._means.values())
        others = [result for result in results if result.stored_numbers not in CLASSIC_NUMBERS]
        for result in others:
            what = f"the mark of netCDF's classic model, which has no {result.stored_numbers}, is left out"
            self._note(what, result.name)
        return not others

    def _note(self, what: str, name: str) -> None:
        self._notes.setdefault(what, []).append(name)

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

    def _is_plain(self, address: tree.Address) -> bool:
        """Whether a dataset is pooled, and there is nothing to know of it but its spec."""
        return address in self._means and self._means[address][0].source.place is not None

    def _make_means(self, path: str, obj: Any, address: tree.Address) -> None:
        """Make what takes the place of a pooled dataset where that has the name by which it was chosen; link others."""
        for result in self._means[address]:
            if path != result.source.name:
                link = partial(self._link_hard, path + _suffix(result), result.name)
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
                self._postpone_references(path, result.name, names)

    def _write_coordinates(self, path: str, result: ResultSpec) -> None:
        """Write the attributes of means that say where their cells are."""
        obj, copy = self._object_pair(path, result.name)
        changes = changes_of_result(obj, result) | self._geography.attach(obj, result)
        copy_attributes(obj, copy, changes, self._references)

    def _link_hard(self, path: str, first: str) -> None:
        """Give an object of the output another name, unless it has it."""
        file, name = None if self._target is None else self._target.id, tree.name_bytes(path)
        if file is not None and not file.links.exists(name):
            file.links.create_hard(name, file, tree.name_bytes(first))

    def _make_link(self, path: str, link: tree.Link) -> None:
        """Make a link that leads to the same place."""
        if link.value is None:
            self._note(STRANGE_LINKS, path)
        if self._target is None:
            return
        links, name = self._target.id.links, tree.name_bytes(path)
        if link.type == tree.HARD:
            self._link_hard(path, link.value)
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

    def _copy_named_type(self, h5_type: Any) -> None:
        """Copy a type that has a name, and the groups that it is in, before what is of this type."""
        if h5_type.committed() and tree.address_of(h5py.Datatype(h5_type)) not in self._references.paths:
            names = tree.name_text(h5py.h5i.get_name(h5_type) or b"/").split("/")[1:]
            paths = [f"/{'/'.join(names[:end])}" for end in range(1, len(names) + 1)]
            if not is_left_out(paths[-1], self._names.patterns):
                for path in paths:
                    obj = tree.object_at(self._source, path)
                    self._copy(path, obj, tree.address_of(obj))

    def _copy(self, path: str, obj: Any, address: tree.Address) -> None:
        """Copy a group without its members, a dataset or a named type; by the library where its copy is right."""
        paths = self._references.paths
        if address in paths:
            self._link_hard(path, paths[address])
            return
        paths[address] = path
        if isinstance(obj, Dataset):
            arrays, nbytes = self.carried
            nbytes += storage_bytes(path, obj, self._file_bytes)
            self.carried = CarriedArrays(arrays + 1, nbytes)
            if obj.is_raw and not h5py.h5a.get_num_attrs(obj.id):
                self._copy_by_library(path, obj)
                return
        reference_names = [one.get_name() for one in attributes_in(obj) if leads_to_others(one)]
        make = self._maker(path, obj, is_changed=bool(reference_names))
        if make is None:
            self._copy_by_library(path, obj)
        else:
            copy = None if self._target is None else make(self._target, tree.name_bytes(path))
            # MATLAB takes the fields of a struct from its members where this does not list them.
            has_other_members = self._names.patterns or self._names.new_names
            copy_attributes(obj, copy, {"MATLAB_fields": None} if has_other_members else {})
        self._postpone(path, obj, reference_names)

    def _maker(self, path: str, obj: Any, *, is_changed: bool) -> Callable[[h5py.File, bytes], Any] | None:
        """What makes the copy of an object, which `is_changed` later; None where the library's own copy is right."""
        if not isinstance(obj, Dataset):
            return partial(make_group, obj) if isinstance(obj, h5py.Group) else None
        with tree.translate_errors(f"{path} cannot be carried over, and `drop` leaves it out"):
            if has_references(obj.h5_type):
                _ = obj.dtype  # h5py does not know all kinds of references
        is_written_out = shows_one_of(obj, self._means, self._names.patterns)
        if is_written_out:
            self._note(WRITTEN_OUT, path)
        self._copy_named_type(obj.h5_type)
        elsewhere = self._elsewhere
        properties = properties_of_copy(obj, elsewhere, is_written_out=is_written_out, is_changed=is_changed)
        h5_type = self._references.type_in_copy(obj.h5_type)
        return None if properties is None else partial(make_dataset, obj, h5_type, *properties)

    def _copy_by_library(self, path: str, obj: Any) -> None:
        """Let the library copy a dataset or a named type."""
        is_named = isinstance(obj, Dataset) and obj.h5_type.committed()
        h5_type = self._references.type_in_copy(obj.h5_type) if is_named else None
        keeps_name = h5_type is None or h5_type.committed()
        if self._target is not None:
            name, properties = tree.name_bytes(path), _FINDS_TYPES if is_named else None
            h5py.h5o.copy(obj.id, b".", self._target.id, name, copypl=properties)
            if h5_type is not None and keeps_name:
                types = h5_type, tree.object_at(self._target, path).h5_type
                keeps_name = len({tree.address_of(h5py.Datatype(one)) for one in types}) == 1
        if not keeps_name:
            self._note(_NAMELESS, path)

    def _postpone(self, path: str, obj: Any, names: list[bytes]) -> None:
        """Note what is still to be done to a copy, whose attributes of these names lead to others."""
        self.unread_paths.append(path)
        self._geography.note(path, obj)
        self._postpone_references(path, path, names)
        if isinstance(obj, Dataset) and has_references(obj.h5_type):
            # The library could only set them to zero.
            self._last_steps.append(partial(self._rewrite_references, path))

    def _postpone_references(self, origin: str, copy: str, names: list[bytes]) -> None:
        if names:
            self._last_steps.append(partial(self._write_references, origin, copy, names))

    def _write_references(self, origin: str, copy: str, names: list[bytes]) -> None:
        """Write the attributes of these names, which refer to other objects."""
        obj, target = self._object_pair(origin, copy)
        for name in names:
            if name == USERS.encode():
                self._geography.note_users(obj, copy)
            else:
                copy_attribute(h5py.h5a.open(obj.id, name), target, self._references)

    def _rewrite_references(self, path: str) -> None:
        """Write the elements of a dataset that refer to other objects."""
        dataset, copy = self._object_pair(path, path)
        if copy is not None:
            self._references.rewrite(dataset, copy)

    def _object_pair(self, origin: str, copy: str) -> tuple[Any, Any]:
        """An object and its copy, None without a target."""
        target = None if self._target is None else tree.object_at(self._target, copy)
        return tree.object_at(self._source, origin), target


def _suffix(result: ResultSpec) -> str:
    """What the path of means has more than their source's, where there are several sizes."""
    return result.name.removeprefix(result.source.name)
