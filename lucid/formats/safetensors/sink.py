"""A safetensors file while it is written.

All shapes are known before the first mean is, so the header is written at once and the means go to their
places from any thread: unlike by the format's library, a file larger than memory can be written.
"""

import json
from collections.abc import Sequence
from typing import Any

from lucid.formats.arrays import Array, ResultSpec
from lucid.formats.choosing import CarriedNames, note_lines
from lucid.formats.contract import PROVENANCE, Source
from lucid.formats.flat import Content, CopiedBytes, FlatSink
from lucid.formats.regions import Region
from lucid.formats.safetensors.header import NUMBERS, Tensor, header_of, order_of
from lucid.formats.safetensors.source import SafetensorsSource, provenance_of

#: The format's names of number types.
_NAMES = {numbers: name for name, numbers in NUMBERS.items()}


class SafetensorsSink(FlatSink):
    """A safetensors file while it is written."""

    files = "safetensors"

    def contents(self, source: Source, results: Sequence[ResultSpec]) -> list[Content]:
        """The header, and behind it the tensors in the order of the format's library."""
        pairs: list[tuple[Tensor, ResultSpec | CopiedBytes]] = []
        for array in results:
            name, dtype = array.name.removeprefix("/"), _NAMES[array.numbers]
            pairs.append((Tensor(name, dtype, array.stored_shape, 0, array.nbytes), array))
        metadata: dict[str, str] = {}
        facts: dict[str, Any] = {}
        names = CarriedNames(results, self.options)
        if isinstance(source, SafetensorsSource) and not names.is_alone:
            source_names, provenances = {array.source.name for array in results}, provenance_of(source.header)
            metadata |= source.header.metadata
            for tensor in source.header.tensors:
                name, place = f"/{tensor.name}", (source.descriptor, source.offset + tensor.start)
                if name not in source_names and names.carries(name):
                    pairs.append((tensor, CopiedBytes(place, tensor.nbytes)))
                    if tensor.name in provenances:
                        facts[tensor.name] = provenances[tensor.name]
            self.notes += note_lines(names.notes)
        # What a million tensors have in common is parsed once, and stands in the file once.
        facts_of = {text: json.loads(text) for text in {array.provenance for array in results}}
        if len(facts_of) == 1 and 1 < len(results) == len(pairs):
            (facts,) = facts_of.values()
        else:
            facts |= {one.name: facts_of[a.provenance] for (one, _), a in zip(pairs, results, strict=False)}
        metadata[PROVENANCE] = json.dumps(facts, ensure_ascii=False)
        pairs.sort(key=lambda one: order_of(one[0]))
        return [header_of(metadata, [tensor for tensor, _ in pairs]), *(content for _, content in pairs)]

    def write(self, result: ResultSpec, region: Region, values: Array) -> None:
        """Write a region in place; the format's byte order is little-endian."""
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        super().write(result, region, values)
