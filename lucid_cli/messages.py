"""Words to a person: one line each on standard error, safe for a terminal."""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from lucid.options import in_shell_words

if TYPE_CHECKING:
    from lucid.report import Report

NAME = "lucid-pool"
#: Exit status where at least one input failed.
FAILED = 1


def shown(text: object) -> str:
    """Text from a file or the shell, with what could command a terminal escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text)
    )


def complain(text: str, status: int) -> int:
    """Say what is wrong and return the exit status."""
    with suppress(OSError):  # Nobody reads standard error; the status still tells.
        click.echo(f"{NAME}: {shown(text)}", err=True)
    return status


def tell_notes(reports: Iterable["Report"]) -> None:
    """What somebody should know of the outputs, a line each."""
    for report in reports:
        for note in report.notes:
            complain(f"{name_of(report.source)}: {in_shell_words(note)}", 0)


def name_of(path: object, stream: str = "standard input") -> str:
    """A path as it is told to a person; `-` by what it stands for."""
    return stream if str(path) == "-" else shown(path)


class ReaderGoneError(Exception):
    """Nobody reads standard output any more; Click would answer a BrokenPipeError with status 1."""


class OutputError(Exception):
    """Standard output takes no more, as on a full disk."""


def emit(line: str) -> None:
    """One line on standard output."""
    try:
        click.echo(line)
    except BrokenPipeError as error:
        raise ReaderGoneError from error
    except OSError as error:
        raise OutputError(f"standard output cannot be written: {error.strerror}") from error
