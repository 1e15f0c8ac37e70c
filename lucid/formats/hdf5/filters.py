"""Deflate and shuffle of HDF5 chunks undone past the library, by every thread for itself; all other filters it undoes.

Bytes that cannot be undone, or that become more or fewer than they should, are an error.
"""

import zlib
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType

import numpy as np

from lucid.errors import FormatError
from lucid.formats.arrays import Array

_deflate: ModuleType | None
try:
    import deflate as _deflate
except ImportError:
    _deflate = None

DEFLATE, SHUFFLE = 1, 2


def can_undo(filters: Sequence[int]) -> bool:
    """Whether these filters, by number, are undone here."""
    return set(filters) <= {DEFLATE, SHUFFLE} and len(set(filters)) == len(filters)


def undo(number: int, raw: Array, itemsize: int, nbytes: int) -> Array:
    """Undo one filter of a chunk whose elements take `nbytes`."""
    return inflate(raw, nbytes) if number == DEFLATE else unshuffle(raw, itemsize)


def inflate(raw: Array, limit: int) -> Array:
    """Decompress a zlib stream of at most `limit` bytes, whatever it would expand to."""
    if _deflate is not None:
        # It takes a third of zlib's time, but refuses without a reason: zlib says what is wrong.
        with suppress(_deflate.DeflateError):
            return np.frombuffer(_deflate.zlib_decompress(raw.data, limit), np.uint8)
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(raw.data, limit + 1)
    except zlib.error as error:
        raise FormatError(f"has a chunk that cannot be decompressed: {error}") from None
    if len(data) > limit or not stream.eof:
        raise FormatError("has a chunk that decompresses to another size than declared")
    return np.frombuffer(data, np.uint8)


def unshuffle(raw: Array, itemsize: int) -> Array:
    """Put the bytes of each element together: all first bytes come first, then all second."""
    if itemsize == 1 or len(raw) % itemsize:
        return raw  # of another size than declared, which is an error in the end
    # Shifting whole integers is faster than copying bytes with strides.
    planes = raw.reshape(itemsize, -1)
    words: Array = planes[-1].astype(f"<u{itemsize}")
    for plane in planes[-2::-1]:
        words <<= 8
        words |= plane
    return words.view(np.uint8)
