"""The groups and arrays of a Zarr store, before there are means in them."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from lucid.compression import parse_compression
from lucid.errors import FileError, FormatError
from lucid.formats.arrays import Array, ResultSpec
from lucid.formats.choosing import CarriedNames, name_list, note_lines
from lucid.formats.contract import PROVENANCE, CarriedArrays, Source
from lucid.formats.geography import dims_elsewhere
from lucid.formats.meaning import FILL
from lucid.formats.result import changes_in, chunks_of, own_attributes
from lucid.formats.zarr.carry import carry, renew_summaries
from lucid.formats.zarr.compression import codecs_of_results
from lucid.formats.zarr.documents import (
    DIMENSIONS_2,
    DOCUMENT_3,
    GROUP_2,
    array_document,
    write_array,
    write_attributes,
)
from lucid.formats.zarr.files import ArrayFiles
from lucid.formats.zarr.geography import Dimensions, names_of_axes
from lucid.formats.zarr.layout import Layout, layout_of
from lucid.formats.zarr.meaning import Description, describe_result, with_changes
from lucid.formats.zarr.nczarr import GROUP, attributes_of_array, attributes_of_group, name_in, references_of
from lucid.formats.zarr.nodes import FILES, Node
from lucid.formats.zarr.ome import attributes_of_image, lower_levels, notes_on_labels
from lucid.formats.zarr.source import ZarrSource
from lucid.options import Options


class Builder:
    """A store for results, all but the means: built in a folder or, without one, only thought through."""

    def __init__(
        self, source: Source, results: Sequence[ResultSpec], options: Options, root: Path | None
    ) -> None:
        self._results, self._root = results, root
        self._compression = parse_compression(options.compression)
        self._names = CarriedNames(results, options)
        #: Notes for the user, one line each; and what is copied.
        self.notes: list[str] = []
        self.carried = CarriedArrays()
        # The only array of a source that names none is the store itself.
        self._is_root = len(results) == 1 and not results[0].source.name
        self._groups: set[Path] = set()
        self._source = source if isinstance(source, ZarrSource) else None
        self._nodes = self._source.nodes if self._source is not None else {}
        self._version = next((one.version for one in self._nodes.values() if one.document is not None), 3)
        #: Results by the path of what they are of, where a store is carried over; and what is carried, by its own.
        by_source = groupby(results if self._nodes else (), lambda result: result.source.name)
        self._results_by_path = {name[1:]: [*several] for name, several in by_source}
        self._carried_nodes: dict[str, Node] = {}
        #: Paths of new arrays; lengths of dimensions by group, as NCZarr wants them.
        self._paths: set[str] = set()
        self._lengths: dict[str, dict[str, int]] = {}
        #: Arrays whose codec is left out, by codec.
        self._lossy_codecs: dict[str, list[str]] = {}

    def build(self) -> None:
        """Build what is carried over, results with their coordinates, and what groups and summaries say of them."""
        if self._source is None:
            for result, dims in dims_elsewhere(self._results):
                attributes = with_changes({}, own_attributes(result))
                self._add_means(
                    result, None, Description(attributes, names_of_axes([[path] for path in dims]))
                )
            return
        if self._names.is_alone:
            self._add_results(self._source)
            return
        self._carry(self._source)
        self._add_results(self._source)
        if not self._is_root:
            self._describe_groups(self._source)
        if self._root is not None and any(one.has_summary for one in self._nodes.values()):
            renew_summaries(self._root)

    def path_of(self, name: str) -> str:
        """The path of an array of means."""
        return "" if self._is_root else name.strip("/")

    def refuse_one_name(self) -> None:
        """Raise for two paths that are one where the file system knows no case: one array would lie over the other."""
        known: dict[str, str] = {}
        for path in sorted(self._paths | self._carried_nodes.keys()):
            other = known.setdefault(path.casefold(), path)
            if other != path:
                raise FileError(
                    f"output is on a file system that takes the names {other!r} and {path!r} for one; "
                    "choose one of these arrays, or another place"
                )

    def _carry(self, source: ZarrSource) -> None:
        """Copy what is neither pooled nor left out."""
        other_paths = self._nodes.keys() - self._results_by_path.keys()
        for group, paths in lower_levels(source.images, self._results_by_path).items():
            other_paths -= {*paths}
            levels = name_list([f"/{path}" for path in paths if path in self._nodes])
            note = f"levels {levels} of image /{group} are left out: its levels come from the first"
            self.notes += [note] if levels else []
        self.notes += notes_on_labels(source.images, self._results_by_path)
        nodes = (node for path, node in self._nodes.items() if path in other_paths)
        self._carried_nodes = {node.path: node for node in nodes if self._names.carries(node.name)}
        self.notes += note_lines(self._names.notes)
        self.carried = carry(source.store, self._root, self._carried_nodes.values())

    def _add_results(self, source: ZarrSource) -> None:
        """Add the arrays of means, and coordinates of the new grid."""
        carried = self._carried_nodes.values()
        geography = Dimensions(source, self._results_by_path, self._names, carried, self._add_coordinate)
        for path, results in self._results_by_path.items():
            node, is_image = self._nodes[path], path in source.image_paths
            variable = source.variable(node)
            for result in results:
                fill = None if result.source.numbers == "bfloat16" else source.array(path).layout.fill
                changes = changes_in(result, variable.attributes)
                dims: list[str | None] = [name or None for name in node.dims]
                # Levels of an image have its axes, in version 0.5 by their very names.
                if not is_image or result.flat:
                    paths, places = geography.describe(variable, result)
                    dims, changes = names_of_axes(paths) if node.dims else [], changes | places
                description = describe_result(variable, changes, result.meaning, fill, result.numbers, dims)
                self._add_means(result, node, description)
        self.notes += note_lines(geography.notes)
        self.notes += [
            f"{codec} of {name_list(names)} is left out: its parameters were chosen for other numbers"
            for codec, names in self._lossy_codecs.items()
        ]
        # What is carried over names what became several as it is called now, and not what is dropped.
        if self._root is not None and geography.renames:
            for node in self._carried_nodes.values():
                changes = geography.references_of_carried(source.variable(node)) if node.document else {}
                if changes:
                    attributes = with_changes(node.attributes, changes)
                    write_attributes(self._root / node.path, node.version, attributes)

    def _add_means(self, result: ResultSpec, origin: Node | None, description: Description) -> None:
        """An array for means, with what can be kept of the one they are means of."""
        shards = None
        others = {FILES}
        if result.numbers == "bfloat16":
            # xarray opens no store in which elements without a type have one for gaps.
            description, others = description._replace(fill=None), {FILES, FILL}
        elif self._source is not None and origin is not None:
            # zarr 3.1 can read no shards of untyped elements.
            shards = _shards(self._source.array(origin.path).layout, chunks_of(result), result)
        attributes = {key: value for key, value in description.attributes.items() if key not in others}
        description = description._replace(attributes=attributes | {PROVENANCE: result.provenance})
        path = self.path_of(result.name)
        numbers = result.numbers if origin is None else result.stored_numbers
        facts = {"shape": result.stored_shape, "numbers": numbers, "chunks": chunks_of(result)}
        self._add(path, origin, description, shards=shards, **facts)

    def _add_coordinate(self, path: str, origin: Node, values: Array, description: Description) -> None:
        """A coordinate of the new grid, in one chunk."""
        facts = {"shape": values.shape, "numbers": values.dtype.name, "chunks": values.shape, "shards": None}
        node = self._add(path, origin, description, **facts)
        if self._root is not None:
            ArrayFiles(self._root, node).write_file((0,) * values.ndim, values.__getitem__)

    def _add(self, path: str, origin: Node | None, description: Description, **facts: Any) -> Node:
        """Add an array and the groups around it, with what its version and NCZarr have of dimensions."""
        codecs, lossy = codecs_of_results(self._compression, origin, self._version, facts["numbers"])
        for codec in lossy:
            self._lossy_codecs.setdefault(codec, []).append((origin.name if origin else path) or "the array")
        attributes, keys = description.attributes, None
        if origin is not None and origin.document is not None:
            keys = origin.document["chunk_key_encoding"]
            keys = keys if keys.get("name") in ("default", "v2") else None
            is_scalar = attributes.pop(DIMENSIONS_2, None) == []
            if self._version == 2 and (any(description.dims) or is_scalar):
                attributes[DIMENSIONS_2] = description.dims
            references = references_of(origin.attributes, description.dims)
            attributes = attributes_of_array(attributes, origin.attributes, references)
            for reference, length in zip(references, facts["shape"], strict=False):
                group, _, name = reference.strip("/").rpartition("/")
                self._lengths.setdefault(group, {})[name] = length
        facts |= {"codecs": codecs, "keys": keys, "dims": description.dims, "fill": description.fill}
        self._paths.add(path)
        document = array_document(self._version, **facts)
        node = Node(path, document, attributes)
        if layout_of(node, "bfloat16") is None:  # zarr may pass over what is wrong when it reads
            name = origin.name if origin else path
            raise FormatError(
                f"has {name or 'an array'} with codecs that make no sense; `compression` chooses others"
            )
        if self._root is not None:
            for parent in {*Path(path).parents} - self._groups:
                if not (self._root / parent / (GROUP_2 if self._version == 2 else DOCUMENT_3)).is_file():
                    write_attributes(self._root / parent, self._version, {})
                self._groups.add(parent)
            write_array(self._root / path, document, attributes)
        return node

    def _describe_groups(self, source: ZarrSource) -> None:
        """Say of OME-Zarr images where their cells are now, and of NCZarr's groups what is in them."""
        groups: dict[str, dict[str, Any]] = {}
        shapes = {path: node.shape for path, node in self._nodes.items() if node.document is not None}
        for group in dict.fromkeys(image.group for image in source.images):
            groups[group], notes = attributes_of_image(self._nodes[group], shapes, self._results_by_path)
            self.notes += notes
        arrays = self._paths | (shapes.keys() & self._carried_nodes.keys())
        paths = [path.rpartition("/") for path in sorted(arrays)]
        for node in self._carried_nodes.values():
            if name_in(node.attributes, GROUP) in node.attributes:
                names = [name for folder, _, name in paths if folder == node.path]
                lengths = self._lengths.get(node.path, {})
                groups[node.path] = attributes_of_group(node.attributes, lengths, names)
        for path, attributes in groups.items():
            if self._root is not None and attributes != self._nodes[path].attributes:
                write_attributes(self._root / path, self._version, attributes)


def _shards(origin: Layout, chunks: tuple[int, ...], result: ResultSpec) -> tuple[int, ...] | None:
    """Shards like those of the source, if it has any: whole chunks, and not below it in samples or channels."""
    if origin.shard_index is None:
        return None
    shape = result.stored_shape
    sizes = (origin.files[0], shape[1]) if result.flat else origin.files
    most = (max(1, -(-n // c)) * c for n, c in zip(shape, chunks, strict=True))
    least = (max(c, -(-s // c) * c) for s, c in zip(sizes, chunks, strict=True))
    return tuple(min(m, n) for m, n in zip(most, least, strict=True))
