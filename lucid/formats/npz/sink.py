"""An `.npz` archive while it is written.

Stored members have their place from the first moment on, so regions are written there, from any thread. Means
that are to be deflated wait in a spool; they are deflated at the end and stand last in the file, though not
in its directory, which has the order of the source.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lucid.errors import DatasetError, FormatError
from lucid.formats.choosing import is_meant
from lucid.formats.contract import Pooled, Source
from lucid.formats.disk.files import blocks_at, bytes_at, write_at
from lucid.formats.flat import FlatSink, Layout
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
from lucid.threads import in_order

#: Bytes that one thread deflates at once, and bytes before them to which deflate may refer.
BLOCK_BYTES, WINDOW_BYTES = 1 << 18, 1 << 15
#: Rights of a new member, as numpy.savez has them: read and write for its owner.
ATTRIBUTES = 0o600 << 16


class _Made(NamedTuple):
    """A member to be written: means behind their header, or what is carried over."""

    member: Member
    pooled: Pooled | None = None
    header: bytes = b""
    carried: Entry | None = None

    @property
    def waits(self) -> bool:
        """Whether it is deflated when its means are known, and has no place before."""
        return self.pooled is not None and self.member.method == DEFLATED


class NpzSink(FlatSink):
    """An `.npz` archive while it is written."""

    files = ".npz"
    compressions = ("gzip",)

    def layout(self, source: Source, pooled: Sequence[Pooled]) -> Layout:
        """Every member at its place, which is in the spool for those that wait."""
        layout, names = Layout(), set[str]()
        self._waiting, self._members = Layout(), list[_Made]()
        for made in self._planned(source, pooled):
            member = made.member._replace(offset=layout.size)
            if member.name in names:
                raise DatasetError(f"output {self.path} would have two members {member.name!r}")
            names.add(member.name)
            self._members.append(made._replace(member=member))
            holder = self._waiting if made.waits else layout
            text = made.header if made.waits else local_header(member) + made.header
            holder.texts.append((holder.size, text))
            start = holder.size + len(text)
            holder.size = start - len(made.header) + (member.size if made.waits else member.packed)
            if made.pooled is not None:
                holder.offsets[made.pooled.name] = start
            elif made.carried is not None:
                holder.copies.append((start, made.carried.offset, member.packed))
        self._end = layout.size
        return layout

    def begin(self, source: Source, pooled: Sequence[Pooled]) -> None:
        """Write all but the means, and make room for those that wait."""
        super().begin(source, pooled)
        if self._waiting.size:
            self.prepare_spool(self._waiting, self.file.target.parent)

    def _planned(self, source: Source, pooled: Sequence[Pooled]) -> Iterator[_Made]:
        """What will be in the archive, in the order of the source."""
        carries = self.carries(pooled)
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
            if not arrays and carries and not is_meant(name_of_array(member), self.options.drop):
                # The lengths stand before the bytes in any case.
                yield _Made(member._replace(flags=member.flags & ~LENGTHS_BEHIND), carried=entry)

    def _made(self, pooled: Pooled, method: int) -> _Made:
        """A member of means, compressed as its source was unless told otherwise."""
        if self.compression is not None:
            method = STORED if self.compression.name == "none" else DEFLATED
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

    def finish(self) -> None:
        """Sum up the members of means, deflate those that wait, and write the directory."""
        members = [made.member if made.pooled is None else self._finished(made) for made in self._members]
        start = self._end
        for member in members:
            self._append(directory_entry(member))
        self._append(end_of(Directory(start, self._end, len(members))))

    def _finished(self, made: _Made) -> Member:
        """A member of means as it is in the file in the end."""
        assert made.pooled is not None
        descriptor, offset = self.places[made.pooled.name]
        start = offset - len(made.header)
        member, crc = made.member, 0
        if made.waits:
            member = member._replace(offset=self._end)
            self._end += len(local_header(member))
            first = self._end
            for data, packed in self._deflated(descriptor, start, member.size):
                crc = zlib.crc32(data, crc)
                self._append(packed)
            member = member._replace(packed=self._end - first)
        else:
            for data in blocks_at(descriptor, start, member.size):
                crc = zlib.crc32(data, crc)
        member = member._replace(crc=crc)
        write_at(self.descriptor, member.offset, local_header(member))
        return member

    def _deflated(self, descriptor: int, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
        """Blocks of a file, each with what it is deflated to: one after another, these are one stream.

        As pigz has it, threads deflate a block each, which refers to the end of the one before and ends at a full
        byte. So the stream is the same for any number of them.
        """
        level = self.compression.level if self.compression else None

        def deflated(at: int) -> tuple[bytes, bytes]:
            before = min(at, WINDOW_BYTES)
            data = bytes_at(descriptor, start + at - before, before + min(BLOCK_BYTES, size - at))
            window, data = data[:before], data[before:]
            deflater = zlib.compressobj(
                -1 if level is None else level, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=window
            )
            ends = zlib.Z_FINISH if at + len(data) == size else zlib.Z_SYNC_FLUSH
            return data, deflater.compress(data) + deflater.flush(ends)

        workers = self.options.workers
        return in_order(deflated, range(0, size, BLOCK_BYTES), workers=workers, in_flight=2 * workers)

    def _append(self, data: bytes) -> None:
        write_at(self.descriptor, self._end, data)
        self._end += len(data)
