"""safetensors files to read: each tensor lies in one run, and is read there by any thread."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lucid.errors import DatasetError
from lucid.formats.contract import PROVENANCE, Array, ArraySpec, Region, Source, named
from lucid.formats.disk.files import Watch, digest, open_regular, read_at
from lucid.formats.npy import read_elements
from lucid.formats.safetensors.header import NUMBERS, PREFIX_BYTES, Tensor, header_length, parse_header
from lucid.options import Options
from lucid.pooling.dtypes import storage


class SafetensorsSource(Source):
    """A safetensors file; its arrays are named by its tensors."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        self.descriptor = open_regular(path)
        self._watch = Watch(self.descriptor)
        try:
            size = os.fstat(self.descriptor).st_size
            length = header_length(self._bytes(0, PREFIX_BYTES), size)
            #: Where the tensors begin.
            self.offset = PREFIX_BYTES + length
            self.header = parse_header(self._bytes(PREFIX_BYTES, length), size - self.offset)
        except BaseException:
            self.close()
            raise
        self._tensors = {name_of_array(tensor): tensor for tensor in self.header.tensors}

    def _bytes(self, offset: int, count: int) -> bytes:
        buffer = bytearray(count)
        read_at(self.descriptor, offset, memoryview(buffer))
        return bytes(buffer)

    def arrays(self, rank: int) -> tuple[ArraySpec, ...]:
        """Tensors of that rank and of numbers that can be pooled; a file with none is an error."""
        tensors = [t for t in self.header.tensors if len(t.shape) == rank and t.dtype in NUMBERS]
        if not tensors:
            seen = [
                f"{name_of_array(t)[:80]!r} {t.dtype} {str(t.shape)[:80]}" for t in self.header.tensors[:5]
            ]
            listed = ", ".join(seen) + (", …" if len(self.header.tensors) > 5 else "")
            raise DatasetError(
                f"has no tensor of numbers with {rank} axes; it has {listed or 'no tensor at all'}"
            )
        return tuple(map(_spec, tensors))

    def check_unchanged(self) -> None:
        """Raise if the file was written to."""
        self._watch.check()

    def signature(self, specs: Sequence[ArraySpec]) -> str:
        """A digest of what the header says of them."""
        return digest(self._watch.state, self.offset, [self._tensors[spec.name] for spec in specs])

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The tensors of which `__metadata__` says what they are means of."""
        for name, facts in provenance_of(self.header.metadata).items():
            tensor = self._tensors.get(f"/{name}")
            if tensor is not None and tensor.dtype in NUMBERS:
                yield _spec(tensor), json.dumps(facts)

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region from its place in the file."""
        tensor = self._tensors[spec.name]
        with named(f"tensor {tensor.name[:80]!r}"):
            start = self.offset + tensor.start
            return read_elements(self.descriptor, start, tensor.shape, spec, region, buffer)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


def name_of_array(tensor: Tensor) -> str:
    """The name of a tensor as an array of a file."""
    return f"/{tensor.name}"


def provenance_of(metadata: dict[str, str]) -> dict[str, object]:
    """What the metadata says that each tensor is made of; nothing where others wrote it."""
    try:
        facts = json.loads(metadata.get(PROVENANCE, "{}"))
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _spec(tensor: Tensor) -> ArraySpec:
    numbers = NUMBERS[tensor.dtype]
    return ArraySpec(
        name_of_array(tensor), tensor.shape, np.dtype(storage(numbers).newbyteorder("<")), numbers
    )
