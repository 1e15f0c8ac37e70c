"""The files of a Zarr store, wherever it is: a folder, an archive, or what fsspec reaches."""

import os
import struct
import zlib
from abc import abstractmethod
from pathlib import Path
from typing import Any

from lucid.errors import DatasetError, FormatError
from lucid.formats.contract import Resource
from lucid.formats.disk.files import Watch, open_regular
from lucid.formats.registry import url_of
from lucid.options import Options

#: Members of an archive that are compressed once more may grow to this.
MOST_MEMBER_BYTES = 1 << 30
#: Files by which a folder is told to be a store.
MARKS = {"zarr.json", ".zgroup", ".zarray", ".zmetadata"}


class Tree(Resource):
    """The files of a store, by keys such as `group/array/zarr.json`."""

    #: What stands before every key where zarr looks for it.
    prefix: str = ""

    @abstractmethod
    def store(self) -> Any:
        """The store as zarr knows it, but for the prefix."""

    @abstractmethod
    def list(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of the folders and of the files in a folder, sorted."""

    @abstractmethod
    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """A file, or some of its bytes, as a slice has them; None if there is none."""

    @abstractmethod
    def has(self, key: str) -> bool:
        """Whether there is a file."""

    @abstractmethod
    def state(self) -> tuple[int, ...] | None:
        """The bytes of all files, and what else changes when anything is written to; None if that cannot be seen."""

    def close(self) -> None:
        """Nothing is held open."""


class FolderTree(Tree):
    """A store in a folder."""

    def __init__(self, path: Path, *, allow_links: bool) -> None:
        self._path, self._allow_links = path.resolve(), allow_links

    def store(self) -> Any:
        from zarr.storage import LocalStore

        return LocalStore(self._path, read_only=True)

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        with os.scandir(self._path / folder) as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries]
        return sorted(n for n, is_dir in found if is_dir), sorted(n for n, is_dir in found if not is_dir)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        try:
            descriptor = os.open(f"{self._path}/{key}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return _pread(descriptor, *slice(start, stop).indices(os.fstat(descriptor).st_size)[:2])
        except IsADirectoryError:
            return None
        finally:
            os.close(descriptor)

    def has(self, key: str) -> bool:
        return os.path.isfile(f"{self._path}/{key}")  # noqa: PTH113  (a quarter of pathlib's time)

    def state(self) -> tuple[int, ...]:
        """Sizes and times of all files; that there are no links is seen on the way."""
        total = newest = count = 0
        pending = [str(self._path)]
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink() and not self._allow_links:
                        raise DatasetError(
                            f"has a link to another place, {os.path.relpath(entry.path, self._path)}, "
                            "which only `allow_external=True` follows"
                        )
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        status = entry.stat()
                        total, count = total + status.st_size, count + 1
                        newest = max(newest, status.st_mtime_ns)
        return total, newest, count


class ArchiveTree(Tree):
    """A store in a zip file."""

    def __init__(self, path: Path) -> None:
        import zipfile

        self._path = path
        self._descriptor = open_regular(path)
        self._watch = Watch(self._descriptor)
        try:
            self._zip = zipfile.ZipFile(path)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._folders: dict[str, tuple[set[str], set[str]]] = {"": (set(), set())}
        for member in self._zip.infolist():
            if member.compress_type != zipfile.ZIP_STORED and member.file_size > MOST_MEMBER_BYTES:
                raise FormatError(f"has a member that grows to {member.file_size} bytes")
            if not member.is_dir():
                check_key(member.filename)
                self._note(member.filename)
        self.prefix = self._outer_folder()

    def _outer_folder(self) -> str:
        """The folder that holds the store: `zip -r x.zarr.zip x.zarr` puts it before every name."""
        prefix, (folders, files) = "", self._folders[""]
        while not files and len(folders) == 1:
            (only,) = folders
            prefix += f"{only}/"
            folders, files = self._folders[prefix[:-1]]
        return prefix if files & MARKS else ""

    def _note(self, key: str) -> None:
        folder, _, name = key.rpartition("/")
        is_new = folder not in self._folders
        self._folders.setdefault(folder, (set(), set()))[1].add(name)
        while is_new and folder:
            folder, _, name = folder.rpartition("/")
            is_new = folder not in self._folders
            self._folders.setdefault(folder, (set(), set()))[0].add(name)

    def store(self) -> Any:
        from zarr.storage import ZipStore

        # A spooled file has lost its name.
        return ZipStore(Path(f"/dev/fd/{self._descriptor}"), mode="r")

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        folders, files = self._folders.get(f"{self.prefix}{folder}".rstrip("/"), ((), ()))
        return sorted(folders), sorted(files)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        if not self.has(key):
            return None
        member = self._zip.getinfo(f"{self.prefix}{key}")
        start, stop, _ = slice(start, stop).indices(member.file_size)
        is_whole = (start, stop) == (0, member.file_size)
        if member.compress_type != 0 or member.flag_bits & 1:
            with self._zip.open(member) as file:
                file.seek(start)
                return file.read(stop - start)
        # A member that is stored lies behind a header of its own, whose lengths are not those of the directory.
        header = os.pread(self._descriptor, 30, member.header_offset)
        if header[:4] != b"PK\x03\x04" or len(header) < 30:
            raise FormatError(f"has a member that is not where the archive says, {key[:200]!r}")
        begin = member.header_offset + 30 + sum(struct.unpack_from("<2H", header, 26))
        data = _pread(self._descriptor, begin + start, begin + stop)
        if is_whole and zlib.crc32(data) != member.CRC:
            raise FormatError(f"has a member that does not fit its checksum, {key[:200]!r}")
        return data

    def has(self, key: str) -> bool:
        folder, _, name = f"{self.prefix}{key}".rpartition("/")
        return name in self._folders.get(folder, ((), ()))[1]

    def state(self) -> tuple[int, ...]:
        self._watch.check()
        return self._watch.state

    def close(self) -> None:
        self._zip.close()
        os.close(self._descriptor)


class UrlTree(Tree):
    """A store that fsspec reaches, such as one in an object store."""

    def __init__(self, url: str) -> None:
        import fsspec

        self._url = url
        self._system, self._root = fsspec.core.url_to_fs(url)

    def store(self) -> Any:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(self._url, read_only=True)

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        entries = self._system.ls(f"{self._root}/{folder}".rstrip("/"), detail=True)
        names = [(e["name"].rstrip("/").rpartition("/")[2], e["type"] == "directory") for e in entries]
        return sorted(n for n, is_dir in names if is_dir), sorted(n for n, is_dir in names if not is_dir)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        limits = {"start": start or None, "end": stop} if start or stop is not None else {}
        try:
            data: bytes = self._system.cat_file(f"{self._root}/{key}", **limits)
        except FileNotFoundError:
            return None
        most = len(data) if not limits else -start if stop is None else stop - start
        return (
            data if len(data) <= most else data[start:stop]
        )  # some servers send all, whatever is asked of them

    def has(self, key: str) -> bool:
        return bool(self._system.isfile(f"{self._root}/{key}"))

    def state(self) -> None:
        """Nothing that is known without a look at every chunk; `ZarrSource` compares the documents."""
        return


def tree_of(path: Path, options: Options) -> Tree:
    """The files of the store at a path."""
    url = url_of(path)
    if url is not None:
        return UrlTree(url)
    return FolderTree(path, allow_links=options.allow_external) if path.is_dir() else ArchiveTree(path)


def _pread(descriptor: int, start: int, stop: int) -> bytes:
    """Bytes of a file, fewer where it ends before."""
    parts: list[bytes] = []
    while start < stop and (part := os.pread(descriptor, stop - start, start)):
        parts.append(part)
        start += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def check_key(key: str) -> None:
    """Raise for a key that would lead out of the store."""
    if key.startswith("/") or {"..", "."} & {*key.split("/")}:
        raise FormatError(f"has a member that leads out of it, {key[:200]!r}")
