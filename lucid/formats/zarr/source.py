"""Zarr stores, versions 2 and 3: folders, archives (`.zarr.zip`) and, through fsspec, URLs.

Which arrays there are, and how they lie, is seen in the metadata documents, without a look at chunks, of which there
may be millions. Chunks are read and decoded here, by any number of threads; zarr is only loaded for codecs that
are not known here. What a hostile store may hold is refused: pickles, and links out of its folder. Nothing of zarr's
configuration is changed, which is the user's own.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lucid.errors import FormatError, named
from lucid.formats.arrays import Array, ArraySpec
from lucid.formats.choosing import Wanted
from lucid.formats.contract import PROVENANCE, Source
from lucid.formats.disk.files import digest
from lucid.formats.regions import Region, overlaps, shape_of, shifted, size_of
from lucid.formats.registry import url_of
from lucid.formats.zarr.choice import Choice
from lucid.formats.zarr.chunks import Chunks, check_names
from lucid.formats.zarr.layout import Layout, layout_of
from lucid.formats.zarr.meaning import meaning_in
from lucid.formats.zarr.nodes import Node, nodes_of
from lucid.formats.zarr.ome import images_of
from lucid.formats.zarr.refusals import called, quiet, refusals
from lucid.formats.zarr.tree import tree_of
from lucid.options import Options

#: Arrays that are kept open.
MOST_OPEN = 64
#: An array of more bytes than this, and than so many times those of its store, is a lie, which would be pooled for
#: years. The second is higher than for HDF5, since storage that was not written is usual here.
MOST_UNWRITTEN, MOST_RATIO = 1 << 36, 1_000_000


class ZarrSource(Source):
    """A Zarr store; its arrays are named by their paths, one that is the store's root by nothing."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        with refusals("cannot be opened as Zarr"):
            self.tree = tree_of(path, options)
            try:
                self._state = self.tree.state()
                #: Groups and arrays by path, "" for the root.
                self.nodes = nodes_of(self.tree)
            except BaseException:
                self.tree.close()
                raise
        self.is_far = url_of(path) is not None
        #: OME-Zarr images, and all arrays of theirs.
        self.images = images_of(self.nodes.values())
        self.of_images = frozenset(path for image in self.images for path in image.paths)
        self._chunks = Chunks(self.tree, options.max_memory)
        self._layouts: dict[str, Layout] = {}
        #: Arrays that zarr reads.
        self._foreign: dict[str, Any] = {}
        self._store: Any = None

    def choose(self, patterns: Sequence[str]) -> tuple[ArraySpec, ...]:
        """The arrays that the user names, or all that fit; only these are opened."""
        choice = Choice(self.nodes, self.images, Wanted.of(self.options))
        nodes = choice.of(patterns)
        self.notes = choice.notes
        specs = []
        for node in nodes:
            with refusals(called(node.name)), named(called(node.name)):
                specs.append(self._spec(node))
                check_names(self.tree, node.path, self.layout(node.path), node.version)
        return tuple(specs)

    def layout(self, path: str) -> Layout:
        """How an array lies.

        Raises
        ------
        FormatError
            Its document says nonsense, or what neither we nor zarr can read.

        """
        layout = self._layouts.get(path)
        if layout is None:
            node = self.nodes[path]
            layout = layout_of(node, self.options.input_dtype)
            if layout is None or layout.codecs is None:
                array = self._opened(path)
                if 0 in array.chunks:
                    raise FormatError(f"has chunks of {array.chunks}, which hold no cells")
                layout = layout or _as_zarr_says(array)
            while len(self._layouts) >= MOST_OPEN:
                self._layouts.pop(next(iter(self._layouts)))
            self._layouts[path] = layout
        return layout

    def _opened(self, path: str) -> Any:
        """An array as zarr knows it."""
        document = self.nodes[path].document or {}
        if "pickle" in json.dumps([document.get(key) for key in ("codecs", "filters", "compressor")]):
            raise FormatError("is encoded as pickles, which are not read because a pickle can run code")
        if path not in self._foreign:
            import zarr  # takes longer to load than most stores to read

            with quiet():
                self._store = self._store or self.tree.store()
                array = zarr.open_array(self._store, path=f"{self.tree.prefix}{path}", mode="r")
            while len(self._foreign) >= MOST_OPEN:
                self._foreign.pop(next(iter(self._foreign)))
            self._foreign[path] = array
        return self._foreign[path]

    def values(self, path: str) -> Array:
        """All elements of a small array, in native order."""
        with named(called(f"/{path}")), refusals("cannot be read"):
            layout = self.layout(path)
            values = np.empty(layout.shape, layout.dtype)
            self._fill(path, tuple(slice(0, n) for n in layout.shape), values)
        return values.astype(values.dtype.newbyteorder("="))

    def _fill(self, path: str, region: Region, out: Array) -> None:
        """Read a region of an array."""
        layout = self.layout(path)
        if layout.codecs is not None:
            self._chunks.read(path, layout, region, out)
            return
        from zarr.buffer.cpu import NDBuffer

        array = self._opened(path)
        out = out.view(array.dtype)
        # zarr decodes ten chunks at a time of what it is asked for, in memory of its own.
        for _, _, outside in overlaps(region, array.chunks):
            box = shifted(outside, [axis.start for axis in region])
            array.get_basic_selection(box, out=NDBuffer.from_numpy_array(out[outside]))

    def _spec(self, node: Node) -> ArraySpec:
        """The description of an array of numbers."""
        layout = self.layout(node.path)
        stored = node.numbers(self.options.input_dtype)
        assert stored is not None
        nbytes = size_of(layout.shape) * layout.dtype.itemsize
        if self._state is not None and nbytes > max(MOST_UNWRITTEN, MOST_RATIO * self._state[0]):
            raise FormatError(f"claims {nbytes} bytes, of which a store of {self._state[0]} can hold few")
        meaning = meaning_in(node, stored, self.options, is_image=node.path in self.of_images)
        return ArraySpec(
            name=node.name,
            shape=layout.shape,
            dtype=reinterpreted(layout.dtype, meaning.stored, meaning.numbers),
            numbers=meaning.numbers,
            chunks=layout.chunks,
            whole_chunks=True,
            meaning=meaning,
            dims=node.dims,
        )

    def check_unchanged(self) -> None:
        """Raise if a file of the store was written to; behind a URL, if a metadata document was."""
        with refusals("changed while it was read"):
            is_same = self.tree.state() == self._state and _digests(self.nodes) == _digests(
                nodes_of(self.tree)
            )
        if not is_same:
            raise FormatError("changed while it was read")

    def signature(self, specs: Sequence[ArraySpec]) -> str:
        """A digest of the metadata, and of times and sizes."""
        return digest(self._state, [(s.name, self.nodes[_path(s.name)].digest.hex()) for s in specs])

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The arrays with an attribute that says what they are means of."""
        for path in sorted(self.nodes):
            node = self.nodes[path]
            text = node.attributes.get(PROVENANCE)
            if node.document is None or not isinstance(text, str):
                continue
            if node.numbers(self.options.input_dtype) is not None:
                with refusals(called(node.name)):
                    spec = self._spec(node)
                yield spec, text

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region, chunk by chunk."""
        shape = shape_of(region)
        values = buffer[: size_of(shape) * spec.dtype.itemsize].view(spec.dtype).reshape(shape)
        with named(called(spec.name)), refusals("cannot be read"):
            path = _path(spec.name)
            self._fill(path, region, values.view(self.layout(path).dtype))
        return values

    def close(self) -> None:
        """Let go of the store."""
        if self._store is not None:
            self._store.close()
        self.tree.close()


def _as_zarr_says(array: Any) -> Layout:
    """The layout of an array whose document only zarr understands."""
    shards, dtype = array.shards or array.chunks, array.dtype
    is_2 = array.metadata.zarr_format == 2
    separator = array.metadata.dimension_separator if is_2 else array.metadata.chunk_key_encoding.separator
    start = () if is_2 or array.metadata.chunk_key_encoding.name == "v2" else ("c",)
    dtype = np.dtype("<u2") if dtype.kind == "V" else dtype
    return Layout(array.shape, dtype, array.fill_value, array.chunks, shards, start, separator, None)


def reinterpreted(dtype: np.dtype[Any], stored: str, numbers: str) -> np.dtype[Any]:
    """A type whose bits are read as those of another one of its size."""
    return dtype if stored == numbers else np.dtype(numbers).newbyteorder(dtype.byteorder)


def _digests(nodes: dict[str, Node]) -> list[tuple[str, bytes]]:
    return [(path, node.digest) for path, node in nodes.items()]


def _path(name: str) -> str:
    return name.removeprefix("/")
