"""Number types as HDF5 stores them: the standard ones, and bfloat16 in its two guises.

bfloat16 is a float type of 2 bytes with 8 bits of exponent, which h5py would convert to float32, or,
as ml_dtypes arrays are saved, opaque elements of 2 bytes that the user must name. Integers of odd
precision, bit fields and floats of 8 bits, which h5py would silently convert, are no numbers here.
"""

from typing import Any

import h5py
import numpy as np

from lucid.formats.contract import Array, Region, shape_of
from lucid.formats.hdf5.tree import Dataset

#: Sign, exponent, bits of exponent, fraction, bits of fraction; and the bias.
BFLOAT16 = ((15, 7, 8, 0, 7), 127)

#: Types that NumPy may have no name for, by their class.
_CLASSES = {
    h5py.h5t.TIME: "of times",
    h5py.h5t.FLOAT: "of floats of another size",
    h5py.h5t.INTEGER: "of integers of another size",
    h5py.h5t.BITFIELD: "of bit fields",
    h5py.h5t.REFERENCE: "of references",
    h5py.h5t.COMPOUND: "of compounds",
}


def _key(kind: Any) -> tuple[int, ...]:
    """What tells the plain number types apart; of one byte, no order."""
    group, size = kind.get_class(), kind.get_size()
    order = h5py.h5t.ORDER_LE if size == 1 else kind.get_order()
    return group, size, order, kind.get_sign() if group == h5py.h5t.INTEGER else 0


#: Plain number types: NumPy's name, dtype, and the library's type.
_PLAIN = {
    _key(kind): (dtype.name, dtype, kind)
    for dtype in (
        np.dtype(f"{o}{n}")
        for o in "<>"
        for n in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
    )
    for kind in (h5py.h5t.py_create(dtype),)
}


#: The library's types of the plain ones.
_STORED = {dtype: kind for _, dtype, kind in _PLAIN.values()}


def numbers_of(dataset: Dataset, input_numbers: str | None) -> tuple[str, np.dtype[Any]] | None:
    """The type of the elements by name, and the dtype in which they are read; None if they have no mean."""
    kind = dataset.kind
    group = kind.get_class()
    if group in (h5py.h5t.INTEGER, h5py.h5t.FLOAT):
        name, dtype, plain = _PLAIN.get(_key(kind), (None, None, None))
        if name is not None and dtype is not None and (kind.equal(plain) or _is_plain_byte(kind)):
            return name, dtype
        if is_bfloat16(kind):
            order = ">" if kind.get_order() == h5py.h5t.ORDER_BE else "<"
            return "bfloat16", np.dtype(f"{order}u2")
        return None
    if group == h5py.h5t.OPAQUE and kind.get_size() == 2 and input_numbers == "bfloat16":
        return "bfloat16", np.dtype("<u2")
    if group == h5py.h5t.ENUM and dataset.dtype == np.bool_:
        return "bool", dataset.dtype
    return None


def _is_plain_byte(kind: Any) -> bool:
    """Whether a type is an integer of one whole byte, of which files may say any order."""
    return bool(
        kind.get_class() == h5py.h5t.INTEGER
        and kind.get_size() == 1
        and (kind.get_precision(), kind.get_offset()) == (8, 0)
    )


def described_type(dataset: Dataset) -> str:
    """A type as a person knows it, also where NumPy has no name for it."""
    try:
        return str(dataset.dtype)
    except (TypeError, ValueError, NotImplementedError):
        return _CLASSES.get(dataset.kind.get_class(), "of a type that is not known")


def reinterpreted(dtype: np.dtype[Any], numbers: str) -> np.dtype[Any]:
    """The dtype of elements whose bits are read as integers of another type; of others, the same."""
    if dtype.kind not in "iu" or numbers == "bfloat16":
        return dtype
    return np.dtype(numbers).newbyteorder(dtype.byteorder)


def is_bfloat16(kind: Any) -> bool:
    """Whether a type in a file is the float type bfloat16."""
    return bool(
        kind.get_class() == h5py.h5t.FLOAT
        and kind.get_size() == 2
        and (kind.get_fields(), kind.get_ebias()) == BFLOAT16
    )


def is_unnamed(dataset: Dataset) -> bool:
    """Whether the elements may be bfloat16 if the user says so."""
    kind = dataset.kind
    return bool(kind.get_class() == h5py.h5t.OPAQUE and kind.get_size() == 2)


def file_type(numbers: str, dtype: np.dtype[Any], origin: Dataset | None) -> Any:
    """The type in which means are stored; bfloat16 stays opaque where its source is."""
    if numbers != "bfloat16":
        return _STORED.get(dtype) or h5py.h5t.py_create(dtype, logical=True)
    if origin is not None and is_unnamed(origin):
        return origin.kind
    kind = h5py.h5t.IEEE_F16LE.copy()
    fields, bias = BFLOAT16
    kind.set_fields(*fields)
    kind.set_ebias(bias)
    return kind


def fill_of(dataset: Dataset, dtype: np.dtype[Any]) -> Any:
    """The fill value in the dtype in which elements are read."""
    fill = dataset.fillvalue
    if is_bfloat16(dataset.kind):
        return np.array(np.float32(fill).view(np.uint32) >> 16, np.uint16).astype(dtype)[()]
    return np.frombuffer(fill.tobytes(), dtype)[0] if isinstance(fill, np.void) else fill


def leaves_gaps(creation: Any) -> bool:
    """Whether the library may leave a buffer as it is where storage was never written.

    It does so where it was told never to fill, and where the fill value is undefined; what the datasets
    behind a virtual one were told is not looked for.
    """
    return bool(
        creation.get_layout() == h5py.h5d.VIRTUAL
        or creation.get_fill_time() == h5py.h5d.FILL_TIME_NEVER
        or creation.fill_value_defined() == h5py.h5d.FILL_VALUE_UNDEFINED
    )


def unwritten_of(dataset: Dataset, dtype: np.dtype[Any]) -> Any:
    """What is read where nothing was written: the fill value, or zero where the library never fills."""
    return np.zeros((), dtype)[()] if leaves_gaps(dataset.creation) else fill_of(dataset, dtype)


def read_through(dataset: Dataset, region: Region, out: Array) -> None:
    """Read a region through the library, without conversion."""
    creation = dataset.creation
    if leaves_gaps(creation):
        out[...] = np.zeros((), out.dtype)
        is_undefined = creation.fill_value_defined() == h5py.h5d.FILL_VALUE_UNDEFINED
        if is_undefined and dataset.id.get_space_status() == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED:
            return  # the library would refuse
    space = selected(dataset.id.get_space(), region)
    dataset.id.read(h5py.h5s.create_simple(out.shape), space, out, mtype=memory_type(dataset, out.dtype))


def write_through(dataset: Dataset, region: Region, values: Array) -> None:
    """Write a region through the library, without conversion."""
    space = selected(dataset.id.get_space(), region)
    kind = memory_type(dataset, values.dtype)
    dataset.id.write(h5py.h5s.create_simple(values.shape), space, values, mtype=kind)


def selected(space: Any, region: Region) -> Any:
    """A dataspace of which only a region is read or written."""
    space.select_hyperslab(tuple(s.start for s in region), shape_of(region))
    return space


def memory_type(dataset: Dataset, dtype: np.dtype[Any]) -> Any:
    """What the library calls a dtype in which elements of a dataset are read as they are."""
    kind = dataset.kind
    is_raw = is_bfloat16(kind) or kind.get_class() == h5py.h5t.OPAQUE
    return kind if is_raw else h5py.h5t.py_create(dtype, logical=True)
