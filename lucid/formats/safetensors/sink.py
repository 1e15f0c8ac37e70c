"""A safetensors file while it is written.

All shapes are known before the first mean is, so the header is written at once and the means go to their
places from any thread: unlike by the format's library, a file larger than memory can be written.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from lucid.backlog import Table
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

    def contents(self, source: Source, results: Sequence[ResultSpec]) -> Iterator[Content]:
        """The header, and behind it the tensors in the order of the format's library."""
        tensors = Table[tuple[Tensor, ResultSpec | CopiedBytes]]()
        metadata: dict[str, str] = {}
        # What a million tensors have in common is parsed once, and stands in the file once.
        facts_of = {text: json.loads(text) for text in {array.provenance for array in results}}
        facts: dict[str, Any] = {}
        for tensor, copied, their_facts in self._copied_tensors(source, results, metadata):
            tensors.add(order_of(tensor), (tensor, copied))
            if their_facts is not None:
                facts[tensor.name] = their_facts
        is_common = len(facts_of) == 1 < len(results) and next(iter(tensors), None) is None
        for array in results:
            name, dtype = array.name.removeprefix("/"), _NAMES[array.numbers]
            tensor = Tensor(name, dtype, array.stored_shape, 0, array.nbytes)
            tensors.add(order_of(tensor), (tensor, array))
            if not is_common:
                facts[name] = facts_of[array.provenance]
        if is_common:
            (facts,) = facts_of.values()
        metadata[PROVENANCE] = json.dumps(facts, ensure_ascii=False)
        yield from header_of(metadata, (tensor for tensor, _ in tensors))
        for _, content in tensors:
            yield content

    def _copied_tensors(
        self, source: Source, results: Sequence[ResultSpec], metadata: dict[str, str]
    ) -> Iterator[tuple[Tensor, CopiedBytes, object]]:
        """What is carried over, with what it is made of; the source's metadata is added to the output's."""
        names = CarriedNames(results, self.options)
        if not isinstance(source, SafetensorsSource) or names.is_alone:
            return
        metadata |= source.header.metadata
        facts_of = provenance_of(source.header)
        # Both are in the order of the file.
        pooled = groupby(results, lambda result: result.source.name)
        pooled_name, _ = next(pooled, ("", None))
        for tensor in source.header.tensors:
            name, start = f"/{tensor.name}", (source.descriptor, source.offset + tensor.start)
            if name == pooled_name:
                pooled_name, _ = next(pooled, ("", None))
            elif names.carries(name):
                yield tensor, CopiedBytes(start, tensor.nbytes), facts_of(tensor.name)
        self.notes += note_lines(names.notes)

    def write(self, result: ResultSpec, region: Region, values: Array) -> None:
        """Write a region in place; the format's byte order is little-endian."""
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        super().write(result, region, values)
