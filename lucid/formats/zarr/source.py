"""Zarr stores, versions 2 and 3: folders, archives (`.zarr.zip`) and, through fsspec, URLs.

Which arrays there are, and how they lie, is seen in the metadata documents, without a look at chunks, of which there
may be millions. Chunks are read and decoded here, by any number of threads; zarr is only loaded for codecs that
are not known here. What a hostile store may hold is refused: pickles, and links out of its folder. Nothing of zarr's
configuration is changed, which is the user's own.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from lucid.errors import FormatError
from lucid.formats.arrays import Array, ArraySpec
from lucid.formats.choice import Choice
from lucid.formats.contract import PROVENANCE, Source
from lucid.formats.disk.files import digest
from lucid.formats.meaning import meaning_by
from lucid.formats.regions import Region, shape_of, size_of
from lucid.formats.values import reinterpret_dtype
from lucid.formats.variables import A_GROUP, Variable
from lucid.formats.zarr.chunks import StoredArray
from lucid.formats.zarr.errors import reading, translate_all
from lucid.formats.zarr.meaning import variable_of
from lucid.formats.zarr.nodes import FILES, Node, digest_of_files, nodes_of
from lucid.formats.zarr.ome import LABEL_NOTE, aside_paths, images_of
from lucid.formats.zarr.store import store_at
from lucid.options import Options

#: How many times the bytes of its store an array may have: more than in HDF5, since unwritten storage is usual here.
MOST_RATIO = 1_000_000


class ZarrSource(Source):
    """A Zarr store; its arrays are named by their paths, one that is the store's root by nothing."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        with translate_all("cannot be opened as Zarr"):
            self.store = store_at(path, options)
            try:
                #: As it is now, before anything is read.
                self._state = self.store.state()
                #: Groups and arrays by path, "" for the root.
                self.nodes = nodes_of(self.store)
            except BaseException:
                self.store.close()
                raise
        #: OME-Zarr images, and all arrays of theirs.
        self.images = images_of(self.nodes.values())
        self.image_paths = frozenset(path for image in self.images for path in image.paths)
        #: The array of numbers at a path; one is kept, with what it remembers of its chunks.
        self.array = lru_cache(1)(lambda path: StoredArray(self.store, self.nodes[path], options))

    def choose(self, patterns: Sequence[str]) -> Sequence[ArraySpec]:
        """The arrays that the user names, or all that fit; only these are opened."""
        labels, levels = aside_paths(self.images)
        choice = Choice(
            self.options,
            find=self.variable_at,
            every=lambda _: (self.variable(node) for node in self.nodes.values() if not node.is_group),
            keep=lambda one: str(one.key),
            near=lambda path: self.nodes[path[1:]].attributes if path[1:] in self.nodes else {},
            aside=dict.fromkeys(levels, "a lower level") | dict.fromkeys(labels, "a label image"),
        )
        nodes = [self.nodes[path] for path in sorted(choice.choose(patterns))]
        self.doubts = choice.doubts
        self.notes = choice.notes + [LABEL_NOTE.format(node.name) for node in nodes if node.name in labels]
        return tuple(self.store.each(self._checked_spec, nodes))

    def variable_at(self, path: str) -> Variable | str | None:
        """The array at a path; if it is none, what it is."""
        node = self.nodes.get(path.strip("/"))
        if node is None:
            return None
        return A_GROUP.format(node.name) if node.is_group else self.variable(node)

    def variable(self, node: Node) -> Variable:
        """An array as the rules of all formats see it."""
        is_image = node.path in self.image_paths
        return variable_of(node, self.options.input_dtype, is_image=is_image)

    def values(self, path: str) -> Array:
        """All elements of a small array, in native order."""
        with reading(f"/{path}"):
            array = self.array(path)
            values = np.empty(array.layout.shape, array.layout.dtype)
            array.read(tuple(slice(0, n) for n in values.shape), values)
        return values.astype(values.dtype.newbyteorder("="))

    def _checked_spec(self, node: Node) -> ArraySpec:
        """The description of an array, whose chunks are where its document says."""
        with reading(node.name):
            self.array(node.path).check_names()
            return self._spec(node)

    def _spec(self, node: Node) -> ArraySpec:
        """The description of an array of numbers."""
        layout = self.array(node.path).layout
        stored = node.numbers(self.options.input_dtype)
        assert stored is not None
        meaning = meaning_by(self.options, self.variable(node).attributes, stored)
        spec = ArraySpec(
            name=node.name,
            shape=layout.shape,
            dtype=reinterpret_dtype(layout.dtype, meaning.numbers),
            numbers=meaning.numbers,
            chunks=layout.chunks,
            chunk_copies=layout.codecs.copies if layout.codecs else 4,
            is_far=self.store.is_far,
            meaning=meaning,
            dims=node.dims,
        )
        if self._state is not None:
            spec.check_claim("", "store", self._state[0], MOST_RATIO)
        return spec

    def check_unchanged(self) -> None:
        """Raise if a file of the store was written to; behind a URL, if a metadata document was."""
        with translate_all("changed while it was read"):
            if not self.store.is_unchanged(self._state):
                raise FormatError("changed while it was read")

    def signature(self, specs: Sequence[ArraySpec]) -> str:
        """A digest of the metadata, and of times and sizes."""
        return digest(self._state, [(s.name, digest(self.nodes[s.name[1:]])) for s in specs])

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The arrays with an attribute that says what they are means of."""
        for _, node in sorted(self.nodes.items()):
            text = node.attributes.get(PROVENANCE)
            if isinstance(text, str) and node.numbers(self.options.input_dtype) is not None:
                with reading(node.name):
                    spec = self._spec(node)
                yield spec, text

    def is_whole(self, spec: ArraySpec) -> bool:
        """Whether the files of an array are those that it says it has, if it says so."""
        node = self.nodes[spec.name[1:]]
        files = node.attributes.get(FILES)
        with reading(spec.name):
            return files is None or files == digest_of_files(self.store, node.path)

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region, chunk by chunk."""
        shape = shape_of(region)
        values = buffer[: size_of(shape) * spec.dtype.itemsize].view(spec.dtype).reshape(shape)
        with reading(spec.name):
            array = self.array(spec.name[1:])
            array.read(region, values.view(array.layout.dtype))
        return values

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()
