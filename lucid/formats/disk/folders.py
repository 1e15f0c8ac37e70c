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

    def _refuse(self) -> None:
        refuse_taken(self.target, overwrite=self._overwrite)

    def _make(self) -> int:
        self.path.mkdir()
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def create(self) -> int:
        """Make the new folder, locked until it is in place or removed; there is nothing to write to."""
        os.close(super().create())
        return -1

    def bring_to_disk(self) -> None:
        """Wait until all files in it are on disk, and the folders."""
        with self._kept_if_refused():
            for path in _everything(self.path):
                sync(path)

    def _place(self) -> None:
        if self._overwrite and self.target.is_dir():
            self.path.chmod(stat.S_IMODE(self.target.stat().st_mode))
            # What has the temporary name is the old one from now on, to be removed by `abort`.
            exchange(self.path, self.target)
        else:
            rename_new(self.path, self.target)
            self._pending = False

    def _remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)  # what stays is stale, and goes with the next run


def _everything(folder: Path) -> Iterator[Path]:
    """All files in a folder, and the folders after what is in them."""
    for path, _, names in os.walk(folder, topdown=False):
        yield from (Path(path, name) for name in names)
        yield Path(path)
