"""Outputs that are folders of files: complete under their name or not there at all, as single files are."""

import ctypes
import errno
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lucid.errors import ExistsError, FileError
from lucid.formats.files import Replacement, refuse_taken, remove_stale

_AT_FDCWD = -100
#: Flags of the system's own rename: take no name that is taken; let two names change places.
_EXCLUSIVE, _SWAP = (4, 2) if sys.platform == "darwin" else (1, 2)


class FolderReplacement(Replacement):
    """A folder that takes the place of another, or of none, in one step."""

    _lock = -1

    def create(self) -> int:
        """Make the folder, locked, under its temporary name."""
        refuse_taken(self.target, overwrite=self._overwrite)
        remove_stale(self.target.parent)
        try:
            self.path.mkdir()
            self._pending = True
            self._lock = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise FileError(f"output {self.target} cannot be created: {error.strerror}") from error
        with suppress(OSError):  # as for files
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not self.path.exists():  # taken for stale in the moment before the lock
            raise FileError(f"output {self.target} is being written by another run")
        return self._lock

    def commit(self) -> None:
        """Put the folder in its place, all of it on disk."""
        try:
            for path in _everything(self.path):
                _sync(path)
            if self._overwrite and self.target.is_dir():
                self.path.chmod(stat.S_IMODE(self.target.stat().st_mode))
                _exchange(self.path, self.target)
                # What has the temporary name is now the old one, to be removed by `abort`.
            else:
                _rename_new(self.path, self.target)
                self._pending = False
            _sync(self.target.parent)
        except FileExistsError:
            raise ExistsError(
                f"output {self.target} exists by now; -f (overwrite=True) replaces it"
            ) from None
        except OSError as error:
            raise FileError(f"output {self.target} cannot be put in place: {error.strerror}") from error
        self.abort()

    def abort(self) -> None:
        """Remove what has the temporary name."""
        if self._pending:
            self._pending = False
            shutil.rmtree(self.path, ignore_errors=True)  # what stays is stale, and goes with the next run
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _everything(folder: Path) -> Iterator[Path]:
    """All files in a folder, and the folders after what is in them."""
    for path, _, names in os.walk(folder, topdown=False):
        yield from (Path(path, name) for name in names)
        yield Path(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename_new(path: Path, target: Path) -> None:
    """Rename unless the name is taken; a plain rename would replace an empty folder."""
    if not _rename(path, target, _EXCLUSIVE):
        if target.exists():
            raise FileExistsError
        path.rename(target)


def _exchange(path: Path, target: Path) -> None:
    """Let two folders change places; where the system cannot, the name is free for a moment."""
    if not _rename(path, target, _SWAP):
        aside = path.with_suffix(".old")  # which no run takes for stale
        target.rename(aside)
        path.rename(target)
        aside.rename(path)


def _rename(path: Path, target: Path, flags: int) -> bool:
    """Rename with flags, for which Python has no call; whether system and file system know them."""
    libc, old, new = ctypes.CDLL(None, use_errno=True), os.fsencode(path), os.fsencode(target)
    if hasattr(libc, "renameat2"):
        status = libc.renameat2(_AT_FDCWD, old, _AT_FDCWD, new, flags)
    elif hasattr(libc, "renamex_np"):
        status = libc.renamex_np(old, new, flags)
    else:
        return False
    number = ctypes.get_errno() if status else 0
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    if number:
        raise OSError(number, os.strerror(number))
    return True
