"""Attributes of HDF5 objects: copied with their very type, or written anew with the type they had.

h5py reads and writes by NumPy's types, which have no name for many of HDF5's: padding of strings, bit
fields, times. What is copied is not converted, so that nothing of its type is lost.
"""

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from lucid.formats.hdf5.cells import memory_type_of, read_attribute
from lucid.formats.hdf5.dataset import has_references
from lucid.formats.hdf5.references import References
from lucid.formats.hdf5.tree import name_bytes, name_text

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


def write_attribute(target: Any, name: str, value: Any, *, like: Any = None, dtype: Any = None) -> None:
    """Put a text, numbers or references in the place of an attribute that may be there; None removes it.

    A text is of the type of texts that it had, or is `like`; all else of a `dtype`, or its own.
    """
    encoded = name_bytes(name)
    if h5py.h5a.exists(target.id, encoded):
        like = h5py.h5a.open(target.id, encoded).get_type() if like is None else like
        h5py.h5a.delete(target.id, encoded)
    if isinstance(value, str):
        _write_text(target, encoded, value, like)
    elif value is not None:
        target.attrs.create(encoded, value, dtype=dtype)


def _write_text(target: Any, name: bytes, text: str, like: Any) -> None:
    """Write a text as one element, of any length where nothing else is said of its type."""
    data = name_bytes(text)
    h5_type = _TEXT_TYPE if like is None or like.get_class() != h5py.h5t.STRING else like.copy()
    if h5_type.is_variable_str():
        dtype = h5py.string_dtype("utf-8" if h5_type.get_cset() == h5py.h5t.CSET_UTF8 else "ascii")
        memory_type = h5py.h5t.py_create(dtype)
    else:
        h5_type.set_size(max(1, len(data)))
        dtype, memory_type = np.dtype(f"S{h5_type.get_size()}"), h5_type
    attribute = h5py.h5a.create(target.id, name, h5_type, _SCALAR)
    attribute.write(np.array(data, dtype), mtype=memory_type)


def leads_to_others(attribute: Any) -> bool:
    """Whether an attribute is of a named type, or has references: its copy is made when those are there."""
    h5_type = attribute.get_type()
    return bool(h5_type.committed()) or has_references(h5_type)


def copy_attributes(
    origin: Any, target: Any, changes: dict[str, Any], references: References | None = None
) -> list[bytes]:
    """Copy an object's attributes, but for those of `changes`, of which None is not copied.

    Those that lead to other objects need `references` to their copies; without, their names are returned. Where the
    target is None, what would be copied is read.
    """
    others, postponed = changes.copy(), list[bytes]()
    for attribute in attributes_in(origin) if origin is not None else ():
        name = name_text(attribute.get_name())
        if name in others:
            value = others.pop(name)
            if value is not None and target is not None:
                write_attribute(target, name, value, like=attribute.get_type())
        elif references is None and leads_to_others(attribute):
            postponed.append(attribute.get_name())
        else:
            copy_attribute(attribute, target, references)
    for name, value in others.items():
        if value is not None and target is not None:
            write_attribute(target, name, value)
    return postponed


def copy_attribute(attribute: Any, target: Any, references: References | None = None) -> None:
    """Make an attribute of the same type, shape and value; what leads to other objects leads to their copies."""
    name, h5_type, values = attribute.get_name(), attribute.get_type(), read_attribute(attribute)
    if target is None:
        return
    if h5py.h5a.exists(target.id, name):
        h5py.h5a.delete(target.id, name)
    type_in_copy = h5_type if references is None else references.type_in_copy(h5_type)
    copy = h5py.h5a.create(target.id, name, type_in_copy, attribute.get_space())
    if values is not None:
        values = values if references is None else references.redirect(values)
        copy.write(values, mtype=memory_type_of(attribute, h5_type)[1])
