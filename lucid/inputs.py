"""Which inputs: those that are named, and of a folder all files in it that can be read, at any depth."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from lucid.errors import DTypeError, FileError, FormatError, LucidError, ShapeError, UnfitError
from lucid.formats.contract import Source
from lucid.formats.disk.replacement import is_marked
from lucid.formats.registry import FORMATS, format_of_content, url_of
from lucid.formats.stream import STREAM
from lucid.options import Options
from lucid.outputs import MARK, FilePath

#: What files are called that are read.
_SUFFIXES = tuple(suffix for format_ in FORMATS for suffix in format_.suffixes)
#: Names of what the shell has opened.
_OPEN = re.compile(r"/dev/stdin|/dev/fd/\d+|/proc/self/fd/\d+")
NOTHING = "holds no file that can be pooled"
EARLIER = "an earlier run made it; name it to pool it again"


class LeftOutError(LucidError):
    """A file of a folder is not pooled, for this reason; that is no failure."""


class Input(NamedTuple):
    """An input as it was named, or a file in a folder that was."""

    source: str
    #: Of a file that was found: its folder, below the one that was named.
    place: str | None = None
    #: Why it cannot be pooled, or is left out.
    error: LucidError | None = None

    @property
    def is_found(self) -> bool:
        """Whether it was found in a folder."""
        return self.place is not None


def is_pipe(path: FilePath) -> bool:
    """Whether a path is of something that is read once and in order, as that of `<(…)` is, or names what is open."""
    if _OPEN.fullmatch(str(path)):  # be it a file, outputs have no place beside that name
        return True
    try:
        return stat.S_IFMT(Path(path).stat().st_mode) in (stat.S_IFIFO, stat.S_IFSOCK)
    except (OSError, ValueError):
        return False


def is_stream(source: str) -> bool:
    """Whether an input as the shell names it is standard input or a pipe."""
    return source == str(STREAM) or is_pipe(source)


def is_searched(name: str) -> bool:
    """Whether an input as it was named is a folder that stands for the files in it."""
    return url_of(Path(name)) is None and os.path.isdir(name) and not _is_store(name)  # noqa: PTH112  (it never raises)


def unless_fitting(error: LucidError, options: Options) -> LucidError:
    """The error of a file that was found: if it holds nothing that fits, and no array was named, it is left out."""
    is_other = isinstance(error, UnfitError | ShapeError | DTypeError) and not options.datasets
    return LeftOutError(str(error)) if is_other else error


def leave_out_earlier(source: Source) -> None:
    """Raise for a file that was found if an earlier run made it, by what it says of itself."""
    if any(text for _, text in source.provenances()):
        raise LeftOutError(EARLIER)


def find_inputs(names: Sequence[str]) -> Iterator[Input]:
    """Every input in order, those of a folder sorted; each file once, however often it was named."""
    every = chain.from_iterable(map(_inputs_of, names))
    if len(names) == 1:  # of one folder, each file is found once
        yield from every
        return
    seen: set[str] = set()
    for input_ in every:
        # Links are inputs of their own, with outputs of their own.
        path = input_.source if is_stream(input_.source) else os.path.abspath(input_.source)  # noqa: PTH100
        if path not in seen:
            seen.add(path)
            yield input_


def _inputs_of(name: str) -> Iterator[Input]:
    if not name:
        yield Input(name, error=FormatError("is no path"))
    elif not is_searched(name):
        yield Input(name)
    else:
        is_empty = True
        for input_ in _files_in(name):
            is_empty = is_empty and isinstance(input_.error, LeftOutError)
            yield input_
        if is_empty:
            yield Input(name, error=FormatError(NOTHING))


def _files_in(folder: str) -> Iterator[Input]:
    """Files and stores below a folder, hidden ones left out, in the order of their names.

    Of each folder on the way only the names are held.
    """
    base = "" if Path(folder) == Path() else str(Path(folder))
    pending = [iter([""])]
    while pending:
        inner = next(pending[-1], None)
        if inner is None:
            pending.pop()
            continue
        path = os.path.join(base, inner) if inner else folder
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            mode = 0
        if inner and (not stat.S_ISDIR(mode) or _is_store(path)):
            yield Input(path, os.path.dirname(inner), _reason_to_leave_out(path, mode))
            continue
        try:
            names = sorted(name for name in os.listdir(path) if not name.startswith("."))  # noqa: PTH208
        except OSError as error:
            yield Input(path, error=FileError(f"folder cannot be read: {error.strerror}"))
        else:
            pending.append(map(partial(os.path.join, inner), names))


def _is_store(folder: str) -> bool:
    return any(is_marked(Path(folder), format_.marks) for format_ in FORMATS if format_.marks)


def _reason_to_leave_out(path: str, mode: int) -> LeftOutError | None:
    """What a file of this mode is, if it is none to be pooled; what cannot be read is an error when its turn comes."""
    name = os.path.basename(path)
    if f"{MARK}." in f"{name}.":
        return LeftOutError(EARLIER)
    if stat.S_ISLNK(mode):
        try:
            mode = Path(path).stat().st_mode
        except OSError:
            return LeftOutError("it is a link to nothing")
        if stat.S_ISDIR(mode) and not _is_store(path):
            return LeftOutError("it is a link to a folder")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return LeftOutError("it is no regular file")
    if mode and not name.lower().endswith(_SUFFIXES):
        try:
            format_of_content(Path(path))
        except FormatError as error:
            return LeftOutError(f"it {error}")
        except OSError:
            pass
    return None
