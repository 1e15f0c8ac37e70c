"""The files of a Zarr store by keys such as `group/array/zarr.json`: in a folder, in an archive, or behind a URL."""

import os
import zipfile
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from lucid.errors import DatasetError, FileError, FormatError, LucidError, NotFoundError, about
from lucid.formats.archive import data_offset, open_archive
from lucid.formats.checksum import crc32
from lucid.formats.contract import FAR_READS
from lucid.formats.disk.files import bytes_at, open_regular, state_of
from lucid.formats.paths import url_of
from lucid.formats.resource import Resource
from lucid.formats.zarr.documents import DOCUMENT_2, DOCUMENT_3, parse_document
from lucid.options import Options
from lucid.threads import Item, Result, in_order

#: Members of an archive that are compressed once more may grow to this.
MOST_MEMBER_BYTES = 1 << 30
#: Characters in the names of all folders of an archive: one name of 64 KB may lead through 32,000 of them.
MOST_CHARACTERS = 1 << 27

#: Bytes copied at once: a network answers few large requests sooner than many.
COPY_BYTES = 8 << 20

#: A name in a folder, and whether it is that of a folder.
Entry: TypeAlias = tuple[str, bool]


class Store(Resource):
    """The files of a store."""

    #: Whether it is behind a network.
    is_far: bool = False
    #: What zarr opens, and what stands before every key there.
    address: Any
    prefix: str = ""

    def state(self) -> tuple[int, ...] | None:
        """What changes when anything is written to, the bytes of all files first; None where it cannot be seen."""
        return None

    def is_unchanged(self, state: tuple[int, ...] | None) -> bool:
        """Whether nothing was written to since the state was this one, as far as that is seen."""
        return self.state() == state

    @abstractmethod
    def entries(self, folder: str) -> Iterator[Entry]:
        """What is in a folder, in any order."""

    def names(self, folder: str) -> Iterator[str]:
        """The names in a folder, of which there may be millions; none where there is none, or it cannot be listed."""
        with suppress(FileNotFoundError, NotADirectoryError, NotImplementedError):
            yield from (name for name, _ in self.entries(folder))

    def files(self, folder: str) -> Iterator[str]:
        """The keys of all files in a folder, at any depth, in order."""
        try:
            entries = sorted(self.entries(folder))
        except (OSError, NotImplementedError) as error:
            raise FileError(
                f"array /{folder} is behind a server that lists no files, so it cannot be carried over; "
                "`carry=False` leaves it out"
            ) from error
        for name, is_folder in entries:
            key = key_in(folder, name)
            yield from self.files(key) if is_folder else (key,)

    @abstractmethod
    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """A file, or some of its bytes, as a slice has them; None if there is none."""

    def each(
        self, work: Callable[[Item], Result], items: Iterable[Item], most: int = FAR_READS
    ) -> Iterator[Result]:
        """What is done with each of them, in order; behind a network with several at once, so many at most."""
        if not self.is_far or most <= 1:
            return map(work, items)
        every = [*items]
        workers = min(most, FAR_READS, len(every) or 1)
        return in_order(work, every, workers=workers, in_flight=workers)

    @abstractmethod
    def size_bytes(self, key: str) -> int:
        """The bytes of a file that was listed."""

    def copy(self, key: str, place: Path) -> int:
        """Copy a file, if there is one, some of it at a time; how many bytes that were."""
        data = self.read(key, 0, COPY_BYTES)
        if data is None:
            return 0
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as file:
            while file.write(data) == COPY_BYTES:
                data = self.read(key, file.tell(), file.tell() + COPY_BYTES) or b""
            return file.tell()

    def close(self) -> None:
        """Nothing is held open."""


class FolderStore(Store):
    """A store in a folder."""

    def __init__(self, path: Path, *, allow_links: bool = True) -> None:
        self.address = self._path = path.resolve()
        self._allow_links = allow_links

    def entries(self, folder: str) -> Iterator[Entry]:
        with os.scandir(self._path / folder) as entries:
            yield from ((entry.name, entry.is_dir()) for entry in entries)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        def open_at_once(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_NONBLOCK)  # a FIFO would wait for a writer

        none = FileNotFoundError, NotADirectoryError, IsADirectoryError
        with suppress(*none), open(f"{self._path}/{key}", "rb", opener=open_at_once) as file:
            start, stop, _ = slice(start, stop).indices(os.fstat(file.fileno()).st_size)
            file.seek(start)
            return file.read(max(0, stop - start))
        return None

    def size_bytes(self, key: str) -> int:
        return (self._path / key).stat().st_size

    def state(self) -> tuple[int, ...]:
        """Sums of sizes and times of all files and folders; that there are no links is seen on the way.

        The newest time would not do, since a copy may have the time of an older file.
        """
        total = times = count = 0
        pending = [str(self._path)]
        while pending:
            times += Path(pending[-1]).stat().st_mtime_ns
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
                        times += status.st_mtime_ns
        return total, times, count


