"""Which numbers can be pooled, how they are added, and what the result is stored as.

A number type is named as NumPy names it. bfloat16 is not NumPy's own: an array of it is handled as the uint16 of its
bits, so that no package is needed to read or write it.
"""

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from lucid.errors import DTypeError

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float64]

#: How sums are held: a float64; one with the errors of its roundings; two halves of an exact integer.
AccumulatorKind = Literal["float", "double", "integer"]


class Element(NamedTuple):
    """A row of the table: the compiled kernel's code, how sums are held, the default dtype of means and of sums."""

    code: int
    kind: AccumulatorKind
    mean: str
    sum: str


ELEMENTS = {
    "bool": Element(0, "float", "float32", "int64"),
    "uint8": Element(1, "float", "float32", "uint64"),
    "int8": Element(2, "float", "float32", "int64"),
    "uint16": Element(3, "float", "float32", "uint64"),
    "int16": Element(4, "float", "float32", "int64"),
    "float16": Element(5, "float", "float16", "float16"),
    "bfloat16": Element(6, "float", "bfloat16", "bfloat16"),
    "float32": Element(7, "float", "float32", "float32"),
    "float64": Element(8, "double", "float64", "float64"),
    "uint32": Element(9, "integer", "float64", "uint64"),
    "int32": Element(10, "integer", "float64", "int64"),
    "uint64": Element(11, "integer", "float64", "uint64"),
    "int64": Element(12, "integer", "float64", "int64"),
}
NAMES = tuple(ELEMENTS)
#: NumPy puts a name together anew each time, in 20 calls.
_NAMES = {np.dtype(name): name for name in NAMES if name != "bfloat16"}
FLOATS = ("float16", "bfloat16", "float32", "float64")


def name_of(dtype: np.dtype[Any]) -> str:
    """The name of a dtype that can be pooled.

    Raises
    ------
    DTypeError
        For complex, long double, structured, text, object, date and all other dtypes.

    """
    known = _NAMES.get(dtype)
    if known is not None:
        return known
    name = dtype.newbyteorder("=").name
    if (name in ELEMENTS and dtype.kind != "V") or name == "bfloat16":  # of ml_dtypes, whose kind is "V"
        return name
    raise DTypeError(f"cannot pool dtype {dtype}; expected one of {', '.join(NAMES)}")


def storage(name: str) -> np.dtype[Any]:
    """The NumPy dtype whose elements hold a number type: its own, or uint16 for bfloat16."""
    return np.dtype("uint16" if name == "bfloat16" else name)


@np.errstate(invalid="ignore")  # of a signalling NaN
def widened(cells: Array, name: str) -> Floats:
    """Elements of up to 64 bits of float, or 16 of integer, as float64; exact."""
    if name == "bfloat16":
        return (cells.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return cells.astype(np.float64)


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def narrow(values: Floats, name: str, out: Array) -> int:
    """Round float64 once, to nearest even, into an array of float type `name`; how many became infinite."""
    if name != "bfloat16":
        np.copyto(out, values, casting="same_kind")
        infinite = np.isinf(out)
    else:
        # Eight digits of what float64 has are left, and of the least numbers, multiples of 2**-133.
        bits = values.view(np.uint64)
        digits = (bits + ((bits >> 45) & 1) + ((1 << 44) - 1)) >> 45 << 45
        is_least = np.abs(values) < 2.0**-126
        rounded = np.where(is_least, np.rint(values * 2.0**133) * 2.0**-133, digits.view(np.float64))
        bits16 = rounded.astype(np.float32).view(np.uint32) >> 16
        np.copyto(out, np.where(np.isnan(values), 0x7FC0, bits16).astype(np.uint16))
        infinite = (out & 0x7FFF) == 0x7F80
    return int(np.count_nonzero(infinite & ~np.isinf(values))) if infinite.any() else 0
