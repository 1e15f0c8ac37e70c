"""What is carried over in a dry run: what would be refused, noted and counted, with nothing made."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from lucid.errors import FileError
from lucid.formats.arrays import Array, Pooled
from lucid.formats.choosing import is_meant
from lucid.formats.contract import CarriedArrays
from lucid.formats.geography import Paths
from lucid.formats.hdf5.attributes import attributes_in
from lucid.formats.hdf5.carry import STRANGE_LINKS, WRITTEN_OUT, means_of
from lucid.formats.hdf5.elsewhere import shows_one_of
from lucid.formats.hdf5.geography import Scales
from lucid.formats.hdf5.meaning import variable_of
from lucid.formats.hdf5.references import References, has_references, refuse_unknown_references
from lucid.formats.hdf5.remake import storage_bytes
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.hdf5.tree import (
    EXTERNAL,
    HARD,
    SOFT,
    Dataset,
    Link,
    object_at,
    path_of,
    translate_errors,
    walk,
)
from lucid.formats.result import Changes
from lucid.formats.variables import Variable


def rehearse(
    source: Hdf5Source, pooled: Sequence[Pooled], drop: Sequence[str]
) -> tuple[CarriedArrays, dict[str, list[str]]]:
    """How much `carry.Carry` would carry over, and its notes; it raises what that would raise."""
    file, carried = source.file, CarriedArrays()
    file_bytes = file.id.get_filesize()
    names = {array.source.name for array in pooled}
    scales = _Rehearsal(References(file, file, means_of(file, pooled)))
    _refuse_attributes(file)
    drops = partial(is_meant, patterns=drop)
    for name, obj, *_ in walk(file, lambda path: path not in names and drops(path)):
        if isinstance(obj, Link):
            if obj.type not in (HARD, SOFT, EXTERNAL):
                scales.notes.setdefault(STRANGE_LINKS, []).append(name)
            continue
        _refuse_attributes(obj)
        if name not in names and isinstance(obj, Dataset):
            carried = CarriedArrays(carried.arrays + 1, carried.nbytes + storage_bytes(name, obj, file_bytes))
            if not obj.is_raw:
                refuse_unknown_references(name, obj)
                if shows_one_of(obj, names):
                    scales.notes.setdefault(WRITTEN_OUT, []).append(name)
    for array in pooled:
        if array.source.name not in source.plain:
            scales.see(object_at(file, array.source.name), array)
    return carried, scales.notes


def _refuse_attributes(obj: Any) -> None:
    """Raise for an attribute of references of a kind that h5py cannot make."""
    with translate_errors(FileError, "cannot be carried over"):
        for attribute in attributes_in(obj):
            _ = has_references(attribute) and attribute.dtype


class _Rehearsal(Scales):
    """Where results would be, for the notes on that: no coordinates are read, nothing is made."""

    def see(self, obj: Dataset, pooled: Pooled) -> None:
        """Note what would be noted when a result got its scales."""
        if self.has_geography(obj) and not pooled.flat:
            self.place(variable_of(path_of(obj), obj), pooled._replace(coarsen=None))

    def holds(self, path: str, shape: tuple[int, ...], values: Array | None) -> bool | None:  # noqa: ARG002
        return None

    def declare(self, path: str, length: int) -> None:
        pass

    def make(self, path: str, origin: Variable, values: Array, dims: Paths, changes: Changes) -> None:
        pass
