"""The standard streams: words to a person on one, safe for a terminal, data on the other; closed, full, or not read."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import click

from lucid.options import option_rows

NAME = "lucid-pool"
#: Exit status where at least one input failed.
FAILED = 1
#: What a line holds.
MOST_LETTERS = 300
#: What the shell calls the options that messages name.
_FLAGS = {name: row.flags for name, row in option_rows().items()} | {"size": ("--size",), "target": ("-o",)}


def in_shell_words(text: str) -> str:
    """A message with the names of options as the shell has them.

    >>> in_shell_words("needs `max_memory` of 9; `overwrite=True` replaces it, or `layout='NHWC'`")
    'needs --max-memory of 9; -f replaces it, or --layout NHWC'
    """

    def in_shell(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in _FLAGS:
            return match[0]
        if value == "True":
            return _FLAGS[name][0]
        return _FLAGS[name][-1] if value is None else f"{_FLAGS[name][-1]} {value.strip(chr(39))}"

    return re.sub(r"`(\w+)(?:=([^`]*))?`", in_shell, text)


def printable(text: object) -> str:
    """Text from a file or the shell, with what could command a terminal escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text)
    )


def complain(text: str, status: int) -> int:
    """Say what is wrong and return the exit status; of a long text what is in the middle is left out."""
    line = printable(text)
    if len(line) > MOST_LETTERS:
        line = f"{line[: MOST_LETTERS * 2 // 3]} ... {line[-MOST_LETTERS // 3 :]}"
    with suppress(OSError):  # Nobody reads standard error; the status still tells.
        click.echo(f"{NAME}: {line}", err=True)
    return status


def name_of(path: object, stream: str = "standard input") -> str:
    """A path as it is told to a person; `-` by what it stands for."""
    return stream if str(path) == "-" else printable(text_of_path(path)) or "''"


def text_of_path(path: object) -> str:
    """A path as text, a URL with both of its slashes."""
    from lucid.formats.paths import url_of

    return url_of(Path(str(path))) or str(path)


@contextmanager
def as_output() -> Iterator[None]:
    """Give what the system refuses the name of standard output, which Click writes help and version to, too."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or "standard output"
        raise


def open_closed() -> None:
    """Open what the shell has closed, so that no file takes the number of a standard stream.

    It is opened the wrong way round: whoever uses it gets an error.
    """
    modes = {"stdin": (os.O_WRONLY, "r"), "stdout": (os.O_RDONLY, "w"), "stderr": (os.O_RDONLY, "w")}
    for name, (flags, mode) in modes.items():
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, closefd=False))


def flush(stream: TextIO) -> None:
    """Write what is left; what cannot be written goes nowhere, as Python would end with a word and another status."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
