"""safetensors files to read: each tensor lies in one run, and is read there by any thread."""

import json
from collections.abc import Iterator

import numpy as np

from lucid.errors import named
from lucid.formats.arrays import Array, ArraySpec
from lucid.formats.contract import PROVENANCE
from lucid.formats.flat import FlatSource
from lucid.formats.regions import Region
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
        for tensor in self.header.tensors:
            name = name_of_array(tensor)
            self.runs[name] = self.offset + tensor.start, tensor.shape
            if tensor.dtype in NUMBERS:
                numbers = NUMBERS[tensor.dtype]
                dtype = np.dtype(storage(numbers).newbyteorder("<"))
                self.specs[name] = ArraySpec(name, tensor.shape, dtype, numbers)
            else:
                self.others[name] = f"is of {tensor.dtype}"

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The tensors of which `__metadata__` says what they are means of."""
        facts = provenance_of(self.header.metadata)
        for name, spec in self.specs.items():
            if name[1:] in facts:
                yield spec, json.dumps(facts[name[1:]])

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
