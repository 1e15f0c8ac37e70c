"""What there is to carry over of an HDF5 file: every name once, with what is refused, noted and counted of it.

A dry run goes no further; `carry` makes of each name what it is in the copy.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

import h5py

from lucid.backlog import Backlog
from lucid.formats.arrays import Array, ResultSpec
from lucid.formats.choosing import is_meant, two_of_one_name, unused
from lucid.formats.contract import CarriedArrays
from lucid.formats.geography import Paths
from lucid.formats.grid import ANCILLARY, COORDINATES
from lucid.formats.hdf5.attributes import refuse_attributes
from lucid.formats.hdf5.elsewhere import shows_one_of
from lucid.formats.hdf5.geography import DIMENSIONS, Scales
from lucid.formats.hdf5.meaning import variable_of
from lucid.formats.hdf5.references import References, refuse_unknown_references
from lucid.formats.hdf5.remake import storage_bytes
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.hdf5.tree import (
    EXTERNAL,
    HARD,
    SOFT,
    Address,
    Dataset,
    Entry,
    Link,
    name_bytes,
    object_at,
    path_of,
    walk,
)
from lucid.formats.result import Changes
from lucid.formats.variables import Variable

#: Kinds of notes; of many objects, a note names some and counts the others.
STRANGE_LINKS = "links of a kind that only their own software can make"
WRITTEN_OUT = "virtual datasets of what is pooled or dropped are written out"
#: Attributes of results that would lead to nothing where nothing is carried over.
LEADING_NOWHERE = (COORDINATES, ANCILLARY, *DIMENSIONS)


class Survey:
    """The names of a file but for those that the user does not want; a `copy` is a file that gets the same groups."""

    def __init__(
        self,
        source: Hdf5Source,
        pooled: Iterable[ResultSpec],
        drop: Sequence[str],
        copy: h5py.File | None = None,
    ) -> None:
        self.file, self.drop, self._copy = source.file, drop, copy
        #: Pooled datasets of which there is nothing to know but their specs.
        self._plain_paths = source.plain
        self._file_bytes = source.file.id.get_filesize()
        #: What takes the place of each pooled dataset, by its address; several of several sizes.
        self.means: dict[Address, list[ResultSpec]] = {}
        for one in pooled:
            address = source.file.id.links.get_info(name_bytes(one.source.name)).u
            self.means.setdefault(address, []).append(one)
        #: Paths that the user does not want.
        self.dropped = Backlog[str]()
        #: Datasets that are copied.
        self.carried = CarriedArrays()
        #: What the user should know, by kind: names.
        self.notes: dict[str, list[str]] = {}

    def __iter__(self) -> Iterator[Entry]:
        for one in chain.from_iterable(self.means.values()):
            path = PurePosixPath(one.name)
            is_free = any(is_meant(str(place), self.drop) for place in (path, *path.parents))
            if one.name not in self._pooled_paths and name_bytes(one.name) in self.file and not is_free:
                raise two_of_one_name(one.name)
        for entry in walk(self.file, self._is_dropped, self._is_plain, self._copy):
            if entry.address not in self.means:
                self._note(entry.path, entry.obj)
            yield entry
        self.notes |= unused(self.drop, self.dropped)

    @cached_property
    def _pooled_paths(self) -> set[str]:
        """The paths of pooled datasets in the source."""
        return {first.source.name for first, *_ in self.means.values()}

    def _is_dropped(self, path: str) -> bool:
        """Whether the user does not want an object in the output; what is pooled is always wanted."""
        drops = bool(self.drop) and is_meant(path, self.drop) and path not in self._pooled_paths
        if drops:
            self.dropped.append(path)
        return drops

    def _is_plain(self, address: Address) -> bool:
        """Whether a dataset is pooled, and there is nothing to know of it but its spec."""
        return address in self.means and self.means[address][0].source.name in self._plain_paths

    def _note(self, path: str, obj: Any) -> None:
        """Note, count or refuse what is carried over."""
        if isinstance(obj, Dataset):
            nbytes = storage_bytes(path, obj, self._file_bytes)
            self.carried = CarriedArrays(self.carried.arrays + 1, self.carried.nbytes + nbytes)
            if not obj.is_raw:
                refuse_unknown_references(path, obj)
                if shows_one_of(obj, self.means, self.drop):
                    self.notes.setdefault(WRITTEN_OUT, []).append(path)
        elif isinstance(obj, Link) and obj.type not in (HARD, SOFT, EXTERNAL):
            self.notes.setdefault(STRANGE_LINKS, []).append(path)


def rehearse(
    source: Hdf5Source, pooled: Sequence[ResultSpec], drop: Sequence[str]
) -> tuple[CarriedArrays, dict[str, list[str]]]:
    """How much `carry.Carry` would carry over, and its notes; it raises what that would raise."""
    file, survey = source.file, Survey(source, pooled, drop)
    refuse_attributes(file)
    for entry in survey:
        if entry.obj is not None and not isinstance(entry.obj, Link):
            refuse_attributes(entry.obj)
    scales = _Rehearsal(References(file, file, survey.means))
    for array in pooled:
        if array.source.name not in source.plain:
            scales.see(object_at(file, array.source.name), array)
    return survey.carried, survey.notes | scales.notes


def rehearse_results(source: Hdf5Source, pooled: Sequence[ResultSpec]) -> None:
    """Raise what would be raised where nothing is carried over."""
    for array in pooled:
        if array.source.name not in source.plain:
            refuse_attributes(object_at(source.file, array.source.name), LEADING_NOWHERE)


class _Rehearsal(Scales):
    """Where results would be, for the notes on that: no coordinates are read, nothing is made."""

    def see(self, obj: Dataset, pooled: ResultSpec) -> None:
        """Note what would be noted when a result got its scales."""
        if self.has_geography(obj) and not pooled.flat:
            self.place(variable_of(path_of(obj), obj), pooled._replace(coarsen=None))

    def holds(self, path: str, shape: tuple[int, ...], values: Array | None) -> bool | None:  # noqa: ARG002
        return None

    def declare(self, path: str, length: int) -> None:
        pass

    def make(self, path: str, origin: Variable, values: Array, dims: Paths, changes: Changes) -> None:
        pass
