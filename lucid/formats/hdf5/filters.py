"""The filters of a dataset: what they are called, with which parameters they are given, and which ones results keep.

Lossless ones are kept. A lossy filter rounds to a tolerance, and packs by parameters, that were chosen for
the source's numbers and chunks; of other numbers it would make others without a word. What is unknown
may be either, and is left out like them. Most lossless filters write the size of an element or a chunk
among their parameters when a dataset is made, so here they are taken back to what a user would give.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import h5py

from lucid.formats.regions import size_of

Values = tuple[int, ...]

DEFLATE, SHUFFLE, FLETCHER32, SZIP = 1, 2, 3, 4
LZO, BZIP2, LZF, BLOSC, SNAPPY, LZ4 = 305, 307, 32000, 32001, 32003, 32004
BITSHUFFLE, ZSTD, BLOSC2 = 32008, 32015, 32026
#: What Blosc2 calls its filter that cuts digits off.
BLOSC2_TRUNCATES = 4

#: Lossless filters, and their parameters as a user would give them.
_PARAMETERS: dict[int, Callable[[Values], Values]] = {
    **dict.fromkeys((DEFLATE, LZO, BZIP2, SNAPPY, LZ4, ZSTD), lambda values: values),
    **dict.fromkeys((SHUFFLE, FLETCHER32, LZF), lambda _: ()),
    **dict.fromkeys((BLOSC, BLOSC2), lambda values: (0, 0, 0, 0, *values[4:7])),
    SZIP: lambda values: (*values, 0, 0)[:2],
    BITSHUFFLE: lambda values: values[3:],
}

#: Filters by name: what files call them is often nothing, or a sentence.
_NAMES = {
    DEFLATE: "gzip",
    SHUFFLE: "shuffle",
    FLETCHER32: "fletcher32",
    SZIP: "szip",
    5: "n-bit",
    6: "scale-offset",
    BZIP2: "bzip2",
    LZF: "lzf",
    BLOSC: "blosc",
    LZ4: "lz4",
    BITSHUFFLE: "bitshuffle",
    32012: "JPEG-LS",
    32013: "ZFP",
    32014: "FPZIP",
    ZSTD: "zstd",
    32017: "SZ",
    32018: "JPEG-LS",
    32019: "JPEG",
    32022: "BitGroom",
    32023: "Granular BitRound",
    32024: "SZ3",
    BLOSC2: "blosc2",
    32028: "SPERR",
}


class Filter(NamedTuple):
    """A filter of a dataset, by its number."""

    code: int
    flags: int
    values: Values

    @property
    def name(self) -> str:
        """What it is called."""
        return _NAMES.get(self.code, f"filter {self.code}") + " that truncates" * self._truncates

    @property
    def _truncates(self) -> bool:
        return self.code == BLOSC2 and BLOSC2_TRUNCATES in self.values[5:6]

    @property
    def fault(self) -> str | None:
        """Why no other dataset can have it; None where it can."""
        if self.code not in _PARAMETERS or self._truncates:
            return "its parameters were chosen for other numbers"
        is_there = h5py.h5z.filter_avail(self.code)
        if is_there and h5py.h5z.get_filter_info(self.code) & h5py.h5z.FILTER_CONFIG_ENCODE_ENABLED:
            return None
        return "it can only be read here"

    def for_chunks(self, chunks: tuple[int, ...]) -> "Filter":
        """The same for a new dataset in chunks of this shape."""
        values = _PARAMETERS[self.code](self.values)
        if self.code == SZIP:
            # It takes an even number of elements at once, no more than a chunk has.
            values = (values[0], min(values[1], size_of(chunks)) // 2 * 2)
        return self._replace(values=values)


def load_filter(code: int) -> bool:
    """Have the library undo a filter, if need be by hdf5plugin; whether it can.

    hdf5plugin adds its filters to the library for all of the process. That is what it is imported for in any program,
    and takes none away; so it is imported when a file needs it, and not before.
    """
    if not h5py.h5z.filter_avail(code):
        try:
            import hdf5plugin  # noqa: F401
        except ImportError:
            return False
    return bool(h5py.h5z.filter_avail(code))


def filters_of(creation: Any) -> tuple[Filter, ...]:
    """The filters of a dataset, in the order in which they are applied."""
    return tuple(Filter(*creation.get_filter(i)[:3]) for i in range(creation.get_nfilters()))


def filters_of_results(creation: Any, chunks: tuple[int, ...]) -> list[Filter]:
    """The filters that results in chunks of this shape keep of a source."""
    filters = [one.for_chunks(chunks) for one in filters_of(creation) if one.fault is None]
    return [one for one in filters if one.code != SZIP or one.values[1] > 0]
