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
from lucid.formats.hdf5.tree import encoded

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
        has_order = not isinstance(item, h5py.Datatype) and (
            item.id.get_create_plist().get_attr_creation_order() & h5py.h5p.CRT_ORDER_INDEXED
        )
        index = h5py.h5.INDEX_CRT_ORDER if has_order else h5py.h5.INDEX_NAME
        h5py.h5a.iterate(item.id, names.append, index_type=index, order=h5py.h5.ITER_INC)
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


def copy_attributes(origin: Any, target: Any, changes: dict[str, Any]) -> list[bytes]:
    """Copy an object's attributes but for `changes`; the names of those with references, not copied."""
    with_references: list[bytes] = []
    others = {encoded(name): value for name, value in changes.items()}
    for attribute in attributes_in(origin) if origin is not None else ():
        name = attribute.get_name()
        if name in others:
            _write(target, name, others.pop(name), like=attribute.get_type())
        elif hold_references(attribute):
            with_references.append(name)
        else:
            copy_attribute(attribute, target, name)
    for name, value in others.items():
        _write(target, name, value)
    return with_references


def _write(target: Any, name: bytes, value: Any, like: Any = None) -> None:
    """Write a text, in the type that it had, or numbers; None is no attribute."""
    if isinstance(value, str):
        write_text(target, name, value, like=like)
    elif value is not None:
        write_values(target, name, value)


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


def remove(target: Any, name: bytes) -> None:
    """Remove an attribute that may not be there."""
    if h5py.h5a.exists(target.id, name):
        h5py.h5a.delete(target.id, name)
