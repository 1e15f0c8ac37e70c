"""Which datasets of an HDF5 file are pooled, and why one that the user named is not.

A name is looked up; only patterns need a walk through the file. What is not chosen is not checked: it may
need a filter that is not installed, or lie in files that are away.
"""

from collections.abc import Callable, Sequence
from typing import Any

import h5py

from lucid.errors import DatasetError
from lucid.formats.arrays import ArraySpec
from lucid.formats.choosing import (
    MOST_NAMES,
    Wanted,
    absolute_name,
    coordinates_in,
    left_out,
    listed,
    matches,
    not_there,
)
from lucid.formats.grid import BOUNDS, COORDINATES, words_of
from lucid.formats.hdf5.meaning import attributes_of, matlab_kind
from lucid.formats.hdf5.tree import (
    EXTERNAL,
    HDF5_ERRORS,
    SOFT,
    Dataset,
    Identity,
    Link,
    absolute,
    datasets,
    decoded,
    encoded,
    identity,
    opened,
    resolved,
)
from lucid.formats.hdf5.types import described_type, is_unnamed, numbers_of
from lucid.formats.values import text_of

MAY_BE_BFLOAT16 = "; two-byte opaque elements may be bfloat16, say `input_dtype='bfloat16'`"


class Choice:
    """The datasets of a file that fit, chosen by names and patterns."""

    def __init__(self, file: h5py.File, wanted: Wanted, spec: Callable[[str, Dataset], ArraySpec]) -> None:
        self._file, self._wanted, self._spec = file, wanted, spec
        #: Edges of cells, which are no field of their own; and what those that fit name as their coordinates.
        self._bounds: set[str] = set()
        self._named: dict[str, list[str]] = {}
        #: By shape: datasets of numbers that have other axes than wanted.
        self._others: dict[tuple[int, ...], list[str]] = {}
        self._seen: list[str] = []
        self._may_be_bfloat16 = False
        #: Notes for the user, one line each.
        self.notes: list[str] = []

    def of(self, patterns: Sequence[str]) -> list[ArraySpec]:
        """What is pooled, each dataset once.

        Raises
        ------
        DatasetError
            Something named is not there, or cannot be pooled.

        """
        exact = [self._resolved(p) for p in patterns]
        if patterns and None not in exact:
            return self._once([path for path in exact if path is not None])
        # Without patterns, all that fits is pooled, and described while it is open.
        fitting: list[str] = []
        specs: list[ArraySpec] = []
        planes = set()
        names = {path for path in exact if path is not None}
        globs = [p for p, path in zip(patterns, exact, strict=True) if path is None]
        unfit: dict[str, str] = {}
        for path, dataset, *_ in datasets(self._file):
            plane, why = self._judged(dataset)
            self._note(path, dataset, plane, fits=why is None)
            if why is None and patterns:
                fitting.append(path)
            elif why is None:
                specs.append(self._spec(path, dataset))
                planes.add(plane)
            elif globs and not unfit and any(matches(path, glob) for glob in globs):
                unfit[path] = why
        known = {*fitting, *(spec.name for spec in specs)} if self._named else set[str]()
        coordinates = coordinates_in(self._named, known)
        if not patterns:
            specs = [spec for spec in specs if spec.name not in self._bounds]
            specs = [spec for spec in specs if spec.name not in coordinates] or specs
            if not specs:
                raise self._nothing()
            # Those of fewer axes are pooled along, as coordinates of what names them.
            others = {name for names in self._others.values() for name in names}
            self._note_others(planes, self._bounds | coordinates_in(self._named, known | others))
            return specs
        fitting = [path for path in fitting if path not in self._bounds | coordinates or path in names]
        for glob in globs:
            if not any(matches(path, glob) for path in fitting):
                raise self._no_match(glob, fitting, unfit)
        chosen = [p for p in fitting if p in names or any(matches(p, glob) for glob in globs)]
        return self._once([*chosen, *(path for path in sorted(names) if path not in chosen)])

    def _note(self, path: str, dataset: Dataset, plane: tuple[int, ...] | None, *, fits: bool) -> None:
        """Note what a dataset that the user did not name says of others, and what may be said of it."""
        named = attributes_of(dataset, (*BOUNDS, COORDINATES))
        if fits and COORDINATES in named:
            self._named[path] = words_of(named, COORDINATES)
        self._bounds |= {absolute(path, text_of(named[key])) for key in BOUNDS if key in named}
        shape = shape_of(dataset)
        if len(self._seen) <= MOST_NAMES:
            self._seen.append(f"{path} {described_type(dataset)} {shape}")
        may_be_another = plane is None and shape is not None and len(shape) >= 2
        if may_be_another and numbers_of(dataset, self._wanted.input_numbers) is not None:
            self._others.setdefault(shape or (), []).append(path)

    def _judged(self, dataset: Dataset) -> tuple[tuple[int, ...] | None, str | None]:
        """Lengths of the axes that would be pooled, and why none are."""
        shape = shape_of(dataset)
        if shape is None:
            return None, "holds nothing"
        plane = self._wanted.plane(shape, lambda: dims_of(dataset))
        if plane is not None:
            kind = matlab_kind(dataset)
            if kind is not None:
                return plane, f"is {kind}, which has no mean"
            if numbers_of(dataset, self._wanted.input_numbers) is None:
                self._may_be_bfloat16 |= is_unnamed(dataset)
                hint = MAY_BE_BFLOAT16 * is_unnamed(dataset)
                return plane, f"is {described_type(dataset)}, which has no mean here{hint}"
        return plane, self._wanted.why_not(shape, plane)

    def _resolved(self, pattern: str) -> str | None:
        """The path at which a walk meets what has exactly this name; None where there is none.

        Raises
        ------
        DatasetError
            A link on the way leads out of the file, or to nothing.

        """
        found = resolved(self._file, absolute("/", absolute_name(pattern)))
        if not isinstance(found, Link):
            return found
        why = "is a link that only its own software can follow"
        if found.kind == EXTERNAL:
            file, there = (decoded(part) for part in found.value)
            why = f"is a link to {there} in {file}, which is not followed: pool that"
        elif found.kind == SOFT:
            why = "is a link that leads to nothing"
        raise DatasetError(f"dataset {pattern!r} {why}")

    def _checked(self, path: str, item: Any) -> ArraySpec:
        """A dataset that was named, if it can be pooled."""
        if isinstance(item, h5py.Group):
            raise DatasetError(f"{path} is a group; name a dataset in it, or {path.rstrip('/')}/* for all")
        if not isinstance(item, Dataset):
            raise DatasetError(f"{path} is a named type, no dataset")
        _, why = self._judged(item)
        if why is not None:
            raise DatasetError(f"dataset {path} {why}")
        return self._spec(path, item)

    def _once(self, paths: Sequence[str]) -> list[ArraySpec]:
        """Different datasets, by whichever name comes first."""
        own: dict[Identity, ArraySpec] = {}
        for path in paths:
            item = opened(self._file, encoded(path))
            if identity(item) not in own:
                own[identity(item)] = self._checked(path, item)
        return list(own.values())

    def _no_match(self, pattern: str, fitting: list[str], unfit: dict[str, str]) -> DatasetError:
        for path, why in unfit.items():
            return DatasetError(f"has no dataset {pattern!r} that can be pooled: {path} {why}")
        return not_there(pattern, fitting)

    def _nothing(self) -> DatasetError:
        seen = listed(self._seen[:MOST_NAMES]) + (" …" if len(self._seen) > MOST_NAMES else "")
        hint = MAY_BE_BFLOAT16 * self._may_be_bfloat16
        return DatasetError(
            f"has no dataset of numbers {self._wanted}; it has {seen or 'no dataset at all'}{hint}"
        )

    def _note_others(self, planes: set[tuple[int, ...] | None], aside: set[str]) -> None:
        """A line about datasets of the same plane that have other axes before it."""
        others = {
            shape: [name for name in names if name not in aside]
            for shape, names in self._others.items()
            if shape[-2:] in planes
        }
        self.notes += left_out({shape: names for shape, names in others.items() if names})


def shape_of(dataset: Dataset) -> tuple[int, ...] | None:
    """A dataset's shape, None if it has none; a virtual one's without opening the files it speaks of."""
    creation = dataset.creation
    if creation.get_layout() == h5py.h5d.VIRTUAL and creation.get_virtual_count():
        shape: tuple[int, ...] = creation.get_virtual_vspace(0).get_simple_extent_dims()
        return shape
    own: tuple[int, ...] | None = dataset.shape
    return own


def dims_of(dataset: Dataset) -> tuple[str, ...]:
    """The names of the axes by their dimension scales, "" for those without; () where none has one."""
    if not h5py.h5a.exists(dataset.id, b"DIMENSION_LIST"):
        return ()
    names = []
    try:
        for refs in dataset.attrs["DIMENSION_LIST"]:
            paths = [h5py.h5r.get_name(ref, dataset.file.id) or b"" for ref in refs[:1] if ref]
            names.append(decoded(paths[0]).rpartition("/")[2] if paths else "")
    except HDF5_ERRORS:
        return ()  # what it refers to is not there
    return tuple(names) if any(names) else ()
