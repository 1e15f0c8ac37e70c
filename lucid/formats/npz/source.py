"""`.npz` archives to read: every member whose name ends in `.npy` is an array.

Stored members are read where they lie, by any thread. Deflated ones are inflated from front to back into a
temporary file, no further than is asked for, and one at a time: so memory is bounded, regions are read in any
order and more than once, and the disk holds the largest member only. Either way a member that was read whole
has to fit its checksum.
"""

import io
import threading
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import IO, NamedTuple

import numpy as np

from lucid.backlog import Backlog, Table
from lucid.errors import DTypeError, FormatError, about, translate_errors
from lucid.formats.archive import ENCRYPTED, check_name, data_offset, open_archive
from lucid.formats.arrays import Array, ArraySpec
from lucid.formats.checksum import Checksum, crc32
from lucid.formats.disk.files import blocks_at, bytes_at, write_at
from lucid.formats.disk.spool import Spool
from lucid.formats.flat import FlatSource, read_elements
from lucid.formats.npy import BEGINNING_BYTES, Header, read_header, spec_of
from lucid.formats.regions import Region, runs

#: What a member that holds an array is called, behind the array's name.
SUFFIX = ".npy"
#: Deflate makes at most so many bytes of one, and a few more at the end of a stream.
DEFLATE_RATIO, DEFLATE_REST = 1032, 1 << 10
#: Bytes inflated at once.
STEP_BYTES = 1 << 18


class Member(NamedTuple):
    """A file in an archive: what the directory says, the offset of its bytes, the header of the array in it, if any.

    `fault` is why an array that has no header here cannot be pooled.
    """

    info: zipfile.ZipInfo
    offset: int
    header: Header | None
    fault: str = "holds Python objects"

    @property
    def array_name(self) -> str:
        """The name of the array in it."""
        return f"/{self.info.filename.removesuffix(SUFFIX)}"

    def spec(self, number: int, header: Header, input_numbers: str | None) -> ArraySpec:
        """The array in it, which is found by the member's number in the archive."""
        handle = self.offset + header.offset, header.shape, number
        return spec_of(header, input_numbers, self.array_name)._replace(handle=handle)


class NpzSource(FlatSource):
    """A `.npz` archive; its arrays are named by its members, without the suffix."""

    def parse(self, size: int) -> None:  # noqa: ARG002  (of which the directory says where it ends)
        """Read the directory, and the header of every array."""
        archive = open_archive(self.descriptor)
        self._inflated = _InflatedMember(archive)
        self.members = read_members(archive, self.descriptor, takes_faults=bool(self.options.datasets))
        #: Of stored members that are being read; and which ones fit theirs.
        self._sums: dict[int, Checksum] = {}
        self._are_right = bytearray(len(self.members))
        self._lock = threading.Lock()
        for number, member in enumerate(self.members):
            if member.header is not None:
                try:
                    self.specs.append(member.spec(number, member.header, self.options.input_dtype))
                except DTypeError as error:
                    self.others.append((member.array_name, str(error)))
            elif member.info.filename.endswith(SUFFIX):
                self.others.append((member.array_name, member.fault))

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The arrays, with what a comment in their headers says; those of a whole output say nothing."""
        for number, member in enumerate(self.members):
            if member.header is not None:
                with suppress(DTypeError):
                    yield member.spec(number, member.header, "bfloat16"), member.header.comment

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region, of a deflated member from what is inflated of it."""
        *_, number = spec.handle
        with self._lock:
            member = self.members[number]
        header = member.header
        assert header is not None
        axes = (header.shape[::-1], region[::-1]) if header.fortran_order else (header.shape, region)
        with about(f"member {member.info.filename[:80]!r}"):
            if member.info.compress_type == zipfile.ZIP_STORED:
                values = super().read(spec, region, buffer)
                if not self._are_right[number]:
                    (first, _), *others = islice(runs(*axes), 2)
                    offset = None if others else first * header.dtype.itemsize
                    self._add_to_checksum(number, member, offset, buffer[: values.nbytes].data)
                return values
            elements = max((first + count for first, count in runs(*axes)), default=0)
            with self._inflated.lock:
                descriptor = self._inflated.inflate_to(
                    member.info, header.offset + elements * header.dtype.itemsize
                )
                return read_elements((descriptor, header.offset), header.shape, spec, region, buffer)

    def _add_to_checksum(self, number: int, member: Member, offset: int | None, data: memoryview) -> None:
        """Sum up elements of a stored member, a run from an offset on or several; compare with the last of them.

        A run is summed as it is; what was read otherwise is read once more, in order.
        """
        header = member.header
        assert header is not None
        start = member.offset + header.offset
        with self._lock:
            if number not in self._sums:
                crc = crc32(bytes_at(self.descriptor, member.offset, header.offset))
                self._sums[number] = Checksum(crc, header.nbytes)
            checksum = self._sums[number]
        if checksum.add(offset, data):
            crc = checksum.total(lambda at, count: blocks_at(self.descriptor, start + at, count))
            if crc != member.info.CRC:
                raise FormatError("does not fit its checksum; is the archive damaged?")
            self._are_right[number] = True
            del self._sums[number]

    def close(self) -> None:
        """Close the file, and let go of what was inflated."""
        super().close()
        self._inflated.close()


