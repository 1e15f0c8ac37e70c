"""Which arrays of a file are pooled, and why one that the user named is not: the rules of all formats.

Choosing comes before checking: what is not chosen may need a filter that is not installed, or lie in files that are
away. Without a word of the user's, all arrays of numbers are pooled that have the axes, but for those that say
something of others: coordinates, bounds of cells, scales.
"""

import re
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Generic, TypeVar

from lucid.backlog import Backlog
from lucid.errors import DatasetError, UnfitError
from lucid.formats.choosing import MOST_NAMES, absolute_name, matches, name_list, no_match_error
from lucid.formats.doubts import doubts_of
from lucid.formats.grid import COORDINATES, bounds_name, words_of
from lucid.formats.meaning import Attributes
from lucid.formats.values import text_of
from lucid.formats.variables import Variable, candidate_paths
from lucid.options import Options

_MAY_BE_BFLOAT16 = "; two bytes without a type may be bfloat16, say `input_dtype='bfloat16'`"

#: Finds a type that holds numbers by what it is called, also of those of which no mean is taken.
_is_number = re.compile("complex|[<>]c|int|float|real|bit field").search
#: What is no field, by the attribute `CLASS`.
_CLASSES = {"DIMENSION_SCALE": "a dimension scale", "PALETTE": "a palette"}

Record = TypeVar("Record")


