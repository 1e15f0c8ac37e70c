"""Filters undone by the functions of HDF5's plugins, past the library.

Every plugin hands out, by `H5PLget_plugin_info`, what the library is to call: a function that makes other bytes of
those of a chunk, and says how many. h5py's own filter, lzf, is a plugin, too. Several plugins believe what an encoded
chunk says of itself: they read on behind its end, and results would be of other memory; or they take as much memory
as it says. So that is held against what there is of it first.
"""

import ctypes
import sys
from ctypes import CDLL, c_int, c_size_t, c_uint, c_void_p
from functools import cache
from os.path import isfile
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py._objects import phil

from lucid.errors import FormatError
from lucid.formats.arrays import Array
from lucid.formats.chunks import most_of
from lucid.formats.disk.files import read_at
from lucid.formats.hdf5.filters import BITSHUFFLE, BLOSC, BLOSC2, FLETCHER32, LZ4, LZF, SZIP, ZSTD, Filter

#: HDF5's flag for undoing what a filter does.
REVERSE = 1 << 8
#: Filters whose plugins read no more than a chunk that keeps to what it claims.
BOUNDED = {LZF, BLOSC, LZ4, BITSHUFFLE, ZSTD, BLOSC2}
#: Bytes before the blocks of LZ4 and Bitshuffle, which say the size of all and that of a block.
_HEAD = 12
#: Elements that Bitshuffle takes at once, the last few being copied; its blocks by default: bytes, and least elements.
_AT_ONCE, _BLOCK_BYTES, _LEAST = 8, 8192, 128

_SIZES, _VALUES, _BUFFERS = map(ctypes.POINTER, (c_size_t, c_uint, c_void_p))
Function = ctypes.CFUNCTYPE(c_size_t, c_uint, c_size_t, _VALUES, c_size_t, _SIZES, _BUFFERS)


class StoredBytes(NamedTuple):
    """The bytes of a chunk where they lie, in an open file."""

    descriptor: int
    offset: int
    size: int

    def read(self, buffer: Array) -> None:
        """Fill a buffer with them."""
        read_at(self.descriptor, self.offset, buffer.data)


class FilterClass(ctypes.Structure):
    """HDF5's H5Z_class2_t."""

    _fields_ = (
        ("version", c_int),
        ("code", c_int),
        ("encodes", c_uint),
        ("decodes", c_uint),
        ("name", ctypes.c_char_p),
        ("can_apply", c_void_p),
        ("set_local", c_void_p),
        ("function", Function),
    )


_malloc, _free = CDLL(None).malloc, CDLL(None).free
_malloc.restype, _malloc.argtypes, _free.argtypes = c_void_p, (c_size_t,), (c_void_p,)


class _Memory:
    """Memory of the C library, which a function may give back and hand out other memory instead."""

    def __init__(self, size: int) -> None:
        self.pointer = c_void_p(_malloc(size))
        if not self.pointer:
            raise MemoryError

    def bytes(self, size: int) -> Array:
        """The first bytes of it, which keep it."""
        data = (self.pointer.value, False)
        self.__array_interface__ = {"version": 3, "shape": (size,), "typestr": "|u1", "data": data}
        return np.asarray(self)

    def __del__(self) -> None:
        _free(self.pointer)


def read_and_undo(stored: StoredBytes, one: Filter, size_bytes: int) -> Array:
    """The bytes of a chunk of about such a size without the filter that was applied to it last."""
    # Some functions read on behind a chunk that was cut off: zeros, not what lay in memory.
    zeros = 0 if one.code in BOUNDED else size_bytes
    # Of the size of the chunk, too, so that the next array has room where this one was.
    memory = _Memory(max(stored.size + zeros, size_bytes))
    size, count = c_size_t(stored.size), len(one.values)
    raw = memory.bytes(stored.size)
    stored.read(raw)
    memory.bytes(stored.size + zeros)[stored.size :] = 0
    check_claims(raw.data, one, size_bytes)
    # Some functions look at more parameters than there are, since the library has room for eight.
    values = (c_uint * max(8, count))(*one.values)
    with phil:  # plugins have states of their own, and tell the library of errors
        function = function_of(one.code)
        nbytes = function(
            REVERSE, count, values, stored.size, ctypes.byref(size), ctypes.byref(memory.pointer)
        )
    # The one of zstd says the error as a number of bytes: it is a negative one, so beyond all memory.
    if not 0 < nbytes <= most_of(size_bytes):
        raise FormatError("has a damaged chunk, which cannot be decompressed")
    return memory.bytes(nbytes)


def function_of(code: int) -> Any:
    """The function of the plugin for the filter of a number; None where no plugin that is known here has it."""
    # It was imported if a file needs it.
    return _function_of(code, has_hdf5plugin="hdf5plugin" in sys.modules)


# A plugin that is loaded stays so, and to look through all of them takes longer than to decode a small chunk.
@cache
def _function_of(code: int, *, has_hdf5plugin: bool) -> Any:
    paths = [h5py.h5z.__file__]
    if has_hdf5plugin:
        # Of a filter that was there before, by HDF5_PLUGIN_PATH, it knows no path.
        paths += filter(isfile, sys.modules["hdf5plugin"].get_config().registered_filters.values())
    for path in paths:
        info = getattr(CDLL(path), "H5PLget_plugin_info", None)
        if info is not None:
            info.restype = ctypes.POINTER(FilterClass)
            if info().contents.code == code:
                return info().contents.function
    return None


def check_claims(raw: memoryview, one: Filter, nbytes: int) -> None:
    """Raise where a chunk of `nbytes`, to which a filter was applied last, claims more than there is or can be."""
    size, end = 0, 0
    if one.code == BLOSC:
        size, end = (int.from_bytes(raw[at : at + 4], "little") for at in (4, 12))
        end = max(end, 16)
    elif one.code == SZIP:  # its size, and the bits of something
        size, end = int.from_bytes(raw[:4], "little"), 5
    elif one.code == FLETCHER32:  # it counts from behind the end to its checksum
        end = 4
    elif one.code == LZ4 or (one.code == BITSHUFFLE and any(one.values[4:5])):
        size, block = (int.from_bytes(raw[at:to], "big") for at, to in ((0, 8), (8, _HEAD)))
        if size <= most_of(nbytes):
            # A block size of 0, at which the plugin of LZ4 would never end, makes the chunk too short.
            if one.code == LZ4:
                end = _end_of_blocks(raw, -(-size // block) if block else len(raw))
            else:
                end = _end_of_bits(raw, size, block, one)
    if end > len(raw) or size > most_of(nbytes):
        raise FormatError("has a damaged chunk, which says that it is longer than it is, or can become")


def _end_of_bits(raw: memoryview, size: int, block: int, one: Filter) -> int:
    """Where Bitshuffle's blocks end, and the elements behind them."""
    itemsize = max(1, one.values[2])
    default = max(_BLOCK_BYTES // itemsize // _AT_ONCE * _AT_ONCE, _LEAST)
    count, each = size // itemsize, block // itemsize or default
    return _end_of_blocks(raw, count // each + (count % each >= _AT_ONCE)) + count % _AT_ONCE * itemsize


def _end_of_blocks(raw: memoryview, count: int) -> int:
    """Where so many blocks end, each of which has its length before it."""
    end = _HEAD
    for _ in range(count):
        if end >= len(raw):
            return len(raw) + 1
        end += 4 + int.from_bytes(raw[end : end + 4], "big")
    return end
