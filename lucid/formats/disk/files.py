"""Files as bytes: exact reads and writes at an offset, and outputs that appear complete or not at all."""

import errno
import os
import stat
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid.errors import FileError, FormatError, NotFoundError
from lucid.formats.contract import Region

#: What a file system says to a call that it does not know.
_UNKNOWN = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)

Array = npt.NDArray[Any]


def open_regular(path: Path) -> int:
    """A descriptor of a regular file, for reading.

    Opened without blocking, so that a FIFO does not make the command wait for a writer.

    Raises
    ------
    NotFoundError, FileError
        There is none, it is something else, or it may not be read.

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFoundError("no such file") from None
    except OSError as error:
        raise FileError(f"cannot be opened: {error.strerror}") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise FileError(f"is {kind}; expected a regular file")
    return descriptor


class Watch:
    """Notices that an open file is written to."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        #: Size and time of the last change.
        self.state = self._now()

    def _now(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns

    def check(self) -> None:
        """Raise if it was."""
        if self._now() != self.state:
            raise FormatError("changed while it was read")


def read_at(descriptor: int, offset: int, buffer: memoryview) -> None:
    """Fill a buffer from an offset of a file.

    Raises
    ------
    FormatError
        The file ends before.

    """
    done = 0
    while done < len(buffer):
        try:
            count = os.preadv(descriptor, [buffer[done:]], offset + done)
        except OSError as error:
            raise FileError(f"cannot be read: {error.strerror}") from error
        if count == 0:
            raise FormatError("ends before its data; was it cut off, or changed while it was read?")
        done += count


def write_at(descriptor: int, offset: int, buffer: memoryview) -> None:
    """Write a whole buffer at an offset of a file."""
    done = 0
    while done < len(buffer):
        try:
            done += os.pwrite(descriptor, buffer[done:], offset + done)
        except OSError as error:
            raise FileError(f"output cannot be written: {error.strerror}") from error


def digest(*facts: object) -> str:
    """A short name for facts: equal for equal ones."""
    import hashlib  # seldom needed

    return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


class CheckedFile:
    """A file for software that does not say when a write fails: the first error is kept here.

    Nor must it hear of it: h5py's callbacks leave an error pending, and Python stumbles over it later. So
    writes seem to succeed, and whoever opened the file asks for the error in the end.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset, from the start or the end."""
        start = os.fstat(self._descriptor).st_size if whence == os.SEEK_END else 0
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """The offset."""
        return self._position

    def read(self, count: int) -> bytes:
        """Read so many bytes, fewer at the end; by this method h5py knows a file."""
        data = os.pread(self._descriptor, count, self._position)
        self._position += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer, with less at the end of the file."""
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count

    def write(self, data: memoryview) -> int:
        """Write all of it."""
        try:
            write_at(self._descriptor, self._position, memoryview(data))
        except OSError as error:
            self._keep(error)
        self._position += len(data)
        return len(data)

    def truncate(self, size: int) -> int:
        """Set the length."""
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            self._keep(error)
        return size

    def flush(self) -> None:
        """Nothing: no write is held back."""

    def _keep(self, error: OSError) -> None:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        self.error = self.error or cause


def claim(descriptor: int, size: int) -> None:
    """Give a file its final size on disk, so that a full disk is found before the work.

    Raises
    ------
    FileError
        There is no room.

    """
    try:
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            os.ftruncate(descriptor, size)
        else:
            raise FileError(f"output needs {size} bytes of disk: {error.strerror}") from error


def runs(shape: tuple[int, ...], region: Region) -> Iterator[tuple[int, int]]:
    """The region of a C-ordered array as runs (first element, number of elements), in order."""
    base, length, outer = _first_run(shape, region)
    if not outer:
        yield base, length
    elif length:
        for offsets in product(*outer):
            yield base + sum(offsets), length


def _first_run(shape: tuple[int, ...], region: Region) -> tuple[int, int, list[range]]:
    """The first run of a region, and by how much further ones lie behind it."""
    base, length, step = 0, 1, 1
    outer: list[range] = []
    goes_on = True  # the run takes in whole axes, and the first that is not
    for own, whole in zip(reversed(region), reversed(shape), strict=True):
        count = own.stop - own.start
        base += own.start * step
        if goes_on:
            length, goes_on = length * count, count == whole
        else:
            outer.append(range(0, count * step, step))
        step *= whole
    return base, length, outer[::-1]


def read_region(
    descriptor: int, offset: int, shape: tuple[int, ...], region: Region, itemsize: int, buffer: Array
) -> None:
    """Read a region of a C-ordered array that begins at an offset of a file."""
    view, done = buffer.data, 0
    for first, length in runs(shape, region):
        read_at(descriptor, offset + first * itemsize, view[done : done + length * itemsize])
        done += length * itemsize


def write_region(descriptor: int, offset: int, shape: tuple[int, ...], region: Region, values: Array) -> None:
    """Write a region of a C-ordered array that begins at an offset of a file."""
    view, done = values.reshape(-1).view(np.uint8).data, 0
    for first, length in runs(shape, region):
        write_at(descriptor, offset + first * values.itemsize, view[done : done + length * values.itemsize])
        done += length * values.itemsize
