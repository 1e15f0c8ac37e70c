"""A file for software that does not say when a write fails."""

import io
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
        """Write all of it at the place that was sought; h5py seeks one before each write."""
        view = memoryview(data)
        try:
            write_at(self.fileno(), self.tell(), view)
        except OSError as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            self.error = self.error or cause
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        try:
            super().truncate(size)
        except OSError as error:
            self.error = self.error or error
        return size or 0
