"""Which inputs: those that are named, and of a folder all files in it that can be read, at any depth."""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lucid.errors import FileError, FormatError, LucidError
from lucid.formats.registry import FORMATS, format_of_content, url_of
from lucid.formats.stream import STREAM
from lucid.outputs import MARK, FilePath

#: Names of what an earlier run made, as `lucid.outputs` gives them.
_EARLIER = re.compile(rf".*{re.escape(MARK)}(\..*)?", re.DOTALL)
EARLIER = "an earlier run made it; name it to pool it again"


class Found(NamedTuple):
    """An input as it was named, or a file in a folder that was."""

    source: str
    #: Of a file that was found: its folder, below the one that was named.
    place: Path | None = None
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


def find_inputs(names: Iterable[str]) -> Iterator[Found]:
    """Every input in order, those of a folder sorted; each file once, however often it was named."""
    seen: set[str] = set()
    for name in names:
        for found in _inputs_of(name):
            # Links are inputs of their own, with outputs of their own.
            path = found.source if is_stream(found.source) else os.path.abspath(found.source)  # noqa: PTH100
            if path in seen:
                continue
            seen.add(path)
            yield found


def _inputs_of(name: str) -> Iterator[Found]:
    if not name:
        yield Found(name, error=FormatError("is no path"))
        return
    folder = Path(name)
    if url_of(folder) is not None or not os.path.isdir(name) or _is_store(folder):  # noqa: PTH112  (it never raises)
        yield Found(name)
        return
    is_empty = True
    for found in _files_in(folder):
        is_empty = is_empty and bool(found.left_out)
        yield found
    if is_empty:
        yield Found(name, error=FormatError("holds no file that can be pooled"))


def _files_in(folder: Path) -> Iterator[Found]:
    """Files and stores below a folder, hidden ones left out, in the order of their names."""
    pending = [folder]
    while pending:
        path = pending.pop()
        if path == folder or (path.is_dir() and not path.is_symlink() and not _is_store(path)):
            try:
                entries = sorted(path.iterdir(), reverse=True)
            except OSError as error:
                yield Found(str(path), error=FileError(f"folder cannot be read: {error.strerror}"))
            else:
                pending += [entry for entry in entries if not entry.name.startswith(".")]
            continue
        yield Found(str(path), path.parent.relative_to(folder), _reason_to_leave_out(path))


def _is_store(folder: Path) -> bool:
    try:
        format_of_content(folder)
    except LucidError:
        return False
    return True


def _reason_to_leave_out(path: Path) -> str:
    if _EARLIER.fullmatch(path.name):
        return EARLIER
    if path.is_dir():
        return "it is a link to a folder" if path.is_symlink() and not _is_store(path) else ""
    if not path.is_file():
        return "it is no regular file" if path.exists() else "it is a link to nothing"
    # What is called like a file that is read, and cannot be, is an error when its turn comes.
    if path.name.lower().endswith(tuple(suffix for f in FORMATS for suffix in f.suffixes)):
        return ""
    try:
        format_of_content(path)
    except FormatError as error:
        return f"it {error}"
    except LucidError:
        pass
    return ""
