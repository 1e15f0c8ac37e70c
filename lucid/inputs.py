"""Which inputs: those that are named, and of a folder all files in it that can be read, at any depth."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lucid.errors import DatasetError, DTypeError, FileError, FormatError, LucidError, ShapeError
from lucid.formats.registry import FORMATS, format_of_content, url_of
from lucid.formats.stream import STREAM
from lucid.options import Options
from lucid.outputs import MARK, FilePath

#: Names of what an earlier run made, as `lucid.outputs` gives them.
_EARLIER = re.compile(rf".*{re.escape(MARK)}(\..*)?", re.DOTALL)
#: What files are called that are read.
_SUFFIXES = tuple(suffix for format_ in FORMATS for suffix in format_.suffixes)
EARLIER = "an earlier run made it; name it to pool it again"


class Found(NamedTuple):
    """An input as it was named, or a file in a folder that was."""

    source: str
    #: Of a file that was found: its folder, below the one that was named.
    place: str | None = None
    #: Why it is left out.
    left_out: str = ""
    #: Why it cannot be read at all.
    error: LucidError | None = None


def is_pipe(path: FilePath) -> bool:
    """Whether a path is of something that is read once and in order, as that of `<(…)` is."""
    try:
        return stat.S_IFMT(Path(path).stat().st_mode) in (stat.S_IFIFO, stat.S_IFSOCK)
    except (OSError, ValueError):
        return False


def is_stream(source: str) -> bool:
    """Whether an input as the shell names it is standard input or a pipe."""
    return source == str(STREAM) or is_pipe(source)


def misfit(error: object, options: Options, *, is_found: bool) -> str:
    """Why a file of a folder is left out and does not fail: it holds nothing that fits, and no array was named."""
    is_other = isinstance(error, DatasetError | ShapeError | DTypeError)
    return f"it {error}" if is_other and is_found and not options.datasets else ""


def find_inputs(names: Sequence[str]) -> Iterator[Found]:
    """Every input in order, those of a folder sorted; each file once, however often it was named."""
    seen: set[str] = set()
    for name in names:
        for found in _inputs_of(name):
            # Links are inputs of their own, with outputs of their own.
            path = found.source if is_stream(found.source) else os.path.abspath(found.source)  # noqa: PTH100
            if path in seen:
                continue
            if len(names) > 1:  # of one folder, each file is found once
                seen.add(path)
            yield found


def _inputs_of(name: str) -> Iterator[Found]:
    if not name:
        yield Found(name, error=FormatError("is no path"))
        return
    if url_of(Path(name)) is not None or not os.path.isdir(name) or _is_store(name):  # noqa: PTH112  (it never raises)
        yield Found(name)
        return
    is_empty = True
    for found in _files_in(name):
        is_empty = is_empty and bool(found.left_out)
        yield found
    if is_empty:
        yield Found(name, error=FormatError("holds no file that can be pooled"))


def _files_in(folder: str) -> Iterator[Found]:
    """Files and stores below a folder, hidden ones left out, in the order of their names.

    Of each folder on the way only the names are held.
    """
    base = "" if Path(folder) == Path() else str(Path(folder))
    pending = [("", iter([""]))]
    while pending:
        place, names = pending[-1]
        name = next(names, None)
        if name is None:
            pending.pop()
            continue
        inner = os.path.join(place, name)
        path = os.path.join(base, inner) if name else folder
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            mode = 0
        if not name or (stat.S_ISDIR(mode) and not _is_store(path)):
            try:
                entries = sorted(entry for entry in os.listdir(path) if not entry.startswith("."))  # noqa: PTH208
            except OSError as error:
                yield Found(path, error=FileError(f"folder cannot be read: {error.strerror}"))
            else:
                pending.append((inner, iter(entries)))
            continue
        yield Found(path, place, _reason_to_leave_out(path, mode))


def _is_store(folder: str) -> bool:
    try:
        format_of_content(Path(folder))
    except LucidError:
        return False
    return True


def _reason_to_leave_out(path: str, mode: int) -> str:
    name = os.path.basename(path)
    if MARK in name and _EARLIER.fullmatch(name):
        return EARLIER
    if os.path.isdir(path):  # noqa: PTH112
        return "it is a link to a folder" if stat.S_ISLNK(mode) and not _is_store(path) else ""
    if mode and not stat.S_ISREG(mode) and not os.path.isfile(path):  # noqa: PTH113
        return "it is no regular file" if os.path.exists(path) else "it is a link to nothing"  # noqa: PTH110
    # What may not be looked at, or is called like a file that is read, and cannot be, is an error when its turn comes.
    if not mode or name.lower().endswith(_SUFFIXES):
        return ""
    try:
        format_of_content(Path(path))
    except FormatError as error:
        return f"it {error}"
    except LucidError:
        pass
    return ""
