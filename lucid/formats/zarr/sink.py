"""A Zarr store while it is written.

It is built in a folder of its own, whatever it will be in the end: a folder, an archive, or a store behind a
URL, to which it is copied with the root's metadata last. What is carried over is copied file by
file, undecoded.
"""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

from lucid.errors import ExistsError, FileError
from lucid.formats.arrays import Array, ResultSpec
from lucid.formats.contract import Sink, Source
from lucid.formats.disk.folders import FolderReplacement
from lucid.formats.disk.replacement import Replacement
from lucid.formats.disk.spool import Spool
from lucid.formats.paths import ARCHIVE, folds_case, url_of
from lucid.formats.regions import Region
from lucid.formats.zarr.build import Builder
from lucid.formats.zarr.files import ArrayFiles
from lucid.formats.zarr.nodes import node_at
from lucid.formats.zarr.store import FolderStore, translate_all
from lucid.options import Options


class ZarrSink(Sink):
    """A Zarr store while it is written."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        self._url = url_of(path)
        self._stack = ExitStack()
        self._file: Replacement | None = None

    def name_errors(self) -> AbstractContextManager[None]:
        """Say which output it is, whatever is raised."""
        return translate_all(f"output {self._url or self.path} cannot be written")

    def begin(self, source: Source, results: Sequence[ResultSpec]) -> None:
        """Build the store, all but the means."""
        overwrite = self.options.overwrite
        if self._url is not None:
            folder = tempfile.TemporaryDirectory(prefix="lucid-pool-", ignore_cleanup_errors=True)
            self._root = Path(self._stack.enter_context(folder))
        else:
            if self.path.suffix == ARCHIVE:
                self._file = Replacement(self.path, overwrite=overwrite)
                self._stack.callback(self._file.abort)
            # An archive is made of a folder beside it.
            self._folder = FolderReplacement(self.path, overwrite=overwrite)
            self._folder.create()
            self._stack.callback(self._folder.abort)
            self._root = self._folder.path
        self._build(source, results, self._root)
        self._results, self._spool = results, self._stack.enter_context(Spool(self._root.parent))
        self._spool.hold(results)

    def refuse(self, source: Source, results: Sequence[ResultSpec]) -> None:
        """See what would be built, and how much is carried over."""
        self._build(source, results, None)

    def _build(self, source: Source, results: Sequence[ResultSpec], root: Path | None) -> None:
        """Build the store in a folder, or see whether that goes, unless there is something already behind the URL."""
        if self._url is not None:
            self._find_place(self._url)
        builder = Builder(source, results, self.options, root)
        builder.build()
        if folds_case(root or (Path(tempfile.gettempdir()) if self._url else self.path.resolve().parent)):
            builder.refuse_one_name()
        self.notes += builder.notes
        self.carried, self._path_of = builder.carried, builder.path_of

    def write(self, result: ResultSpec, region: Region, values: Array) -> None:
        """Keep a region until all are known."""
        self._spool.write(result, region, values)

    def commit(self, group: list[Replacement] | None = None) -> None:
        """Write the files of all chunks, and put the store in its place."""
        for result in self._results:
            files = ArrayFiles(self._root, node_at(FolderStore(self._root), self._path_of(result.name)))
            files.write_all(partial(self._spool.read, result), self.options)
            if result.is_shard:
                files.seal()
        self._spool.close()
        if self._url is not None:
            self._upload()
        elif self._file is not None:
            self._archive(self._file, group)
        else:
            self._folder.commit(group)
        self.close()

    def _archive(self, file: Replacement, group: list[Replacement] | None) -> None:
        """Write all files to an archive, in one order and without times."""
        with os.fdopen(file.create(), "wb") as raw:
            with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
                for key in FolderStore(self._root).files(""):
                    member = zipfile.ZipInfo(key)
                    member.external_attr = 0o644 << 16  # else what unzip makes of it may not be read
                    with (
                        open(self._root / key, "rb") as content,
                        archive.open(member, "w", force_zip64=True) as target,
                    ):
                        shutil.copyfileobj(content, target)
            raw.flush()
            file.commit(group)

    def _find_place(self, url: str) -> None:
        import fsspec

        if url.startswith("http"):
            raise FileError(f"output {url} is on a server that is only read; name another `target`")
        self._system, self._place = fsspec.core.url_to_fs(url)
        if self._system.exists(self._place) and not self.options.overwrite:
            raise ExistsError(f"output {url} exists already; `overwrite=True` replaces it")

    def _upload(self) -> None:
        """Copy all files to the store behind the URL; until the root's metadata is there, it is no store."""
        if self._system.exists(self._place):
            self._system.rm(self._place, recursive=True)
        for key in sorted(FolderStore(self._root).files(""), key=lambda key: "/" not in key):
            place = f"{self._place}/{key}"
            self._system.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(self._root / key), place)

    def close(self) -> None:
        """Remove what was not put in place."""
        self._stack.close()