class _InflatedMember:
    """The front of one deflated member at a time, in a temporary file."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.lock = threading.Lock()
        self._spool: Spool | None = None
        #: The offset of its header.
        self._member: int | None = None
        self._stream: IO[bytes]

    def inflate_to(self, member: zipfile.ZipInfo, end: int) -> int:
        """Inflate at least so many bytes of a member; a descriptor of the file that has them."""
        self._spool = self._spool or Spool()
        descriptor = self._spool.file.fileno()
        try:
            if self._member != member.header_offset:
                self._spool.empty()
                self._stream, self._position = self._archive.open(member), 0
            self._member = None  # if an error comes between
            while self._position < end:
                data = self._stream.read(STEP_BYTES)
                if not data:
                    raise FormatError("ends before its data; is the archive damaged?")
                with translate_errors("cannot be inflated into a temporary file (TMPDIR)"):
                    write_at(descriptor, self._position, data)
                self._position += len(data)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise FormatError(f"cannot be inflated: {error}; is the archive damaged?") from error
        self._member = member.header_offset
        return descriptor

    def close(self) -> None:
        """Let go of the file."""
        if self._spool is not None:
            self._spool.close()


def read_members(archive: zipfile.ZipFile, descriptor: int, *, takes_faults: bool = False) -> Backlog[Member]:
    """All members of an archive in an open file, checked, in the order of its directory.

    Arrays that cannot be pooled are errors, unless others are chosen: with `takes_faults` members say why.
    """
    names, members = Table[None](), Backlog[Member]()
    #: Where the members begin, their bytes begin, and they end.
    offsets = array("q")
    for info in archive.infolist():
        check_name(info.orig_filename)
        check_name(info.filename)
        if not names.add(info.filename, None):
            raise FormatError(f"has two members {info.filename[:80]!r}")
        with about(f"member {info.filename[:80]!r}"):
            if info.flag_bits & ENCRYPTED:
                raise FormatError("is encrypted; decrypt the archive first: unzip, then zip -0")
            offset = data_offset(descriptor, info, archive.start_dir)
            try:
                member = Member(info, offset, _header(descriptor, info, offset))
            except FormatError as error:
                if not takes_faults:
                    raise
                member = Member(info, offset, None, str(error))
            members.append(member)
        offsets.extend((info.header_offset, offset, offset + info.compress_size))
    starts, firsts, stops = np.frombuffer(offsets, np.int64).reshape(-1, 3).T
    order = np.lexsort((firsts, starts))
    for number in order[1:][starts[order][1:] < stops[order][:-1]]:
        raise FormatError(f"has a member {members[number].info.filename[:80]!r} that overlaps another")
    return members


def _header(descriptor: int, info: zipfile.ZipInfo, offset: int) -> Header | None:
    """The header of an array, held against the member's size; None for what is carried over."""
    if not info.filename.endswith(SUFFIX):
        return None
    size, packed_size = info.file_size, info.compress_size
    if info.compress_type == zipfile.ZIP_STORED:
        if packed_size != size:
            raise FormatError(f"is stored, but has {packed_size} bytes for {size}")
    elif info.compress_type != zipfile.ZIP_DEFLATED:
        raise FormatError(
            f"is compressed by method {info.compress_type}; expected 0 (stored) or 8 (deflated)"
        )
    elif size > packed_size * DEFLATE_RATIO + DEFLATE_REST:
        raise FormatError(f"claims {size} bytes, more than {packed_size} can be inflated to")
    start = bytes_at(descriptor, offset, min(packed_size, BEGINNING_BYTES))
    try:
        if info.compress_type == zipfile.ZIP_DEFLATED:
            start = zlib.decompressobj(-zlib.MAX_WBITS).decompress(start, BEGINNING_BYTES)
        header = read_header(io.BytesIO(start).read)
    except zlib.error:
        raise FormatError("cannot be inflated; is the archive damaged?") from None
    except DTypeError:  # objects, which are carried over as they are and never unpickled
        return None
    size_bytes = header.offset + header.nbytes
    if size_bytes != size:
        raise FormatError(f"has {size} bytes, its header promises {size_bytes}")
    return header
