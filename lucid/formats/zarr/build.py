"""The groups and arrays of a Zarr store, before there are means in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lucid.compression import Compression
from lucid.formats.arrays import Pooled
from lucid.formats.choosing import listed
from lucid.formats.contract import PROVENANCE, Carried, Source
from lucid.formats.zarr.carry import carry, dropped
from lucid.formats.zarr.documents import (
    Made,
    array_document,
    keys_of,
    write_array,
    write_attributes,
    write_groups,
)
from lucid.formats.zarr.filled import Filled
from lucid.formats.zarr.geography import Dimensions, New, Placed
from lucid.formats.zarr.kept import kept_codecs
from lucid.formats.zarr.layout import Layout, layout_of
from lucid.formats.zarr.meaning import Described, described, with_dims
from lucid.formats.zarr.nczarr import GROUP, array_again, group_again, references_of
from lucid.formats.zarr.nodes import Node
from lucid.formats.zarr.ome import described_again, left_out
from lucid.formats.zarr.refusals import refusals
from lucid.formats.zarr.source import ZarrSource
from lucid.formats.zarr.summary import with_summary, write_summary


class Builder:
    """A store's groups and arrays, before there are means in them."""

    def __init__(
        self, source: Source, pooled: Sequence[Pooled], compression: Compression | None, *, carries: bool
    ) -> None:
        self._pooled, self._compression = pooled, compression
        self._source = source if isinstance(source, ZarrSource) else None
        self._carries = carries and self._source is not None
        #: Arrays for means, by name.
        self.arrays: dict[str, Node] = {}
        #: Notes for the user, one line each.
        self.notes: list[str] = []
        #: Arrays that were copied.
        self.carried = Carried()
        #: Arrays of a source that are neither pooled nor carried over.
        self._gone: set[str] = set()
        #: Paths of the arrays that are made, and lengths of their dimensions by group, where NCZarr wants them.
        self._made: list[str] = []
        self._lengths: dict[str, dict[str, int]] = {}
        self._lossy: dict[str, list[str]] = {}
        self._version = 3
        if self._source is not None:
            versions = [node.version for node in self._source.nodes.values() if node.document is not None]
            self._version = versions[0]
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

    def build(self, root: Path | None) -> None:
        """Create the arrays in a folder, and copy what is carried over; without a folder, only see what would be."""
        self._root = root
        # The only array of a source that names none is the store itself.
        is_root = len(self._pooled) == 1 and not self._pooled[0].source.name
        pooled = {array.source.name.strip("/") for array in self._pooled}
        if self._carries and self._source is not None and root is not None:
            with refusals("cannot be carried over"):
                self.carried = carry(
                    self._source.tree, self._source.nodes.values(), root, pooled | self._gone
                )
        if not is_root and root is not None:
            write_groups(root, "", self._version)
        if self._source is not None:
            self._geography = Dimensions(
                self._source, self._pooled, self._gone, self._put, carries=self._carries
            )
        for array in self._pooled:
            path = "" if is_root else array.name.strip("/")
            if path and root is not None:
                write_groups(root, path.rpartition("/")[0], self._version)
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
                write_attributes(self._root / group, attributes, self._version)

    def _describe_groups(self, source: ZarrSource, pooled: set[str]) -> None:
        """Say of NCZarr's groups what is in them now."""
        groups = [n for n in source.nodes.values() if GROUP in n.attributes and n.path not in self._gone]
        arrays = {n.path for n in source.nodes.values() if n.document is not None and n.path not in pooled}
        for node in groups if self._root is not None else ():
            paths = [path.rpartition("/") for path in sorted({*arrays, *self._made} - self._gone)]
            inside = [name for folder, _, name in paths if folder == node.path]
            again = group_again(node.attributes, self._lengths.get(node.path, {}), inside)
            if again is not None and self._root is not None:
                write_attributes(self._root / node.path, again, self._version)

    def _create(self, pooled: Pooled, path: str) -> Node:
        """An array for means, with what can be kept of the one they are means of."""
        provenance = {PROVENANCE: pooled.provenance}
        if self._source is None:
            return self._make(path, pooled, Described(provenance, None), [], None)
        node = self._source.nodes[pooled.source.name.strip("/")]
        is_image = node.path in self._source.of_images
        own = None if pooled.source.numbers == "bfloat16" else self._source.layout(node.path).fill
        says = described(node, own, pooled, is_image=is_image)
        # Levels of an image have its axes, in version 0.5 by their very names.
        is_placed = not is_image or pooled.flat
        placed = (
            self._geography.placed(node, pooled) if is_placed else Placed([d or None for d in node.dims], {})
        )
        attributes = {k: v for k, v in says.attributes.items() if k not in placed.changes}
        attributes |= {key: value for key, value in placed.changes.items() if value is not None}
        return self._make(path, pooled, Described(attributes | provenance, says.fill), placed.dims, node)

    def _put(self, variable: New) -> None:
        """Make a coordinate of the new grid."""
        assert self._source is not None
        values = variable.values
        codecs = kept_codecs(self._compression, variable.origin, self._version, values.dtype)
        shape, numbers = values.shape, values.dtype.name
        fill, dims = variable.described.fill, variable.dims
        made = Made(shape, numbers, shape, None, codecs.codecs, fill, keys_of(variable.origin), dims)
        node = self._written(variable.path, made, variable.described.attributes, variable.origin)
        if self._root is not None:
            Filled(self._root, node, layout_of_means(node, numbers)).store((0,) * values.ndim, values)

    def _make(
        self, path: str, pooled: Pooled, says: Described, dims: list[str | None], node: Node | None
    ) -> Node:
        """An array for means."""
        chunks = pooled.chunks
        codecs = kept_codecs(self._compression, node, self._version, pooled.dtype)
        for codec in codecs.left_out:
            self._lossy.setdefault(codec, []).append((node.name if node is not None else path) or "the array")
        # zarr 3.1 can read no shards of untyped elements.
        layout = None
        if self._source is not None and node is not None and pooled.numbers != "bfloat16":
            layout = self._source.layout(node.path)
        made = Made(
            shape=pooled.stored_shape,
            numbers=pooled.stored_numbers,
            chunks=chunks,
            shards=None if layout is None or not layout.is_sharded else _shards(layout, chunks, pooled),
            codecs=codecs.codecs,
            fill=None if pooled.numbers == "bfloat16" else says.fill,
            keys=None if node is None else keys_of(node),
            dims=dims,
        )
        return self._written(path, made, says.attributes, node)

    def _written(self, path: str, made: Made, attributes: dict[str, Any], origin: Node | None) -> Node:
        """An array of the store, with what its version and NCZarr have of dimensions."""
        if origin is not None:
            references = references_of(origin.attributes, made.dims)
            attributes = array_again(
                with_dims(origin, attributes, [*made.dims]), origin.attributes, references
            )
            for reference, length in zip(references, made.shape, strict=False):
                group, _, name = reference.strip("/").rpartition("/")
                self._lengths.setdefault(group, {})[name] = length
        self._made.append(path)
        document = array_document(made, self._version)
        if self._root is not None:
            write_array(self._root / path, document, attributes)
        return Node(path, document, attributes)


def layout_of_means(node: Node, numbers: str) -> Layout:
    """How an array that was made here lies."""
    layout = layout_of(node, numbers if numbers == "bfloat16" else None)
    assert layout is not None
    return layout


def _shards(origin: Layout, chunks: tuple[int, ...], pooled: Pooled) -> tuple[int, ...]:
    """Shards like those of the source: whole chunks, and not below it in samples or channels."""
    shape = pooled.stored_shape
    sizes = (origin.files[0], shape[1]) if pooled.flat else origin.files
    most = (-(-n // c) * c for n, c in zip(shape, chunks, strict=True))
    wanted = (max(c, -(-s // c) * c) for s, c in zip(sizes, chunks, strict=True))
    return tuple(min(m, w) for m, w in zip(most, wanted, strict=True))
