"""Attributes of HDF5 objects: copied with their very type, or written anew with the type they had.

h5py reads and writes by NumPy's types, which have no name for many of HDF5's: padding of strings, bit
fields, times. What is copied is not converted, so that nothing of its type is lost.
"""

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from lucid.formats.hdf5.cells import memory_type_of, read_attribute
from lucid.formats.hdf5.references import References, leads_to_others
from lucid.formats.hdf5.tree import name_bytes

#: Texts of any length.
_TEXT_TYPE = h5py.h5t.py_create(h5py.string_dtype(), logical=True)
_SCALAR = h5py.h5s.create(h5py.h5s.SCALAR)


def attributes_in(obj: Any) -> Iterator[Any]:
    """The attributes of an object, in the order of their creation where that is kept."""
    if h5py.h5a.get_num_attrs(obj.id):
        names: list[bytes] = []
        # By their number, each is looked for among all.
        has_order = not isinstance(obj, h5py.Datatype) and (
            obj.id.get_create_plist().get_attr_creation_order() & h5py.h5p.CRT_ORDER_INDEXED
        )
        index = h5py.h5.INDEX_CRT_ORDER if has_order else h5py.h5.INDEX_NAME
        h5py.h5a.iterate(obj.id, names.append, index_type=index, order=h5py.h5.ITER_INC)
        for name in names:
            yield h5py.h5a.open(obj.id, name)


def write_text(target: Any, name: bytes, text: str, *, like: Any = None, fixed: bool = False) -> None:
    """Write an attribute of text; `like` is the type it had, `fixed` forbids strings of any length."""
    data = name_bytes(text)
    h5_type = _TEXT_TYPE if like is None or like.get_class() != h5py.h5t.STRING else like.copy()
    if fixed and h5_type.is_variable_str():
        h5_type = h5py.h5t.C_S1.copy()
        h5_type.set_cset(h5py.h5t.CSET_ASCII if data.isascii() else h5py.h5t.CSET_UTF8)
    if h5_type.is_variable_str():
        dtype = h5py.string_dtype("utf-8" if h5_type.get_cset() == h5py.h5t.CSET_UTF8 else "ascii")
        memory_type = h5py.h5t.py_create(dtype)
    else:
        h5_type.set_size(max(1, len(data)))
        dtype, memory_type = np.dtype(f"S{h5_type.get_size()}"), h5_type
    _create_attribute(target, name, h5_type, _SCALAR).write(np.array(data, dtype), mtype=memory_type)


def write_values(target: Any, name: bytes, values: Any, dtype: Any = None) -> None:
    """Write an attribute of numbers or references, in their type and shape."""
    array = np.asarray(values, dtype, order="C")
    space = h5py.h5s.create_simple(array.shape) if array.shape else _SCALAR
    attribute = _create_attribute(target, name, h5py.h5t.py_create(dtype or array.dtype, logical=True), space)
    attribute.write(array, mtype=h5py.h5t.py_create(dtype or array.dtype))


def copy_attributes(origin: Any, target: Any, changes: dict[str, Any]) -> list[bytes]:
    """Copy an object's attributes but for `changes`; the names of those that lead to others, not copied.

    Without a target, what would be copied is read.
    """
    with_references: list[bytes] = []
    others = {name_bytes(name): value for name, value in changes.items()}
    for attribute in attributes_in(origin) if origin is not None else ():
        name = attribute.get_name()
        if name in others:
            _write(target, name, others.pop(name), like=attribute.get_type())
        elif leads_to_others(attribute):
            with_references.append(name)
        else:
            copy_attribute(attribute, target, name)
    for name, value in others.items():
        _write(target, name, value)
    return with_references


def _write(target: Any, name: bytes, value: Any, like: Any = None) -> None:
    """Write a text, in the type that it had, or numbers; None is no attribute."""
    if target is None:
        return
    if isinstance(value, str):
        write_text(target, name, value, like=like)
    elif value is not None:
        write_values(target, name, value)


def replace_text(target: Any, name: bytes, text: str | None) -> None:
    """Put a text in the place of an attribute, in the type that it has; None removes it."""
    old = h5py.h5a.open(target.id, name).get_type()
    remove_attribute(target, name)
    _write(target, name, text, like=old)


def copy_attribute(attribute: Any, target: Any, name: bytes, references: References | None = None) -> None:
    """Make an attribute of the same type, shape and value; what leads to other objects leads to their copies."""
    h5_type, values = attribute.get_type(), read_attribute(attribute)
    if target is None:
        return
    type_in_copy = h5_type if references is None else references.type_in_copy(h5_type)
    copy = _create_attribute(target, name, type_in_copy, attribute.get_space())
    if values is not None:
        values = values if references is None else references.redirect(values)
        copy.write(values, mtype=memory_type_of(attribute, h5_type)[1])


def _create_attribute(target: Any, name: bytes, h5_type: Any, space: Any) -> Any:
    """An attribute that takes the place of one that may be there."""
    remove_attribute(target, name)
    return h5py.h5a.create(target.id, name, h5_type, space)


def remove_attribute(target: Any, name: bytes) -> None:
    """Remove an attribute that may not be there."""
    if h5py.h5a.exists(target.id, name):
        h5py.h5a.delete(target.id, name)
