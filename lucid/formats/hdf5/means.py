"""What takes the place of the pooled datasets of a file, found by their addresses.

There may be a hundred thousand: of each only four numbers are in memory.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import h5py

from lucid.formats.arrays import ResultSpec
from lucid.formats.hdf5.tree import Address, name_bytes


class Means(Mapping[Address, Sequence[ResultSpec]]):
    """The results of each pooled dataset, several of several sizes, in the order in which they were chosen."""

    def __init__(self, file: h5py.File, results: Sequence[ResultSpec]) -> None:
        self._results, name = results, None
        #: The address of each dataset, and the number of its first result.
        self._in_order, self._starts = array("Q"), array("L")
        for number, result in enumerate(results):
            if result.source.name != name:
                name = result.source.name
                self._in_order.append(file.id.links.get_info(name_bytes(name)).u)
                self._starts.append(number)
        self._starts.append(len(results))
        #: Which dataset has the lowest address, the next, and so on; and the addresses.
        self._sorted = array("L", sorted(range(len(self)), key=self._in_order.__getitem__))
        self._addresses = array("Q", map(self._in_order.__getitem__, self._sorted))

    def _index(self, address: Any) -> int | None:
        """Which of the sorted addresses it is."""
        index = bisect_left(self._addresses, address)
        return index if self._addresses[index : index + 1].count(address) else None

    def __contains__(self, address: object) -> bool:
        return self._index(address) is not None

    def __getitem__(self, address: Address) -> Sequence[ResultSpec]:
        index = self._index(address)
        if index is None:
            raise KeyError(address)
        number = self._sorted[index]
        return [self._results[i] for i in range(*self._starts[number : number + 2])]

    def __iter__(self) -> Iterator[Address]:
        return iter(self._in_order)

    def __len__(self) -> int:
        return len(self._in_order)
