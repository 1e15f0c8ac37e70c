"""A safetensors file in the options.

All shapes are known before the first mean is, so the header is written at once and the means go to their
places from any thread: unlike by the format's library, a file larger than memory can be written.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from lucid.errors import ArgumentError
from lucid.formats.choosing import is_meant
from lucid.formats.contract import PROVENANCE, Array, Pooled, Region, Sink, Source
from lucid.formats.disk.files import claim, read_at, write_at, write_region
from lucid.formats.disk.replacement import Replacement
from lucid.formats.safetensors.header import NUMBERS, Tensor, header_of, laid_out
from lucid.formats.safetensors.source import SafetensorsSource, name_of_array, provenance_of
from lucid.options import Options

#: Bytes copied at once.
COPY_BYTES = 1 << 20
#: The format's names of number types.
_NAMES = {numbers: name for name, numbers in NUMBERS.items()}


class SafetensorsSink(Sink):
    """A safetensors file in the options."""

    def __init__(self, path: Path, options: Options, *, joins: bool = False) -> None:
        super().__init__(path, options, joins=joins)
        if options.compression not in ("keep", "none"):
            raise ArgumentError(f"`compression` is {options.compression!r}; safetensors files have none")
        self._file = Replacement(path, overwrite=options.overwrite)
        self._descriptor = -1
        self._offsets: dict[str, int] = {}

    def begin(self, source: Source, pooled: Sequence[Pooled]) -> None:
        """Write the header and what is carried over, and claim the space so that a full disk shows now."""
        tensors = {array.name: _tensor(array) for array in pooled}
        carried: dict[str, Tensor] = {}
        metadata: dict[str, str] = {}
        carries = self.options.carry and not any(array.is_shard for array in pooled)
        if carries and isinstance(source, SafetensorsSource):
            replaced = {array.source.name for array in pooled}
            carried = {
                tensor.name: tensor
                for tensor in source.header.tensors
                if name_of_array(tensor) not in replaced
                and not is_meant(f"/{tensor.name}", self.options.drop)
            }
            metadata = dict(source.header.metadata)
        old = {name: facts for name, facts in provenance_of(metadata).items() if name in carried}
        new = {tensors[array.name].name: json.loads(array.provenance) for array in pooled}
        metadata[PROVENANCE] = json.dumps(old | new, ensure_ascii=False)
        places = laid_out([*tensors.values(), *carried.values()])
        header = header_of(metadata, places)
        self._descriptor = self._file.create()
        claim(self._descriptor, len(header) + sum(t.stop - t.start for t in places))
        write_at(self._descriptor, 0, memoryview(header))
        made = {tensor.name: len(header) + tensor.start for tensor in places}
        self._offsets = {name: made[tensor.name] for name, tensor in tensors.items()}
        for name, tensor in carried.items():
            self._copy(source, tensor, made[name])

    def _copy(self, source: Source, tensor: Tensor, offset: int) -> None:
        """Copy the bytes of a tensor that is carried over."""
        assert isinstance(source, SafetensorsSource)
        for at in range(tensor.start, tensor.stop, COPY_BYTES):
            block = memoryview(bytearray(min(COPY_BYTES, tensor.stop - at)))
            read_at(source.descriptor, source.offset + at, block)
            write_at(self._descriptor, offset + at - tensor.start, block)

    def write(self, pooled: Pooled, region: Region, values: Array) -> None:
        """Write a region in place; the format's byte order is little-endian."""
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        write_region(self._descriptor, self._offsets[pooled.name], pooled.shape, region, values)

    def commit(self) -> None:
        """Put the file in its place."""
        self._file.commit(self.later)
        self.close()

    def close(self) -> None:
        """Remove the file unless it was committed."""
        self._file.abort()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _tensor(pooled: Pooled) -> Tensor:
    """The tensor of an array of means, before it has its place."""
    shape = tuple(map(int, pooled.stored_shape))
    return Tensor(pooled.name.removeprefix("/"), _NAMES[pooled.numbers], shape, 0, pooled.nbytes)
