"""Outputs that are folders of files: complete under their name or not there at all, as single files are."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from lucid.formats.disk.renames import exchange, rename_new
from lucid.formats.disk.replacement import Replacement, refuse_taken, sync


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
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def _place(self) -> None:
        for path in _everything(self.path):
            sync(path)
        if self._overwrite and self.target.is_dir():
            self.path.chmod(stat.S_IMODE(self.target.stat().st_mode))
            # What has the temporary name is the old one from now on, to be removed by `abort`.
            exchange(self.path, self.target)
        else:
            rename_new(self.path, self.target)
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
