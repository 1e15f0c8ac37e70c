"""`--compression` as a value: which filter, at which level."""

import re
from typing import NamedTuple

from lucid.errors import ArgumentError

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

    Raises
    ------
    ArgumentError
        It names none, or a level that there is not.

    """
    if text == "keep":
        return None
    if text == "none":
        return Compression("none")
    match = re.fullmatch(r"([a-z0-9]+?)(?:-([a-z0-9]+))?(?::(\d{1,3}))?", text)
    name, codec, level = match.groups() if match else ("", None, None)
    if name not in LEVELS or (codec is not None and (codec not in CODECS or not name.startswith("blosc"))):
        raise ArgumentError(
            f"`compression` is {text!r}; expected keep, none, {', '.join(LEVELS)}, or such as blosc-zstd, "
            "with a level after a colon"
        )
    levels = LEVELS[name]
    if level is not None and int(level) not in levels:
        taken = f"{levels[0]} to {levels[-1]}" if levels else "none"
        raise ArgumentError(f"`compression` is {text!r}; {name} takes levels {taken}")
    return Compression(name, codec, None if level is None else int(level))
