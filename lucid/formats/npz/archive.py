"""`.npz` archives of strangers: their members, and the headers of the arrays in them, checked before anything is read.

`zipfile` reads and writes directories. It reads a whole one at once, which is limited here, and believes it; where
the bytes of a member begin, it keeps to itself.
"""

import io
import re
import struct
import zipfile
import zlib
from typing import NamedTuple

from lucid.errors import DTypeError, FormatError, LucidError, about
from lucid.formats.disk.files import bytes_at
from lucid.formats.npy import BEGINNING_BYTES, Header, read_header

#: Longest directory that is read, and most members, each of which takes half a kilobyte of memory.
DIRECTORY_LIMIT, MEMBER_LIMIT = 1 << 27, 1 << 20
#: What a member that holds an array is called, behind the array's name.
SUFFIX = ".npy"
#: Deflate makes at most so many bytes of one, and a few more at the end of a stream.
DEFLATE_RATIO, DEFLATE_REST = 1032, 1 << 10
#: Flags of a member: encrypted, by any of three ways; lengths that stand behind the data; a name in UTF-8.
_ENCRYPTED, LENGTHS_BEHIND, _UTF8 = 0x2041, 0x8, 0x800

_ENTRY_MAGIC, _LOCAL_MAGIC = b"PK\x01\x02", b"PK\x03\x04"
#: A member's own header: its magic, its compression, the lengths of its name and of what stands behind that.
_LOCAL = struct.Struct("<4s4xH16x2H")


class _Limited(io.FileIO):
    """A file that gives no longer directory than is allowed."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > DIRECTORY_LIMIT:
            raise FormatError(
                f"is a zip archive with a directory of {size} bytes; expected at most {DIRECTORY_LIMIT}"
            )
        data = super().read(-1 if size is None else size)
        if (count := data.count(_ENTRY_MAGIC)) > MEMBER_LIMIT:
            raise FormatError(f"is a zip archive of {count} members; expected at most {MEMBER_LIMIT}")
        return data


def open_archive(descriptor: int) -> zipfile.ZipFile:
    """The archive in an open file."""
    try:
        return zipfile.ZipFile(_Limited(descriptor, closefd=False))
    except LucidError:
        raise
    except Exception as error:  # whatever a stranger's bytes make `zipfile` raise
        raise FormatError(
            f"begins as a zip archive, but has no directory that can be read ({error}); was it cut off?"
        ) from error


def check_name(name: str) -> None:
    """Raise for a name that would lead out of the folder to which an archive is extracted."""
    first, *others = re.split(r"[/\\]", name)
    is_drive = others and re.fullmatch("[A-Za-z]:", first)
    if first == "" or ".." in (first, *others) or "\0" in name or is_drive:
        raise FormatError(f"has a member {name[:80]!r}, whose name leads out of it")


def data_offset(descriptor: int, member: zipfile.ZipInfo, stop: int) -> int:
    """Where a member's bytes begin; its own header is held against the directory, which begins at `stop`."""
    start: int = member.header_offset + _LOCAL.size
    if member.header_offset >= 0 and start + member.compress_size <= stop:
        magic, method, name_length, extra_length = _LOCAL.unpack(
            bytes_at(descriptor, start - _LOCAL.size, _LOCAL.size)
        )
        name = bytes_at(descriptor, start, min(name_length, stop - start))
        start += name_length + extra_length
        expected = member.orig_filename.encode("utf-8" if member.flag_bits & _UTF8 else "cp437")
        is_same = (magic, method, name) == (_LOCAL_MAGIC, member.compress_type, expected)
        if is_same and start + member.compress_size <= stop:
            return start
    raise FormatError("its header is not what the directory of the archive says")


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
        with about(f"member {info.filename[:80]!r}"):
            if info.flag_bits & _ENCRYPTED:
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
