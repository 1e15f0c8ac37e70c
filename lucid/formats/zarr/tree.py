"""The files of a Zarr store, wherever it is: a folder, an archive, or what fsspec reaches."""

import json
import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import zarr

from lucid.errors import DatasetError, FileError, FormatError, LucidError, NotFoundError
from lucid.formats.contract import Resource
from lucid.formats.disk.files import Watch, open_regular
from lucid.formats.registry import url_of
from lucid.options import Options

#: Metadata documents: of an array or a group in version 3, of an array in version 2.
DOCUMENT_3, DOCUMENT_2 = "zarr.json", ".zarray"
#: Members of an archive that are compressed once more may grow to this.
MOST_MEMBER_BYTES = 1 << 30


class Tree(Resource):
    """The files of a store, by keys such as `group/array/zarr.json`."""

    @abstractmethod
    def store(self) -> Any:
        """The store as zarr knows it."""

    @abstractmethod
    def list(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of the folders and of the files in a folder, sorted."""

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """A file, None if there is none."""

    @abstractmethod
    def state(self) -> object:
        """What changes when anything in the store is written to, as far as that can be seen."""

    def close(self) -> None:
        """Nothing is held open."""


class FolderTree(Tree):
    """A store in a folder."""

    def __init__(self, path: Path, *, allow_links: bool) -> None:
        self._path, self._allow_links = path.resolve(), allow_links

    def store(self) -> Any:
        return zarr.storage.LocalStore(self._path, read_only=True)

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        with os.scandir(self._path / folder) as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries]
        return sorted(n for n, is_dir in found if is_dir), sorted(n for n, is_dir in found if not is_dir)

    def read(self, key: str) -> bytes | None:
        try:
            return (self._path / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def state(self) -> object:
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

    def _note(self, key: str) -> None:
        folder, _, name = key.rpartition("/")
        is_new = folder not in self._folders
        self._folders.setdefault(folder, (set(), set()))[1].add(name)
        while is_new and folder:
            folder, _, name = folder.rpartition("/")
            is_new = folder not in self._folders
            self._folders.setdefault(folder, (set(), set()))[0].add(name)

    def store(self) -> Any:
        store = zarr.storage.ZipStore(self._path, mode="r")
        with suppress(Exception), quiet():
            # It opens its file on first use, when a spooled one has lost its name.
            zarr.open(store, mode="r")
        return store

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        folders, files = self._folders.get(folder, ((), ()))
        return sorted(folders), sorted(files)

    def read(self, key: str) -> bytes | None:
        folder, _, name = key.rpartition("/")
        return self._zip.read(key) if name in self._folders.get(folder, ((), ()))[1] else None

    def state(self) -> object:
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
        return zarr.storage.FsspecStore.from_url(self._url, read_only=True)

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        entries = self._system.ls(f"{self._root}/{folder}".rstrip("/"), detail=True)
        names = [(e["name"].rstrip("/").rpartition("/")[2], e["type"] == "directory") for e in entries]
        return sorted(n for n, is_dir in names if is_dir), sorted(n for n, is_dir in names if not is_dir)

    def read(self, key: str) -> bytes | None:
        try:
            data: bytes = self._system.cat_file(f"{self._root}/{key}")
        except FileNotFoundError:
            return None
        return data

    def state(self) -> object:
        """Nothing that is known without a look at every chunk; `ZarrSource` compares the documents."""
        return None


def tree_of(path: Path, options: Options) -> Tree:
    """The files of the store at a path."""
    url = url_of(path)
    if url is not None:
        return UrlTree(url)
    return FolderTree(path, allow_links=options.allow_external) if path.is_dir() else ArchiveTree(path)


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Whatever zarr, its codecs or fsspec raise, as an error of ours: they raise anything."""
    try:
        yield
    except LucidError:
        raise
    except MemoryError as error:
        raise FormatError(f"{what}: a chunk grows beyond all memory when it is decoded") from error
    except FileNotFoundError as error:
        raise NotFoundError(f"{what}: no such file {error.filename or ''}".rstrip()) from error
    except ImportError as error:
        raise FileError(f"{what}: needs a package that is not installed: {_line(error)}") from error
    except Exception as error:
        kind = FileError if isinstance(error, OSError) and error.errno else FormatError
        raise kind(f"{what}: {_line(error)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, as of types and codecs that the specification has not yet; not for workers' threads."""
    with catch_warnings():
        simplefilter("ignore")
        yield


def _line(error: Exception) -> str:
    """An exception's words in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:300] or type(error).__name__


def check_key(key: str) -> None:
    """Raise for a key that would lead out of the store."""
    if key.startswith("/") or {"..", "."} & {*key.split("/")}:
        raise FormatError(f"has a member that leads out of it, {key[:200]!r}")


def consolidated(tree: Tree) -> dict[str, dict[str, Any]] | None:
    """The metadata of all arrays in one document, if the store has that."""
    text = tree.read(DOCUMENT_3)
    found = _consolidated_2(tree) if text is None else _consolidated_3(text)
    for path in found or ():
        check_key(path)
    return found


def _consolidated_3(text: bytes) -> dict[str, dict[str, Any]] | None:
    listed = (json.loads(text).get("consolidated_metadata") or {}).get("metadata")
    return None if listed is None else {p: d for p, d in listed.items() if d.get("node_type") == "array"}


def _consolidated_2(tree: Tree) -> dict[str, dict[str, Any]] | None:
    text = tree.read(".zmetadata")
    if text is None:
        return None
    return {
        key.removesuffix(DOCUMENT_2).rstrip("/"): document
        for key, document in json.loads(text)["metadata"].items()
        if key.rpartition("/")[2] == DOCUMENT_2
    }
