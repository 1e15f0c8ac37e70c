"""Attributes of HDF5 objects: copied with their very type, or written anew with the type they had.

h5py reads and writes by NumPy's types, which have no name for many of HDF5's: padding of strings, bit
fields, times. What is copied is not converted, so that nothing of its type is lost.
"""

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from lucid.formats.hdf5.copy import copy_attribute, read_attribute
from lucid.formats.hdf5.references import References, hold_references
from lucid.formats.hdf5.tree import decoded, encoded

#: Texts of any length: in the file, and in memory.
_TEXT = h5py.string_dtype()
_STORED_TEXT, _TEXT_IN_MEMORY = h5py.h5t.py_create(_TEXT, logical=True), h5py.h5t.py_create(_TEXT)
_ONE = h5py.h5s.create(h5py.h5s.SCALAR)


def attributes_in(item: Any) -> Iterator[Any]:
    """The attributes of an object, in the order of their creation where that is kept."""
    if h5py.h5a.get_num_attrs(item.id):
        names: list[bytes] = []
        # By their number, each is looked for among all.
        h5py.h5a.iterate(item.id, names.append, index_type=_index(item), order=h5py.h5.ITER_INC)
        for name in names:
            yield h5py.h5a.open(item.id, name)


def write_text(target: Any, name: bytes, text: str, *, like: Any = None, fixed: bool = False) -> None:
    """Write an attribute of text; `like` is the type it had, `fixed` forbids strings of any length."""
    data = encoded(text)
    is_text = like is not None and like.get_class() == h5py.h5t.STRING
    kind = like.copy() if is_text else _STORED_TEXT
    if fixed and kind.is_variable_str():
        kind = h5py.h5t.C_S1.copy()
        kind.set_cset(h5py.h5t.CSET_UTF8 if not data.isascii() else h5py.h5t.CSET_ASCII)
    remove(target, name)
    if kind.is_variable_str():
        made = h5py.h5a.create(target.id, name, kind, _ONE)
        if kind.get_cset() == h5py.h5t.CSET_UTF8:
            made.write(np.array(data, _TEXT), mtype=_TEXT_IN_MEMORY)
        else:
            dtype = h5py.string_dtype("ascii")
            made.write(np.array(data, dtype), mtype=h5py.h5t.py_create(dtype))
        return
    kind.set_size(max(1, len(data)))
    made = h5py.h5a.create(target.id, name, kind, _ONE)
    made.write(np.array(data, f"S{max(1, len(data))}"), mtype=kind)


def write_numbers(target: Any, name: bytes, values: Any) -> None:
    """Write an attribute of numbers, in their type and shape."""
    array = np.ascontiguousarray(values).reshape(np.shape(values))
    remove(target, name)
    space = h5py.h5s.create_simple(array.shape) if array.shape else h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5a.create(target.id, name, h5py.h5t.py_create(array.dtype), space).write(array)


def write_change(origin: Any, target: Any, name: str, value: Any) -> None:
    """Write an attribute that has another value than the source's: text or numbers."""
    key = encoded(name)
    if isinstance(value, str):
        has_one = origin is not None and h5py.h5a.exists(origin.id, key)
        write_text(target, key, value, like=h5py.h5a.open(origin.id, key).get_type() if has_one else None)
    else:
        write_numbers(target, key, value)


def copy_attributes(origin: Any, target: Any, changes: dict[str, Any]) -> list[bytes]:
    """Copy an object's attributes but for `changes`; the names of those with references, not copied."""
    left: list[bytes] = []
    changed = {encoded(name) for name in changes}
    for attribute in attributes_in(origin) if origin is not None else ():
        name = attribute.get_name()
        if name in changed:
            value = changes[decoded(name)]
            if value is not None:
                write_change(origin, target, decoded(name), value)
        elif hold_references(attribute):
            left.append(name)
        else:
            copy_attribute(attribute, target, name)
    for name, value in changes.items():
        if value is not None and (origin is None or not h5py.h5a.exists(origin.id, encoded(name))):
            write_change(None, target, name, value)
    return left


def write_references(origin: Any, target: Any, name: bytes, references: References) -> None:
    """Write an attribute that holds references anew, each to the copy of what it pointed to."""
    attribute = h5py.h5a.open(origin.id, name)
    values = read_attribute(attribute)
    remove(target, name)
    made = h5py.h5a.create(target.id, name, attribute.get_type().copy(), attribute.get_space())
    if values is not None:
        made.write(references.redirected(values), mtype=h5py.h5t.py_create(attribute.dtype))


def _index(origin: Any) -> int:
    """By which index attributes are listed: that of their creation, where it is kept."""
    if isinstance(origin, h5py.Datatype):
        return int(h5py.h5.INDEX_NAME)
    own = h5py.h5g.open(origin.id, b"/") if isinstance(origin, h5py.File) else origin.id
    tracks = own.get_create_plist().get_attr_creation_order() & h5py.h5p.CRT_ORDER_INDEXED
    return int(h5py.h5.INDEX_CRT_ORDER if tracks else h5py.h5.INDEX_NAME)


def remove(target: Any, name: bytes) -> None:
    """Remove an attribute that may not be there."""
    if h5py.h5a.exists(target.id, name):
        h5py.h5a.delete(target.id, name)
