"""`.npz` archives to read: every member whose name ends in `.npy` is an array.

Stored members are read where they lie, by any thread. Deflated ones are inflated from front to back into a
temporary file, no further than is asked for, and one at a time: so memory is bounded, regions are read in any
order and more than once, and the disk holds the largest member only. Either way a member that was read whole
has to fit its checksum.
"""

import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np

from lucid.errors import DTypeError, FileError
from lucid.formats.contract import Array, ArraySpec, Region, named, shape_of
from lucid.formats.disk.files import blocks_at, runs, write_at
from lucid.formats.disk.spool import Spool
from lucid.formats.flat import FlatSource, read_elements
from lucid.formats.npy import Header, Read, spec_of
from lucid.formats.npz.checksum import Checksum
from lucid.formats.npz.directory import STORED
from lucid.formats.npz.members import SUFFIX, Entry, bytes_of, check_sum, name_of_array, read_entries
from lucid.options import Options

#: Bytes inflated at once.
STEP_BYTES = 1 << 18


class NpzSource(FlatSource):
    """A `.npz` archive; its arrays are named by its members, without the suffix."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        self._inflated = _Inflated(self.bytes_at)
        #: Of stored members; None for those that fit theirs.
        self._sums: dict[str, Checksum | None] = {}
        self._lock = threading.Lock()

    def parse(self, size: int) -> None:
        """Read the directory, and the header of every array."""
        self.entries = read_entries(self.bytes_at, size)
        self._arrays: dict[str, Entry] = {}
        for entry in self.entries:
            name = name_of_array(entry.member)
            if entry.header is not None:
                self._arrays[name] = entry
                self.runs[name] = entry.offset + entry.header.offset, entry.header.shape
                try:
                    self.specs[name] = spec_of(entry.header, self.options.input_dtype, name)
                except DTypeError as error:
                    self.others[name] = str(error)
            elif entry.member.name.endswith(SUFFIX):
                self.others[name] = "holds Python objects"

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The arrays, with what a comment in their headers says; those of a whole output say nothing."""
        for name, (_, _, header) in self._arrays.items():
            assert header is not None
            with suppress(DTypeError):
                yield spec_of(header, "bfloat16", name), header.comment

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region, of a deflated member from what is inflated of it."""
        entry = self._arrays[spec.name]
        member, _, header = entry
        assert header is not None
        with named(f"member {member.name[:80]!r}"):
            if member.method == STORED:
                values = super().read(spec, region, buffer)
                self._sum(entry, header, region, buffer[: values.nbytes].data)
                return values
            with self._inflated.lock:
                descriptor = self._inflated.up_to(entry, header.offset + _end(header, region))
                return read_elements((descriptor, header.offset), header.shape, spec, region, buffer)

    def _sum(self, entry: Entry, header: Header, region: Region, data: memoryview) -> None:
        """Sum up what was read of a stored member, and compare with the last of it.

        A region of one run is summed as it is; what was read otherwise is read once more, in order.
        """
        member, offset, _ = entry
        start = offset + header.offset
        with self._lock:
            if member.name not in self._sums:
                crc = zlib.crc32(self.bytes_at(offset, header.offset))
                self._sums[member.name] = Checksum(crc, header.nbytes)
            checksum = self._sums[member.name]
        if checksum is None:
            return
        axes = (header.shape[::-1], region[::-1]) if header.fortran_order else (header.shape, region)
        (first, _), *others = islice(runs(*axes), 2)
        if not others:
            checksum.add(first * header.dtype.itemsize, data)
        if checksum.count(len(data)):
            crc = checksum.total(lambda at, count: blocks_at(self.descriptor, start + at, count))
            check_sum(member, crc)
            self._sums[member.name] = None

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

    def __init__(self, read: Read) -> None:
        self._read = read
        self.lock = threading.Lock()
        self._spool: Spool | None = None
        self._entry: Entry | None = None

    def up_to(self, entry: Entry, end: int) -> int:
        """Inflate at least so many bytes of a member; a descriptor of the file that has them."""
        self._spool = self._spool or Spool()
        descriptor = self._spool.file.fileno()
        if self._entry is not entry:
            os.ftruncate(descriptor, 0)
            self._blocks, self._done = bytes_of(self._read, entry.member, entry.offset, STEP_BYTES), 0
        self._entry = None  # if an error comes between
        while self._done < end:
            data = next(self._blocks)
            try:
                write_at(descriptor, self._done, data)
            except FileError as error:
                reason = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error
                raise FileError(f"cannot be inflated into a temporary file (TMPDIR): {reason}") from error
            self._done += len(data)
        self._entry = entry
        return descriptor

    def close(self) -> None:
        """Let go of the file."""
        if self._spool is not None:
            self._spool.close()
