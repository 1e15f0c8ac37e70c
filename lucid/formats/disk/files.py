"""Files as bytes: exact reads and writes at an offset, and regions of arrays that lie there."""

import errno
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from lucid.errors import FileError, FormatError, NotFoundError, translate_errors
from lucid.formats.regions import Region, runs
from lucid.pooling.dtypes import Array

#: Bytes copied at once.
COPY_BYTES = 1 << 20
#: Bytes of one call to the system; macOS refuses two gigabytes and more, where Linux writes some of them.
CALL_BYTES = 1 << 30

#: Where an array begins: a descriptor, and an offset in its file.
Start: TypeAlias = tuple[int, int]
#: Where elements begin that lie in one run, and the shape of the whole array, of which a region may be read.
Run: TypeAlias = tuple[int, tuple[int, ...]]


def open_regular(path: Path) -> int:
    """A descriptor of a regular file, for reading; a FIFO does not make it wait for a writer."""
    with translate_errors("cannot be opened"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise NotFoundError("no such file") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise FileError(f"is {kind}; expected a regular file")
    return descriptor


def state_of(descriptor: int) -> tuple[int, int]:
    """Size and time of the last change of an open file, which tell whether it was written to."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


def read_at(descriptor: int, offset: int, buffer: memoryview) -> None:
    """Fill a buffer from an offset of a file, which does not end before."""
    position = 0
    while position < len(buffer):
        try:
            count = os.preadv(descriptor, [buffer[position : position + CALL_BYTES]], offset + position)
        except OSError as error:
            raise FileError(f"cannot be read: {error.strerror}") from error
        if count == 0:
            raise FormatError("ends before its data; was it cut off, or changed while it was read?")
        position += count


def bytes_at(descriptor: int, offset: int, count: int) -> bytes:
    """So many bytes from an offset of a file."""
    buffer = bytearray(count)
    read_at(descriptor, offset, memoryview(buffer))
    return bytes(buffer)


def blocks_at(descriptor: int, offset: int, count: int) -> Iterator[bytes]:
    """So many bytes from an offset of a file, in order, some of them at a time."""
    for at in range(0, count, COPY_BYTES):
        yield bytes_at(descriptor, offset + at, min(COPY_BYTES, count - at))


def write_at(descriptor: int, offset: int, buffer: bytes | memoryview) -> None:
    """Write a whole buffer at an offset of a file."""
    view, position = memoryview(buffer), 0
    while position < len(view):
        position += os.pwrite(descriptor, view[position : position + CALL_BYTES], offset + position)


class CheckedFile(io.FileIO):
    """A file for software that does not say when a write fails: its first error is kept here.

    h5py must not hear of it: its callbacks leave an error pending, and Python stumbles over it later. So writes seem
    to succeed, and whoever opened the file asks for the error in the end.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "r+", closefd=False)
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, which may be beyond what the file system lets a file have."""
        try:
            return super().seek(offset, whence)
        except OSError:  # which says of it that the argument is invalid
            self.error = self.error or OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return offset

    def write(self, data: Any) -> int:
        """Write all of it at the place that was sought; h5py seeks one before each write."""
        try:
            write_at(self.fileno(), self.tell(), data)
        except OSError as error:
            self.error = self.error or error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        try:
            super().truncate(size)
        except OSError as error:
            self.error = self.error or error
        return size or 0


def digest(*facts: object) -> str:
    """A short name for facts: equal for equal ones."""
    import hashlib  # seldom needed

    return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def claim(descriptor: int, size: int) -> None:
    """Give a file its final size on disk, so that a full disk is found before the work."""
    try:
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            os.ftruncate(descriptor, size)
        else:
            raise OSError(error.errno, f"{error.strerror} for {size} bytes") from error


def read_region(
    descriptor: int, offset: int, shape: tuple[int, ...], region: Region, itemsize: int, buffer: Array
) -> None:
    """Read a region of a C-ordered array that begins at an offset of a file."""
    view, position = buffer.data, 0
    for first, length in runs(shape, region):
        read_at(descriptor, offset + first * itemsize, view[position : position + length * itemsize])
        position += length * itemsize


def write_region(descriptor: int, offset: int, shape: tuple[int, ...], region: Region, values: Array) -> None:
    """Write a region of a C-ordered array that begins at an offset of a file."""
    view, position = values.reshape(-1).view(np.uint8).data, 0
    for first, length in runs(shape, region):
        write_at(
            descriptor, offset + first * values.itemsize, view[position : position + length * values.itemsize]
        )
        position += length * values.itemsize
