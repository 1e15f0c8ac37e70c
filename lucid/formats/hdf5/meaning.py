"""What the results of HDF5 datasets say of themselves: the shared rules, and those of MATLAB.

The rules themselves are in `lucid.formats.meaning` and `lucid.formats.result`. Here follows what MATLAB needs:
`MATLAB_class` names the type as which MATLAB reads a dataset, so it follows the result.
"""

from typing import Any

import h5py
import numpy as np

from lucid.formats.arrays import Pooled
from lucid.formats.hdf5.tree import Dataset
from lucid.formats.hdf5.types import is_unnamed
from lucid.formats.hdf5.variables import MATLAB_CLASS, Attributes
from lucid.formats.result import Changes, unwritten_fill

_MATLAB_FLOATS = {"float64": "double", "float32": "single"}
#: Attributes of hdf5storage, which says with them what Python's array was.
_PYTHON_TYPE, _PYTHON_SHAPE = "Python.numpy.UnderlyingType", "Python.Shape"


def changes_of_result(origin: Dataset | None, pooled: Pooled) -> Changes:
    """The attributes of a result that differ from those of the dataset that it is made of, if it has any."""
    attributes = {} if origin is None else Attributes(origin)
    if not attributes and not pooled.meaning.missing:
        return {}
    numbers = pooled.numbers
    others: Changes = {_PYTHON_SHAPE: None}
    if numbers != pooled.meaning.numbers:
        # How MATLAB and hdf5storage call the type.
        others |= {
            MATLAB_CLASS: _MATLAB_FLOATS.get(numbers, numbers if "int" in numbers else None),
            "MATLAB_int_decode": None,
            _PYTHON_TYPE: np.dtype(numbers).name if numbers != "bfloat16" else None,
        }
    type_attributes = {key: value for key, value in others.items() if key in attributes}
    return pooled.changes_of(attributes) | type_attributes


def fill_of_result(origin: Dataset, pooled: Pooled) -> Any:
    """The own fill value of a result, by its source's properties; None where it is HDF5's, which is zero."""
    if origin.creation.fill_value_defined() != h5py.h5d.FILL_VALUE_USER_DEFINED or is_unnamed(origin):
        return None
    return unwritten_fill(Attributes(origin), pooled.meaning, origin.fillvalue, pooled.numbers)
