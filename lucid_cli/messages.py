"""Words to a person: one line each on standard error, safe for a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import click

NAME = "lucid-pool"
#: Exit status where at least one input failed.
FAILED = 1
#: What a line holds.
MOST_LETTERS = 300


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


class Told(Protocol):
    """Notes, each with the first file that it is about and the number of files; and how many others there are."""

    first: dict[str, str]
    counts: dict[str, int]
    others: int


def tell(notes: Told) -> None:
    """What somebody should know of files, a line for each note, which may be of many files."""
    for note, path in notes.first.items():
        more = f" and {notes.counts[note] - 1:,} more" if notes.counts[note] > 1 else ""
        complain(f"{name_of(path)}{more}: {note}", 0)
    if notes.others:
        complain(f"{notes.others:,} more notes, which --json has", 0)


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
