"""safetensors files to read: each tensor lies in one run, and is read there by any thread."""

import json
from collections.abc import Iterator

import numpy as np

from lucid.formats.arrays import ArraySpec
from lucid.formats.contract import PROVENANCE
from lucid.formats.disk.files import bytes_at
from lucid.formats.flat import FlatSource
from lucid.formats.safetensors.header import NUMBERS, PREFIX_BYTES, Header, header_length, parse_header
from lucid.pooling.dtypes import storage


class SafetensorsSource(FlatSource):
    """A safetensors file; its arrays are named by its tensors."""

    def parse(self, size: int) -> None:
        """Read the header."""
        length = header_length(bytes_at(self.descriptor, 0, PREFIX_BYTES), size)
        #: Where the tensors begin.
        self.offset = PREFIX_BYTES + length
        self.header = parse_header(bytes_at(self.descriptor, PREFIX_BYTES, length), size - self.offset)
        for tensor in self.header.tensors:
            name = f"/{tensor.name}"
            place = self.offset + tensor.start, tensor.shape
            if tensor.dtype in NUMBERS:
                numbers = NUMBERS[tensor.dtype]
                dtype = np.dtype(storage(numbers).newbyteorder("<"))
                self.specs[name] = ArraySpec(name, tensor.shape, dtype=dtype, numbers=numbers, place=place)
            else:
                self.others[name] = f"is of {tensor.dtype}"

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The tensors of which `__metadata__` says what they are means of."""
        facts = provenance_of(self.header)
        for name, spec in self.specs.items():
            if name[1:] in facts:
                yield spec, json.dumps(facts[name[1:]])


def provenance_of(header: Header) -> dict[str, object]:
    """What the metadata says that each tensor is made of, or that all are; nothing where others wrote it."""
    try:
        facts = json.loads(header.metadata.get(PROVENANCE, "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(facts, dict):
        return {}
    # Facts have a version, which is no object as the facts of a tensor are.
    is_common = isinstance(facts.get("version"), str)
    return dict.fromkeys((tensor.name for tensor in header.tensors), facts) if is_common else facts
