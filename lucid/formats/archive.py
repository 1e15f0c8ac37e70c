"""Zip archives of strangers, which `.npz` files and stores of Zarr may be: directories, names, where members lie.

`zipfile` reads and writes directories. It reads a whole one at once, which is limited here, and believes it; where
the bytes of a member begin, it keeps to itself. Where members are not asked for by name, they wait in a file, since
each takes half a kilobyte.
"""

import io
import re
import struct
import zipfile
from collections.abc import Iterator

from lucid.backlog import Backlog
from lucid.errors import FormatError, LucidError
from lucid.formats.disk.files import bytes_at

#: Longest directory that is read, and most members.
DIRECTORY_LIMIT, MEMBER_LIMIT = 1 << 27, 1 << 20
#: Flags of a member: encrypted, by any of three ways; lengths that stand behind the data; a name in UTF-8.
ENCRYPTED, LENGTHS_BEHIND, _UTF8 = 0x2041, 0x8, 0x800

_ENTRY_MAGIC, _LOCAL_MAGIC = b"PK\x01\x02", b"PK\x03\x04"
#: A member's own header: its magic, its compression, the lengths of its name and of what stands behind that.
_LOCAL = struct.Struct("<4s4xH16x2H")


class _LimitedReader(io.FileIO):
    """A file that gives no longer directory than is allowed, as long as it is read for that."""

    is_open = False

    def read(self, size: int | None = -1) -> bytes:
        if self.is_open:
            return super().read(-1 if size is None else size)
        if size is not None and size > DIRECTORY_LIMIT:
            raise FormatError(
                f"is a zip archive with a directory of {size} bytes; expected at most {DIRECTORY_LIMIT}"
            )
        data = super().read(-1 if size is None else size)
        if (count := data.count(_ENTRY_MAGIC)) > MEMBER_LIMIT:
            raise FormatError(f"is a zip archive of {count} members; expected at most {MEMBER_LIMIT}")
        return data


class _Members(Backlog[zipfile.ZipInfo]):
    """The members of an archive, which nobody goes through before they are complete.

    Newer versions of `zipfile` would, and hold them all for that.
    """

    is_complete = False

    def __iter__(self) -> Iterator[zipfile.ZipInfo]:
        return super().__iter__() if self.is_complete else iter(())

    def __setitem__(self, name: str, member: zipfile.ZipInfo) -> None:
        """Hold no member by its name once more."""


class _Archive(zipfile.ZipFile):
    """An archive to read, whose members wait in a file."""

    def _RealGetContents(self) -> None:  # noqa: N802  (so it is called by `zipfile`)
        self.filelist = self.NameToInfo = members = _Members()  # type: ignore[assignment]
        super()._RealGetContents()  # type: ignore[misc]
        members.is_complete = True


def open_archive(descriptor: int, *, by_name: bool = False) -> zipfile.ZipFile:
    """The archive in an open file; only `by_name` its members are found by their names, and held."""
    try:
        file = _LimitedReader(descriptor, closefd=False)
        archive = zipfile.ZipFile(file) if by_name else _Archive(file)
        file.is_open = True
        return archive
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
