"""Objects of an HDF5 file copied into another one: groups without their members, datasets, named types.

The library's own copy is taken where it is right (`remake` says where it is not). What refers to other objects
comes last, when all is there that it can refer to.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import h5py

from lucid.backlog import Backlog
from lucid.formats.choosing import CarriedNames, is_left_out
from lucid.formats.contract import CarriedArrays
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.attributes import attributes_in, copy_attribute, copy_attributes, leads_to_others
from lucid.formats.hdf5.claims import storage_bytes
from lucid.formats.hdf5.dataset import Dataset, has_references
from lucid.formats.hdf5.elsewhere import Elsewhere, shows_one_of
from lucid.formats.hdf5.geography import USERS, Scales
from lucid.formats.hdf5.references import References
from lucid.formats.hdf5.remake import (
    Properties,
    make_dataset,
    make_group,
    properties_of_copy,
    properties_written_out,
)

#: Kinds of notes; of many objects, a note names some and counts the others.
WRITTEN_OUT = "virtual datasets of what is pooled or dropped are written out"
NAMELESS = "types with a name have none, or that of an equal one, where filters may not be lossless"
#: The library's flag for a copy that is of the type with a name in the new file which is the same as in the old.
_FINDS_TYPES = h5py.h5p.create(h5py.h5p.OBJECT_COPY)
_FINDS_TYPES.set_copy_object(0x40)


class Copies:
    """The copies of objects; where `references` have no target, what is said and counted of them."""

    def __init__(
        self, references: References, geography: Scales, elsewhere: Elsewhere, names: CarriedNames
    ) -> None:
        self._references, self._geography = references, geography
        self._elsewhere, self._names = elsewhere, names
        self._source, self._target = references.source, references.target
        self._file_bytes = references.source.id.get_filesize()
        #: Copies of datasets of references; attributes that lead to others: of which object, and of which copy.
        self._reference_paths: list[str] = []
        self._attributes: list[tuple[str, str, list[bytes]]] = []
        #: Paths of copies that are to be read once, for there is more to them than elements and their type.
        self.unread_paths = Backlog[str]()
        #: The datasets that are copied.
        self.carried = CarriedArrays()
        #: What the user should know, by kind: names.
        self.notes: dict[str, list[str]] = {}

    def copy(self, path: str, obj: Any, address: tree.Address) -> None:
        """Copy an object, or give its copy another name if it was copied with what is of its type."""
        paths = self._references.paths
        if address in paths:
            tree.link_hard(self._target, path, paths[address])
            return
        paths[address] = path
        if isinstance(obj, Dataset):
            arrays, nbytes = self.carried
            nbytes += storage_bytes(path, obj, self._file_bytes)
            self.carried = CarriedArrays(arrays + 1, nbytes)
            if obj.is_raw and not h5py.h5a.get_num_attrs(obj.id):
                self._copy_by_library(path, obj)
                return
        reference_names = [
            attribute.get_name() for attribute in attributes_in(obj) if leads_to_others(attribute)
        ]
        make = self._maker(path, obj, is_changed=bool(reference_names))
        if make is None:
            self._copy_by_library(path, obj)
        else:
            copy = None if self._target is None else make(self._target, tree.name_bytes(path))
            # MATLAB takes the fields of a struct from its members where this does not list them.
            has_other_members = self._names.patterns or self._names.new_names
            copy_attributes(obj, copy, {"MATLAB_fields": None} if has_other_members else {})
        if isinstance(obj, Dataset) and has_references(obj.h5_type):
            self._reference_paths.append(path)
        self.add(path, obj, reference_names)

    def add(self, path: str, obj: Any, reference_names: list[bytes]) -> None:
        """Add a copy, of which the attributes of these names are still to be written, since they lead to others."""
        self.unread_paths.append(path)
        self._geography.note(path, obj)
        self.postpone(path, path, reference_names)

    def postpone(self, origin: str, copy: str, names: list[bytes]) -> None:
        """Note attributes of an object that are to be copied when all is there that they lead to."""
        if names:
            self._attributes.append((origin, copy, names))

    def finish(self) -> None:
        """Write what leads to other objects, all of which are there."""
        for origin, path, names in self._attributes:
            obj, copy = self.pair(origin, path)
            for name in names:
                if name == USERS.encode():
                    self._geography.note_users(obj, path)
                else:
                    copy_attribute(h5py.h5a.open(obj.id, name), copy, self._references)
        for path in self._reference_paths if self._target is not None else ():
            self._references.rewrite(*self.pair(path, path))

    def pair(self, origin: str, copy: str) -> tuple[Any, Any]:
        """An object and its copy, None without a target."""
        target = None if self._target is None else tree.object_at(self._target, copy)
        return tree.object_at(self._source, origin), target

    def _maker(self, path: str, obj: Any, *, is_changed: bool) -> Callable[[h5py.File, bytes], Any] | None:
        """What makes the copy of an object, to which attributes are added if it `is_changed`; None for the library."""
        if not isinstance(obj, Dataset):
            return partial(make_group, obj) if isinstance(obj, h5py.Group) else None
        if has_references(obj.h5_type):
            with tree.translate_errors(f"{path} cannot be carried over, and `drop` leaves it out"):
                _ = obj.dtype  # h5py does not know all kinds of references
        if shows_one_of(obj, self._references.means, self._names.patterns):
            self._note(WRITTEN_OUT, path)
            properties: Properties | None = properties_written_out(obj)
        else:
            properties = properties_of_copy(obj, self._elsewhere, is_changed=is_changed)
        self._copy_named_type(obj.h5_type)
        if properties is None:
            return None
        return partial(make_dataset, obj, self._references.type_in_copy(obj.h5_type), *properties)

    def _copy_named_type(self, h5_type: Any) -> None:
        """Copy a type that has a name, and the groups that it is in, before what is of this type."""
        if h5_type.committed() and tree.address_of(h5py.Datatype(h5_type)) not in self._references.paths:
            names = tree.name_text(h5py.h5i.get_name(h5_type) or b"/").split("/")[1:]
            paths = [f"/{'/'.join(names[:end])}" for end in range(1, len(names) + 1)]
            if not is_left_out(paths[-1], self._names.patterns):
                for path in paths:
                    obj = tree.object_at(self._source, path)
                    self.copy(path, obj, tree.address_of(obj))

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
                keeps_name = len({tree.address_of(h5py.Datatype(h5_type)) for h5_type in types}) == 1
        if not keeps_name:
            self._note(NAMELESS, path)

    def _note(self, what: str, path: str) -> None:
        self.notes.setdefault(what, []).append(path)
