"""What is in an `.npz` archive: its members, and the headers of the arrays in them, checked before anything is read."""

import io
import zipfile
import zlib
from typing import NamedTuple

from lucid.errors import DTypeError, FormatError, named
from lucid.formats.archive import ENCRYPTED, check_name, data_offset
from lucid.formats.disk.files import bytes_at
from lucid.formats.npy import BEGINNING_BYTES, Header, read_header

#: What a member that holds an array is called, behind the array's name.
SUFFIX = ".npy"
#: Deflate makes at most so many bytes of one, and a few more at the end of a stream.
DEFLATE_RATIO, DEFLATE_REST = 1032, 1 << 10


class Member(NamedTuple):
    """A file in an archive: what the directory says, the offset of its bytes, the header of the array in it, if any."""

    info: zipfile.ZipInfo
    offset: int
    header: Header | None

    @property
    def array_name(self) -> str:
        """The name of the array in it."""
        return f"/{self.info.filename.removesuffix(SUFFIX)}"


def read_members(archive: zipfile.ZipFile, descriptor: int) -> list[Member]:
    """All members of an archive in an open file, checked, in the order of its directory."""
    names: set[str] = set()
    members = []
    for info in archive.infolist():
        check_name(info.orig_filename)
        check_name(info.filename)
        if info.filename in names:
            raise FormatError(f"has two members {info.filename[:80]!r}")
        names.add(info.filename)
        with named(f"member {info.filename[:80]!r}"):
            if info.flag_bits & ENCRYPTED:
                raise FormatError("is encrypted; decrypt the archive first: unzip, then zip -0")
            offset = data_offset(descriptor, info, archive.start_dir)
            members.append(Member(info, offset, _header(descriptor, info, offset)))
    stop = 0
    for info, offset, _ in sorted(members, key=lambda member: (member.info.header_offset, member.offset)):
        if info.header_offset < stop:
            raise FormatError(f"has a member {info.filename[:80]!r} that overlaps another")
        stop = offset + info.compress_size
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
    promised = header.offset + header.nbytes
    if promised != size:
        raise FormatError(f"has {size} bytes, its header promises {promised}")
    return header
