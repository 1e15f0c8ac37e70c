"""Words to a person: one line each on standard error, safe for a terminal."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import click

NAME = "lucid-pool"
#: Exit status where at least one input failed.
FAILED = 1
#: What a line holds.
MOST_LETTERS = 300
#: Notes that are told.
MOST_LINES = 20


def shown(text: object) -> str:
    """Text from a file or the shell, with what could command a terminal escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text)
    )


def complain(text: str, status: int) -> int:
    """Say what is wrong and return the exit status; of a long text what is in the middle is left out."""
    line = shown(text)
    if len(line) > MOST_LETTERS:
        line = f"{line[: MOST_LETTERS * 2 // 3]} ... {line[-MOST_LETTERS // 3 :]}"
    with suppress(OSError):  # Nobody reads standard error; the status still tells.
        click.echo(f"{NAME}: {line}", err=True)
    return status


def tell(notes: Iterable[tuple[object, str]]) -> None:
    """What somebody should know of files, a line for each note, which may be of many files."""
    files: dict[str, list[object]] = {}
    for path, note in notes:
        files.setdefault(note, []).append(path)
    for note, paths in list(files.items())[:MOST_LINES]:
        more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        complain(f"{name_of(paths[0])}{more}: {note}", 0)
    if len(files) > MOST_LINES:
        complain(f"{len(files) - MOST_LINES:,} more notes, which --json has", 0)


def name_of(path: object, stream: str = "standard input") -> str:
    """A path as it is told to a person; `-` by what it stands for."""
    return stream if str(path) == "-" else shown(path)


class ReaderGoneError(Exception):
    """Nobody reads standard output any more; Click would answer a BrokenPipeError with status 1."""


class OutputError(Exception):
    """Standard output takes no more, as on a full disk."""


def emit(line: str) -> None:
    """One line on standard output."""
    with as_output():
        click.echo(line)


def open_closed_streams() -> None:
    """Open what the shell has closed, so that no file takes the number of a standard stream.

    It is opened the wrong way round: whoever uses it gets an error.
    """
    modes = {"stdin": (os.O_WRONLY, "r"), "stdout": (os.O_RDONLY, "w"), "stderr": (os.O_RDONLY, "w")}
    for name, (flags, mode) in modes.items():
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, closefd=False))


@contextmanager
def as_output() -> Iterator[None]:
    """What the system refuses as errors of standard output, which Click writes help and version to, too."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError from error
    except OSError as error:
        if error.filename is not None:
            raise
        raise OutputError(error.strerror) from error
