"""Zarr stores, versions 2 and 3: folders, archives (`.zarr.zip`) and, through fsspec, URLs.

Arrays are read and decoded by zarr. Which arrays there are is seen in the metadata documents, without a
look at chunks, of which there may be millions. What a hostile store may hold is refused: pickles, and
links out of its folder. Nothing of zarr's configuration is changed, which is the user's own.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.buffer.cpu import NDBuffer

from lucid.errors import FormatError
from lucid.formats.choosing import Wanted
from lucid.formats.contract import PROVENANCE, Array, ArraySpec, Region, Source, named, shape_of, size_of
from lucid.formats.disk.files import digest
from lucid.formats.zarr.choice import Choice
from lucid.formats.zarr.chunks import boxes, check_names
from lucid.formats.zarr.meaning import meaning_in
from lucid.formats.zarr.nodes import Node, nodes_of
from lucid.formats.zarr.ome import images_of
from lucid.formats.zarr.refusals import called, quiet, refusals
from lucid.formats.zarr.tree import tree_of
from lucid.options import Options

#: Arrays that are kept open.
MOST_OPEN = 64


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
                self._store = self.tree.store()
            except BaseException:
                self.tree.close()
                raise
        #: OME-Zarr images, and all arrays of theirs.
        self.images = images_of(self.nodes.values())
        self.of_images = frozenset(path for image in self.images for path in image.paths)
        self._arrays: dict[str, Any] = {}

    def arrays(self, rank: int) -> tuple[ArraySpec, ...]:
        """Arrays of that rank and of numbers; a store with none is an error."""
        return self.choose(rank, ())

    def choose(
        self, rank: int, patterns: Sequence[str], height_axis: int = 2, dims: tuple[str, str] | None = None
    ) -> tuple[ArraySpec, ...]:
        """The arrays that somebody names, all that fit where nobody does; only these are opened."""
        choice = Choice(self.nodes, self.images, Wanted(rank, height_axis, dims, self.options.input_dtype))
        nodes = choice.of(patterns)
        self.notes = choice.notes
        specs = []
        for node in nodes:
            with refusals(called(node.name)), named(called(node.name)):
                check_names(self.tree, self.array(node.path))
                specs.append(self._spec(node))
        return tuple(specs)

    def array(self, path: str) -> Any:
        """An array as zarr knows it."""
        array = self._arrays.get(path)
        if array is None:
            document = self.nodes[path].document or {}
            if "pickle" in json.dumps([document.get(key) for key in ("codecs", "filters", "compressor")]):
                raise FormatError("is encoded as pickles, which are not read because a pickle can run code")
            with quiet():
                array = zarr.open_array(self._store, path=f"{self.tree.prefix}{path}", mode="r")
            if len(self._arrays) >= MOST_OPEN:
                self._arrays.clear()
            self._arrays[path] = array
        return array

    def values(self, path: str) -> Array:
        """All elements of a small array, in native order."""
        with refusals(called(f"/{path}")):
            values = np.asarray(self.array(path)[...])
        return values.astype(values.dtype.newbyteorder("="))

    def _spec(self, node: Node) -> ArraySpec:
        """The description of an array of numbers."""
        array = self.array(node.path)
        if 0 in array.chunks:
            raise FormatError(f"has chunks of {array.chunks}, which hold no cells")
        stored = node.numbers(self.options.input_dtype)
        assert stored is not None
        dtype = np.dtype("<u2") if stored == "bfloat16" else array.dtype
        meaning = meaning_in(node, stored, self.options, is_image=node.path in self.of_images)
        return ArraySpec(
            name=node.name,
            shape=array.shape,
            dtype=reinterpreted(dtype, meaning.stored, meaning.numbers),
            numbers=meaning.numbers,
            chunks=array.chunks,
            whole_chunks=True,
            meaning=meaning,
            dims=node.dims,
        )

    def check_unchanged(self) -> None:
        """Raise if a file of the store was written to; behind a URL, if a metadata document was."""
        with refusals("changed while it was read"):
            is_same = self.tree.state() == self._state and self._digests() == _digests(nodes_of(self.tree))
        if not is_same:
            raise FormatError("changed while it was read")

    def _digests(self) -> list[tuple[str, bytes]]:
        return _digests(self.nodes)

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
        with refusals(called(spec.name)):
            array = self.array(_path(spec.name))
            out = values.view(array.dtype)
            for box in boxes(region, array.chunks):
                inside = tuple(
                    slice(b.start - r.start, b.stop - r.start) for b, r in zip(box, region, strict=True)
                )
                array.get_basic_selection(box, out=NDBuffer.from_numpy_array(out[inside]))
        return values

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()
        self.tree.close()


def reinterpreted(dtype: np.dtype[Any], stored: str, numbers: str) -> np.dtype[Any]:
    """A type whose bits are read as those of another one of its size."""
    return dtype if stored == numbers else np.dtype(numbers).newbyteorder(dtype.byteorder)


def _digests(nodes: dict[str, Node]) -> list[tuple[str, bytes]]:
    return [(path, node.digest) for path, node in nodes.items()]


def _path(name: str) -> str:
    return name.removeprefix("/")
