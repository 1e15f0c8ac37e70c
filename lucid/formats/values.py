"""Values of attributes, and what they are in the type of a variable: texts, numbers, rounding."""

import math
from typing import Any

import numpy as np

from lucid.missing import Number
from lucid.pooling.dtypes import FLOATS, narrow, storage, widened


def text_of(value: Any) -> str:
    """The text of an attribute, however it is stored; nothing where it is none.

    >>> text_of(np.bytes_(b"lat lon")), text_of(np.array(["lat"], object)), text_of(np.int8(1))
    ('lat lon', 'lat', '')

    """
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size == 1 else ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    return value.rstrip("\0") if isinstance(value, str) else ""


def numbers_in(value: Any) -> list[Number]:
    """The numbers of an attribute; none where it is text, or anything else.

    >>> numbers_in(np.array([1, 2], ">i2")), numbers_in("-9999"), numbers_in(None)
    ([1, 2], [], [])

    """
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        return []
    numbers: list[Number] = array.reshape(-1).tolist()
    return numbers


def to_element(value: Number, stored: str, numbers: str) -> Number | None:
    """A value as elements of a type have it, rounded as they are; None where no element can be it.

    `stored` is the type in the file; where `numbers` reads its bits in another way, so it does the value's.

    >>> to_element(-1, "int16", "uint16"), to_element(1e20, "float32", "float32"), to_element(-999, "uint8", "uint8")
    (65535, 1.0000000200408773e+20, None)

    """
    if numbers in FLOATS:
        return float(round_to_type(value, numbers))
    if numbers == "bool":
        return int(value) if value in (0, 1) else None
    if not math.isfinite(value) or value != int(value):
        return None
    integer = int(value)
    if _fits(integer, stored) and not _fits(integer, numbers):
        integer = reinterpret_integer(integer, stored, numbers)
    return integer if _fits(integer, numbers) else None


def reinterpret_integer(integer: int, stored: str, numbers: str) -> int:
    """The bits of an integer of one type, read as another one of the same size.

    >>> reinterpret_integer(-1, "int16", "uint16"), reinterpret_integer(7, "uint8", "int8")
    (65535, 7)

    """
    return int(np.array(integer, stored).view(numbers))


def reinterpret_dtype(dtype: np.dtype[Any], numbers: str) -> np.dtype[Any]:
    """The dtype of elements whose bits are read as integers of another type; of others, the same."""
    if dtype.kind not in "iu" or numbers == "bfloat16":
        return dtype
    return np.dtype(numbers).newbyteorder(dtype.byteorder)


def _fits(integer: int, numbers: str) -> bool:
    limits = np.iinfo(numbers)
    return bool(limits.min <= integer <= limits.max)


def round_to_type(values: Any, numbers: str) -> Any:
    """Values in a type, as attributes have them: float32 holds those of bfloat16.

    >>> round_to_type(1.01, "bfloat16"), round_to_type([1, 2], "float16")
    (array(1.0078125, dtype=float32), array([1., 2.], dtype=float16))

    """
    array = np.asarray(values)
    with np.errstate(over="ignore", invalid="ignore"):
        if numbers != "bfloat16":
            return array.astype(numbers)
        single = array.astype(np.float32)
        bits = np.empty(single.shape, storage(numbers))
        narrow(single.astype(np.float64), numbers, bits)
        return np.asarray(widened(bits, numbers), np.float32)
