"""Zip archives as bytes: the directory read entry by entry, and the records that make one.

The format is PKWARE's APPNOTE 6.3. Python's `zipfile` reads a whole directory into memory, copies no member
as it is stored, and fills in none at an offset, so this stands beside it. The directory is text from a
stranger: every length is held against the file before anything is read, and what two readers could understand
differently is refused.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from lucid.errors import FormatError
from lucid.formats.npy import Read

STORED, DEFLATED = 0, 8
#: Flags of a member: encrypted, by any of three ways; lengths that stand behind the data; a name in UTF-8.
ENCRYPTED, LENGTHS_BEHIND, UTF8 = 0x2041, 0x8, 0x800
#: Most members that are listed: each takes half a kilobyte of memory.
MEMBER_LIMIT = 1 << 20
#: Bytes of the directory that are read at once; an entry takes less than 200 KB.
DIRECTORY_BYTES = 1 << 18
#: From these on, a number has its place in a ZIP64 record.
MAX16, MAX32 = 0xFFFF, 0xFFFFFFFF
#: 1 January 1980, the first day that a zip archive can name: no clock time enters a file.
NO_TIME = 0x0021_0000

_LOCAL = struct.Struct("<4s3HI3I2H")
_ENTRY = struct.Struct("<4s4HI3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_LOCAL_MAGIC, _ENTRY_MAGIC, _END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END64_MAGIC, _LOCATOR_MAGIC = b"PK\x06\x06", b"PK\x06\x07"
#: Tag of the extra field of ZIP64, and the version of the format that has it.
_ZIP64, _ZIP64_VERSION, _VERSION = 1, 45, 20


class Member(NamedTuple):
    """One file in an archive, as the directory says; `packed` are its bytes there, `size` those unpacked."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    time: int
    crc: int
    packed: int
    size: int
    attributes: int
    offset: int


class Directory(NamedTuple):
    """Where the directory of an archive lies."""

    start: int
    stop: int
    members: int


def find_directory(read: Read, size: int) -> Directory:
    """Read the end of an archive.

    Raises
    ------
    FormatError
        The archive has no end, or its end does not fit the file.

    """
    tail_start = max(0, size - _END.size - MAX16)
    tail = read(tail_start, size - tail_start)
    at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        raise FormatError("is a zip archive without its directory; was it cut off?")
    _, disk, _, _, count, length, start, comment = _END.unpack_from(tail, at)
    stop = tail_start + at
    if stop + _END.size + comment != size:
        raise FormatError("is a zip archive whose end does not fit the file; was it cut off or joined?")
    if stop >= _LOCATOR.size and (locator := read(stop - _LOCATOR.size, _LOCATOR.size))[:4] == _LOCATOR_MAGIC:
        stop = _LOCATOR.unpack(locator)[2]
        if stop + _END64.size > size or (record := read(stop, _END64.size))[:4] != _END64_MAGIC:
            raise FormatError("is a zip archive whose ZIP64 end is not where it says")
        _, _, _, _, disk, _, _, count, length, start = _END64.unpack(record)
    if disk:
        raise FormatError("is one of several files of a zip archive; join them first: zip -s 0")
    if start + length != stop or count * _ENTRY.size > length:
        raise FormatError("is a zip archive whose directory does not lie where it says")
    if count > MEMBER_LIMIT:
        raise FormatError(f"is a zip archive of {count} members; expected at most {MEMBER_LIMIT}")
    return Directory(start, stop, count)


def members(read: Read, directory: Directory) -> Iterator[Member]:
    """Every member in the order of the directory, which is read in steps.

    Raises
    ------
    FormatError
        An entry does not follow the format.

    """
    position, window, base = directory.start, b"", directory.start
    for _ in range(directory.members):
        if position + _ENTRY.size + 3 * MAX16 > base + len(window) and base + len(window) < directory.stop:
            base = position
            window = read(base, min(DIRECTORY_BYTES, directory.stop - base))
        member, length = _entry(window, position - base)
        yield member
        position += length
    if position != directory.stop:
        raise FormatError("is a zip archive whose directory holds more than it says")


def _entry(window: bytes, at: int) -> tuple[Member, int]:
    """An entry of the directory, and its length."""
    if len(window) - at < _ENTRY.size or window[at : at + 4] != _ENTRY_MAGIC:
        raise FormatError("is a zip archive whose directory is damaged")
    _, _, _, flags, method, time, crc, packed, size, *lengths, _, _, attributes, offset = _ENTRY.unpack_from(
        window, at
    )
    name_length, extra_length, comment_length = lengths
    length = _ENTRY.size + name_length + extra_length + comment_length
    raw_name = window[at + _ENTRY.size : at + _ENTRY.size + name_length]
    if at + length > len(window):
        raise FormatError("is a zip archive whose directory is damaged")
    if MAX32 in (packed, size, offset):
        extra = window[at + _ENTRY.size + name_length :][:extra_length]
        size, packed, offset = _long_numbers(extra, [size, packed, offset])
    try:
        name = raw_name.decode("utf-8" if flags & UTF8 else "cp437")
    except UnicodeDecodeError:
        raise FormatError(f"has a member {raw_name[:80]!r}, whose name is no text") from None
    return Member(name, raw_name, flags, method, time, crc, packed, size, attributes, offset), length


