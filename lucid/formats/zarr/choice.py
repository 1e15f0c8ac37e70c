"""Which arrays of a store are pooled, and why one that the user named is not.

It is told by the documents alone; only what is chosen is opened, so it does not matter which codecs others need.
Of an OME-Zarr image the first level is pooled, since the others are made of it, and labels are carried over,
since means of numbers of objects are numbers of no object. A level or a label that is named is pooled all the same.
"""

from collections.abc import Iterable, Mapping, Sequence

from lucid.errors import DatasetError, UnfitError
from lucid.formats.choosing import (
    Criteria,
    absolute_name,
    coordinates_in,
    matches,
    name_list,
    no_match_error,
    notes_on_others,
)
from lucid.formats.grid import COORDINATES, bounds_name, words_of
from lucid.formats.zarr.nodes import Node
from lucid.formats.zarr.ome import Image
from lucid.formats.zarr.store import key_in

_LABELS = "a label image"
_LABEL_NOTE = (
    "{} is a label image: means of numbers of objects are no numbers of objects; `reduce='max'` keeps to some "
    "that are there"
)
_MAY_BE_BFLOAT16 = "; two bytes without a type may be bfloat16, say `input_dtype='bfloat16'`"


class Choice:
    """The arrays of a store that fit, chosen by names and patterns."""

    def __init__(self, nodes: Mapping[str, Node], images: Sequence[Image], criteria: Criteria) -> None:
        self._nodes, self._criteria = nodes, criteria
        self._arrays = [node for node in nodes.values() if not node.is_group]
        #: Arrays that are pooled only where the user names them, and what they are.
        self._aside = {path: _LABELS for image in images if image.is_label for path in image.paths}
        self._aside |= {path: "a lower level" for one in images if not one.is_label for path in one.paths[1:]}
        for node in self._arrays:
            bounds = bounds_name(node.attributes)
            if bounds is not None:
                self._aside[key_in(node.folder, bounds[1])] = "the bounds of cells"
        #: Notes for the user, one line each.
        self.notes: list[str] = []

    def choose(self, patterns: Sequence[str]) -> list[Node]:
        """What is pooled, in the order of paths; an error where something named cannot be, or nothing can."""
        fitting = {n.path: n for n in self._arrays if n.path not in self._aside and self._why_not(n) is None}
        words = {node.name: words_of(node.attributes, COORDINATES) for node in fitting.values()}
        coordinates = coordinates_in(words, {node.name for node in fitting.values()})
        # Coordinates of what is pooled are no fields of their own.
        fitting = {path: node for path, node in fitting.items() if node.name not in coordinates} or fitting
        pooled = {} if patterns else fitting
        for pattern in patterns:
            exact = self._nodes.get(absolute_name(pattern)[1:].rstrip("/"))
            if exact is None:
                named = {path: node for path, node in fitting.items() if matches(node.name, pattern)}
            elif why := self._why_not(exact):
                raise DatasetError(f"dataset {exact.name or 'at the root'} {why}")
            else:
                named = {exact.path: exact}
                self.notes += [_LABEL_NOTE.format(exact.name)] * (self._aside.get(exact.path) == _LABELS)
            if not named:
                raise self._no_match_error(pattern, fitting)
            pooled = pooled | named
        if not pooled:
            raise self._unfit_error()
        if not patterns:
            self._note_others(fitting, coordinates)
        return [node for _, node in sorted(pooled.items())]

    def _why_not(self, node: Node) -> str | None:
        """Why a node cannot be pooled; None where it can."""
        if node.is_group:
            return f"is a group; name an array in it, or {node.name}/* for all"
        if node.document is None:
            return node.damage
        plane = self._plane(node)
        if plane is not None and node.numbers(self._criteria.input_numbers) is None:
            data_type = node.document["data_type"]
            data_type = (
                data_type["name"] if isinstance(data_type, dict) and "name" in data_type else data_type
            )
            return f"is of type {data_type}, which has no mean here" + _MAY_BE_BFLOAT16 * _is_untyped(node)
        return self._criteria.why_not(node.shape, plane)

    def _plane(self, node: Node) -> tuple[int, ...] | None:
        return self._criteria.plane(node.shape, lambda: node.dims)

    def _no_match_error(self, pattern: str, fitting: Mapping[str, Node]) -> DatasetError:
        for node in self._arrays:
            if matches(node.name, pattern):
                aside = f"is {self._aside.get(node.path)}, which is only pooled by its full name"
                why = self._why_not(node) or aside
                return DatasetError(f"has no dataset {pattern!r} that can be pooled: {node.name} {why}")
        return no_match_error(pattern, [node.name for _, node in sorted(fitting.items())])

    def _unfit_error(self) -> UnfitError:
        aside = [n for n in self._arrays if n.path in self._aside and self._why_not(n) is None]
        if aside:
            names = name_list([f"{node.name} ({self._aside[node.path]})" for node in aside])
            return UnfitError(f"has no array but {names}; name in `datasets` what is to be pooled")
        seen = [
            f"{n.name or 'a root'} that {n.damage}" if n.damage else f"{n.name} {n.shape}".strip()
            for n in self._arrays
        ]
        hint = _MAY_BE_BFLOAT16 * any(self._plane(node) and _is_untyped(node) for node in self._arrays)
        return UnfitError(
            f"has no array of numbers {self._criteria}; it has {name_list(seen) or 'no array at all'}{hint}"
        )

    def _note_others(self, fitting: Mapping[str, Node], coordinates: Iterable[str]) -> None:
        """A line about arrays of the same plane that have other axes before it, but for coordinates."""
        planes = {self._plane(node) for node in fitting.values()}
        known = self._aside.keys() | fitting.keys() | {name[1:] for name in coordinates}
        for node in self._nodes.values():
            known |= {key_in(node.folder, word) for word in words_of(node.attributes, COORDINATES)}
        others: dict[tuple[int, ...], list[str]] = {}
        for node in self._arrays:
            if node.path not in known and node.numbers(self._criteria.input_numbers) is not None:
                others.setdefault(node.shape, []).append(node.name)
        self.notes += notes_on_others(others, planes)


def _is_untyped(node: Node) -> bool:
    """Whether an array is of two bytes without a type."""
    return node.numbers() != node.numbers("bfloat16")
