"""What is carried over in a dry run: what would be refused, noted and counted, with nothing made."""

from collections.abc import Sequence

from lucid.formats.arrays import Array, Coarsen, Pooled
from lucid.formats.contract import CarriedArrays
from lucid.formats.geography import Paths, Variable
from lucid.formats.hdf5.geography import Scales
from lucid.formats.hdf5.references import References
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.hdf5.survey import LEADING_NOWHERE, Survey, refuse_attributes
from lucid.formats.hdf5.tree import Dataset, Link, object_at, path_of
from lucid.formats.result import Changes


def rehearse(
    source: Hdf5Source, pooled: Sequence[Pooled], drop: Sequence[str]
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


def rehearse_results(source: Hdf5Source, pooled: Sequence[Pooled]) -> None:
    """Raise what would be raised where nothing is carried over."""
    for name in {array.source.name for array in pooled} - source.plain.keys():
        refuse_attributes(object_at(source.file, name), LEADING_NOWHERE)


class _Rehearsal(Scales):
    """Where results would be, for the notes on that: no coordinates are read, nothing is made."""

    def see(self, obj: Dataset, pooled: Pooled) -> None:
        """Note what would be noted when a result got its scales."""
        if self.has_geography(obj) and not pooled.flat:
            self.place(self._variable(path_of(obj), obj), pooled)

    def holds(self, path: str, shape: tuple[int, ...], values: Array | None) -> bool | None:  # noqa: ARG002
        return None

    def declare(self, path: str, length: int) -> None:
        pass

    def make(self, path: str, origin: Variable, values: Array, dims: Paths, changes: Changes) -> None:
        pass

    def _coarse_values(
        self,
        variable: Variable,  # noqa: ARG002
        size: tuple[int, ...],  # noqa: ARG002
        coarsen: Coarsen | None,  # noqa: ARG002
    ) -> Array | None:
        return None
