"""A Zarr store in the making.

It is built in a folder of its own, whatever it will be in the end: a folder, an archive, or a store behind a
URL, to which it is copied with the root's metadata last. What is carried over is copied file by
file, undecoded. Chunks are written by whoever brings their last cell: a block that holds a chunk whole
writes it at once, the others meet in a spool.
"""

import os
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from lucid.compression import parse_compression
from lucid.errors import ExistsError, FileError
from lucid.formats.contract import (
    Array,
    Pooled,
    Region,
    ShardArray,
    Sink,
    Source,
    overlaps,
    shape_of,
    size_of,
)
from lucid.formats.disk.folders import FolderReplacement
from lucid.formats.disk.replacement import Replacement, refuse_taken
from lucid.formats.disk.spool import Spool
from lucid.formats.registry import ARCHIVE, url_of
from lucid.formats.zarr.build import Builder
from lucid.formats.zarr.codecs import check_compression
from lucid.formats.zarr.refusals import quiet, refusals
from lucid.formats.zarr.source import ZarrSource
from lucid.options import Options


class ZarrSink(Sink):
    """A Zarr store in the making."""

    def __init__(self, path: Path, options: Options, *, joins: bool = False) -> None:
        super().__init__(path, options, joins=joins)
        self._compression = parse_compression(options.compression)
        self._url = url_of(path)
        check_compression(self._compression)
        self._stack = ExitStack()
        self._file: Replacement | None = None
        self._filled: dict[str, _Filled] = {}

    def begin(self, source: Source, pooled: Sequence[Pooled]) -> None:
        """Build the store, all but the means."""
        with refusals("output cannot be written"):
            if self._url is not None:
                self._refuse_taken()
                self._root = self._temporary()
            elif self.path.suffix == ARCHIVE:
                refuse_taken(self.path, overwrite=self.options.overwrite)
                self._file = Replacement(self.path, overwrite=self.options.overwrite)
                self._stack.callback(self._file.abort)
                self._root = self._beside(self.path)
            else:
                self._folder = FolderReplacement(self.path, overwrite=self.options.overwrite)
                self._folder.create()
                self._stack.callback(self._folder.abort)
                self._root = self._folder.path
        self._builder = self._planned(source, pooled)
        with refusals("output cannot be built"), quiet():
            self._builder.build(zarr.storage.LocalStore(self._root), self._root)
        self.notes += self._builder.notes
        self.carried = self._builder.carried
        self._open_spool(pooled)

    def refuse(self, source: Source, pooled: Sequence[Pooled]) -> None:
        """Build the store in memory, without what is carried over."""
        if self._url is not None:
            self._refuse_taken()
        builder = self._planned(source, pooled)
        with refusals("output cannot be built"), quiet():
            builder.build(zarr.storage.MemoryStore(), None)
        self.notes += builder.notes

    def _planned(self, source: Source, pooled: Sequence[Pooled]) -> Builder:
        carries = self.options.carry and not any(array.is_shard for array in pooled)
        return Builder(source, pooled, self._compression, carries=carries)

    def _temporary(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="lucid-pool-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _beside(self, path: Path) -> Path:
        """A folder beside the output that goes with it if it is left."""
        folder = FolderReplacement(path, overwrite=True)
        folder.create()
        self._stack.callback(folder.abort)
        return folder.path

    def _open_spool(self, pooled: Sequence[Pooled]) -> None:
        spool = self._stack.enter_context(Spool(self._root.parent))
        # It gets no bytes where chunks come whole.
        spool.hold(pooled, claims=False)
        for array in pooled:
            self._filled[array.name] = _Filled(array, self._builder.arrays[array.name], spool)

    def write(self, pooled: Pooled, region: Region, values: Array) -> None:
        """Write a region to the chunks that it holds, and to the spool."""
        with refusals("output cannot be written"):
            self._filled[pooled.name].write(pooled.shape, region, values)

    def move(self, pooled: Pooled, one: ShardArray, shard: Source) -> int:
        """Copy the files of chunks that are the same in a shard."""
        with refusals("output cannot be written"):
            return self._filled[pooled.name].move(shard, one, self._root)

    def commit(self) -> None:
        """Put the store in its place."""
        with refusals("output cannot be built"), quiet():
            self._builder.finish()
        with refusals("output cannot be put in place"):
            if self._url is not None:
                self._upload()
            elif self._file is not None:
                self._archive(self._file)
            else:
                self._folder.commit(self.later)
        self.close()

    def _archive(self, file: Replacement) -> None:
        """Write all files to an archive, in one order and without times."""
        descriptor = file.create()
        with os.fdopen(descriptor, "wb") as raw:
            with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
                for path in _files(self._root):
                    member = zipfile.ZipInfo(path.relative_to(self._root).as_posix())
                    member.external_attr = 0o644 << 16  # else what unzip makes of it may not be read
                    with path.open("rb") as content, archive.open(member, "w", force_zip64=True) as target:
                        shutil.copyfileobj(content, target)
            raw.flush()
            file.commit(self.later)

    def _refuse_taken(self) -> None:
        import fsspec

        if str(self._url).startswith("http"):
            raise FileError(f"output {self._url} is on a server that is only read; name another `target`")
        self._system, self._place = fsspec.core.url_to_fs(self._url)
        if self._system.exists(self._place) and not self.options.overwrite:
            raise ExistsError(f"output {self._url} exists already; `overwrite=True` replaces it")

    def _upload(self) -> None:
        """Copy all files to the store behind the URL; until the root's metadata is there, it is no store."""
        if self._system.exists(self._place):
            self._system.rm(self._place, recursive=True)
        for path in sorted(_files(self._root), key=lambda path: path.parent == self._root):
            place = f"{self._place}/{path.relative_to(self._root).as_posix()}"
            self._system.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(path), place)

    def close(self) -> None:
        """Remove what was not put in place."""
        self._stack.close()


