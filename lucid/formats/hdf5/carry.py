"""An HDF5 file copied but for what is pooled: groups, datasets, types, links and attributes.

What refers to other objects comes last, when all is there that it can refer to. Of all objects only names
and addresses are remembered, so that memory does not grow with what is copied.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import h5py

from lucid.backlog import Backlog
from lucid.formats.arrays import ResultSpec
from lucid.formats.choosing import CarriedNames, is_left_out
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.attributes import attributes_in, copy_attribute, copy_attributes
from lucid.formats.hdf5.elsewhere import Elsewhere
from lucid.formats.hdf5.geography import USERS, Scales
from lucid.formats.hdf5.meaning import CLASSIC_MODEL, changes_of_result
from lucid.formats.hdf5.references import References, has_references, leads_to_others
from lucid.formats.hdf5.remake import group_properties, remake
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.hdf5.survey import Survey

_NAMELESS = "types with a name have none, or that of an equal one, where filters may not be lossless"
#: The library's flag for a copy that is of the type with a name in the new file which is the same as in the old.
_FINDS_TYPES = h5py.h5p.create(h5py.h5p.OBJECT_COPY)
_FINDS_TYPES.set_copy_object(0x40)


class Carry(Survey):
    """One file on its way into another."""

    def __init__(
        self,
        source: Hdf5Source,
        results: Sequence[ResultSpec],
        names: CarriedNames,
        target: h5py.File,
        make: Callable[[ResultSpec, tree.Dataset | None], tree.Dataset],
        elsewhere: Elsewhere,
    ) -> None:
        super().__init__(source, results, names)
        self._target, self._make, self._elsewhere = target, make, elsewhere
        self._references = References(self._source, target, self.means)
        #: It has notes of its own.
        self.geography = Scales(self._references, names)
        #: What is still to be done when all objects are there.
        self._last_steps: list[Callable[[], None]] = []
        #: Paths of copies that are to be read once, for there is more to them than elements and their type.
        self.unread_paths = Backlog[str]()

    def carry_out(self) -> None:
        """Copy everything, or nothing where there are to be results alone; what is pooled is made instead."""
        if not self.names.is_alone:
            root, copy = self._object_pair("/", "/")
            changes = {} if self.keeps_classic_model() else {CLASSIC_MODEL: None}
            self._postpone("/", root, copy_attributes(root, copy, changes))
            for (path, obj, address), is_pooled, is_written_out in self.entries(self._target):
                if is_pooled:
                    self._make_means(path, obj, address)
                elif isinstance(obj, tree.Link):
                    self._make_link(path, obj)
                else:
                    self._copy(path, obj, address, is_written_out=is_written_out)
        # What is in a group that is dropped was not met on the way.
        for address, (first, *_) in self.means.items() if self.names.is_alone or self.names.patterns else ():
            if tree.name_bytes(first.name) not in self._target:
                self._make_means(first.source.name, tree.object_at(self._source, first.source.name), address)
        for path, obj in self._dropped_objects():
            # What is pooled, and what is carried over, may lie along a dimension that is dropped.
            self.geography.keep_length(path, obj)
        for step in self._last_steps:
            step()
        self.geography.finish()

    def _make_means(self, path: str, obj: Any, address: tree.Address) -> None:
        """Make what takes the place of a pooled dataset where that has the name by which it was chosen; link others."""
        for result in self.means[address]:
            if path != result.source.name:
                link = partial(self._link_hard, path + _suffix(result), result.name)
                if tree.name_bytes(result.name) in self._target:
                    link()
                else:
                    self._last_steps.append(link)
                continue
            obj = tree.object_at(self._source, path) if isinstance(obj, tree.Link) else obj
            copy = self._make(result, obj)
            if obj is not None and self.geography.has_geography(obj):
                self._last_steps.append(partial(self._write_coordinates, path, result))
            else:
                names = copy_attributes(obj, copy, changes_of_result(obj, result))
                self._postpone_references(path, result.name, names)

    def _write_coordinates(self, path: str, result: ResultSpec) -> None:
        """Write the attributes of means that say where their cells are."""
        obj, copy = tree.object_at(self._source, path), tree.object_at(self._target, result.name)
        changes = changes_of_result(obj, result) | self.geography.attach(obj, copy, result)
        self._write_references(path, result.name, copy_attributes(obj, copy, changes))

    def _link_hard(self, path: str, first: str) -> None:
        """Give an object of the output another name, unless it has it."""
        file, name = self._target.id, tree.name_bytes(path)
        if not file.links.exists(name):
            file.links.create_hard(name, file, tree.name_bytes(first))

    def _make_link(self, path: str, link: tree.Link) -> None:
        """Make a link that leads to the same place."""
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
        if not self.names.new_names:
            return [""]
        name = tree.follow_links(self._source, tree.absolute_path(path, tree.name_text(link.value)))
        address = tree.address_of(tree.object_at(self._source, name)) if isinstance(name, str) else -1
        return [_suffix(result) for result in self.means.get(address, ())] or [""]

    def _copy_named_type(self, h5_type: Any) -> None:
        """Copy a type that has a name, and the groups that it is in, before what is of this type."""
        if h5_type.committed() and tree.address_of(h5py.Datatype(h5_type)) not in self._references.paths:
            names = tree.name_text(h5py.h5i.get_name(h5_type) or b"/").split("/")[1:]
            paths = [f"/{'/'.join(names[:end])}" for end in range(1, len(names) + 1)]
            if not is_left_out(paths[-1], self.names.patterns):
                for path in paths:
                    obj = tree.object_at(self._source, path)
                    self._copy(path, obj, tree.address_of(obj))

    def _copy(self, path: str, obj: Any, address: tree.Address, *, is_written_out: bool = False) -> None:
        """Copy a group without its members, a dataset or a named type; by the library where its copy is right."""
        paths, name, copy = self._references.paths, tree.name_bytes(path), None
        if address in paths:
            self._link_hard(path, paths[address])
            return
        paths[address] = path
        if isinstance(obj, tree.Dataset) and obj.is_raw and not h5py.h5a.get_num_attrs(obj.id):
            h5py.h5o.copy(obj.id, b".", self._target.id, name)
            return
        reference_names = [one.get_name() for one in attributes_in(obj) if leads_to_others(one)]
        if isinstance(obj, h5py.Group):
            copy = h5py.Group(h5py.h5g.create(self._target.id, name, gcpl=group_properties(obj)))
        elif isinstance(obj, tree.Dataset):
            self._copy_named_type(obj.h5_type)
            h5_type = self._references.type_in_copy(obj.h5_type)
            # The library would note the time at which attributes are added to a copy.
            is_dated = bool(reference_names) and obj.creation.get_obj_track_times()
            elsewhere = self._elsewhere
            copy = remake(
                obj, self._target, name, h5_type, elsewhere, is_written_out=is_written_out, is_dated=is_dated
            )
        if copy is None:
            is_named = isinstance(obj, tree.Dataset) and obj.h5_type.committed()
            h5py.h5o.copy(obj.id, b".", self._target.id, name, copypl=_FINDS_TYPES if is_named else None)
            types = [h5_type, tree.object_at(self._target, path).h5_type] if is_named else []
            if len({one.committed() and tree.address_of(h5py.Datatype(one)) for one in types}) > 1:
                self.notes.setdefault(_NAMELESS, []).append(path)
        else:
            # MATLAB takes the fields of a struct from its members where this does not list them.
            has_other_members = self.names.patterns or self.names.new_names
            copy_attributes(obj, copy, {"MATLAB_fields": None} if has_other_members else {})
        self._postpone(path, obj, reference_names)

    def _postpone(self, path: str, obj: Any, names: list[bytes]) -> None:
        """Note what is still to be done to a copy, whose attributes of these names lead to others."""
        self.unread_paths.append(path)
        self.geography.note(path, obj)
        self._postpone_references(path, path, names)
        if isinstance(obj, tree.Dataset) and has_references(obj):
            # The library could only set them to zero.
            self._last_steps.append(lambda: self._references.rewrite(*self._object_pair(path, path)))

    def _postpone_references(self, origin: str, copy: str, names: list[bytes]) -> None:
        if names:
            self._last_steps.append(partial(self._write_references, origin, copy, names))

    def _write_references(self, origin: str, copy: str, names: list[bytes]) -> None:
        """Write the attributes of these names, which refer to other objects."""
        obj, target = self._object_pair(origin, copy)
        for name in names:
            if name == USERS.encode():
                self.geography.note_users(obj, target)
            else:
                copy_attribute(h5py.h5a.open(obj.id, name), target, name, self._references)

    def _object_pair(self, origin: str, copy: str) -> tuple[Any, Any]:
        """An object and its copy."""
        return tree.object_at(self._source, origin), tree.object_at(self._target, copy)


def _suffix(result: ResultSpec) -> str:
    """What the path of means has more than their source's, where there are several sizes."""
    return result.name.removeprefix(result.source.name)
