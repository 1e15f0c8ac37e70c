"""A file met once, object by object: what is refused, noted and counted of what is carried over.

A dry run goes no further; `carry.Carry` makes of each object what it is in the copy.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import h5py

from lucid.backlog import Backlog
from lucid.formats.arrays import Array, ResultSpec
from lucid.formats.choosing import CarriedNames
from lucid.formats.contract import CarriedArrays
from lucid.formats.geography import Paths
from lucid.formats.grid import NAMING
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.attributes import attributes_in
from lucid.formats.hdf5.elsewhere import shows_one_of
from lucid.formats.hdf5.geography import DIMENSIONS, Scales
from lucid.formats.hdf5.meaning import CLASSIC_MODEL, CLASSIC_NUMBERS, attributes_of
from lucid.formats.hdf5.means import Means
from lucid.formats.hdf5.references import References, refuse_unknown
from lucid.formats.hdf5.remake import storage_bytes
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.result import Changes
from lucid.formats.variables import Variable

#: Kinds of notes; of many objects, a note names some and counts the others.
STRANGE_LINKS = "links of a kind that only their own software can make"
WRITTEN_OUT = "virtual datasets of what is pooled or dropped are written out"
#: What is said of attributes of references of a kind that h5py cannot make.
_REFUSED = "cannot be carried over"


class Survey:
    """The names of a file but for those that the user does not want."""

    def __init__(self, source: Hdf5Source, results: Sequence[ResultSpec], names: CarriedNames) -> None:
        self._source, self.names = source.file, names
        self._file_bytes = source.file.id.get_filesize()
        #: What takes the place of each pooled dataset.
        self.means = Means(source.file, results)
        #: Paths that the user does not want.
        self._dropped_paths = Backlog[str]()
        #: The datasets that are copied.
        self.carried = CarriedArrays()
        #: What the user should know, by kind: names.
        self.notes: dict[str, list[str]] = {}

    def entries(self, copy: Any = None) -> Iterator[tuple[tree.Entry, bool, bool]]:
        """Every object once, and every link, noted or refused; a `copy` is a file that gets the same groups.

        With it comes whether it is pooled, and whether it gets elements of its own, for it shows what does not stay.
        """
        drops = self._drops if self.names.patterns else None
        for entry in tree.walk(self._source, drops, self._is_plain, copy):
            path, obj, address = entry
            is_pooled, is_written_out = address in self.means, False
            if not is_pooled:
                self.names.check(path)
                is_written_out = isinstance(obj, tree.Dataset) and self._note(path, obj)
            if isinstance(obj, tree.Link) and obj.value is None:
                self.notes.setdefault(STRANGE_LINKS, []).append(path)
            yield entry, is_pooled, is_written_out
        if self.names.notes:
            for path, _ in self._dropped_objects():
                self.names.drops(path)
        self.notes |= self.names.notes

    def keeps_classic_model(self) -> bool:
        """Whether netCDF's classic model has the types of all results, if the file keeps to it."""
        if CLASSIC_MODEL not in attributes_of(self._source):
            return True
        results = chain.from_iterable(self.means.values())
        others = [result for result in results if result.stored_numbers not in CLASSIC_NUMBERS]
        for result in others:
            what = f"the mark of netCDF's classic model, which has no {result.stored_numbers}, is left out"
            self.notes.setdefault(what, []).append(result.name)
        return not others

    def _drops(self, path: str) -> bool:
        drops = self.names.drops(path)
        if drops:
            self._dropped_paths.append(path)
        return drops

    def _dropped_objects(self) -> Iterator[tuple[str, Any]]:
        """What is dropped, and what is in it, which was not met."""
        for path in self._dropped_paths:
            if self._source.id.links.get_info(tree.name_bytes(path)).type != tree.HARD:
                continue
            obj = tree.object_at(self._source, path)
            yield path, obj
            names: list[bytes] = []
            if isinstance(obj, h5py.Group):
                h5py.h5o.visit(obj.id, names.append)
            for inner in (f"{path}/{tree.name_text(name)}" for name in names):
                yield inner, tree.object_at(self._source, inner)

    def _is_plain(self, address: tree.Address) -> bool:
        """Whether a dataset is pooled, and there is nothing to know of it but its spec."""
        return address in self.means and self.means[address][0].source.handle is not None

    def _note(self, path: str, dataset: tree.Dataset) -> bool:
        """Count or refuse a dataset; whether it gets elements of its own."""
        arrays, nbytes = self.carried
        self.carried = CarriedArrays(arrays + 1, nbytes + storage_bytes(path, dataset, self._file_bytes))
        if dataset.is_raw:
            return False
        refuse_unknown(f"{path} cannot be carried over, and `drop` leaves it out", [dataset])
        is_written_out = shows_one_of(dataset, self.means, self.names.patterns)
        if is_written_out:
            self.notes.setdefault(WRITTEN_OUT, []).append(path)
        return is_written_out


def rehearse(
    source: Hdf5Source, results: Sequence[ResultSpec], names: CarriedNames
) -> tuple[CarriedArrays, dict[str, list[str]]]:
    """How much `carry.Carry` would carry over, and its notes; it raises what that would raise."""
    survey = Survey(source, results, names)
    if not names.is_alone:
        refuse_unknown(_REFUSED, attributes_in(source.file))
        survey.keeps_classic_model()
        for (_, obj, _), is_pooled, _ in survey.entries():
            if not (is_pooled or isinstance(obj, tree.Link)):
                refuse_unknown(_REFUSED, attributes_in(obj))
    scales = _Rehearsal(References(source.file, source.file, survey.means), names)
    for result in results:
        if result.source.handle is None:
            obj = tree.object_at(source.file, result.source.name)
            changes = {*map(tree.name_bytes, (*NAMING, *DIMENSIONS) if names.is_alone else ())}
            refuse_unknown(_REFUSED, (one for one in attributes_in(obj) if one.get_name() not in changes))
            if scales.has_geography(obj):
                scales.describe(scales.variables.of(tree.path_of(obj), obj), result)
    return survey.carried, survey.notes | scales.notes


class _Rehearsal(Scales):
    """Where results would be, for the notes on that: no coordinates are read, nothing is made."""

    def _coarse(self, *_: Any) -> None:
        return None

    def holds(self, path: str, shape: tuple[int, ...], values: Array | None) -> bool | None:  # noqa: ARG002
        return None

    def declare(self, path: str, length: int) -> None:
        pass

    def make(self, path: str, origin: Variable, values: Array, dims: Paths, changes: Changes) -> None:
        pass
