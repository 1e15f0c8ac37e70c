"""Outputs that are folders of files: complete under their name or not there at all, as single files are."""

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from lucid.formats.disk.renames import exchange, rename_new
from lucid.formats.disk.replacement import SYNC_THREADS, Replacement, sync
from lucid.threads import for_each


class FolderReplacement(Replacement):
    """A folder that takes the place of another, or of none, in one step."""

    def _make(self) -> int:
        while True:
            self.path.mkdir()
            with suppress(FileNotFoundError):  # another run took it for stale in the moment before it is open
                return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def create(self) -> int:
        """Make the new folder, locked until it is in place or removed; there is nothing to write to."""
        os.close(super().create())
        return -1

    def bring_to_disk(self) -> None:
        """Wait until all files and folders in it are on disk."""
        # Not by `rglob`, which remembers every path that it gave.
        every = (Path(folder, name) for folder, _, names in os.walk(self.path) for name in ("", *names))
        for_each(sync, every, workers=SYNC_THREADS)

    def give_name(self) -> None:
        if self._overwrite and self.target.is_dir():
            self.path.chmod(stat.S_IMODE(self.target.stat().st_mode))
            # What has the temporary name is the old one from now on, to be removed by `abort`.
            exchange(self.path, self.target)
        else:
            rename_new(self.path, self.target)
            self._pending = False

    def _remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)  # what stays is stale, and goes with the next run