class _Filled:
    """One array, and how much is still missing of chunks that come in several regions."""

    def __init__(self, pooled: Pooled, array: Any, spool: Spool) -> None:
        self._pooled, self._array, self._spool = pooled, array, spool
        self._shape = pooled.stored_shape
        #: What is written at once: a shard where there are shards.
        self._unit = array.shards or array.chunks
        self._missing: dict[tuple[int, ...], int] = {}
        self._lock = threading.Lock()

    def write(self, shape: tuple[int, ...], region: Region, values: Array) -> None:
        """Write a region of an array of this shape; the stored one may have its axes joined."""
        if len(shape) != len(self._shape):
            is_whole = shape_of(region)[1:] == shape[1:]
            samples = region[0]
            cells = size_of(shape_of(region)[1:])
            if not is_whole:
                self._spool.write(self._pooled, region, values, shape)
                for index, inside, _ in overlaps((samples,), self._unit[:1]):
                    self._count((*index, 0), shape_of(inside)[0] * cells)
                return
            region = (samples, slice(0, self._shape[1]))
            values = values.reshape(shape_of(region))
        for index, _, outside in overlaps(region, self._unit):
            unit = self._region(index)
            held = values[outside]
            if held.shape == shape_of(unit):
                self._store(unit, held)
                continue
            place = tuple(
                slice(r.start + o.start, r.start + o.stop) for r, o in zip(region, outside, strict=True)
            )
            self._spool.write(self._pooled, place, np.ascontiguousarray(held), self._shape)
            self._count(index, held.size)

    def move(self, shard: Source, one: ShardArray, root: Path) -> int:
        """Copy the files of a shard's chunks that are chunks of the whole; how many samples that were."""
        unit, length = self._unit[0], self._shape[0]
        start, end = one.offset[0], one.offset[0] + one.spec.shape[0]
        has_all = one.spec.shape[1:] == self._shape[1:]
        if not isinstance(shard, ZarrSource) or not has_all or start % unit:
            return 0
        array = shard.array(one.spec.name.strip("/"))
        if layout_of(array) != layout_of(self._array):
            return 0
        stop = end if end == length else end - end % unit
        others = (range(-(-n // u)) for n, u in zip(self._shape[1:], self._unit[1:], strict=True))
        for first, *rest in product(range(start // unit, -(-stop // unit)), *others):
            there = array.metadata.encode_chunk_key((first - start // unit, *rest))
            data = shard.tree.read(f"{array.path}/{there}".strip("/"))
            if data is not None:  # a chunk of nothing but fill values has no file
                place = root / self._array.path / self._array.metadata.encode_chunk_key((first, *rest))
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
        return stop - start

    def _region(self, index: tuple[int, ...]) -> Region:
        units = zip(index, self._unit, self._shape, strict=True)
        return tuple(slice(i * u, min((i + 1) * u, n)) for i, u, n in units)

    def _count(self, index: tuple[int, ...], cells: int) -> None:
        """Note cells that are in the spool; store the chunk with its last."""
        region = self._region(index)
        shape = shape_of(region)
        with self._lock:
            missing = self._missing.get(index, size_of(shape)) - cells
            self._missing[index] = missing
            if missing == 0:
                del self._missing[index]
        if missing == 0:
            self._store(region, self._spool.read(self._pooled, region))

    def _store(self, region: Region, values: Array) -> None:
        self._array[region] = np.ascontiguousarray(values).view(self._array.dtype)


def _files(root: Path) -> Iterator[Path]:
    """All files below a folder, in one order."""
    yield from sorted(path for path in root.rglob("*") if path.is_file())


def layout_of(array: Any) -> dict[str, Any]:
    """All that says how the chunks of an array are cut and encoded."""
    fields: dict[str, Any] = array.metadata.to_dict()
    return {name: value for name, value in fields.items() if name not in ("shape", "attributes")}
