"""safetensors files to read: each tensor lies in one run, and is read there by any thread."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lucid.formats.arrays import ArraySpec
from lucid.formats.contract import PROVENANCE
from lucid.formats.disk.files import bytes_at
from lucid.formats.flat import FlatSource
from lucid.formats.safetensors.header import NUMBERS, PREFIX_BYTES, Header, header_length, parse_header
from lucid.pooling.dtypes import storage

#: More than are said of one tensor.
MOST_FACTS = 64


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
            handle = self.offset + tensor.start, tensor.shape
            if tensor.dtype in NUMBERS:
                numbers = NUMBERS[tensor.dtype]
                dtype = np.dtype(storage(numbers).newbyteorder("<"))
                spec = ArraySpec(name, tensor.shape, dtype=dtype, numbers=numbers, handle=handle)
                self.specs.append(spec)
            else:
                self.others.append((name, f"is of {tensor.dtype}"))

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The tensors of which `__metadata__` says what they are means of."""
        facts_of = provenance_of(self.header)
        for spec in self.specs:
            if (facts := facts_of(spec.name[1:])) is not None:
                yield spec, json.dumps(facts)


def provenance_of(header: Header) -> Callable[[str], object]:
    """What the metadata says that a tensor is made of, or that all are; None where others wrote it."""
    known: dict[str, dict[str, Any]] = {}

    def shared(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object of JSON; what is equal in many tensors is held once."""
        one = dict(pairs)
        return known.setdefault(repr(pairs), one) if len(pairs) < MOST_FACTS else one

    try:
        facts = json.loads(header.metadata.get(PROVENANCE, "{}"), object_pairs_hook=shared)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        return lambda _: None
    # Facts have a version, which is no object as the facts of a tensor are.
    return (lambda _: facts) if isinstance(facts.get("version"), str) else facts.get