def _long_numbers(extra: bytes, numbers: list[int]) -> list[int]:
    """Numbers of which those that are full stand in the extra field of ZIP64, in this order."""
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + length]
        at += 4 + length
        if tag == _ZIP64 and len(field) >= 8 * numbers.count(MAX32):
            places = iter(range(0, len(field), 8))
            return [struct.unpack_from("<Q", field, next(places))[0] if n == MAX32 else n for n in numbers]
    raise FormatError("is a zip archive whose directory lacks a number of 64 bits")


def data_offset(read: Read, member: Member, directory: Directory) -> int:
    """Where a member's bytes begin; its own header is held against the directory.

    Raises
    ------
    FormatError
        The two do not agree, or the bytes would reach into the directory.

    """
    start = member.offset + _LOCAL.size
    if start + len(member.raw_name) + member.packed <= directory.start:
        magic, _, _, method, _, _, packed, size, name_length, extra_length = _LOCAL.unpack(
            read(member.offset, _LOCAL.size)
        )
        raw_name = read(start, min(name_length, len(member.raw_name)))
        start += int(name_length) + int(extra_length)
        lengths = {(0, 0), (MAX32, MAX32), (member.packed, member.size)}
        if (
            (magic, method, raw_name, name_length)
            == (_LOCAL_MAGIC, member.method, member.raw_name, len(member.raw_name))
            and (packed, size) in lengths
            and start + member.packed <= directory.start
        ):
            return start
    raise FormatError("its header is not what the directory of the archive says")


def check_name(name: str) -> None:
    """Raise for a name that would lead out of the folder to which an archive is extracted."""
    parts = re.split(r"[/\\]", name)
    is_drive = len(parts) > 1 and re.fullmatch("[A-Za-z]:", parts[0])
    if parts[0] == "" or ".." in parts or "\0" in name or is_drive:
        raise FormatError(f"has a member {name[:80]!r}, whose name leads out of it")


def local_header(member: Member) -> bytes:
    """What stands before a member's bytes."""
    is_long = _is_long(member)
    extra = struct.pack("<2H2Q", _ZIP64, 16, member.size, member.packed) if is_long else b""
    packed, size = (MAX32, MAX32) if is_long else (member.packed, member.size)
    fixed = _LOCAL.pack(
        _LOCAL_MAGIC, _ZIP64_VERSION if is_long else _VERSION, member.flags, member.method, member.time,
        member.crc, packed, size, len(member.raw_name), len(extra),
    )  # fmt: skip
    return fixed + member.raw_name + extra


def directory_entry(member: Member) -> bytes:
    """A member's entry in the directory."""
    longs: list[int] = [member.size, member.packed] if _is_long(member) else []
    longs += [member.offset] if member.offset >= MAX32 else []
    extra = struct.pack(f"<2H{len(longs)}Q", _ZIP64, 8 * len(longs), *longs) if longs else b""
    packed, size = (MAX32, MAX32) if _is_long(member) else (member.packed, member.size)
    version = _ZIP64_VERSION if longs else _VERSION
    # The upper byte says that attributes are those of Unix.
    fixed = _ENTRY.pack(
        _ENTRY_MAGIC, 3 << 8 | version, version, member.flags, member.method, member.time, member.crc,
        packed, size, len(member.raw_name), len(extra), 0, 0, 0, member.attributes, min(member.offset, MAX32),
    )  # fmt: skip
    return fixed + member.raw_name + extra


def end_of(directory: Directory) -> bytes:
    """What stands behind the directory."""
    start, stop, count = directory
    length = stop - start
    end = _END.pack(
        _END_MAGIC, 0, 0, min(count, MAX16), min(count, MAX16), min(length, MAX32), min(start, MAX32), 0
    )
    if count < MAX16 and length < MAX32 and start < MAX32:
        return end
    end64 = _END64.pack(
        _END64_MAGIC, _END64.size - 12, 3 << 8 | _ZIP64_VERSION, _ZIP64_VERSION, 0, 0, count, count, length, start,
    )  # fmt: skip
    return end64 + _LOCATOR.pack(_LOCATOR_MAGIC, 0, stop, 1) + end


def _is_long(member: Member) -> bool:
    """Whether its lengths need 64 bits; those of what is yet to be deflated may grow by a thousandth."""
    return max(member.size + member.size // 1000 + 64, member.packed) >= MAX32
