"""Every error the library raises on purpose.

Each is a `LucidError`, so one `except` catches them all, and each is also the
built-in error that the same mistake raises elsewhere, so code that knows nothing
of lucid handles it too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")


class LucidError(Exception):
    """Base of all errors raised on purpose; its text is one line for a person."""


class ArgumentError(LucidError, ValueError):
    """An argument that no input could satisfy."""


class SizeTypeError(LucidError, TypeError):
    """An argument of the wrong type."""


class ShapeError(LucidError, ValueError):
    """An array whose shape does not fit the operation."""


class DTypeError(LucidError, TypeError):
    """An array whose dtype has no mean here."""


class FormatError(LucidError, ValueError):
    """A file that is not what it says, or not a file lucid reads."""


class FileError(LucidError, OSError):
    """The file system refused."""


class NotFoundError(LucidError, FileNotFoundError):
    """A file or folder that is not there."""


class ExistsError(LucidError, FileExistsError):
    """An output that is already there."""


class DatasetError(LucidError, LookupError):
    """A dataset that is not in the file, or is not the one that is needed."""


class UnfitError(DatasetError):
    """A file in which nothing fits what was asked for."""


class MemoryLimitError(
    MemoryError, LucidError
):  # in this order, since Python refuses any other `__new__` for it
    """A limit too small for the smallest step of the work."""


class MissingExtraError(LucidError, ImportError):
    """An optional package that is not installed; the text says how to install it."""


def unexpected(error: Exception) -> Exception:
    """An error that nobody foresaw, in one line; any other as it is."""
    if isinstance(error, LucidError | MemoryError | BrokenPipeError):
        return error
    if isinstance(error, OSError) and error.errno:  # from a system call that seldom fails
        return FileError(f"cannot be read or written: {error.strerror}")
    words = " ".join(str(error).split())[:300]
    return LucidError(f"{type(error).__name__} {words}".rstrip() + "; nobody foresaw this, please report it")


def attempt(call: Callable[[], Result]) -> tuple[Result | None, Exception | None]:
    """What a call returns, or the error that it raises, as a pipe takes it to another process."""
    try:
        return call(), None
    except Exception as error:
        return None, unexpected(error)


@contextmanager
def translate_errors(
    what: str,
    kinds: type[Exception] | tuple[type[Exception], ...] = OSError,
    error_type: type[LucidError] = FileError,
    words: Callable[[Exception], object] = lambda error: getattr(error, "strerror", None) or error,
) -> Iterator[None]:
    """Raise errors of some kinds, by default the system's, as one of ours that says what failed and why.

    A BrokenPipeError passes: that the reader went away is no failure.
    """
    try:
        yield
    except (LucidError, BrokenPipeError):
        raise
    except kinds as error:
        raise error_type(f"{what}: {words(error)}") from error


@contextmanager
def about(what: str) -> Iterator[None]:
    """Say which file an error is about."""
    try:
        yield
    except LucidError as error:
        raise type(error)(f"{what}: {error}") from error