class ArchiveStore(Store):
    """A store in a zip file."""

    def __init__(self, path: Path) -> None:
        with ExitStack() as stack:
            self._descriptor = open_regular(path)
            stack.callback(os.close, self._descriptor)
            self._zip = stack.enter_context(open_archive(self._descriptor, by_name=True))
            members = [member for member in self._zip.infolist() if not member.is_dir()]
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED and member.file_size > MOST_MEMBER_BYTES:
                    raise FormatError(f"has a member that grows to {member.file_size} bytes")
            self._folders = folders_of(member.filename for member in members)
            self._open = stack.pop_all()
        # `zip -r x.zarr.zip x.zarr` puts the name of the folder before every other. A folder of another
        # name that holds a single array is a group without a document.
        while [is_folder for _, is_folder in self.entries("")] == [True]:
            self.prefix += f"{next(self.names(''))}/"
            if self.prefix.endswith(".zarr/"):
                return
        document, _ = parse_document(self.read(DOCUMENT_3) or b"{}")
        if self.read(DOCUMENT_2) is not None or document.get("node_type") == "array":
            self.prefix = ""

    @cached_property
    def address(self) -> Any:
        from zarr.storage import ZipStore

        # A spooled file has lost its name.
        return ZipStore(Path(f"/dev/fd/{self._descriptor}"), mode="r")

    def entries(self, folder: str) -> Iterator[Entry]:
        yield from self._folders[f"{self.prefix}{folder}".rstrip("/")]

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        try:
            member = self._zip.getinfo(f"{self.prefix}{key}")
        except KeyError:
            return None
        start, stop, _ = slice(start, stop).indices(member.file_size)
        if member.compress_type != 0 or member.flag_bits & 1:
            with self._zip.open(member) as file:
                file.seek(start)
                return file.read(stop - start)
        with about(f"member {key[:200]!r}"):
            offset = data_offset(self._descriptor, member, self._zip.start_dir)
            data = bytes_at(self._descriptor, offset + start, max(0, stop - start))
            if (start, stop) == (0, member.file_size) and crc32(data) != member.CRC:
                raise FormatError("does not fit its checksum; is the archive damaged?")
        return data

    def size_bytes(self, key: str) -> int:
        return self._zip.getinfo(f"{self.prefix}{key}").file_size

    def state(self) -> tuple[int, ...]:
        return state_of(self._descriptor)

    def close(self) -> None:
        if "address" in self.__dict__:
            self.address.close()
        self._open.close()


class UrlStore(Store):
    """A store that fsspec reaches, such as one in an object store; the fewer times it waits, the better."""

    is_far = True

    def __init__(self, url: str) -> None:
        import fsspec

        self.address = url
        self._system, self._root = fsspec.core.url_to_fs(url)
        #: Documents, the only files that are read whole, as they were then; None where there was none.
        self._documents: dict[str, bytes | None] = {}

    def entries(self, folder: str) -> Iterator[Entry]:
        # A server leads from a folder's name to that with a slash, which would be one more request.
        slash = "/" * self._root.startswith("http")
        for entry in self._system.ls(f"{self._root}/{folder}".rstrip("/") + slash, detail=True):
            yield entry["name"].rstrip("/").rpartition("/")[2], entry["type"] == "directory"

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        if key not in self._documents:
            data = self._ask(key, start, stop)
            if (start, stop) != (0, None):
                return data
            self._documents[key] = data
        data = self._documents[key]
        return data and data[start:stop]

    def _ask(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        try:
            data: bytes = self._system.cat_file(f"{self._root}/{key}", start=start or None, end=stop)
        except FileNotFoundError:
            return None
        # Some servers send all, whatever is asked of them.
        sends_all = len(data) > (-start if stop is None else stop - start)
        return data[start:stop] if sends_all else data

    def is_unchanged(self, state: tuple[int, ...] | None) -> bool:  # noqa: ARG002
        """Whether all documents are still the same: all that can be seen without reading everything again."""
        return [*self.each(self._ask, self._documents)] == [*self._documents.values()]

    def size_bytes(self, key: str) -> int:
        return int(self._system.size(f"{self._root}/{key}"))


def store_at(path: Path, options: Options) -> Store:
    """The store at a path."""
    url = url_of(path)
    if url is not None:
        return UrlStore(url)
    return FolderStore(path, allow_links=options.allow_external) if path.is_dir() else ArchiveStore(path)


def key_in(folder: str, name: str) -> str:
    """A key in a folder, which is "" for the root."""
    return f"{folder}/{name}" if folder else name


def folders_of(keys: Iterable[str]) -> defaultdict[str, set[Entry]]:
    """What is in each folder, where these are all keys; an error where one would lead out of the store.

    >>> folders_of(["a/zarr.json"])[""]
    {('a', True)}

    """
    folders: defaultdict[str, set[Entry]] = defaultdict(set)
    characters = 0
    for key in keys:
        if key.startswith("/") or {"..", "."} & {*key.split("/")}:
            raise FormatError(f"has a member that leads out of it, {key[:200]!r}")
        path, is_folder, is_known = key, False, False
        # What is known is known with all folders above it.
        while path and not is_known:
            characters += len(path) * is_folder
            if characters > MOST_CHARACTERS:
                raise FormatError(f"has folders whose names take more than {MOST_CHARACTERS} characters")
            path, _, name = path.rpartition("/")
            is_known = path in folders
            folders[path].add((name, is_folder))
            is_folder = True
    return folders


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Say which array cannot be read, whatever is raised; one that is the store itself has no name."""
    with about(f"array {name}" if name else "array"), translate_all("cannot be read"):
        yield


@contextmanager
def translate_all(what: str) -> Iterator[None]:
    """Whatever zarr, its codecs or fsspec raise, as an error of ours in one line: they raise anything."""
    try:
        yield
    except LucidError:
        raise
    except MemoryError as error:
        raise FormatError(f"{what}: a chunk grows beyond all memory when it is decoded") from error
    except FileNotFoundError as error:
        raise NotFoundError(f"{what}: no such file {error.filename or ''}".rstrip()) from error
    except Exception as error:
        words = getattr(error, "strerror", None) or " ".join(str(error).split())[:300] or type(error).__name__
        if isinstance(error, ImportError):
            raise FileError(f"{what}: needs a package that is not installed: {words}") from error
        error_type = FileError if isinstance(error, OSError) and error.errno else FormatError
        raise error_type(f"{what}: {words}") from error
