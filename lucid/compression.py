"""`--compression` as a value: which filter, at which level."""

import re
from typing import Any, NamedTuple

from lucid.errors import ArgumentError
from lucid.kinds import Kind

#: Levels that each compression takes; those from `lz4` on need the extra `filters`.
LEVELS: dict[str, range] = {
    "gzip": range(1, 10),
    "lzf": range(0),
    "lz4": range(0),
    "zstd": range(1, 23),
    "bitshuffle": range(0),
    "blosc": range(10),
    "blosc2": range(10),
}
#: What Blosc may compress with, as in `blosc-zstd`.
CODECS = ("lz4", "lz4hc", "zstd", "zlib", "blosclz")


class Compression(NamedTuple):
    """A filter by name, what it compresses with, its level; None where the filter chooses."""

    name: str
    codec: str | None = None
    level: int | None = None


def parse_compression(text: str) -> Compression | None:
    """The compression that a text names; None for `keep`.

    >>> parse_compression("gzip:4"), parse_compression("blosc-zstd")
    (Compression(name='gzip', codec=None, level=4), Compression(name='blosc', codec='zstd', level=None))
    """
    if text in ("keep", "none"):
        return None if text == "keep" else Compression("none")
    match = re.fullmatch(r"([a-z0-9]+?)(?:-([a-z0-9]+))?(?::(\d{1,3}))?", text)
    name, codec, level = match.groups() if match else ("", None, None)
    if name not in LEVELS or (codec is not None and (codec not in CODECS or not name.startswith("blosc"))):
        raise ValueError
    levels = LEVELS[name]
    if level is not None and int(level) not in levels:
        expected = f"levels {levels[0]} to {levels[-1]}" if levels else "no level"
        raise ArgumentError(f"`compression` is {text!r}; {name} takes {expected}")
    return Compression(name, codec, None if level is None else int(level))


def _compression(value: Any) -> str:
    parse_compression(value)
    return str(value)


COMPRESSION = Kind(
    _compression,
    f"keep, none, {', '.join(LEVELS)}, or such as blosc-zstd, with a level after a colon",
    "NAME[:LEVEL]",
)
