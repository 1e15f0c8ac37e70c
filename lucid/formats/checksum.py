"""CRC-32, also of bytes that come in any order: the sums of two runs give the sum of both together.

A CRC is the remainder of a polynomial over two elements; a run that follows multiplies the sum before it by x to
the number of its bits. (zlib has this as `crc32_combine`, which Python does not offer.)

Where it was compiled, `_bytes.fold` makes of any number of bytes 4 KB that have the same sum, which zlib then sums up:
faster than zlib sums up all of them (benchmarks/decisions.md).
"""

import threading
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import import_module

try:
    fold = import_module("lucid.formats._bytes").fold
except ImportError:  # it was installed without a C compiler
    fold = None

#: The polynomial without its first term, and x to the power of 8, the lowest power in the highest bit.
_POLYNOMIAL, _BYTE = 0xEDB88320, 1 << 23
#: Bytes from which on folding pays.
_LEAST = 1 << 14


def crc32(data: bytes | memoryview, crc: int = 0) -> int:
    """The sum of bytes that follow others of the sum `crc`, as `zlib.crc32` has it."""
    if fold is None or len(data) < _LEAST:
        return zlib.crc32(data, crc)
    return zlib.crc32(fold(data, crc), 0xFFFFFFFF)


class Checksum:
    """The sum of an array's bytes, which come run by run, by any thread; `crc` is that of what stands before them."""

    def __init__(self, crc: int, size: int) -> None:
        self._crc, self._size, self._left = crc, size, size
        #: So many bytes are in the sum; runs further on, by their starts, wait for those between.
        self._done = 0
        self._ahead: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def add(self, start: int | None, data: memoryview) -> bool:
        """Take in bytes that were read, a run from `start` on or, without it, several; whether these were the last."""
        crc = 0 if start is None else crc32(data)
        with self._lock:
            if start is not None and start >= self._done:
                self._ahead[start] = len(data), crc
            while (run := self._ahead.pop(self._done, None)) is not None:
                length, crc = run
                self._crc = _product(self._crc, _power(length)) ^ crc
                self._done += length
            were_left, self._left = self._left > 0, self._left - len(data)
            return were_left and self._left <= 0

    def total(self, blocks: Callable[[int, int], Iterable[bytes]]) -> int:
        """The sum of all bytes; `blocks(offset, count)` reads those that came in no run."""
        crc = self._crc
        for block in blocks(self._done, self._size - self._done):
            crc = crc32(block, crc)
        return crc


# Runs come in few lengths, and a power takes longer than a run's sum (benchmarks/decisions.md).
@lru_cache(64)
def _power(length: int) -> int:
    """What the sum of a run is multiplied by if one of so many bytes follows."""
    square, result = _BYTE, 1 << 31
    while length:
        if length & 1:
            result = _product(result, square)
        square = _product(square, square)
        length >>= 1
    return result


def _product(one: int, other: int) -> int:
    """The product of two remainders."""
    product = 0
    while one:
        if one & 1 << 31:
            product ^= other
        one = one << 1 & 0xFFFFFFFF
        other = other >> 1 ^ _POLYNOMIAL * (other & 1)
    return product
