"""Number types as HDF5 stores them: the standard ones, and bfloat16 in its two guises.

bfloat16 is a float type of 2 bytes with 8 bits of exponent, which h5py would convert to float32, or,
as ml_dtypes arrays are saved, opaque elements of 2 bytes that the user must name. Integers of odd
precision, bit fields and floats of 8 bits, which h5py would silently convert, are no numbers here.
"""

from contextlib import suppress
from itertools import product
from typing import Any

import h5py
import numpy as np

from lucid.formats.hdf5.dataset import Dataset

#: Sign, exponent, bits of exponent, fraction, bits of fraction; and the bias.
BFLOAT16 = ((15, 7, 8, 0, 7), 127)

#: The library's types of plain numbers; files say any order of a single byte.
_PLAIN = {
    dtype: [h5py.h5t.py_create(dtype)] for dtype in map(np.dtype, map("".join, product("<>", "iuf", "248")))
}
_PLAIN[np.dtype("i1")] = [h5py.h5t.STD_I8LE, h5py.h5t.STD_I8BE]
_PLAIN[np.dtype("u1")] = [h5py.h5t.STD_U8LE, h5py.h5t.STD_U8BE]
#: What NumPy has no name for, or only "object".
_NAMES = {
    h5py.h5t.BITFIELD: "bit field",
    h5py.h5t.TIME: "of times",
    h5py.h5t.STRING: "text",
    h5py.h5t.VLEN: "of lists",
    h5py.h5t.REFERENCE: "of references",
}


def numbers_of(dataset: Dataset, input_numbers: str | None) -> tuple[str, np.dtype[Any]] | None:
    """The type of the elements by name, and the dtype in which they are read; None if they have no mean."""
    h5_type = dataset.h5_type
    type_class = h5_type.get_class()
    if is_bfloat16(h5_type):
        return "bfloat16", np.dtype(">u2" if h5_type.get_order() == h5py.h5t.ORDER_BE else "<u2")
    if type_class in (h5py.h5t.INTEGER, h5py.h5t.FLOAT):
        with suppress(TypeError, ValueError):  # NumPy has no name for it
            dtype = h5_type.dtype
            if any(map(h5_type.equal, _PLAIN.get(dtype, ()))):
                return dtype.name, dtype
    if is_unnamed(dataset) and input_numbers == "bfloat16":
        return "bfloat16", np.dtype("<u2")
    if type_class == h5py.h5t.ENUM and dataset.dtype == np.bool_:
        return "bool", dataset.dtype
    return None


def type_name(dataset: Dataset) -> str:
    """A type as a person knows it, also where NumPy has no name for it."""
    type_class = dataset.h5_type.get_class()
    if type_class in _NAMES:
        return _NAMES[type_class]
    try:
        is_enum = bool(type_class == h5py.h5t.ENUM and dataset.dtype != np.bool_)
        return "enum of " * is_enum + str(dataset.dtype)
    except (TypeError, ValueError, NotImplementedError):
        return "of a type that is not known"


def is_bfloat16(h5_type: Any) -> bool:
    """Whether a type in a file is the float type bfloat16."""
    return bool(
        h5_type.get_class() == h5py.h5t.FLOAT
        and h5_type.get_size() == 2
        and (h5_type.get_fields(), h5_type.get_ebias()) == BFLOAT16
    )


def is_unnamed(dataset: Dataset) -> bool:
    """Whether the elements may be bfloat16 if the user says so."""
    return bool(dataset.h5_type.get_class() == h5py.h5t.OPAQUE and dataset.h5_type.get_size() == 2)


def file_type(numbers: str, dtype: np.dtype[Any], origin: Dataset | None) -> Any:
    """The type in which means are stored; bfloat16 stays opaque where its source is."""
    if numbers != "bfloat16":
        return _PLAIN[dtype][0] if dtype in _PLAIN else h5py.h5t.py_create(dtype, logical=True)
    if origin is not None and is_unnamed(origin):
        return origin.h5_type
    h5_type = h5py.h5t.IEEE_F16LE.copy()
    fields, bias = BFLOAT16
    h5_type.set_fields(*fields)
    h5_type.set_ebias(bias)
    return h5_type


def unwritten_fill_of(dataset: Dataset, dtype: np.dtype[Any]) -> Any:
    """What is read where nothing was written: the fill value, or zero where the library never fills."""
    if dataset.leaves_gaps:
        return np.zeros((), dtype)[()]
    fill = dataset.fillvalue
    if is_bfloat16(dataset.h5_type):
        return np.array(np.float32(fill).view(np.uint32) >> 16, np.uint16).astype(dtype)[()]
    return np.frombuffer(fill.tobytes(), dtype)[0] if isinstance(fill, np.void) else fill
