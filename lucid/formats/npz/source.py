"""`.npz` archives to read: every member whose name ends in `.npy` is an array.

Stored members are read where they lie, by any thread. Deflated ones are inflated from front to back into a
temporary file, no further than is asked for, and one at a time: so memory is bounded, regions are read in any
order and more than once, and the disk holds the largest member only. Either way a member that was read whole
has to fit its checksum.
"""

import os
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from lucid.errors import DTypeError, FileError, FormatError, named
from lucid.formats.arrays import Array, ArraySpec
from lucid.formats.disk.files import blocks_at, bytes_at, write_at
from lucid.formats.disk.spool import Spool
from lucid.formats.flat import FlatSource, read_elements
from lucid.formats.npy import Header, spec_of
from lucid.formats.npz.archive import open_archive
from lucid.formats.npz.checksum import Checksum
from lucid.formats.npz.members import SUFFIX, Member, read_members
from lucid.formats.regions import Region, runs, shape_of
from lucid.options import Options

#: Bytes inflated at once.
STEP_BYTES = 1 << 18


class NpzSource(FlatSource):
    """A `.npz` archive; its arrays are named by its members, without the suffix."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        self._inflated = _Inflated(self._archive)
        #: Of stored members; None for those that fit theirs.
        self._sums: dict[str, Checksum | None] = {}
        self._lock = threading.Lock()

    def parse(self, size: int) -> None:  # noqa: ARG002  (of which the directory says where it ends)
        """Read the directory, and the header of every array."""
        self._archive = open_archive(self.descriptor)
        self.members = read_members(self._archive, self.descriptor)
        self._arrays: dict[str, Member] = {}
        for member in self.members:
            name = member.array_name
            if member.header is not None:
                self._arrays[name] = member
                self.runs[name] = member.offset + member.header.offset, member.header.shape
                try:
                    self.specs[name] = spec_of(member.header, self.options.input_dtype, name)
                except DTypeError as error:
                    self.others[name] = str(error)
            elif member.info.filename.endswith(SUFFIX):
                self.others[name] = "holds Python objects"

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The arrays, with what a comment in their headers says; those of a whole output say nothing."""
        for name, (_, _, header) in self._arrays.items():
            assert header is not None
            with suppress(DTypeError):
                yield spec_of(header, "bfloat16", name), header.comment

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region, of a deflated member from what is inflated of it."""
        member = self._arrays[spec.name]
        header = member.header
        assert header is not None
        with named(f"member {member.info.filename[:80]!r}"):
            if member.info.compress_type == zipfile.ZIP_STORED:
                values = super().read(spec, region, buffer)
                self._sum(member, header, region, buffer[: values.nbytes].data)
                return values
            with self._inflated.lock:
                descriptor = self._inflated.up_to(member.info, header.offset + _end(header, region))
                return read_elements((descriptor, header.offset), header.shape, spec, region, buffer)

    def _sum(self, member: Member, header: Header, region: Region, data: memoryview) -> None:
        """Sum up what was read of a stored member, and compare with the last of it.

        A region of one run is summed as it is; what was read otherwise is read once more, in order.
        """
        name, start = member.info.filename, member.offset + header.offset
        with self._lock:
            if name not in self._sums:
                crc = zlib.crc32(bytes_at(self.descriptor, member.offset, header.offset))
                self._sums[name] = Checksum(crc, header.nbytes)
            checksum = self._sums[name]
        if checksum is None:
            return
        axes = (header.shape[::-1], region[::-1]) if header.fortran_order else (header.shape, region)
        (first, _), *others = islice(runs(*axes), 2)
        if checksum.add(None if others else first * header.dtype.itemsize, data):
            crc = checksum.total(lambda at, count: blocks_at(self.descriptor, start + at, count))
            if crc != member.info.CRC:
                raise FormatError("does not fit its checksum; is the archive damaged?")
            self._sums[name] = None

    def close(self) -> None:
        """Close the file, and let go of what was inflated."""
        super().close()
        self._inflated.close()


def _end(header: Header, region: Region) -> int:
    """How many bytes of an array hold a region."""
    if 0 in shape_of(region):
        return 0
    last = [s.stop - 1 for s in region]
    element = np.ravel_multi_index(last, header.shape, order="F" if header.fortran_order else "C")
    return (int(element) + 1) * header.dtype.itemsize


class _Inflated:
    """The front of one deflated member at a time, in a temporary file."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.lock = threading.Lock()
        self._spool: Spool | None = None
        #: What is being inflated, and the stream of it.
        self._member: zipfile.ZipInfo | None = None
        self._stream: IO[bytes]

    def up_to(self, member: zipfile.ZipInfo, end: int) -> int:
        """Inflate at least so many bytes of a member; a descriptor of the file that has them."""
        self._spool = self._spool or Spool()
        descriptor = self._spool.file.fileno()
        try:
            if self._member is not member:
                os.ftruncate(descriptor, 0)
                self._stream, self._done = self._archive.open(member), 0
            self._member = None  # if an error comes between
            while self._done < end:
                data = self._stream.read(STEP_BYTES)
                if not data:
                    raise FormatError("ends before its data; is the archive damaged?")
                write_at(descriptor, self._done, data)
                self._done += len(data)
        except FileError as error:
            reason = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error
            raise FileError(f"cannot be inflated into a temporary file (TMPDIR): {reason}") from error
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise FormatError(f"cannot be inflated: {error}; is the archive damaged?") from error
        self._member = member
        return descriptor

    def close(self) -> None:
        """Let go of the file."""
        if self._spool is not None:
            self._spool.close()
