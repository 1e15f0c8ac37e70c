"""Names of outputs: which of them no output may have, and what they stand for."""

import errno
import os
import stat
from pathlib import Path

from lucid.errors import ExistsError, FileError, NotFoundError


def refuse_existing(target: Path, *, overwrite: bool, marks: tuple[str, ...] = ()) -> None:
    """Raise unless an output may be made under that name; a folder of files holds one of `marks`."""
    mode = _mode(target)
    if stat.S_ISDIR(mode):
        if not marks:
            raise FileError(
                f"output {target} is a folder; expected a file name, or {target}/ for files in it"
            )
        if not is_marked(target, marks):
            raise FileError(f"output {target} is a folder of other files, which is not replaced")
    elif mode:
        if marks:
            raise FileError(f"output {target} is no folder; expected one, or a name that is free")
        if not stat.S_ISREG(mode):
            raise FileError(f"output {target} is a pipe or a device; expected a regular file")
    refuse_taken(target, overwrite=overwrite)
    folder = link_target(target).parent
    if not stat.S_ISDIR(_mode(folder)):
        raise NotFoundError(f"output {target} cannot be written: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"output {target} cannot be written: folder {folder} is not writable")


def _mode(path: Path) -> int:
    """Kind and permissions of what is there, or 0; an error where nobody may look, as `Path` has it before 3.14."""
    try:
        return os.stat(path).st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return 0
        raise


def refuse_taken(target: Path, *, overwrite: bool) -> None:
    """Raise if there is something under the name of an output that may not be replaced."""
    if os.path.lexists(target) and not overwrite:
        raise ExistsError(f"output {target} exists already; `overwrite=True` replaces it")


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def link_target(path: Path) -> Path:
    """What a link leads to; any other path as it is."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def is_marked(folder: Path, marks: tuple[str, ...]) -> bool:
    """Whether a folder holds one of the files that tell its format."""
    return any(os.path.isfile(folder / mark) for mark in marks)  # it never raises


def short_name(name: str) -> str:
    """What of a name leaves room for more: file systems have 255 bytes for it."""
    while len(os.fsencode(name)) > 200:
        name = name[:-1]
    return name
