"""What an encoded chunk says of itself, held against what there is of it.

Several plugins believe it: they read on behind the end of the chunk, and results would be of other memory; or they
take as much memory as it says.
"""

from lucid.errors import FormatError
from lucid.formats.hdf5.filters import BITSHUFFLE, BLOSC, BLOSC2, FLETCHER32, LZ4, LZF, SZIP, ZSTD, Filter

#: Filters whose plugins read no more than a chunk that keeps to what it claims.
BOUNDED = {LZF, BLOSC, LZ4, BITSHUFFLE, ZSTD, BLOSC2}
#: Bytes before the blocks of LZ4 and Bitshuffle, which say the size of all and that of a block.
_HEAD = 12
#: Elements that Bitshuffle takes at once, the last few being copied; its blocks by default: bytes, and least elements.
_AT_ONCE, _BLOCK_BYTES, _LEAST = 8, 8192, 128


def most_of(nbytes: int) -> int:
    """Most bytes that a chunk may have, encoded or not: a filter makes a few more of what it cannot compress."""
    return 2 * nbytes + 4096


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
            end = _end_of_lz4(raw, size, block) if one.code == LZ4 else _end_of_bits(raw, size, block, one)
    if end > len(raw) or size > most_of(nbytes):
        raise FormatError("has a damaged chunk, which says that it is longer than it is, or can become")


def _end_of_lz4(raw: memoryview, size: int, block: int) -> int:
    """Where LZ4's blocks end; where they have no bytes, its plugin would never end."""
    return _end_of_blocks(raw, -(-size // block)) if block else len(raw) + 1


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