@dataclass
class Choice(Generic[Record]):
    """Chooses arrays of a file that have as many axes as the layout, or where `dims` is given both dimensions."""

    options: Options
    #: Gives the variable at a path, or why there is none to pool; and all that patterns may match.
    find: Callable[[str], Variable | str | None]
    every: Callable[[Sequence[str]], Iterable[Variable]]
    #: Makes what is kept of a variable, while it is open.
    keep: Callable[[Variable], Record]
    #: Gives the attributes of what is at a path, none where there is nothing.
    near: Callable[[str], Attributes] = lambda _: {}
    #: By path, what an array is that is pooled only where the user names it, such as the bounds of cells.
    aside: dict[str, str] = field(default_factory=dict)
    #: Notes for the user, one line each.
    notes: list[str] = field(default_factory=list)
    #: Paths of arrays that name others as their coordinates, and these names.
    _words: Backlog[tuple[str, list[str]]] = field(default_factory=Backlog, init=False)
    #: What is doubtful, and the paths of the arrays of which it is.
    doubts: dict[str, Backlog[str]] = field(default_factory=dict, init=False)

    def choose(self, patterns: Sequence[str]) -> Backlog[Record]:
        """What is pooled, each array once; a DatasetError where something named is not there, or cannot be."""
        named: dict[Hashable, Record] = {}
        globs: list[str] = []
        for pattern in patterns:
            array = self.find(absolute_name(pattern))
            if array is None:
                globs.append(pattern)
                continue
            why = array if isinstance(array, str) else self._why_not(array, self._plane(array))
            if isinstance(array, str) or why is not None:
                raise DatasetError(f"dataset {absolute_name(pattern)} {why}")
            named[array.key] = self._record_of(array)
        records = self._match(globs, named.keys()) if globs or not patterns else ()
        for what, paths in self.doubts.items():
            self.doubts[what] = Backlog(path for path in paths if path not in self.aside)
        return Backlog(chain(records, named.values()))

    def _record_of(self, array: Variable) -> Record:
        """The record of an array that is pooled unless it stands aside; what is doubtful of it is noted."""
        for doubt in doubts_of(self.options, array, self.near):
            self.doubts.setdefault(doubt, Backlog()).append(array.path)
        return self.keep(array)

    def _match(self, globs: Sequence[str], named: Container[Hashable]) -> Iterator[Record]:
        """What patterns match and is not named, or all that fits where there are none."""
        records, planes = Backlog[tuple[str, Record]](), set[tuple[int, ...]]()
        #: Paths of what fits; of numbers that have other axes, by shape.
        candidates, others = Backlog[str](), dict[tuple[int, ...], Backlog[str]]()
        for array in self.every(globs):
            path, plane = array.path, self._plane(array)
            self._set_aside(array)
            if plane is not None and self._why_not(array, plane) is None:
                candidates.append(path)
                is_wanted = not globs or any(matches(path, glob) for glob in globs)
                if is_wanted and path not in self.aside and array.key not in named:
                    records.append((path, self._record_of(array)))
                    planes.add(plane)
            elif plane is None and array.numbers is not None and len(array.shape) > 1:
                others.setdefault(array.shape, Backlog()).append(path)
            elif not globs and plane is not None and array.numbers is None and _is_number(array.type_name()):
                doubt = f"left out, since {array.type_name()} has no mean here"
                self.doubts.setdefault(doubt, Backlog()).append(path)
        fields = self._fields(candidates)
        for glob in globs:
            if not any(matches(path, glob) for path in fields):
                self._refuse(glob, fields)
        if not fields:
            raise self._unfit_error(candidates)
        if not globs and others:
            # Those of fewer axes are pooled along, as coordinates of what names them.
            known = chain(candidates, *others.values())
            self._note_others(others, planes, self.aside.keys() | coordinates_in(self._words, known))
        return (record for path, record in records if path not in self.aside)

    def _set_aside(self, array: Variable) -> None:
        """Note what an array says of others, or is to them."""
        # It is none even with the two axes of a layout: netCDF makes a scale of the coordinate lat(lat, lon).
        if (name := text_of(array.attributes.get("CLASS"))) in _CLASSES:
            self.aside[array.path] = _CLASSES[name]
        if bounds := bounds_name(array.attributes):
            self.aside[next(candidate_paths(array.path, bounds[1]))] = "the bounds of cells"
        if COORDINATES in array.attributes:
            self._words.append((array.path, words_of(array.attributes, COORDINATES)))

    def _fields(self, candidates: Iterable[str]) -> Sequence[str]:
        """The paths of what fits and does not stand aside, as coordinates of it do if anything else fits."""
        fields = Backlog(path for path in candidates if path not in self.aside)
        with_words = {path for path, _ in self._words}.intersection(fields)
        words = ((path, several) for path, several in self._words if path in with_words)
        coordinates = coordinates_in(words, fields)
        others = Backlog(path for path in fields if path not in coordinates)
        if not others:
            return fields
        self.aside |= dict.fromkeys(coordinates, "a coordinate of others")
        return others

    def _refuse(self, glob: str, fields: Sequence[str]) -> None:
        """Raise for a pattern that matches no field, where something else is to be said than that nothing fits."""
        for array in self.every([glob]):
            if matches(array.path, glob):
                why = self._why_not(array, self._plane(array))
                why = why or f"is {self.aside[array.path]}, which is only pooled by its full name"
                raise DatasetError(f"has no dataset {glob!r} that can be pooled: {array.path} {why}")
        if fields:
            raise no_match_error(glob, fields)

    def _unfit_error(self, candidates: Sequence[str]) -> UnfitError:
        """The error that nothing fits but what is pooled only by name."""
        if candidates:
            names = name_list(Backlog(f"{path} ({self.aside[path]})" for path in candidates))
            return UnfitError(f"has no array but {names}; name in `datasets` what is to be pooled")
        arrays = [
            f"{array.path or 'an array'} that {array.fault}"
            if array.fault
            else f"{array.path or 'an array of'} {array.type_name()} {array.shape}"
            for array in islice(self.every(()), MOST_NAMES + 1)
        ]
        shown = name_list(arrays[:MOST_NAMES]) + " …" * (len(arrays) > MOST_NAMES)
        rank = f"{len(self.options.layout)} axes (`layout` names them)"
        axes = rank if self.options.dims is None else f"the dimensions {' and '.join(self.options.dims)}"
        hint = _MAY_BE_BFLOAT16 * any(array.is_untyped and self._plane(array) for array in self.every(()))
        return UnfitError(f"has no array of numbers with {axes}; it has {shown or 'no array at all'}{hint}")

    def _plane(self, array: Variable) -> tuple[int, ...] | None:
        """Lengths of the axes that would be pooled; None where there are no such axes."""
        h, dims = self.options.height_axis, self.options.dims
        if dims is None:
            return array.shape[h : h + 2] if len(array.shape) == len(self.options.layout) else None
        own = array.dims()
        return tuple(array.shape[own.index(d)] for d in dims) if {*dims} <= {*own} else None

    def _why_not(self, array: Variable, plane: tuple[int, ...] | None) -> str | None:
        """Why an array with such a plane cannot be pooled; None where it can."""
        if array.fault:
            return array.fault
        if plane is None and self.options.dims is not None:
            return f"has no dimensions {' and '.join(self.options.dims)}"
        if plane is None:
            return f"has shape {array.shape}; expected {len(self.options.layout)} axes (`layout` names them)"
        if array.numbers is None:
            return f"is {array.type_name()}, which has no mean here{_MAY_BE_BFLOAT16 * array.is_untyped}"
        if 0 in plane:
            return f"has planes of {plane[0]}x{plane[1]}, which have no cells to average"
        return None

    def _note_others(
        self,
        others: Mapping[tuple[int, ...], Sequence[str]],
        planes: Container[tuple[int, ...]],
        known_paths: Container[str],
    ) -> None:
        """A line about arrays that have the plane of what is pooled and other axes before it."""
        for shape, paths in others.items():
            names = Backlog(path for path in paths if path not in known_paths)
            if names and shape[-2:] in planes:
                verb, was = ("have", "were") if len(names) > 1 else ("has", "was")
                what = f"{name_list(names)} {verb} {len(shape)} axes, {shape}, and {was} left out"
                self.notes.append(f"{what}; a `layout` of as many letters pools it")


def coordinates_in(named: Iterable[tuple[str, Iterable[str]]], known: Iterable[str]) -> set[str]:
    """Which arrays are coordinates of others: those that one names which none names itself.

    `named` is what each array names, which is in its group or in those around. Some name themselves and one
    another, as those of weather models do.

    >>> named = [("/g/t", ["lat", "lon"]), ("/lat", ["lat", "lon"]), ("/a", ["b"]), ("/b", ["a"])]
    >>> sorted(coordinates_in(named, ["/g/t", "/lat", "/g/lon", "/lon", "/a", "/b"]))
    ['/g/lon', '/lat']

    """
    candidates = Backlog((path, [[*candidate_paths(path, word)] for word in words]) for path, words in named)
    there = {path for _, several in candidates for paths in several for path in paths}.intersection(known)
    coordinates = Backlog(
        (
            path,
            {next(filter(there.__contains__, paths)) for paths in several if not there.isdisjoint(paths)},
        )
        for path, several in candidates
    )
    by_others = {other for path, paths in coordinates for other in paths if other != path}
    return {other for path, paths in coordinates if path not in by_others for other in paths}
