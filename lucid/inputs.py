"""Which inputs: those that are named, and of a folder all files in it that can be read; each is a task."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from lucid.backlog import Table
from lucid.errors import DTypeError, FileError, FormatError, LucidError, ShapeError, UnfitError
from lucid.formats.contract import Source
from lucid.formats.disk.names import is_marked
from lucid.formats.paths import url_of
from lucid.formats.registry import FORMATS, NPY, format_of_content
from lucid.formats.stream import STREAM
from lucid.options import Options
from lucid.outputs import MARK, FilePath, Naming, Target

#: What files are called that are read.
_SUFFIXES = tuple(suffix for format_ in FORMATS for suffix in format_.suffixes)
#: Bytes of a file that is small: to pool it takes less than to begin and to end its output.
SMALL_BYTES = 1 << 20
#: Names of what the shell has opened.
_OPEN_DESCRIPTOR = re.compile(r"/dev/stdin|/dev/fd/\d+|/proc/self/fd/\d+")
NO_FILE_NOTE = "holds no file that can be pooled"
EARLIER_RESULT_NOTE = "an earlier run made it; name it to pool it again"
RESULT_OF_ANOTHER_NOTE = "another input is pooled to a file of this name; name it alone to pool it again"


class LeftOutError(LucidError):
    """A file of a folder is not pooled, for this reason; that is no failure."""


class Task(NamedTuple):
    """One input, as the user named it or as it was found in a folder, and its outputs once they are known."""

    source: str
    #: The folder of a file that was found, relative to the one that was named; None for an input that was named.
    folder: str | None = None
    #: Empty where it is not pooled, and before they are settled.
    targets: tuple[Target, ...] = ()
    size_bytes: int = 0
    #: Whether it is read once and in order.
    is_stream: bool = False
    #: Whether native code reads or writes it, which must not take the other inputs along.
    is_native: bool = False
    #: Why it is not pooled. If it has outputs all the same, they conflict with others, which a dry run only tells.
    error: LucidError | None = None

    @property
    def path(self) -> Path:
        """What outputs are named after."""
        return STREAM if self.is_stream else Path(self.source)

    @property
    def opened_path(self) -> Path:
        """What is read: for standard input, the file to which the shell may have redirected it."""
        return Path("/dev/stdin" if self.source == str(STREAM) else self.source)

    @property
    def is_from_folder(self) -> bool:
        """Whether it was found in a folder."""
        return self.folder is not None

    @property
    def is_to_stream(self) -> bool:
        """Whether its results go to standard output."""
        return any(target.is_stream for target in self.targets)

    @property
    def is_small(self) -> bool:
        """Whether it is best done along with others: a small file, or nothing to do."""
        return self.error is not None or (not self.is_to_stream and 0 < self.size_bytes <= SMALL_BYTES)

    def reason(self, error: Exception, options: Options) -> Exception:
        """Why it is not pooled: a file that was found is left out if nothing in it fits, and no array was named."""
        is_other = isinstance(error, UnfitError | ShapeError | DTypeError) and not options.datasets
        return LeftOutError(str(error)) if is_other and self.is_from_folder else error

    def with_targets(self, options: Options, naming: Naming) -> "Task":
        """The same with its outputs."""
        task = self._replace(is_stream=is_stream(self.source))
        format_ = NPY if task.is_stream else format_of_content(task.path)
        is_file = not task.is_stream and os.path.isfile(task.source)
        if naming.output == str(STREAM) or (task.is_stream and naming == (None, None)):
            targets: tuple[Target, ...] = (Target.of_stream(options),)
        else:
            targets = naming.targets(task.path, format_, options, self.folder or "")
        return task._replace(
            targets=targets,
            size_bytes=task.path.stat().st_size if is_file else 0,
            is_native=format_.is_native or any(target.format.is_native for target in targets),
        )


def is_pipe(path: FilePath) -> bool:
    """Whether a path names what can be read only once and in order, such as `<(…)`, or what the shell has opened."""
    if _OPEN_DESCRIPTOR.fullmatch(str(path)):  # even for a file, outputs have no place beside that name
        return True
    try:
        return stat.S_IFMT(Path(path).stat().st_mode) in (stat.S_IFIFO, stat.S_IFSOCK)
    except (OSError, ValueError):
        return False


def is_stream(source: str) -> bool:
    """Whether an input as the shell names it is standard input or a pipe."""
    return source == str(STREAM) or is_pipe(source)


def leave_out_earlier(source: Source) -> None:
    """Raise for a file that was found if an earlier run made it, by what it says of itself."""
    if any(text for _, text in source.provenances()):
        raise LeftOutError(EARLIER_RESULT_NOTE)


def find_inputs(names: Sequence[str]) -> Iterator[Task]:
    """Every input in order, those of a folder sorted; each file once, however often it was named."""
    every = chain.from_iterable(map(_inputs_of, names))
    if len(names) == 1:  # of one folder, each file is found once
        yield from every
        return
    paths, named = Table[None](), set(names)
    for task in every:
        if _is_result_of_another(task.source, named):
            task = task._replace(error=LeftOutError(RESULT_OF_ANOTHER_NOTE))
        # Links are inputs of their own, with outputs of their own.
        path = task.source if is_stream(task.source) else os.path.abspath(task.source)
        if paths.add(path, None):
            yield task


def _is_result_of_another(source: str, names: set[str]) -> bool:
    """Whether an input is called as the output of another is by default, of any size: a shell's `*.npy` names both."""
    head, mark, suffix = source.rpartition(f"{MARK}.")
    return bool(mark) and any(f"{head}.{end}" in names for end in (suffix, suffix.partition(".")[2]))


def _inputs_of(name: str) -> Iterator[Task]:
    if not name:
        yield Task(name, "", error=FormatError("is no path"))
    elif url_of(Path(name)) is not None or not os.path.isdir(name) or _is_store(name):
        yield Task(name)
    else:
        is_empty = True
        for task in _files_in(name):
            is_empty = is_empty and isinstance(task.error, LeftOutError)
            yield task
        if is_empty:
            yield Task(name, "", error=FormatError(NO_FILE_NOTE))


def _files_in(folder: str) -> Iterator[Task]:
    """Files and stores below a folder, hidden ones left out, in the order of their names."""
    base = "" if Path(folder) == Path() else str(Path(folder))
    pending = [""]
    while pending:
        inner = pending.pop()
        path = os.path.join(base, inner) if inner else folder
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            mode = 0
        if inner and (not stat.S_ISDIR(mode) or _is_store(path)):
            yield Task(path, os.path.dirname(inner), error=_reason_to_leave_out(path, mode))
            continue
        try:
            names = sorted(os.listdir(path), reverse=True)
        except OSError as error:
            yield Task(path, "", error=FileError(f"folder cannot be read: {error.strerror}"))
        else:
            pending += [os.path.join(inner, name) for name in names if not name.startswith(".")]


def _is_store(folder: str) -> bool:
    return any(is_marked(Path(folder), format_.root_files) for format_ in FORMATS if format_.root_files)


def _reason_to_leave_out(path: str, mode: int) -> LeftOutError | None:
    """What a file of this mode is, if it is none to be pooled; what cannot be read is an error when its turn comes."""
    name = os.path.basename(path)
    if f"{MARK}." in f"{name}.":
        return LeftOutError(EARLIER_RESULT_NOTE)
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
