"""An `.npz` archive while it is written.

Stored members have their place from the first moment on, so regions are written there, from any thread. Means
that are to be deflated wait in a spool, and are deflated at the end, so they stand last in the file, though
not in its directory, which has the order of the source.
"""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from copy import copy
from itertools import chain, groupby
from typing import NamedTuple

from lucid.backlog import Backlog
from lucid.errors import DatasetError, FormatError
from lucid.formats.archive import LENGTHS_BEHIND, check_name
from lucid.formats.arrays import ResultSpec
from lucid.formats.checksum import crc32
from lucid.formats.choosing import CarriedNames, note_lines
from lucid.formats.contract import Source
from lucid.formats.disk.files import blocks_at, write_at
from lucid.formats.disk.replacement import Replacement
from lucid.formats.flat import Content, CopiedBytes, FlatSink
from lucid.formats.npy import header_of
from lucid.formats.npz.source import SUFFIX, NpzSource


class _NewMember(NamedTuple):
    """A member to be written: means behind their header, or what is carried over."""

    info: zipfile.ZipInfo
    content: ResultSpec | CopiedBytes
    header: bytes = b""


class NpzSink(FlatSink):
    """An `.npz` archive while it is written."""

    files = ".npz"
    compressions = ("gzip",)

    def contents(self, source: Source, results: Sequence[ResultSpec]) -> Iterator[Content]:
        """Every member behind its header, but for those that wait."""
        #: There may be a million.
        self._members, self._late_results = Backlog[_NewMember](), Backlog[ResultSpec]()
        self._end = 0
        for member in self._plan_members(source, results):
            info, content, header = member
            if isinstance(content, ResultSpec) and info.compress_type == zipfile.ZIP_DEFLATED:
                self._late_results.append(content)
            else:
                info.header_offset = self._end
                yield info.FileHeader() + header
                yield content
                self._end += len(info.FileHeader()) + info.compress_size
            self._members.append(member)

    def begin(self, source: Source, results: Sequence[ResultSpec]) -> None:
        """Write all but the means, and make room for those that wait."""
        super().begin(source, results)
        self.hold(self._late_results)

    def _plan_members(self, source: Source, results: Sequence[ResultSpec]) -> Iterator[_NewMember]:
        """What will be in the archive, in the order of the source."""
        if not isinstance(source, NpzSource):
            for array in results:
                yield self._plan_means_member(array, zipfile.ZIP_STORED)
            return
        names = CarriedNames(results, self.options)
        # Both are in the order of the archive.
        means = groupby(results, lambda result: result.source.name)
        pooled_name, arrays = next(means, (None, iter(())))
        for member in source.members:
            if member.header is not None and member.array_name == pooled_name:
                for array in arrays:
                    yield self._plan_means_member(array, member.info.compress_type)
                pooled_name, arrays = next(means, (None, iter(())))
                continue
            if names.is_alone or names.drops(member.array_name):
                continue
            if member.info.filename.endswith(SUFFIX):  # other files are never called as arrays are
                names.check(member.array_name)
            info = copy(member.info)
            info.extra = b""
            # The lengths stand before the bytes in any case.
            info.flag_bits &= ~LENGTHS_BEHIND
            yield _NewMember(info, CopiedBytes((source.descriptor, member.offset), info.compress_size))
        self.notes += note_lines(names.notes)

    def _plan_means_member(self, result: ResultSpec, method: int) -> _NewMember:
        """A member of means, compressed as its source was unless told otherwise."""
        if self.compression is not None:
            method = zipfile.ZIP_STORED if self.compression.name == "none" else zipfile.ZIP_DEFLATED
        name = result.name.removeprefix("/") + SUFFIX
        try:
            check_name(name)
            name.encode()
        except (FormatError, UnicodeEncodeError):
            raise DatasetError(f"a .npz file has no member of the name {name!r}") from None
        info = zipfile.ZipInfo(name)  # of the first day that there is: no clock time enters a file
        info.compress_type = method
        info.external_attr = 0o600 << 16  # the rights that numpy.savez gives
        header = header_of(result)
        info.CRC, info.file_size = 0, len(header) + result.nbytes
        info.compress_size = info.file_size
        return _NewMember(info, result, header)

    def commit(self, group: list[Replacement] | None = None) -> None:
        """Sum up the members of means, deflate those that wait, and write the directory."""
        directory = Backlog[zipfile.ZipInfo]()
        for info, content, header in self._members:
            if isinstance(content, ResultSpec):
                self._finish(info, content, header)
            directory.append(info)
        with open(self.descriptor, "r+b", closefd=False) as file:
            file.seek(self._end)
            with zipfile.ZipFile(file, "w") as archive:
                archive.filelist = directory  # type: ignore[assignment]  # it is only gone through
        super().commit(group)

    def _finish(self, info: zipfile.ZipInfo, result: ResultSpec, header: bytes) -> None:
        """Sum up a member of means that has its place, or deflate it behind all others."""
        offset = self.offsets[result.number]
        if offset >= 0:
            for data in blocks_at(self.descriptor, offset - len(header), info.file_size):
                info.CRC = crc32(data, info.CRC)
            write_at(self.descriptor, info.header_offset, info.FileHeader())
            return
        assert self.spool is not None
        # What deflating does not shorten it makes a little longer.
        is_large = info.file_size * 1.05 > zipfile.ZIP64_LIMIT
        level = None if self.compression is None else self.compression.level
        deflater = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, -zlib.MAX_WBITS)
        start = end = self._end + len(info.FileHeader(is_large))
        for data in chain([header], blocks_at(*self.spool.start_of(result), result.nbytes)):
            info.CRC = crc32(data, info.CRC)
            packed = deflater.compress(data)
            write_at(self.descriptor, end, packed)
            end += len(packed)
        packed = deflater.flush()
        write_at(self.descriptor, end, packed)
        end += len(packed)
        info.header_offset, info.compress_size, self._end = self._end, end - start, end
        write_at(self.descriptor, info.header_offset, info.FileHeader(is_large))
