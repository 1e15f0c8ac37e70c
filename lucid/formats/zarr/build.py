"""The groups and arrays of a Zarr store in the making, before there are means in them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from lucid.compression import Compression
from lucid.formats.choosing import listed
from lucid.formats.contract import PROVENANCE, Carried, Pooled, Source, fitted_chunks
from lucid.formats.zarr.carry import carry, dropped
from lucid.formats.zarr.codecs import codecs_of
from lucid.formats.zarr.geography import Dimensions, New, Placed
from lucid.formats.zarr.meaning import Described, described, with_dims
from lucid.formats.zarr.nczarr import array_again, group_again, references_of
from lucid.formats.zarr.nodes import ATTRIBUTES_2, DOCUMENT_3, Node, parsed
from lucid.formats.zarr.ome import described_again, left_out
from lucid.formats.zarr.refusals import refusals
from lucid.formats.zarr.source import ZarrSource, reinterpreted
from lucid.formats.zarr.summary import with_summary, write_summary

#: How arrays are made, whatever the user's configuration of zarr is.
_CONFIG: Any = {"order": "C", "write_empty_chunks": False}


class Builder:
    """A store's groups and arrays, before there are means in them."""

    def __init__(
        self, source: Source, pooled: Sequence[Pooled], compression: Compression | None, *, carries: bool
    ) -> None:
        self._pooled, self._compression = pooled, compression
        self._source = source if isinstance(source, ZarrSource) else None
        self._carries = carries and self._source is not None
        #: Arrays for means, by name.
        self.arrays: dict[str, Any] = {}
        #: What somebody should know, a line each.
        self.notes: list[str] = []
        #: Arrays that were copied.
        self.carried = Carried()
        #: Arrays of a source that are neither pooled nor carried over.
        self._gone: set[str] = set()
        #: Paths of the arrays that are made, and lengths of their dimensions by group, where NCZarr wants them.
        self._made: list[str] = []
        self._lengths: dict[str, dict[str, int]] = {}
        self._lossy: dict[str, list[str]] = {}
        self._format: Any = 3
        if self._source is not None:
            versions = [node.version for node in self._source.nodes.values() if node.document is not None]
            self._format = versions[0]
        if self._source is not None and self._carries:
            self._gone = dropped(self._source.nodes.values(), self._source.options.drop)
            self._leave_out_levels(self._source)

    def _leave_out_levels(self, source: ZarrSource) -> None:
        pooled = [array.source.name.strip("/") for array in self._pooled]
        for group, paths in left_out(source.images, pooled).items():
            there = [f"/{path}" for path in paths if path in source.nodes]
            self._gone |= {*paths}
            if there:
                self.notes.append(
                    f"levels {listed(there)} of image /{group} are left out: its levels come from the first"
                )

    def build(self, store: Any, root: Path | None) -> None:
        """Create the arrays in a store, and copy what is carried over to its folder, if it has one."""
        self._store, self._root = store, root
        # The only array of a source that names none is the store itself.
        is_root = len(self._pooled) == 1 and not self._pooled[0].source.name
        pooled = {array.source.name.strip("/") for array in self._pooled}
        if self._carries and self._source is not None and root is not None:
            with refusals("cannot be carried over"):
                self.carried = carry(
                    self._source.tree, self._source.nodes.values(), root, pooled | self._gone
                )
        if not is_root:
            self._open_group("")
        if self._source is not None:
            self._geography = Dimensions(
                self._source, self._pooled, self._gone, self._put, carries=self._carries
            )
        for array in self._pooled:
            path = "" if is_root else array.name.strip("/")
            parent = path.rpartition("/")[0]
            if parent:
                self._open_group(parent)
            self.arrays[array.name] = self._create(array, path)
        if self._source is not None:
            self.notes += [f"{what}: {listed(names)}" for what, names in self._geography.notes.items()]
        self.notes += [
            f"{codec} of {listed(names)} is left out: its parameters were chosen for other numbers"
            for codec, names in self._lossy.items()
        ]
        if self._carries and self._source is not None and not is_root:
            self._describe_images(self._source)
            self._describe_groups(self._source, pooled)

    def _open_group(self, path: str) -> None:
        zarr.open_group(self._store, path=path, mode="a", zarr_format=self._format, use_consolidated=False)

    def finish(self) -> None:
        """Make the summaries of metadata that the source has anew."""
        if self._source is not None and self._carries and self._root is not None:
            for group, name in with_summary(self._source.tree, self._source.nodes.values()):
                if group not in self._gone:
                    write_summary(self._root, group, name)

    def _describe_images(self, source: ZarrSource) -> None:
        """Say of OME-Zarr images where their cells are now."""
        made: dict[str, list[Pooled]] = {}
        for pooled in self._pooled:
            made.setdefault(pooled.source.name.strip("/"), []).append(pooled)
        shapes = {p: n.shape for p, n in source.nodes.items() if n.document is not None}
        for group in dict.fromkeys(image.group for image in source.images):
            attributes, notes = described_again(source.nodes[group], shapes, made)
            self.notes += notes
            if attributes is not None and self._root is not None:
                self._write_attributes(self._root / group, attributes)

    def _describe_groups(self, source: ZarrSource, pooled: set[str]) -> None:
        """Say of NCZarr's groups what is in them now."""
        arrays = [n.path for n in source.nodes.values() if n.document is not None and n.path not in pooled]
        arrays = sorted({*arrays, *self._made} - self._gone)
        for node in source.nodes.values():
            inside = [path.rpartition("/")[2] for path in arrays if path.rpartition("/")[0] == node.path]
            again = (
                group_again(node.attributes, self._lengths.get(node.path, {}), inside)
                if node.is_group
                else None
            )
            if again is not None and self._root is not None and node.path not in self._gone:
                self._write_attributes(self._root / node.path, again)

    def _write_attributes(self, folder: Path, attributes: dict[str, Any]) -> None:
        """Write the attributes of a group that was carried over; all else in its document stays."""
        if self._format == 2:
            (folder / ATTRIBUTES_2).write_text(json.dumps(attributes, indent=4))
            return
        document, _ = parsed((folder / DOCUMENT_3).read_bytes())
        (folder / DOCUMENT_3).write_text(json.dumps(document | {"attributes": attributes}, indent=2))

    def _create(self, pooled: Pooled, path: str) -> Any:
        """An array for means, with what can be kept of the one they are means of."""
        provenance = {PROVENANCE: pooled.provenance}
        node = None if self._source is None else self._source.nodes[pooled.source.name.strip("/")]
        dtype: Any = pooled.dtype
        dtype = reinterpreted(dtype, pooled.numbers, pooled.stored_numbers)
        if self._source is None or node is None:
            return self._array(path, pooled, dtype, None, Described(provenance, 0), [], node)
        origin = self._source.array(node.path)
        is_image = node.path in self._source.of_images
        own = None if origin.fill_value is None and node.version == 2 else origin.fill_value
        if pooled.source.numbers == "bfloat16":
            own = None
        says = described(node, own, pooled, is_image=is_image)
        # Levels of an image have its axes, in version 0.5 by their very names.
        is_placed = not is_image or pooled.flat
        dims = list(node.dims)
        placed = self._geography.placed(node, pooled) if is_placed else Placed([d or None for d in dims], {})
        attributes = {k: v for k, v in says.attributes.items() if k not in placed.changes}
        attributes |= {key: value for key, value in placed.changes.items() if value is not None}
        says = Described(attributes | provenance, says.fill)
        return self._array(path, pooled, dtype, origin, says, placed.dims, node)

    def _array(
        self,
        path: str,
        pooled: Pooled,
        dtype: Any,
        origin: Any,
        says: Described,
        dims: list[str | None],
        node: Node | None,
    ) -> Any:
        chunks = fitted_chunks(pooled)
        is_bfloat16 = pooled.numbers == "bfloat16"
        # zarr 3.1 fails to compare what is missing of shards of untyped elements.
        shards = None if origin is None or is_bfloat16 else _shards(origin, chunks, pooled)
        fill = None if is_bfloat16 or says.fill is None else np.asarray(says.fill).astype(dtype)[()]
        return self._make(
            path,
            pooled.stored_shape,
            dtype if not is_bfloat16 else "V2",
            chunks,
            shards,
            origin,
            Described(says.attributes, fill),
            dims,
            node,
        )

    def _put(self, variable: New) -> None:
        """Make a coordinate of the new grid."""
        assert self._source is not None
        values, says = variable.values, variable.described
        fill = None if says.fill is None else np.asarray(says.fill).astype(values.dtype)[()]
        made = self._make(
            variable.path,
            values.shape,
            values.dtype,
            values.shape,
            None,
            self._source.array(variable.origin.path),
            Described(says.attributes, fill),
            variable.dims,
            variable.origin,
        )
        made[...] = values

    def _make(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: Any,
        chunks: tuple[int, ...],
        shards: tuple[int, ...] | None,
        origin: Any,
        says: Described,
        dims: list[str | None],
        node: Node | None,
    ) -> Any:
        """An array of the store."""
        numbers = np.dtype(dtype)
        codecs = codecs_of(self._compression, origin, self._format, numbers)
        for codec in codecs.left_out:
            self._lossy.setdefault(codec, []).append((node.name if node is not None else path) or "the array")
        options: dict[str, Any] = {}
        attributes = says.attributes
        if node is not None:
            references = references_of(node.attributes, dims)
            attributes = array_again(with_dims(node, attributes, dims), node.attributes, references)
            for reference, length in zip(references, shape, strict=False):
                group, _, name = reference.strip("/").rpartition("/")
                self._lengths.setdefault(group, {})[name] = length
        self._made.append(path)
        if self._format == 3 and any(dims):
            options["dimension_names"] = dims
        return zarr.create_array(
            self._store,
            name=path or None,
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            shards=shards,
            filters=codecs.filters,
            compressors=codecs.compressors,
            fill_value=says.fill,
            zarr_format=self._format,
            chunk_key_encoding=None if origin is None else chunk_keys(origin),
            attributes=attributes,
            config=_CONFIG,
            **options,
        )


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
