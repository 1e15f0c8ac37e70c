"""A file met once, object by object: what is refused, noted and counted of what is carried over.

A dry run goes no further; `carry.Carry` makes of each object what it is in the copy.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from lucid.backlog import Backlog
from lucid.formats.arrays import Array, ResultSpec
from lucid.formats.choosing import is_left_out, is_meant, two_of_one_name, unused
from lucid.formats.contract import CarriedArrays
from lucid.formats.geography import Paths
from lucid.formats.grid import TRANSFORM, VARIABLES
from lucid.formats.hdf5.attributes import refuse_attributes
from lucid.formats.hdf5.elsewhere import shows_one_of
from lucid.formats.hdf5.geography import DIMENSIONS, Scales
from lucid.formats.hdf5.meaning import CLASSIC_MODEL, CLASSIC_NUMBERS, attributes_of, variable_of
from lucid.formats.hdf5.means import Means
from lucid.formats.hdf5.references import References, refuse_unknown_references
from lucid.formats.hdf5.remake import storage_bytes
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.hdf5.tree import (
    HARD,
    Address,
    Dataset,
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
#: Attributes of results that would lead to nothing, or to the old grid, where nothing is carried over.
LEADING_NOWHERE = (*VARIABLES, *DIMENSIONS, TRANSFORM)


class Survey:
    """The names of a file but for those that the user does not want."""

    def __init__(self, source: Hdf5Source, pooled: Sequence[ResultSpec], drop: Sequence[str]) -> None:
        self._source, self._drop = source.file, drop
        self._file_bytes = source.file.id.get_filesize()
        #: What takes the place of each pooled dataset.
        self.means = Means(source.file, pooled)
        #: Paths that the user does not want; what is pooled is always wanted.
        self._dropped = Backlog[str]()
        self._wanted = {first.source.name for first, *_ in self.means.values()} if drop else set()
        #: The datasets that are copied.
        self.carried = CarriedArrays()
        #: What the user should know, by kind: names.
        self.notes: dict[str, list[str]] = {}

    def meet_all(self, copy: Any = None) -> None:
        """Meet every object once, and every link; a `copy` is a file that gets the same groups."""
        for several in self.means.values() if self.means.has_new_names else ():
            self._refuse_names(several)
        drops = self._drops if self._drop else None
        for path, obj, address in walk(self._source, drops, self._is_plain, copy):
            if address in self.means:
                self._meet_pooled(path, obj, address)
            elif isinstance(obj, Link):
                self._meet_link(path, obj)
            else:
                is_written_out = isinstance(obj, Dataset) and self._note(path, obj)
                self._meet(path, obj, address, is_written_out=is_written_out)
        self.notes |= unused(self._drop, self._dropped)

    def keeps_classic_model(self) -> bool:
        """Whether netCDF's classic model has the types of all results, if the file keeps to it."""
        if CLASSIC_MODEL not in attributes_of(self._source):
            return True
        results = chain.from_iterable(self.means.values())
        others = [one for one in results if one.stored_numbers not in CLASSIC_NUMBERS]
        for one in others:
            what = f"the mark of netCDF's classic model, which has no {one.stored_numbers}, is left out"
            self.notes.setdefault(what, []).append(one.name)
        return not others

    def _refuse_names(self, results: Sequence[ResultSpec]) -> None:
        """Raise where a result would have the name of what is carried over."""
        links = self._source.id.links
        for one in results:
            name = name_bytes(one.name)
            if one.name == one.source.name or not links.exists(name) or is_left_out(one.name, self._drop):
                continue
            info = links.get_info(name)
            if info.type != HARD or info.u not in self.means:
                raise two_of_one_name(one.name)

    def _drops(self, path: str) -> bool:
        drops = is_meant(path, self._drop) and path not in self._wanted
        if drops:
            self._dropped.append(path)
        return drops

    def _is_plain(self, address: Address) -> bool:
        """Whether a dataset is pooled, and there is nothing to know of it but its spec."""
        return address in self.means and self.means[address][0].source.place is not None

    def _note(self, path: str, dataset: Dataset) -> bool:
        """Count or refuse a dataset; whether it gets elements of its own, for it shows what does not stay as it is."""
        arrays, nbytes = self.carried
        self.carried = CarriedArrays(arrays + 1, nbytes + storage_bytes(path, dataset, self._file_bytes))
        if dataset.is_raw:
            return False
        refuse_unknown_references(path, dataset)
        is_written_out = shows_one_of(dataset, self.means, self._drop)
        if is_written_out:
            self.notes.setdefault(WRITTEN_OUT, []).append(path)
        return is_written_out

    def _meet_pooled(self, path: str, obj: Any, address: Address) -> None:
        """Meet a name of what is pooled: its object, a link, or None where there is nothing to know of it."""

    def _meet_link(self, path: str, link: Link) -> None:
        """Meet a link; an object's second name is one."""
        if link.value is None:
            self.notes.setdefault(STRANGE_LINKS, []).append(path)

    def _meet(self, path: str, obj: Any, address: Address, *, is_written_out: bool) -> None:  # noqa: ARG002
        """Meet a group, before what is in it, a dataset or a named type."""
        refuse_attributes(obj)


def rehearse(
    source: Hdf5Source, pooled: Sequence[ResultSpec], drop: Sequence[str], *, is_alone: bool
) -> tuple[CarriedArrays, dict[str, list[str]]]:
    """How much `carry.Carry` would carry over, and its notes; it raises what that would raise."""
    survey = Survey(source, pooled, drop)
    if not is_alone:
        refuse_attributes(source.file)
        survey.keeps_classic_model()
        survey.meet_all()
    scales = _Rehearsal(References(source.file, source.file, survey.means), drop)
    for array in pooled:
        if array.source.place is None:
            obj = object_at(source.file, array.source.name)
            refuse_attributes(obj, LEADING_NOWHERE if is_alone else ())
            if scales.has_geography(obj) and not is_alone:
                scales.place(variable_of(path_of(obj), obj), array._replace(coarsen=None))
    return survey.carried, survey.notes | scales.notes


class _Rehearsal(Scales):
    """Where results would be, for the notes on that: no coordinates are read, nothing is made."""

    def holds(self, path: str, shape: tuple[int, ...], values: Array | None) -> bool | None:  # noqa: ARG002
        return None

    def declare(self, path: str, length: int) -> None:
        pass

    def make(self, path: str, origin: Variable, values: Array, dims: Paths, changes: Changes) -> None:
        pass
