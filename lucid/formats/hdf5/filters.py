"""Filters of HDF5 chunks, done and undone past the library: deflate, shuffle, fletcher32, lzf.

The library lets one thread in at a time, its filters included; these run in any number of
threads. Bytes that cannot be undone, or that become more or fewer than they should, are an error.
"""

import ctypes
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from types import ModuleType

import h5py
import numpy as np

from lucid.errors import FormatError
from lucid.formats.contract import Array

_zlib: ModuleType
try:
    from isal import isal_zlib as _zlib
except ImportError:
    _zlib = zlib
_deflate: ModuleType | None
try:
    import deflate as _deflate
except ImportError:
    _deflate = None
DECODING_ERRORS: tuple[type[Exception], ...] = (zlib.error, _zlib.error)

DEFLATE, SHUFFLE, FLETCHER32, LZF = 1, 2, 3, 32000

#: A filter's number and its parameters.
Filter = tuple[int, tuple[int, ...]]


def can_undo(filters: Sequence[int]) -> bool:
    """Whether these filters, by number, are undone here."""
    known = {DEFLATE, SHUFFLE, FLETCHER32} | ({LZF} if _lzf() is not None else set())
    return set(filters) <= known and len(set(filters)) == len(filters)


def can_do(filters: Sequence[Filter]) -> bool:
    """Whether these filters are applied here."""
    numbers = [number for number, _ in filters]
    levels = [values for number, values in filters if number == DEFLATE]
    return (
        set(numbers) <= {DEFLATE, SHUFFLE, FLETCHER32}
        and len(set(numbers)) == len(numbers)
        and all(len(values) == 1 and 0 <= values[0] <= 9 for values in levels)
    )


def undo(number: int, raw: Array, itemsize: int, nbytes: int) -> Array:
    """Undo one filter of a chunk whose elements take `nbytes` in the end."""
    if number == DEFLATE:
        # A checksum may follow inside; nothing else that is known here makes a chunk longer.
        return inflate(raw, nbytes + 4)
    if number == LZF:
        return unlzf(raw, nbytes + 4)
    if number == SHUFFLE:
        return unshuffle(raw, itemsize)
    return verify_fletcher32(raw)


def do(filters: Sequence[Filter], raw: Array, itemsize: int) -> bytes:
    """Apply filters to a chunk, first to last, to the bytes that the library would make.

    isal would be faster; but its bytes are others, and a file must not depend on an extra.
    """
    for number, values in filters:
        if number == DEFLATE:
            raw = np.frombuffer(zlib.compress(raw.data, values[0]), np.uint8)
        elif number == SHUFFLE:
            whole = len(raw) // itemsize * itemsize
            raw = np.concatenate([raw[:whole].reshape(-1, itemsize).T.reshape(-1), raw[whole:]])
        else:
            first, second = fletcher32(raw)
            raw = np.concatenate([raw, np.array([second << 16 | first], "<u4").view(np.uint8)])
    return raw.tobytes()


def inflate(raw: Array, limit: int) -> Array:
    """Decompress a zlib stream of at most `limit` bytes, whatever it would expand to.

    A chunk of 3.2 MB of features took libdeflate 4.0 ms, isal 7.2, zlib 11.7.
    """
    if _deflate is not None:
        # It refuses without a reason: the others say what is wrong.
        with suppress(_deflate.DeflateError):
            return np.frombuffer(_deflate.zlib_decompress(raw.data, limit), np.uint8)
    stream = _zlib.decompressobj()
    try:
        data = stream.decompress(raw.data, limit + 1)
    except DECODING_ERRORS as error:
        raise FormatError(f"has a chunk that cannot be decompressed: {error}") from None
    if len(data) > limit or not stream.eof:
        raise FormatError("has a chunk that decompresses to another size than declared")
    return np.frombuffer(data, np.uint8)


@cache
def _lzf() -> Callable[..., int] | None:
    """The decoder that h5py brings, which it keeps to itself; None where it cannot be called.

    Through the library, 1 GB of lzf chunks took 4.1 s on two threads, so 1.9 s.
    """
    try:
        decompress = ctypes.CDLL(h5py.h5z.__file__).lzf_decompress
    except (OSError, AttributeError):
        return None
    decompress.restype = ctypes.c_uint
    decompress.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint]
    return decompress


def unlzf(raw: Array, limit: int) -> Array:
    """Decompress an lzf chunk of at most `limit` bytes; the decoder writes no further than told."""
    decompress = _lzf()
    assert decompress is not None
    out = np.empty(limit, np.uint8)
    count = decompress(raw.ctypes.data, len(raw), out.ctypes.data, limit) if len(raw) else 0
    if count == 0:
        raise FormatError("has a chunk that cannot be decompressed, or not to the size declared")
    return out[:count]


def unshuffle(raw: Array, itemsize: int) -> Array:
    """Put the bytes of each element together: all first bytes come first, then all second."""
    count = len(raw) // itemsize
    if itemsize not in (2, 4, 8):
        return raw if itemsize == 1 else _unshuffle_by_copy(raw, itemsize, count)
    # Shifting whole integers takes a third of the time that copying bytes with strides does.
    planes = raw[: count * itemsize].reshape(itemsize, count)
    words = planes[itemsize - 1].astype(f"<u{itemsize}")
    for k in range(itemsize - 2, -1, -1):
        words <<= 8
        words |= planes[k]
    return (
        np.concatenate([words.view(np.uint8), raw[count * itemsize :]])
        if len(raw) % itemsize
        else words.view(np.uint8)
    )


def _unshuffle_by_copy(raw: Array, itemsize: int, count: int) -> Array:
    body = raw[: count * itemsize].reshape(itemsize, count).T.reshape(-1)
    return np.concatenate([body, raw[count * itemsize :]])


def verify_fletcher32(raw: Array) -> Array:
    """Cut the checksum off the end, once it agrees."""
    if len(raw) < 4:
        raise FormatError("has a chunk too short for its checksum")
    body, stored = raw[:-4], int(raw[-4:].view("<u4")[0])
    first, second = fletcher32(body)
    # 0 and 65535 are the same remainder; older libraries store either.
    if ((stored >> 16) - second) % 65535 or ((stored & 0xFFFF) - first) % 65535:
        raise FormatError("has a chunk whose checksum does not agree")
    return body


def fletcher32(body: Array) -> tuple[int, int]:
    """Fletcher's two sums over big-endian 16-bit words, as the library stores them."""
    padded = body if len(body) % 2 == 0 else np.append(body, np.uint8(0))
    words = padded.view(">u2").astype(np.uint64)
    first = second = 0
    # Sums of 2**20 words times their distance to the end stay below 2**56.
    for start in range(0, len(words), 1 << 20):
        part = words[start : start + (1 << 20)]
        distance = np.arange(len(part), 0, -1, dtype=np.uint64)
        second += len(part) * first + int((part * distance).sum())
        first += int(part.sum())
    # One's complement sums: 0 for zeros alone, else from 1 to 65535.
    return (first - 1) % 65535 + 1 if first else 0, (second - 1) % 65535 + 1 if second else 0
