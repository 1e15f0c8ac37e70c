"""A safetensors file while it is written.

All shapes are known before the first mean is, so the header is written at once and the means go to their
places from any thread: unlike by the format's library, a file larger than memory can be written.
"""

import json
from collections.abc import Sequence

from lucid.formats.arrays import Array, Pooled
from lucid.formats.choosing import is_meant
from lucid.formats.contract import PROVENANCE, Source
from lucid.formats.flat import Content, CopiedBytes, FlatSink
from lucid.formats.regions import Region
from lucid.formats.safetensors.header import NUMBERS, Tensor, header_of, lay_out
from lucid.formats.safetensors.source import SafetensorsSource, provenance_of

#: The format's names of number types.
_NAMES = {numbers: name for name, numbers in NUMBERS.items()}


class SafetensorsSink(FlatSink):
    """A safetensors file while it is written."""

    files = "safetensors"

    def contents(self, source: Source, pooled: Sequence[Pooled]) -> list[Content]:
        """The header, and behind it the tensors in the order of the format's library."""
        new = {array.name.removeprefix("/"): array for array in pooled}
        kept: dict[str, CopiedBytes] = {}
        tensors = [_tensor(array) for array in pooled]
        metadata: dict[str, str] = {}
        facts: dict[str, object] = {}
        if isinstance(source, SafetensorsSource) and self.carries(pooled):
            replaced = {array.source.name for array in pooled}
            metadata |= source.header.metadata
            for tensor in source.header.tensors:
                name, place = f"/{tensor.name}", (source.descriptor, source.offset + tensor.start)
                if name not in replaced and not is_meant(name, self.options.drop):
                    tensors.append(tensor)
                    kept[tensor.name] = CopiedBytes(place, tensor.nbytes)
            facts = {name: facts for name, facts in provenance_of(source.header).items() if name in kept}
        # What a million tensors have in common is parsed once, and stands in the file once.
        shared = {text: json.loads(text) for text in {array.provenance for array in pooled}}
        facts |= {name: shared[array.provenance] for name, array in new.items()}
        is_common = len(shared) == 1 and 1 < len(new) == len(tensors)
        metadata[PROVENANCE] = json.dumps(
            next(iter(shared.values())) if is_common else facts, ensure_ascii=False
        )
        placed, contents = lay_out(tensors), kept | new
        return [header_of(metadata, placed), *(contents[tensor.name] for tensor in placed)]

    def write(self, pooled: Pooled, region: Region, values: Array) -> None:
        """Write a region in place; the format's byte order is little-endian."""
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        super().write(pooled, region, values)


def _tensor(pooled: Pooled) -> Tensor:
    """The tensor of an array of means, before it has its place."""
    shape = tuple(map(int, pooled.stored_shape))
    return Tensor(pooled.name.removeprefix("/"), _NAMES[pooled.numbers], shape, 0, pooled.nbytes)
