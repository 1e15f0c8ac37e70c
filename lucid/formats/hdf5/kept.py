"""Which filters of a source its results keep, and with which parameters.

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
    DEFLATE: lambda values: values,
    SHUFFLE: lambda _: (),
    FLETCHER32: lambda _: (),
    SZIP: lambda values: values[:2],
    LZO: lambda values: values,
    BZIP2: lambda values: values,
    LZF: lambda _: (),
    BLOSC: lambda values: (0, 0, 0, 0, *values[4:7]),
    SNAPPY: lambda values: values,
    LZ4: lambda values: values,
    BITSHUFFLE: lambda values: values[3:],
    ZSTD: lambda values: values,
    BLOSC2: lambda values: (0, 0, 0, 0, *values[4:7]),
}

#: Filters by name: what files call them is often nothing, or a sentence.
_NAMES = {
    DEFLATE: "gzip",
    SZIP: "szip",
    5: "n-bit",
    6: "scale-offset",
    32012: "JPEG-LS",
    32013: "ZFP",
    32014: "FPZIP",
    32017: "SZ",
    32018: "JPEG-LS",
    32019: "JPEG",
    32022: "BitGroom",
    32023: "Granular BitRound",
    32024: "SZ3",
    32026: "Blosc2 that truncates",
    32028: "SPERR",
}


class Filter(NamedTuple):
    """A filter of a dataset to be made."""

    code: int
    flags: int
    values: Values


class LeftOut(NamedTuple):
    """A filter that is not kept: its name, and why."""

    name: str
    reason: str


UNFIT = "its parameters were chosen for other numbers"
ONLY_READ = "it can only be read here"


def kept_filters(creation: Any, chunks: tuple[int, ...]) -> list[Filter]:
    """The filters that results in chunks of this shape keep of a source."""
    kept = []
    for code, flags, values, _ in _filters(creation):
        if not _is_kept(code, values):
            continue
        values = _PARAMETERS[code](values)
        if code == SZIP:
            # It takes an even number of elements at once, no more than a chunk has.
            most = min(values[1], size_of(chunks)) // 2 * 2
            values = (values[0], most)
            if most == 0:
                continue
        kept.append(Filter(code, flags, values))
    return kept


def left_out(creation: Any) -> list[LeftOut]:
    """The filters of a source that its results do not keep."""
    return [
        LeftOut(_NAMES.get(code) or f"filter {code}", UNFIT if _is_unfit(code, values) else ONLY_READ)
        for code, _, values, _ in _filters(creation)
        if not _is_kept(code, values)
    ]


def _filters(creation: Any) -> list[tuple[int, int, Values, bytes]]:
    return [creation.get_filter(i) for i in range(creation.get_nfilters())]


def _is_unfit(code: int, values: Values) -> bool:
    """Whether a filter is lossy, or packs by what only its dataset is, or is unknown."""
    return code not in _PARAMETERS or (code == BLOSC2 and BLOSC2_TRUNCATES in values[5:6])


def _is_kept(code: int, values: Values) -> bool:
    can_encode = h5py.h5z.filter_avail(code) and (
        h5py.h5z.get_filter_info(code) & h5py.h5z.FILTER_CONFIG_ENCODE_ENABLED
    )
    return bool(can_encode) and not _is_unfit(code, values)
