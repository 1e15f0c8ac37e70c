"""CRC-32 of bytes that come in any order: the sums of two runs give the sum of both together.

A CRC is the remainder of a polynomial over two elements; a run that follows multiplies the sum before it by x to
the number of its bits. (zlib has this as `crc32_combine`, which Python does not offer.) With the extra `fast` a run
is summed by isal, which takes a tenth of zlib's time.
"""

import threading
from bisect import bisect
from collections.abc import Callable, Iterable
from functools import lru_cache

try:
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

#: The polynomial without its first term, and x to the power of 8, the lowest power in the highest bit.
_POLYNOMIAL, _BYTE = 0xEDB88320, 1 << 23
#: Runs that do not touch are kept up to this number; what lies in others is read again in the end.
_RUNS_LIMIT = 256


def power(length: int) -> int:
    """What the sum of a run is multiplied by if one of so many bytes follows."""
    square, result = _BYTE, 1 << 31
    while length:
        if length & 1:
            result = _product(result, square)
        square = _product(square, square)
        length >>= 1
    return result


def joined(first: int, second: int, power_of_second: int) -> int:
    """The sum of two runs.

    >>> joined(crc32(b"pooled "), crc32(b"means"), power(5)) == crc32(b"pooled means")
    True

    """
    return _product(first, power_of_second) ^ second


def _product(one: int, other: int) -> int:
    """The product of two remainders."""
    product = 0
    while one:
        if one & 1 << 31:
            product ^= other
        one = one << 1 & 0xFFFFFFFF
        other = other >> 1 ^ _POLYNOMIAL * (other & 1)
    return product


class Checksum:
    """The sum of an array's bytes, which are added run by run, by any thread."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        #: Where runs start and stop, and their sums, in order; none touches another.
        self._runs: list[tuple[int, int, int]] = []
        self._lock = threading.Lock()
        #: Most runs have one length, and its power takes longer than the sum.
        self._power = lru_cache(64)(power)

    def count(self, nbytes: int) -> bool:
        """Count bytes that were read; whether these were the last."""
        with self._lock:
            were_left, self._left = self._left > 0, self._left - nbytes
            return were_left and self._left <= 0

    def add(self, start: int, data: memoryview) -> None:
        """Add a run, unless something of it was added before."""
        stop, crc = start + len(data), crc32(data)
        with self._lock:
            at = bisect(self._runs, (start, stop, crc))
            before, after = self._runs[at - 1 : at], self._runs[at : at + 1]
            if (before and before[0][1] > start) or (after and after[0][0] < stop) or not data:
                return
            if before and before[0][1] == start:
                start, crc = before[0][0], joined(before[0][2], crc, self._power(stop - start))
                at -= 1
            if after and after[0][0] == stop:
                stop, crc = after[0][1], joined(crc, after[0][2], self._power(after[0][1] - stop))
            replaced = sum(start <= run[0] < stop for run in (*before, *after))
            if replaced or len(self._runs) < _RUNS_LIMIT:
                self._runs[at : at + replaced] = [(start, stop, crc)]

    def total(self, crc: int, blocks: Callable[[int, int], Iterable[bytes]]) -> int:
        """The sum of all bytes, and of what stands before them, whose sum is `crc`.

        `blocks(offset, count)` reads those that were not added.
        """
        done = 0
        with self._lock:
            runs = [*self._runs, (self._size, self._size, 0)]
        for start, stop, own in runs:
            for block in blocks(done, start - done):
                crc = crc32(block, crc)
            crc, done = joined(crc, own, power(stop - start)), stop
        return crc
