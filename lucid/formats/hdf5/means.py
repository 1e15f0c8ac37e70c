"""What takes the place of the pooled datasets of a file, found by their addresses.

There may be a hundred thousand: of each only two numbers are in memory.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import h5py

from lucid.formats.arrays import ResultSpec
from lucid.formats.hdf5.tree import Address, name_bytes


class Means(Mapping[Address, Sequence[ResultSpec]]):
    """The results of each pooled dataset, several of several sizes, in the order in which they were chosen."""

    def __init__(self, file: h5py.File, results: Sequence[ResultSpec]) -> None:
        self._results = results
        #: The address of each dataset, and the number of its first result; which has the lowest address, the next, …
        self._in_order, self._starts = array("Q"), array("L")
        for name, several in groupby(enumerate(results), lambda pair: pair[1].source.name):
            self._in_order.append(file.id.links.get_info(name_bytes(name)).u)
            self._starts.append(next(several)[0])
        self._starts.append(len(results))
        self._sorted = array("L", sorted(range(len(self)), key=self._in_order.__getitem__))

    def _number(self, address: Any) -> int | None:
        """Which of the datasets is at an address, if one is."""
        place = bisect_left(self._sorted, address, key=self._in_order.__getitem__)
        numbers = self._sorted[place : place + 1]
        return numbers[0] if numbers and self._in_order[numbers[0]] == address else None

    def __contains__(self, address: object) -> bool:
        return self._number(address) is not None

    def __getitem__(self, address: Address) -> Sequence[ResultSpec]:
        number = self._number(address)
        if number is None:
            raise KeyError(address)
        return [self._results[i] for i in range(*self._starts[number : number + 2])]

    def __iter__(self) -> Iterator[Address]:
        return iter(self._in_order)

    def __len__(self) -> int:
        return len(self._in_order)
