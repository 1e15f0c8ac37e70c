"""Which numbers can be pooled, what they are accumulated in, what the mean is stored as.

A number type is named as NumPy names it. bfloat16 is not NumPy's own: an array of it is
handled as the uint16 of its bits, so that no package is needed to read or write it.
"""

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lucid.errors import DTypeError

_NARROW = ("bool", "int8", "int16", "uint8", "uint16")
_WIDE = ("int32", "int64", "uint32", "uint64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
NAMES = (*FLOATS, *_NARROW, *_WIDE)


class Numbers(NamedTuple):
    """Number types of one pooling: elements of `source`, sums in `accumulator`, means as `result`."""

    source: str
    accumulator: np.dtype[np.floating]
    result: str

    @property
    def adds_equals_exactly(self) -> bool:
        """Whether equal elements have exact sums: 256 of 16 bits or fewer fit the 24 of float32.

        No more are added before the sums are folded in float64.
        """
        return self.source in (*_NARROW, "float16", "bfloat16")

    @property
    def result_dtype(self) -> np.dtype[np.generic]:
        """The dtype of the array that holds the means."""
        return storage(self.result)


@lru_cache(maxsize=64)  # NumPy puts a name together anew each time, in 20 calls
def name_of(dtype: np.dtype[np.generic]) -> str:
    """The name of a dtype that can be pooled.

    Raises
    ------
    DTypeError
        For complex, long double, structured, text, object, date and all other dtypes.

    """
    if (dtype.name in NAMES and dtype.kind != "V") or dtype.name == "bfloat16":
        return dtype.name
    raise DTypeError(f"cannot average dtype {dtype}; expected one of {', '.join(NAMES)}")


@lru_cache(maxsize=256)
def numbers(source: str, result: str | None = None) -> Numbers:
    """The accumulator and the result for elements of type `source`.

    float32 sums of up to 256 narrow integers are exact, and longer sums are added in
    float64, so narrow integers lose nothing in float32 tiles and take half the memory traffic.
    """
    default = source if source in FLOATS else "float64" if source in _WIDE else "float32"
    chosen = result or default
    wide = source == "float64" or source in _WIDE or chosen == "float64"
    return Numbers(source, np.dtype(np.float64 if wide else np.float32), chosen)


@cache
def storage(name: str) -> np.dtype[np.generic]:
    """The NumPy dtype whose elements hold a number type: its own, or uint16 for bfloat16."""
    return np.dtype("uint16" if name == "bfloat16" else name)


def widen(source: npt.NDArray[np.generic], name: str, out: npt.NDArray[np.floating]) -> None:
    """Copy elements of type `name` into an accumulator array; exact up to 64-bit integers."""
    if name == "bfloat16":
        bits = out.view(np.uint32) if out.dtype == np.float32 else np.empty(source.shape, np.uint32)
        np.left_shift(source, 16, out=bits, dtype=np.uint32, casting="same_kind")
        if out.dtype != np.float32:
            np.copyto(out, bits.view(np.float32))
        return
    if name == "float16" and out.dtype == np.float32:
        _widen_halves(source, out)
        return
    np.copyto(out, source, casting="same_kind" if source.dtype.kind == "f" else "unsafe")


def _widen_halves(source: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """float16 to float32 by moving bits: a third to a half of the time of NumPy's cast.

    As signed integers, the sign is already extended to the top; the shift brings exponent and
    fraction to their places. The product with 2**112 mends the bias, subnormals included,
    and is exact. What comes out above all finite halves was Inf or NaN.
    """
    bits = out.view(np.int32)
    np.copyto(bits, source.view(source.dtype.str.replace("f", "i")))
    bits <<= 13
    bits &= np.int32(0x8FFFE000 - (1 << 32))
    out *= np.float32(2.0**112)
    if out.size and (out.max() >= 65536 or out.min() <= -65536):
        bits[np.abs(out) >= 65536] |= 0x7F800000


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def narrow(means: npt.NDArray[np.floating], name: str, out: npt.NDArray[np.generic]) -> None:
    """Round means once, to nearest even, into an array of type `name`."""
    if name != "bfloat16":
        np.copyto(out, means, casting="same_kind")
        return
    # Rounding first to float32 and then to bfloat16 would round twice. Rounding the first
    # step to odd keeps what the second needs to know (Boldo & Melquiond 2008).
    single = means.astype(np.float32)
    bits = single.view(np.uint32)
    exact = (single == means) | np.isnan(means) | np.isinf(means)
    away = np.abs(single.astype(np.float64)) > np.abs(means)
    odd = np.where(exact, bits, (bits - away) | 1).astype(np.uint32)
    rounded = (odd + 0x7FFF + ((odd >> 16) & 1)) >> 16
    np.copyto(out, np.where(np.isnan(means), 0x7FC0, rounded).astype(np.uint16))
