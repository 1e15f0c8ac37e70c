"""The groups and arrays of a Zarr store, before there are means in them: all is decided first, then written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lucid.compression import Compression
from lucid.formats.choosing import listed
from lucid.formats.contract import PROVENANCE, Array, Carried, Pooled, Source, fitted_chunks
from lucid.formats.zarr.carry import carry, dropped, write_summaries
from lucid.formats.zarr.compression import codecs_of_results
from lucid.formats.zarr.documents import (
    DIMENSIONS_2,
    array_document,
    write_array,
    write_attributes,
    write_groups,
)
from lucid.formats.zarr.geography import Coordinate, Dimensions
from lucid.formats.zarr.layout import Layout
from lucid.formats.zarr.meaning import decoded, described
from lucid.formats.zarr.means import ArrayFiles
from lucid.formats.zarr.nczarr import GROUP, array_again, group_again, references_of
from lucid.formats.zarr.nodes import Node
from lucid.formats.zarr.ome import attributes_of_image, left_out
from lucid.formats.zarr.refusals import refusals
from lucid.formats.zarr.source import ZarrSource


class Builder:
    """What a store for results holds, but for the means."""

    def __init__(
        self, source: Source, pooled: Sequence[Pooled], compression: Compression | None, *, carries: bool
    ) -> None:
        self._compression = compression
        #: Arrays for means, by name; coordinates with their values; attributes of groups that change.
        self.arrays: dict[str, Node] = {}
        self._coordinates: list[tuple[Node, Array]] = []
        self._groups: dict[str, dict[str, Any]] = {}
        #: Notes for the user, one line each; and what was copied.
        self.notes: list[str] = []
        self.carried = Carried()
        #: Paths of what is neither pooled nor carried over, and of what is pooled.
        self._left_out: set[str] = set()
        self._sources = {array.source.name[1:] for array in pooled}
        #: Lengths of dimensions by group, where NCZarr wants them; and arrays whose codec is left out, by codec.
        self._lengths: dict[str, dict[str, int]] = {}
        self._lossy: dict[str, list[str]] = {}
        # The only array of a source that names none is the store itself.
        self._is_root = len(pooled) == 1 and not pooled[0].source.name
        self._source = source if isinstance(source, ZarrSource) else None
        self._carries = carries and self._source is not None
        if self._source is None:
            self._version = 3
            for array in pooled:
                self._add(array, None, {}, None, [])
        else:
            versions = (node.version for node in self._source.nodes.values() if node.document is not None)
            self._version = next(versions, 3)
            self._plan(self._source, pooled)

    def _plan(self, source: ZarrSource, pooled: Sequence[Pooled]) -> None:
        """Decide on everything for a source that is a store."""
        if self._carries:
            self._left_out = dropped(source.nodes.values(), source.options.drop)
            for group, paths in left_out(source.images, self._sources).items():
                self._left_out |= {*paths}
                there = listed([f"/{path}" for path in paths if path in source.nodes])
                if there:
                    self.notes.append(
                        f"levels {there} of image /{group} are left out: its levels come from the first"
                    )
        geography = Dimensions(source, pooled, self._left_out, carries=self._carries)
        for array in pooled:
            node = source.nodes[array.source.name[1:]]
            is_image = node.path in source.of_images
            own = None if array.source.numbers == "bfloat16" else source.layout(node.path).fill
            says = decoded(node, is_image=is_image)
            attributes, fill = described(
                node, says, array.changes_of(says), array.meaning, own, array.numbers
            )
            dims: list[str | None] = [name or None for name in node.dims]
            # Levels of an image have its axes, in version 0.5 by their very names.
            if not is_image or array.flat:
                dims, changes = geography.placed(node, array)
                attributes = {key: value for key, value in attributes.items() if key not in changes}
                attributes |= {key: value for key, value in changes.items() if value is not None}
            self._add(array, node, attributes, fill, dims)
        for coordinate in geography.coordinates:
            self._add_coordinate(coordinate)
        self.notes += [f"{what}: {listed(names)}" for what, names in geography.notes.items()]
        self.notes += [
            f"{codec} of {listed(names)} is left out: its parameters were chosen for other numbers"
            for codec, names in self._lossy.items()
        ]
        if self._carries and not self._is_root:
            self._describe_groups(source, pooled)

    def _add(
        self,
        pooled: Pooled,
        origin: Node | None,
        attributes: dict[str, Any],
        fill: Any,
        dims: list[str | None],
    ) -> None:
        """An array for means, with what can be kept of the one they are means of."""
        path = "" if self._is_root else pooled.name.strip("/")
        codecs, lossy = codecs_of_results(self._compression, origin, self._version, pooled.dtype)
        for codec in lossy:
            self._lossy.setdefault(codec, []).append((origin.name if origin else path) or "the array")
        chunks = fitted_chunks(pooled)
        is_typed = pooled.numbers != "bfloat16"
        layout = self._source.layout(origin.path) if self._source is not None and origin is not None else None
        # zarr 3.1 can read no shards of untyped elements.
        is_sharded = is_typed and layout is not None and layout.shard_index is not None
        self.arrays[pooled.name] = self._node(
            path,
            origin,
            attributes | {PROVENANCE: pooled.provenance},
            shape=pooled.stored_shape,
            numbers=pooled.stored_numbers,
            chunks=chunks,
            shards=_shards(layout, chunks, pooled) if is_sharded and layout is not None else None,
            codecs=codecs,
            fill=fill if is_typed else None,
            dims=dims,
        )

    def _add_coordinate(self, new: Coordinate) -> None:
        """A coordinate of the new grid, in one chunk."""
        shape, dtype = new.values.shape, new.values.dtype
        codecs, _ = codecs_of_results(self._compression, new.origin, self._version, dtype)
        node = self._node(
            new.path,
            new.origin,
            new.attributes,
            shape=shape,
            numbers=dtype.name,
            chunks=shape,
            shards=None,
            codecs=codecs,
            fill=new.fill,
            dims=new.dims,
        )
        self._coordinates.append((node, new.values))

    def _node(
        self, path: str, origin: Node | None, attributes: dict[str, Any], dims: list[str | None], **facts: Any
    ) -> Node:
        """An array of the store, with what its version and NCZarr have of dimensions."""
        keys = None
        if origin is not None and origin.document is not None:
            keys = origin.document["chunk_key_encoding"]
            keys = keys if keys.get("name") in ("default", "v2") else None
            is_scalar = origin.attributes.get(DIMENSIONS_2) == []
            attributes = {key: value for key, value in attributes.items() if key != DIMENSIONS_2}
            if self._version == 2 and (any(dims) or is_scalar):
                attributes[DIMENSIONS_2] = dims
            references = references_of(origin.attributes, dims)
            attributes = array_again(attributes, origin.attributes, references)
            for reference, length in zip(references, facts["shape"], strict=False):
                group, _, name = reference.strip("/").rpartition("/")
                self._lengths.setdefault(group, {})[name] = length
        return Node(path, array_document(self._version, keys=keys, dims=dims, **facts), attributes)

    def _describe_groups(self, source: ZarrSource, pooled: Sequence[Pooled]) -> None:
        """Say of OME-Zarr images where their cells are now, and of NCZarr's groups what is in them."""
        results: dict[str, list[Pooled]] = {}
        for array in pooled:
            results.setdefault(array.source.name[1:], []).append(array)
        shapes = {path: node.shape for path, node in source.nodes.items() if node.document is not None}
        for group in dict.fromkeys(image.group for image in source.images):
            again, notes = attributes_of_image(source.nodes[group], shapes, results)
            self.notes += notes
            if again is not None:
                self._groups[group] = again
        news = {node.path for node in (*self.arrays.values(), *(node for node, _ in self._coordinates))}
        paths = [
            path.rpartition("/") for path in sorted((news | shapes.keys() - self._sources) - self._left_out)
        ]
        for node in source.nodes.values():
            if GROUP in node.attributes and node.path not in self._left_out:
                inside = [name for folder, _, name in paths if folder == node.path]
                again = group_again(node.attributes, self._lengths.get(node.path, {}), inside)
                if again is not None:
                    self._groups[node.path] = again

    def write(self, root: Path) -> None:
        """Create the groups and arrays in a folder, after what is carried over."""
        if self._carries and self._source is not None:
            left_behind = self._sources | self._left_out
            with refusals("cannot be carried over"):
                self.carried = carry(self._source.store, self._source.nodes.values(), root, left_behind)
        if not self._is_root:
            write_groups(root, "", self._version)
        for node in (*self.arrays.values(), *(node for node, _ in self._coordinates)):
            if node.path:
                write_groups(root, node.folder, self._version)
            assert node.document is not None
            write_array(root / node.path, node.document, node.attributes)
        for node, values in self._coordinates:
            ArrayFiles(root, node).store((0,) * values.ndim, values.__getitem__)
        for path, attributes in self._groups.items():
            write_attributes(root / path, attributes, self._version)

    def finish(self, root: Path) -> None:
        """Make the summaries of metadata that the source has anew."""
        if self._carries and self._source is not None:
            write_summaries(self._source.store, self._source.nodes.values(), root, self._left_out)


def _shards(origin: Layout, chunks: tuple[int, ...], pooled: Pooled) -> tuple[int, ...]:
    """Shards like those of the source: whole chunks, and not below it in samples or channels."""
    shape = pooled.stored_shape
    sizes = (origin.files[0], shape[1]) if pooled.flat else origin.files
    most = (-(-n // c) * c for n, c in zip(shape, chunks, strict=True))
    wanted = (max(c, -(-s // c) * c) for s, c in zip(sizes, chunks, strict=True))
    return tuple(min(m, w) for m, w in zip(most, wanted, strict=True))
