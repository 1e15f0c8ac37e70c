"""A safetensors file while it is written.

All shapes are known before the first mean is, so the header is written at once and the means go to their
places from any thread: unlike by the format's library, a file larger than memory can be written.
"""

import json
from collections.abc import Sequence

from lucid.formats.arrays import Array, Pooled
from lucid.formats.choosing import is_meant
from lucid.formats.contract import PROVENANCE, Source
from lucid.formats.flat import FlatSink, Layout
from lucid.formats.regions import Region
from lucid.formats.safetensors.header import NUMBERS, Tensor, header_of, laid_out
from lucid.formats.safetensors.source import SafetensorsSource, name_of_array, provenance_of

#: The format's names of number types.
_NAMES = {numbers: name for name, numbers in NUMBERS.items()}


class SafetensorsSink(FlatSink):
    """A safetensors file while it is written."""

    files = "safetensors"

    def layout(self, source: Source, pooled: Sequence[Pooled]) -> Layout:
        """The header, and behind it the tensors in the order of the format's library."""
        tensors = {array.name: _tensor(array) for array in pooled}
        carried: dict[str, Tensor] = {}
        metadata: dict[str, str] = {}
        start = 0
        if isinstance(source, SafetensorsSource) and self.carries(pooled):
            replaced, start = {array.source.name for array in pooled}, source.offset
            for tensor in source.header.tensors:
                name = name_of_array(tensor)
                if name not in replaced and not is_meant(name, self.options.drop):
                    carried[tensor.name] = tensor
            metadata = dict(source.header.metadata)
        old = {name: facts for name, facts in provenance_of(metadata).items() if name in carried}
        new = {tensors[array.name].name: json.loads(array.provenance) for array in pooled}
        metadata[PROVENANCE] = json.dumps(old | new, ensure_ascii=False)
        placed = laid_out([*tensors.values(), *carried.values()])
        header = header_of(metadata, placed)
        places = {tensor.name: len(header) + tensor.start for tensor in placed}
        return Layout(
            len(header) + sum(tensor.nbytes for tensor in placed),
            texts=[(0, header)],
            copies=[(places[t.name], start + t.start, t.nbytes) for t in carried.values()],
            offsets={name: places[tensor.name] for name, tensor in tensors.items()},
        )

    def write(self, pooled: Pooled, region: Region, values: Array) -> None:
        """Write a region in place; the format's byte order is little-endian."""
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        super().write(pooled, region, values)


def _tensor(pooled: Pooled) -> Tensor:
    """The tensor of an array of means, before it has its place."""
    shape = tuple(map(int, pooled.stored_shape))
    return Tensor(pooled.name.removeprefix("/"), _NAMES[pooled.numbers], shape, 0, pooled.nbytes)
