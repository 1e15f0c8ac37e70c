"""The standard streams: closed by the shell, full, or read by nobody."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import click


class OutputError(Exception):
    """Standard output takes no more, as on a full disk."""


@contextmanager
def as_output() -> Iterator[None]:
    """What the system refuses as errors of standard output, which Click writes help and version to, too."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        raise OutputError(error.strerror) from error


def emit(line: str) -> None:
    """One line on standard output."""
    with as_output():
        click.echo(line)


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
