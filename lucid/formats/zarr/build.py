"""The groups and arrays of a Zarr store in the making, before there are means in them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from lucid.compression import Compression
from lucid.formats.contract import PROVENANCE, Pooled, Source, fitted_chunks
from lucid.formats.zarr.codecs import compressors
from lucid.formats.zarr.ome import described_again
from lucid.formats.zarr.source import ZarrSource
from lucid.formats.zarr.tree import consolidated, refusals

#: Where arrays of version 2 say what their axes are called, as xarray has it.
DIMENSIONS_2 = "_ARRAY_DIMENSIONS"
#: Longest coordinates that are pooled.
MOST_COORDINATES = 1 << 24


class Builder:
    """A store's groups and arrays, before there are means in them."""

    def __init__(
        self,
        root: Path,
        source: Source,
        pooled: Sequence[Pooled],
        compression: Compression | None,
        *,
        carries: bool,
    ) -> None:
        self._root, self._pooled, self._compression = root, pooled, compression
        self._source = source if isinstance(source, ZarrSource) else None
        self._carries = carries and self._source is not None
        self._store = zarr.storage.LocalStore(root)
        #: Arrays for means, by name.
        self.arrays: dict[str, Any] = {}
        self._format: Any = 3
        if self._source is not None:
            document = next(iter(self._source.documents.values()))
            self._format = int(document.get("zarr_format", 3))

    def build(self) -> None:
        """Copy what is carried over, and create the arrays."""
        # The only array of a source that names none is the store itself.
        is_root = len(self._pooled) == 1 and not self._pooled[0].source.name
        if self._carries and self._source is not None:
            with refusals("cannot be carried over"):
                self._carry(self._source)
        if not is_root:
            zarr.open_group(self._store, mode="a", zarr_format=self._format)
        for pooled in self._pooled:
            path = "" if is_root else pooled.name.strip("/")
            parent = path.rpartition("/")[0]
            if parent:
                zarr.open_group(self._store, path=parent, mode="a", zarr_format=self._format)
            self.arrays[pooled.name] = self._create(pooled, path)
        if self._carries and not is_root:
            self._describe_images()

    def _describe_images(self) -> None:
        """Say of OME-Zarr images where their cells are now."""
        made: dict[str, dict[str, list[Pooled]]] = {}
        for pooled in self._pooled:
            # A pyramid's group may be any of those above its arrays.
            names = pooled.source.name.strip("/").split("/")
            for depth in range(len(names)):
                above, below = "/".join(names[:depth]), "/".join(names[depth:])
                made.setdefault(above, {}).setdefault(below, []).append(pooled)
        for path, arrays in made.items():
            group = zarr.open_group(self._store, path=path, mode="a", zarr_format=self._format)
            attributes = described_again(dict(group.attrs), arrays)
            if attributes is not None:
                group.attrs.put(attributes)

    def finish(self) -> None:
        """Bring the store's list of its own metadata up to date, if it has one."""
        if self._source is not None and self._carries and consolidated(self._source.tree) is not None:
            zarr.consolidate_metadata(self._store, zarr_format=self._format)

    def _carry(self, source: ZarrSource) -> None:
        """Copy every file that is not one of a pooled array."""
        pooled = {array.source.name.strip("/") for array in self._pooled}
        for folder, document in source.walk():
            if document is None:
                self._copy(source, folder, source.tree.list(folder)[1])
            elif folder not in pooled:
                self._copy_all(source, folder)

    def _copy_all(self, source: ZarrSource, folder: str) -> None:
        folders, files = source.tree.list(folder)
        self._copy(source, folder, files)
        for name in folders:
            self._copy_all(source, f"{folder}/{name}")

    def _copy(self, source: ZarrSource, folder: str, names: Sequence[str]) -> None:
        (self._root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            data = source.tree.read(f"{folder}/{name}" if folder else name)
            if data is None or name == ".zmetadata":
                continue
            if name == "zarr.json" and b"consolidated_metadata" in data:
                document = json.loads(data)
                document.pop("consolidated_metadata", None)
                data = json.dumps(document, indent=2).encode()
            (self._root / folder / name).write_bytes(data)

    def _create(self, pooled: Pooled, path: str) -> Any:
        """An array for means, with what can be kept of the one they are means of."""
        origin = None if self._source is None else self._source.array(pooled.source.name.strip("/"))
        attributes = {} if origin is None else dict(origin.attrs)
        fill = 0 if origin is None or origin.fill_value is None else origin.fill_value
        names = None if origin is None else dimension_names(origin)
        if names is not None:
            names = self._pooled_names(pooled, names)
        options: dict[str, Any] = {}
        if self._format == 2:
            attributes.pop(DIMENSIONS_2, None)
            attributes |= {} if names is None else {DIMENSIONS_2: names}
        elif names is not None:
            options["dimension_names"] = names
        chunks = fitted_chunks(pooled)
        is_bfloat16 = pooled.numbers == "bfloat16"
        return zarr.create_array(
            self._store,
            name=path or None,
            shape=pooled.stored_shape,
            dtype="V2" if is_bfloat16 else pooled.dtype,
            chunks=chunks,
            # zarr 3.1 fails to compare what is missing of shards of untyped elements.
            shards=None if origin is None or is_bfloat16 else _shards(origin, chunks, pooled),
            compressors=compressors(self._compression, origin, self._format),
            filters=None,
            fill_value=None if is_bfloat16 else np.asarray(fill).astype(pooled.dtype)[()],
            zarr_format=self._format,
            chunk_key_encoding=None if origin is None else chunk_keys(origin),
            attributes=attributes | {PROVENANCE: pooled.provenance},
            **options,
        )

    def _pooled_names(self, pooled: Pooled, names: list[str | None]) -> list[str | None]:
        """Names of axes; a pooled one is called after its new length, and gets coarser coordinates."""
        if pooled.flat:
            return [names[0], f"{pooled.name.rpartition('/')[2]}_features"]
        named = list(names)
        for which in (0, 1):
            axis = pooled.height_axis + which
            name, before, after = names[axis], pooled.source.shape[axis], pooled.shape[axis]
            if name and before != after:
                named[axis] = f"{name}_{after}"
                if self._carries:
                    self._coarsen(pooled, name, str(named[axis]), which)
        return named

    def _coarsen(self, pooled: Pooled, name: str, new: str, which: int) -> None:
        """Means of the coordinates of an axis, beside them under its new name."""
        assert self._source is not None
        folder = pooled.source.name.strip("/").rpartition("/")[0]
        path, target = (f"{folder}/{n}" if folder else n for n in (name, new))
        if path not in self._source.documents or (self._root / target).exists() or pooled.coarsen is None:
            return
        scale = self._source.array(path)
        length = pooled.source.shape[pooled.height_axis + which]
        if scale.shape != (length,) or scale.dtype.kind not in "fiu" or length > MOST_COORDINATES:
            return
        means = pooled.coarsen(scale[:][None], (1, pooled.shape[pooled.height_axis + which]))[0]
        attributes = dict(scale.attrs)
        options: dict[str, Any] = {"dimension_names": [new]} if self._format == 3 else {}
        if self._format == 2:
            attributes[DIMENSIONS_2] = [new]
        made = zarr.create_array(
            self._store,
            name=target,
            shape=means.shape,
            dtype=means.dtype,
            chunks=means.shape,
            zarr_format=self._format,
            attributes=attributes,
            **options,
        )
        made[:] = means


def dimension_names(array: Any) -> list[str | None] | None:
    """What the axes of an array are called, in version 3 and as xarray has it in version 2."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get(DIMENSIONS_2)
    return list(names) if isinstance(names, list | tuple) and len(names) == array.ndim else None


def chunk_keys(array: Any) -> Any:
    """How the files of chunks are called; OME-Zarr wants slashes in version 2."""
    if array.metadata.zarr_format == 3:
        return array.metadata.chunk_key_encoding
    return {"name": "v2", "separator": array.metadata.dimension_separator}


def _shards(origin: Any, chunks: tuple[int, ...], pooled: Pooled) -> tuple[int, ...] | None:
    """Shards like those of the source: whole chunks, and not below it in samples or channels."""
    if origin.shards is None:
        return None
    shape = pooled.stored_shape
    sizes = (origin.shards[0], shape[1]) if pooled.flat else origin.shards
    most = (-(-n // c) * c for n, c in zip(shape, chunks, strict=True))
    wanted = (max(c, -(-s // c) * c) for s, c in zip(sizes, chunks, strict=True))
    return tuple(min(m, w) for m, w in zip(most, wanted, strict=True))
