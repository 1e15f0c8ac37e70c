"""What the numbers of HDF5 datasets mean: the shared rules, and those of MATLAB.

The rules themselves are in `lucid.formats.meaning` and `lucid.formats.result`. Here their attributes are
read, and what follows from MATLAB's: `MATLAB_class` names the type as which MATLAB reads a dataset, so
it follows the result; text and objects are stored as integers, which are not to be averaged.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import h5py
import numpy as np

from lucid.formats.arrays import Pooled
from lucid.formats.grid import ANCILLARY, COORDINATES, GRID_ATTRIBUTES, base_of
from lucid.formats.hdf5.tree import HDF5_ERRORS, Dataset, object_of, path_of
from lucid.formats.hdf5.types import is_unnamed
from lucid.formats.meaning import FILL, MISSING, Meaning, meaning_of
from lucid.formats.result import TYPED_ATTRIBUTES, Changes, unwritten_fill
from lucid.formats.values import text_of
from lucid.missing import parse_missing
from lucid.options import Options

#: Holds a file to netCDF's classic model, and the numbers that it has; sums of integers are others.
CLASSIC_MODEL = "_nc3_strict"
CLASSIC_NUMBERS = ("int8", "int16", "int32", "float32", "float64")
#: Names the dimension scales of each axis.
SCALES = "DIMENSION_LIST"
#: Largest attribute that is looked into.
MOST_BYTES = 1 << 20

#: What says what numbers mean; and all that may be another in a result.
_MEANING = (FILL, MISSING, "_Unsigned", "scale_factor", "add_offset")
RESULT_ATTRIBUTES = (
    *_MEANING,
    *TYPED_ATTRIBUTES,
    "dtype",
    COORDINATES,
    ANCILLARY,
    "cell_methods",
    *GRID_ATTRIBUTES,
)

MATLAB_CLASS, MATLAB_DECODE = "MATLAB_class", "MATLAB_int_decode"
#: Classes of MATLAB whose datasets hold numbers.
_MATLAB_NUMBERS = {"double", "single", "logical", *(f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64))}
_MATLAB_FLOATS = {"float64": "double", "float32": "single"}
#: Where MATLAB keeps what its cells and objects hold, such as the text of a `string`, as arrays of numbers.
MATLAB_CONTENTS = ("/#refs#/", "/#subsystem#/")
#: Attributes of hdf5storage, which says with them what Python's array was.
_PYTHON_TYPE, _PYTHON_SHAPE = "Python.numpy.UnderlyingType", "Python.Shape"
_TYPE_ATTRIBUTES = (MATLAB_CLASS, MATLAB_DECODE, _PYTHON_TYPE, _PYTHON_SHAPE)


def attributes_of(dataset: Dataset, names: Iterable[str]) -> dict[str, Any]:
    """Those attributes of a dataset that there are and that can be read."""
    found: dict[str, Any] = {}
    if h5py.h5a.get_num_attrs(dataset.id) == 0:
        return found
    for name in names:
        if h5py.h5a.exists(dataset.id, name.encode()):
            try:
                if h5py.h5a.open(dataset.id, name.encode()).get_storage_size() > MOST_BYTES:
                    continue
                value = dataset.attrs[name]
            except HDF5_ERRORS:
                continue  # of a type that is not known
            if not isinstance(value, h5py.Empty):
                found[name] = value
    return found


def meaning_in(dataset: Dataset, numbers: str, options: Options) -> Meaning:
    """What the numbers of a dataset mean."""
    missing = parse_missing(options.missing)
    return meaning_of(attributes_of(dataset, _MEANING), numbers, missing=missing, nan=options.nan)


def matlab_description(dataset: Dataset) -> str | None:
    """What a dataset of MATLAB is that is stored as integers and is none; None for numbers."""
    if not h5py.h5a.exists(dataset.id, MATLAB_CLASS.encode()):
        return None
    class_name = text_of(attributes_of(dataset, (MATLAB_CLASS,)).get(MATLAB_CLASS))
    if h5py.h5a.exists(dataset.id, b"MATLAB_empty"):
        return "the shape of an empty array of MATLAB"
    return (
        None
        if class_name in _MATLAB_NUMBERS or not class_name
        else {"char": "text"}.get(class_name, class_name) + " of MATLAB"
    )


def changes_of_result(origin: Dataset | None, pooled: Pooled) -> Changes:
    """The attributes of a result that differ from those of the dataset that it is made of, if it has any."""
    attributes = {} if origin is None else attributes_of(origin, (*RESULT_ATTRIBUTES, *_TYPE_ATTRIBUTES))
    if not attributes and not pooled.meaning.missing:
        return {}
    numbers = pooled.numbers
    others: Changes = {_PYTHON_SHAPE: None}
    if numbers != pooled.meaning.numbers:
        # How MATLAB and hdf5storage call the type.
        others |= {
            MATLAB_CLASS: _MATLAB_FLOATS.get(numbers, numbers if "int" in numbers else None),
            MATLAB_DECODE: None,
            _PYTHON_TYPE: np.dtype(numbers).name if numbers != "bfloat16" else None,
        }
    type_attributes = {key: value for key, value in others.items() if key in attributes}
    return pooled.changes_of(attributes) | type_attributes


def fill_of_result(origin: Dataset, pooled: Pooled) -> Any:
    """The own fill value of a result, by its source's properties; None where it is HDF5's, which is zero."""
    if origin.creation.fill_value_defined() != h5py.h5d.FILL_VALUE_USER_DEFINED or is_unnamed(origin):
        return None
    return unwritten_fill(attributes_of(origin, (FILL,)), pooled.meaning, origin.fillvalue, pooled.numbers)


def has_classic_model(file: h5py.File) -> bool:
    """Whether netCDF holds a file to the types of its classic model, which has no strings of any length."""
    return bool(h5py.h5a.exists(file.id, CLASSIC_MODEL.encode()))


def scales_of(dataset: Dataset) -> list[list[Dataset]]:
    """The dimension scales of each axis; a reference that leads to none is no scale."""
    scales: list[list[Dataset]] = [[] for _ in dataset.shape]
    if h5py.h5a.exists(dataset.id, SCALES.encode()):
        with suppress(*HDF5_ERRORS):  # it is no list of references
            for of_axis, references in zip(scales, dataset.attrs[SCALES], strict=True):
                for reference in references:
                    with suppress(*HDF5_ERRORS):
                        of_axis.append(object_of(h5py.h5r.dereference(reference, dataset.id)))
    return [[one for one in of_axis if isinstance(one, Dataset)] for of_axis in scales]


def dims_of(dataset: Dataset) -> tuple[str, ...]:
    """The names of the axes by their dimension scales, "" for those without; () where none has one."""
    if not h5py.h5a.exists(dataset.id, SCALES.encode()):
        return ()
    names = tuple(base_of(path_of(of_axis[0])) if of_axis else "" for of_axis in scales_of(dataset))
    return names if any(names) else ()
