"""Outputs that are folders of files: complete under their name or not there at all, as single files are."""

import ctypes
import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from lucid.formats.disk.files import Replacement, refuse_taken, sync

_AT_FDCWD = -100
#: Flags of the system's own rename: take no name that is taken; let two names change places.
_EXCLUSIVE, _SWAP = (4, 2) if sys.platform == "darwin" else (1, 2)


class FolderReplacement(Replacement):
    """A folder that takes the place of another, or of none, in one step."""

    _lock = -1

    def _refuse(self) -> None:
        refuse_taken(self.target, overwrite=self._overwrite)

    def create(self) -> int:
        """A descriptor of the new folder, locked until it is in place or removed."""
        self._lock = super().create()
        return self._lock

    def _make(self) -> int:
        self.path.mkdir()
        self._pending = True
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def _place(self) -> None:
        for path in _everything(self.path):
            sync(path)
        if self._overwrite and self.target.is_dir():
            self.path.chmod(stat.S_IMODE(self.target.stat().st_mode))
            # What has the temporary name is the old one from now on, to be removed by `abort`.
            _exchange(self.path, self.target)
        else:
            _rename_new(self.path, self.target)
            self._pending = False

    def commit(self) -> None:
        """Put the folder in its place; remove the old one."""
        super().commit()
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
