"""A `.npz` archive in the options.

Stored members have their place from the first moment on, so regions are written there, from any thread. Means
that are to be deflated wait in a spool; they are deflated at the end and stand last in the file, though not
in its directory, which has the order of the source.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lucid.compression import parse_compression
from lucid.errors import ArgumentError, DatasetError, FormatError
from lucid.formats.choosing import is_meant
from lucid.formats.contract import Array, Pooled, Region, Sink, Source
from lucid.formats.disk.files import claim, read_at, write_at, write_region
from lucid.formats.disk.replacement import Replacement
from lucid.formats.disk.spool import Spool
from lucid.formats.npy import header_of
from lucid.formats.npz.directory import (
    DEFLATED,
    LENGTHS_BEHIND,
    NO_TIME,
    STORED,
    UTF8,
    Directory,
    Member,
    check_name,
    directory_entry,
    end_of,
    local_header,
)
from lucid.formats.npz.members import SUFFIX, Entry, name_of_array
from lucid.formats.npz.source import NpzSource
from lucid.options import Options

#: Bytes copied at once.
COPY_BYTES = 1 << 20
#: Rights of a new member, as numpy.savez has them: read and write for its owner.
ATTRIBUTES = 0o600 << 16


class _Made(NamedTuple):
    """A member to be written: means behind their header, or what is carried over."""

    member: Member
    pooled: Pooled | None
    header: bytes
    carried: Entry | None = None
    #: Where the member's bytes, or the means in the spool, begin.
    start: int = 0


class NpzSink(Sink):
    """A `.npz` archive in the options."""

    def __init__(self, path: Path, options: Options, *, joins: bool = False) -> None:
        super().__init__(path, options, joins=joins)
        self._compression = parse_compression(options.compression)
        if self._compression is not None and self._compression.name not in ("none", "gzip"):
            raise ArgumentError(
                f"`compression` is {options.compression!r}; .npz files have none, or gzip (deflate)"
            )
        self._file = Replacement(path, overwrite=options.overwrite)
        self._spool: Spool | None = None
        self._descriptor = -1
        self._members: list[_Made] = []
        self._places: dict[str, tuple[int, int]] = {}

    def begin(self, source: Source, pooled: Sequence[Pooled]) -> None:
        """Give every member its place, and copy what is carried over."""
        members = list(self._planned(source, pooled))
        names: set[str] = set()
        for made in members:
            if made.member.name in names:
                raise DatasetError(f"output {self.path} would have two members {made.member.name!r}")
            names.add(made.member.name)
        self._descriptor = self._file.create()
        self._end = spooled = 0
        for made in members:
            if made.member.method == DEFLATED and made.pooled is not None:
                self._members.append(made._replace(start=spooled))
                spooled += made.pooled.nbytes
            else:
                start = self._end + len(local_header(made.member))
                self._members.append(
                    made._replace(member=made.member._replace(offset=self._end), start=start)
                )
                self._end = start + made.member.packed
        claim(self._descriptor, self._end)
        if spooled:
            self._spool = Spool(self._file.target.parent)
            claim(self._spool.file.fileno(), spooled)
        for made in self._members:
            if made.pooled is None:
                self._carry(made, source)
            elif made.member.method == DEFLATED:
                assert self._spool is not None
                self._places[made.pooled.name] = (self._spool.file.fileno(), made.start)
            else:
                self._places[made.pooled.name] = (self._descriptor, made.start + len(made.header))

    def _planned(self, source: Source, pooled: Sequence[Pooled]) -> Iterator[_Made]:
        """What will be in the archive, in the order of the source."""
        carries = self.options.carry and not any(array.is_shard for array in pooled)
        by_source: dict[str, list[Pooled]] = {}
        for array in pooled:
            by_source.setdefault(array.source.name, []).append(array)
        if not isinstance(source, NpzSource):
            for array in pooled:
                yield self._made(array, STORED)
            return
        for entry in source.entries:
            member = entry.member
            arrays = by_source.get(name_of_array(member), []) if entry.header is not None else []
            for array in arrays:
                yield self._made(array, member.method)
            if (
                not arrays
                and carries
                and not is_meant(f"/{member.name.removesuffix(SUFFIX)}", self.options.drop)
            ):
                # The lengths stand before the bytes in any case.
                yield _Made(member._replace(flags=member.flags & ~LENGTHS_BEHIND), None, b"", entry)

    def _made(self, pooled: Pooled, method: int) -> _Made:
        """A member of means, compressed as its source was unless told otherwise."""
        if self._compression is not None:
            method = STORED if self._compression.name == "none" else DEFLATED
        name = pooled.name.removeprefix("/") + SUFFIX
        try:
            check_name(name)
            raw_name = name.encode()
        except (FormatError, UnicodeEncodeError):
            raise DatasetError(f"a .npz file has no member of the name {name!r}") from None
        header = header_of(pooled)
        size = len(header) + pooled.nbytes
        flags = 0 if name.isascii() else UTF8
        packed = size if method == STORED else 0
        return _Made(
            Member(name, raw_name, flags, method, NO_TIME, 0, packed, size, ATTRIBUTES, 0), pooled, header
        )

    def _carry(self, made: _Made, source: Source) -> None:
        """Copy a member as it is stored."""
        assert isinstance(source, NpzSource)
        assert made.carried is not None
        write_at(self._descriptor, made.member.offset, memoryview(local_header(made.member)))
        for at, block in _blocks(source.descriptor, made.carried.offset, made.member.packed):
            write_at(self._descriptor, made.start + at, memoryview(block))

    def write(self, pooled: Pooled, region: Region, values: Array) -> None:
        """Write a region to its place in the file or the spool."""
        descriptor, offset = self._places[pooled.name]
        write_region(descriptor, offset, pooled.shape, region, values)

    def commit(self) -> None:
        """Finish the members and the directory, and put the file in its place."""
        entries = []
        for made in self._members:
            member = made.member
            if made.pooled is not None:
                member = self._finish_deflated(made) if member.method == DEFLATED else self._finish(made)
            entries.append(directory_entry(member))
        start = self._end
        for entry in entries:
            self._append(entry)
        self._append(end_of(Directory(start, self._end, len(entries))))
        self._file.commit(self.later)
        self.close()

    def _finish(self, made: _Made) -> Member:
        """Write the header of a stored member, for which its bytes are read again to sum them up."""
        assert made.pooled is not None
        write_at(self._descriptor, made.start, memoryview(made.header))
        crc = zlib.crc32(made.header)
        for _, block in _blocks(self._descriptor, made.start + len(made.header), made.pooled.nbytes):
            crc = zlib.crc32(block, crc)
        member = made.member._replace(crc=crc)
        write_at(self._descriptor, member.offset, memoryview(local_header(member)))
        return member

    def _finish_deflated(self, made: _Made) -> Member:
        """Deflate a member from the spool to the end of the file."""
        assert made.pooled is not None
        assert self._spool is not None
        offset, level = self._end, self._compression.level if self._compression else None
        self._end += len(local_header(made.member))
        start, crc = self._end, zlib.crc32(made.header)
        deflater = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._append(deflater.compress(made.header))
        for _, block in _blocks(self._spool.file.fileno(), made.start, made.pooled.nbytes):
            crc = zlib.crc32(block, crc)
            self._append(deflater.compress(block))
        self._append(deflater.flush())
        member = made.member._replace(crc=crc, packed=self._end - start, offset=offset)
        write_at(self._descriptor, offset, memoryview(local_header(member)))
        return member

    def _append(self, data: bytes) -> None:
        write_at(self._descriptor, self._end, memoryview(data))
        self._end += len(data)

    def close(self) -> None:
        """Remove the file unless it was committed, and the spool."""
        self._file.abort()
        if self._spool is not None:
            self._spool.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _blocks(descriptor: int, start: int, count: int) -> Iterator[tuple[int, bytearray]]:
    """Bytes of a file in order, each block with its distance from the first."""
    for at in range(0, count, COPY_BYTES):
        block = bytearray(min(COPY_BYTES, count - at))
        read_at(descriptor, start + at, memoryview(block))
        yield at, block
