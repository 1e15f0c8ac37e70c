"""safetensors files to read: each tensor lies in one run, and is read there by any thread."""

import json
from collections.abc import Iterator

import numpy as np

from lucid.errors import DatasetError
from lucid.formats.contract import PROVENANCE, Array, ArraySpec, Region, named
from lucid.formats.flat import FlatSource
from lucid.formats.safetensors.header import NUMBERS, PREFIX_BYTES, Tensor, header_length, parse_header
from lucid.pooling.dtypes import storage


class SafetensorsSource(FlatSource):
    """A safetensors file; its arrays are named by its tensors."""

    def parse(self, size: int) -> None:
        """Read the header."""
        length = header_length(self.bytes_at(0, PREFIX_BYTES), size)
        #: Where the tensors begin.
        self.offset = PREFIX_BYTES + length
        self.header = parse_header(self.bytes_at(PREFIX_BYTES, length), size - self.offset)
        self.runs = {name_of_array(t): (self.offset + t.start, t.shape) for t in self.header.tensors}

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

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The tensors of which `__metadata__` says what they are means of."""
        facts = provenance_of(self.header.metadata)
        for tensor in self.header.tensors:
            if tensor.name in facts and tensor.dtype in NUMBERS:
                yield _spec(tensor), json.dumps(facts[tensor.name])

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region from its place in the file."""
        with named(f"tensor {spec.name[1:][:80]!r}"):
            return super().read(spec, region, buffer)


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
