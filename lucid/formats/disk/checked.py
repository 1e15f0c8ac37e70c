"""A file for software that does not say when a write fails."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lucid.formats.disk.files import write_at


class CheckedFile(io.FileIO):
    """A file whose first error is kept here.

    h5py must not hear of it: its callbacks leave an error pending, and Python stumbles over it later. So writes seem
    to succeed, and whoever opened the file asks for the error in the end.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "r+", closefd=False)
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of it."""
        view = memoryview(data)
        with self._keeping():
            write_at(self.fileno(), self.tell(), view)
        self.seek(len(view), os.SEEK_CUR)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        with self._keeping():
            super().truncate(size)
        return size or 0

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            self.error = self.error or cause
