"""Zarr stores, versions 2 and 3: folders, archives (`.zarr.zip`) and, through fsspec, URLs.

Arrays are read and decoded by zarr. Which arrays there are is seen in the metadata documents, without a
look at chunks, of which there may be millions. What a hostile store may hold is refused: pickles, and
links out of its folder.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.buffer.cpu import NDBuffer

from lucid.errors import DatasetError, DTypeError, FormatError
from lucid.formats.contract import (
    PROVENANCE,
    Array,
    ArraySpec,
    Region,
    Source,
    shape_of,
    size_of,
)
from lucid.formats.disk.files import digest
from lucid.formats.zarr.tree import DOCUMENT_2, DOCUMENT_3, consolidated, quiet, refusals, tree_of
from lucid.options import Options
from lucid.pooling.dtypes import name_of


class ZarrSource(Source):
    """A Zarr store; its arrays are named by their paths, one that is the store's root by nothing."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        with refusals("cannot be opened as Zarr"):
            self.tree = tree_of(path, options)
            try:
                self._state = self.tree.state()
                #: Metadata of the arrays by path, "" for the root.
                self.documents = dict(self._find())
                self._store = self.tree.store()
            except BaseException:
                self.tree.close()
                raise
        self._arrays: dict[str, Any] = {}
        # Its default is ten chunks at a time for every reader: memory that no plan knows of.
        self._config = zarr.config.set({"async.concurrency": 1})

    def _find(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every array's path and metadata, by the store's own list of them or by looking."""
        listed = consolidated(self.tree)
        if listed is not None:
            yield from listed.items()
            return
        seen = False
        for folder, document in self.walk():
            seen = True
            if document is not None:
                yield folder, document
        if not seen:
            raise FormatError("holds no Zarr store")

    def walk(self) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """Every folder of groups and of arrays, the latter with their metadata; parents first."""
        pending = [""]
        found = False
        while pending:
            folder = pending.pop()
            document = self._document(folder)
            folders, files = ([], []) if document else self.tree.list(folder)
            found = found or document is not None or bool({DOCUMENT_3, ".zgroup", ".zattrs"} & {*files})
            if not found:
                return
            yield folder, document
            pending += [_joined(folder, name) for name in reversed(folders)]

    def _document(self, folder: str) -> dict[str, Any] | None:
        """The metadata of an array; None for anything else."""
        for name in (DOCUMENT_3, DOCUMENT_2):
            text = self.tree.read(_joined(folder, name))
            if text is not None:
                document = json.loads(text)
                if document.get("node_type", "array") == "array":
                    return dict(document)
        return None

    def arrays(self, rank: int) -> tuple[ArraySpec, ...]:
        """Arrays of that rank and of numbers; a store with none is an error."""
        found, seen = [], []
        for path, document in sorted(self.documents.items()):
            with refusals(_called(_name(path))):
                shape = tuple(map(int, document["shape"]))
                seen.append(f"{_name(path)} {shape}".strip())
                spec = self._spec(path) if len(shape) == rank else None
            if spec is not None:
                found.append(spec)
        if not found:
            listed = ", ".join(seen[:5]) + (", …" if len(seen) > 5 else "")
            raise DatasetError(
                f"has no array of numbers with {rank} axes; it has {listed or 'no array at all'}"
            )
        return tuple(found)

    def array(self, path: str) -> Any:
        """An array as zarr knows it."""
        if path not in self._arrays:
            document = self.documents[path]
            if "pickle" in json.dumps([document.get(key) for key in ("codecs", "filters", "compressor")]):
                raise FormatError("is encoded as pickles, which are not read because a pickle can run code")
            with quiet():
                self._arrays[path] = zarr.open_array(self._store, path=path, mode="r")
        return self._arrays[path]

    def _spec(self, path: str) -> ArraySpec | None:
        """An array's description; None if it cannot be averaged."""
        array = self.array(path)
        dtype = array.dtype
        if dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None:
            if self.options.input_dtype != "bfloat16":
                return None
            numbers, dtype = "bfloat16", np.dtype("<u2")
        else:
            try:
                numbers = name_of(dtype)
            except DTypeError:
                return None
        return ArraySpec(_name(path), array.shape, dtype, numbers, array.chunks, whole_chunks=True)

    def check_unchanged(self) -> None:
        """Raise if a file of the store was written to; behind a URL, if a metadata document was."""
        with refusals("changed while it was read"):
            is_same = self.tree.state() == self._state and self.documents == dict(self._find())
        if not is_same:
            raise FormatError("changed while it was read")

    def signature(self, specs: Sequence[ArraySpec]) -> str:
        """A digest of the metadata, and of times and sizes."""
        return digest(self._state, [(s.name, json.dumps(self.documents[_path(s.name)])) for s in specs])

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The arrays with an attribute that says what they are means of."""
        for path in sorted(self.documents):
            with refusals(_called(_name(path))):
                text = self.array(path).attrs.get(PROVENANCE)
                spec = self._spec(path)
            if spec is not None and isinstance(text, str):
                yield spec, text

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region; of shards one row of chunks at a time, since zarr holds all that it reads."""
        shape = shape_of(region)
        values = buffer[: size_of(shape) * spec.dtype.itemsize].view(spec.dtype).reshape(shape)
        with refusals(_called(spec.name)):
            array = self.array(_path(spec.name))
            out = values.view(array.dtype)
            step = array.chunks[0] if array.shards else max(1, shape[0])
            first = region[0]
            for start in range(first.start - first.start % step, first.stop, step):
                part = slice(max(start, first.start), min(start + step, first.stop))
                target = out[part.start - first.start : part.stop - first.start]
                array.get_basic_selection((part, *region[1:]), out=NDBuffer.from_numpy_array(target))
        return values

    def close(self) -> None:
        """Let go of the store."""
        self._config.__exit__(None, None, None)
        self._store.close()
        self.tree.close()


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _called(name: str) -> str:
    """An array as errors speak of it; one that is the store itself has no name."""
    return f"array {name}" if name else "array"


def _name(path: str) -> str:
    return f"/{path}" if path else ""


def _path(name: str) -> str:
    return name.removeprefix("/")
