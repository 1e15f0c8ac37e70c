"""Attributes of HDF5 objects: copied with their very type, or written anew with the type they had.

h5py reads and writes by NumPy's types, which have no name for many of HDF5's: padding of strings, bit
fields, times. What is copied is not converted, so that nothing of its type is lost.
"""

from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

from lucid.formats.arrays import Array
from lucid.formats.hdf5.cells import in_memory, read_attribute, type_in
from lucid.formats.hdf5.references import References, hold_references
from lucid.formats.hdf5.tree import decoded, encoded

#: Texts of any length: in a file, and by their character sets in memory.
_STORED_TEXT = h5py.h5t.py_create(h5py.string_dtype(), logical=True)
_IN_MEMORY = {
    code: (h5py.string_dtype(name), h5py.h5t.py_create(h5py.string_dtype(name)))
    for code, name in ((h5py.h5t.CSET_ASCII, "ascii"), (h5py.h5t.CSET_UTF8, "utf-8"))
}
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
    kind = _STORED_TEXT if like is None or like.get_class() != h5py.h5t.STRING else like.copy()
    if fixed and kind.is_variable_str():
        kind = h5py.h5t.C_S1.copy()
        kind.set_cset(h5py.h5t.CSET_ASCII if data.isascii() else h5py.h5t.CSET_UTF8)
    if kind.is_variable_str():
        dtype, memory_type = _IN_MEMORY[kind.get_cset()]
    else:
        kind.set_size(max(1, len(data)))
        dtype, memory_type = np.dtype(f"S{kind.get_size()}"), kind
    _created(target, name, kind, _ONE).write(np.array(data, dtype), mtype=memory_type)


def write_values(target: Any, name: bytes, values: Any, dtype: Any = None) -> None:
    """Write an attribute of numbers or references, in their type and shape."""
    array = np.asarray(values, dtype, order="C")
    space = h5py.h5s.create_simple(array.shape) if array.shape else _ONE
    attribute = _created(target, name, h5py.h5t.py_create(dtype or array.dtype, logical=True), space)
    attribute.write(array, mtype=h5py.h5t.py_create(dtype or array.dtype))


def write_change(origin: Any, target: Any, name: str, value: Any) -> None:
    """Write an attribute that has another value than the source's: text or numbers."""
    key = encoded(name)
    if isinstance(value, str):
        has_one = origin is not None and h5py.h5a.exists(origin.id, key)
        write_text(target, key, value, like=h5py.h5a.open(origin.id, key).get_type() if has_one else None)
    else:
        write_values(target, key, value)


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


def copy_attribute(
    attribute: Any, target: Any, name: bytes, change: Callable[[Array], Array] = lambda values: values
) -> None:
    """Make an attribute of the same type, shape and value, but for a change of it."""
    copy = _created(target, name, type_in(target, attribute.get_type()), attribute.get_space())
    values = read_attribute(attribute)
    if values is not None:
        copy.write(change(values), mtype=in_memory(attribute, attribute.get_type())[1])


def write_references(origin: Any, target: Any, name: bytes, references: References) -> None:
    """Write an attribute that holds references anew, each to the copy of what it pointed to."""
    copy_attribute(h5py.h5a.open(origin.id, name), target, name, references.redirected)


def _created(target: Any, name: bytes, kind: Any, space: Any) -> Any:
    """An attribute that takes the place of one that may be there."""
    remove(target, name)
    return h5py.h5a.create(target.id, name, kind, space)


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
