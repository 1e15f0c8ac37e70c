"""The members of `.npz` archives, and the headers of the arrays in them, checked before anything is read."""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from lucid.errors import DTypeError, FormatError
from lucid.formats.contract import named
from lucid.formats.npy import HEADER_LIMIT, PREFIX_BYTES, Header, Read, read_header
from lucid.formats.npz.directory import (
    DEFLATED,
    ENCRYPTED,
    STORED,
    Member,
    check_name,
    data_offset,
    find_directory,
    members,
)

#: What a member that holds an array is called, behind the array's name.
SUFFIX = ".npy"
#: Deflate makes at most so many bytes of one, and a few more at the end of a stream.
DEFLATE_RATIO, DEFLATE_REST = 1032, 1 << 10
#: Bytes read at once of a header; most have 128.
START_BYTES = 128


class Entry(NamedTuple):
    """A member, the offset of its bytes, and the header of the array in it, None for any other member."""

    member: Member
    offset: int
    header: Header | None


def read_entries(read: Read, size: int) -> list[Entry]:
    """All members of an archive, checked, in the order of its directory.

    Raises
    ------
    FormatError
        The archive is damaged, or made to mislead.

    """
    directory = find_directory(read, size)
    names: set[str] = set()
    entries = []
    for member in members(read, directory):
        check_name(member.name)
        if member.name in names:
            raise FormatError(f"has two members {member.name[:80]!r}")
        names.add(member.name)
        with named(f"member {member.name[:80]!r}"):
            if member.flags & ENCRYPTED:
                raise FormatError("is encrypted; decrypt the archive first: unzip, then zip -0")
            offset = data_offset(read, member, directory)
            entries.append(Entry(member, offset, _header(read, member, offset)))
    stop = 0
    for member, offset, _ in sorted(entries, key=lambda entry: (entry.member.offset, entry.offset)):
        if member.offset < stop:
            raise FormatError(f"has a member {member.name[:80]!r} that overlaps another")
        stop = offset + member.packed
    return entries


def _header(read: Read, member: Member, offset: int) -> Header | None:
    """The header of an array, held against the member's size; None for what is carried over."""
    if not member.name.endswith(SUFFIX):
        return None
    if member.method == STORED:
        if member.packed != member.size:
            raise FormatError(f"is stored, but has {member.packed} bytes for {member.size}")
    elif member.method != DEFLATED:
        raise FormatError(f"is compressed by method {member.method}; expected 0 (stored) or 8 (deflated)")
    elif member.size > member.packed * DEFLATE_RATIO + DEFLATE_REST:
        raise FormatError(f"claims {member.size} bytes, more than {member.packed} can be inflated to")
    start, more = b"", bytes_of(read, member, offset, START_BYTES)

    def read_start(at: int, count: int) -> bytes:
        nonlocal start
        if at + count > min(member.size, PREFIX_BYTES + 2 + HEADER_LIMIT):
            raise FormatError("ends before its header")
        while len(start) < at + count:
            start += next(more)
        return start[at : at + count]

    try:
        header = read_header(read_start)
    except DTypeError:  # objects, which are carried over as they are and never unpickled
        return None
    if header.offset + header.nbytes != member.size:
        promised = header.offset + header.nbytes
        raise FormatError(f"has {member.size} bytes, its header promises {promised}")
    return header


def bytes_of(read: Read, member: Member, offset: int, step: int) -> Iterator[bytes]:
    """The bytes of a member in order, so many of them at a time; of a deflated one length and sum are checked.

    Raises
    ------
    FormatError
        They are not what the archive says.

    """
    if member.method == STORED:
        for at in range(0, member.size, step):
            yield read(offset + at, min(step, member.size - at))
        return
    inflater, taken, done, crc = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0, 0
    while done < member.size:
        packed = inflater.unconsumed_tail
        if not packed:
            packed = read(offset + taken, min(step, member.packed - taken))
            taken += len(packed)
        try:
            # One byte more than are left shows a member that is longer than the archive says.
            data = inflater.decompress(packed, min(step, member.size - done + 1))
        except zlib.error:
            raise FormatError("cannot be inflated; is the archive damaged?") from None
        done += len(data)
        is_over = not data and taken == member.packed and not inflater.unconsumed_tail
        if is_over or done > member.size:
            raise FormatError("does not inflate to the length that the archive says; is it damaged?")
        crc = zlib.crc32(data, crc)
        if done == member.size:
            check_sum(member, crc)
        yield data


def check_sum(member: Member, crc: int) -> None:
    """Raise unless the bytes of a member have its sum."""
    if crc != member.crc:
        raise FormatError("does not fit its checksum; is the archive damaged?")


def name_of_array(member: Member) -> str:
    """The name of the array in a member."""
    return f"/{member.name.removesuffix(SUFFIX)}"
