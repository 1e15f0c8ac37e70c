"""Which datasets of an HDF5 file are pooled, and why one that somebody named is not.

A name is looked up; only patterns need a walk through the file. What is not chosen is not checked: it may
need a filter that nobody has, or lie in files that are away.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import h5py

from lucid.dims import has_both
from lucid.errors import DatasetError
from lucid.formats.choosing import MOST_NAMES, absolute_name, listed, matches, not_there
from lucid.formats.contract import ArraySpec
from lucid.formats.grid import BOUNDS, COORDINATES, words_of
from lucid.formats.hdf5.meaning import attributes_of, matlab_kind
from lucid.formats.hdf5.tree import (
    HDF5_ERRORS,
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


class Wanted(NamedTuple):
    """What fits: so many axes, `height_axis` being the first that is pooled; or both dimensions of `dims`."""

    rank: int
    height_axis: int
    dims: tuple[str, str] | None = None
    input_numbers: str | None = None

    def plane(self, dataset: Dataset, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Lengths of the axes that would be pooled; None where it does not have them."""
        if self.dims is None:
            return shape[self.height_axis : self.height_axis + 2] if len(shape) == self.rank else None
        names = dims_of(dataset)
        return tuple(shape[names.index(d)] for d in self.dims) if has_both(names, self.dims) else None


class Choice:
    """The datasets of a file that fit, chosen by names and patterns."""

    def __init__(self, file: h5py.File, wanted: Wanted, spec: Callable[[str, Dataset], ArraySpec]) -> None:
        self._file, self._wanted, self._spec = file, wanted, spec
        #: What is no field of its own: edges of cells, and coordinates of what fits.
        self._bounds: set[str] = set()
        self._coordinates: set[str] = set()
        #: By shape: some datasets that have other axes than wanted, and how many there are.
        self._others: dict[tuple[int, ...], tuple[list[str], int]] = {}
        self._seen: list[str] = []
        self._may_be_bfloat16 = False
        #: What somebody should know, a line each.
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
            plane, why = self._judged(path, dataset)
            if why is None:
                words = words_of(attributes_of(dataset, (COORDINATES,)), COORDINATES)
                self._coordinates |= {absolute(path, word) for word in words}
            if why is None and patterns:
                fitting.append(path)
            elif why is None:
                specs.append(self._spec(path, dataset))
                planes.add(plane)
            elif globs and not unfit and any(matches(path, glob) for glob in globs):
                unfit[path] = why
        if not patterns:
            specs = [spec for spec in specs if spec.name not in self._bounds]
            specs = [spec for spec in specs if spec.name not in self._coordinates] or specs
            if not specs:
                raise self._nothing()
            self._note_others(planes)
            return specs
        fitting = [path for path in fitting if path not in self._bounds | self._coordinates or path in names]
        for glob in globs:
            if not any(matches(path, glob) for path in fitting):
                raise self._no_match(glob, fitting, unfit)
        chosen = [p for p in fitting if p in names or any(matches(p, glob) for glob in globs)]
        return self._once([*chosen, *(path for path in sorted(names) if path not in chosen)])

    def _judged(self, path: str, dataset: Dataset) -> tuple[tuple[int, ...] | None, str | None]:
        """The plane of a dataset and None, or why it is not pooled where nobody names it."""
        for name in attributes_of(dataset, BOUNDS).values():
            self._bounds.add(absolute(path, text_of(name)))
        shape = shape_of(dataset)
        if len(self._seen) <= MOST_NAMES:
            self._seen.append(f"{path} {described_type(dataset)} {shape}")
        if shape is None:
            return None, "holds nothing"
        plane = self._wanted.plane(dataset, shape)
        if plane is None:
            if len(shape) >= 2 and numbers_of(dataset, self._wanted.input_numbers) is not None:
                names, count = self._others.get(shape, ([], 0))
                self._others[shape] = ([*names, path] if len(names) < MOST_NAMES else names, count + 1)
            return None, self._axes_are(shape)
        why = self._unfit(dataset, plane)
        return plane, why

    def _unfit(self, dataset: Dataset, plane: tuple[int, ...]) -> str | None:
        """Why a dataset with the axes that are wanted cannot be pooled."""
        kind = matlab_kind(dataset)
        if kind is not None:
            return f"is {kind}, which has no mean"
        if numbers_of(dataset, self._wanted.input_numbers) is None:
            self._may_be_bfloat16 |= is_unnamed(dataset)
            hint = "; two-byte opaque elements may be bfloat16, say `input_dtype='bfloat16'`"
            return f"is {described_type(dataset)}, which has no mean here" + hint * is_unnamed(dataset)
        if 0 in plane:
            return f"has planes of {plane[0]}x{plane[1]}, which have no cells to average"
        return None

    def _axes_are(self, shape: tuple[int, ...]) -> str:
        if self._wanted.dims is not None:
            return f"has no dimensions {' and '.join(self._wanted.dims)}"
        return (
            f"has {len(shape)} axes, {shape}; expected {self._wanted.rank}, one for each letter of `layout`"
        )

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
        if found.is_external:
            file, there = (decoded(part) for part in found.value)
            why = f"is a link to {there} in {file}, which is not followed: pool that"
        elif found.is_soft:
            why = "is a link that leads to nothing"
        raise DatasetError(f"dataset {pattern!r} {why}")

    def _checked(self, path: str, item: Any) -> ArraySpec:
        """A dataset that was named, if it can be pooled."""
        if isinstance(item, h5py.Group):
            raise DatasetError(f"{path} is a group; name a dataset in it, or {path.rstrip('/')}/* for all")
        if not isinstance(item, Dataset):
            raise DatasetError(f"{path} is a named type, no dataset")
        shape = shape_of(item)
        plane = None if shape is None else self._wanted.plane(item, shape)
        why = "holds nothing" if shape is None else self._axes_are(shape)
        if plane is not None:
            why = self._unfit(item, plane) or ""
        if why:
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
        what = "with the dimensions " + " and ".join(self._wanted.dims) if self._wanted.dims else ""
        hint = "; two-byte opaque elements may be bfloat16, say `input_dtype='bfloat16'`"
        return DatasetError(
            f"has no dataset of numbers {what or f'with {self._wanted.rank} axes'}; "
            f"it has {seen or 'no dataset at all'}" + hint * self._may_be_bfloat16
        )

    def _note_others(self, planes: set[tuple[int, ...] | None]) -> None:
        """A line about datasets of the same plane that have other axes before it."""
        for shape, (names, count) in self._others.items():
            left = [name for name in names if name not in self._bounds]
            if shape[-2:] in planes and left:
                more = f" and {count - len(names)} more" if count > len(names) else ""
                are = (
                    f"have {len(shape)} axes, {shape}, and were"
                    if count > 1
                    else f"has {len(shape)} axes, {shape}, and was"
                )
                self.notes.append(
                    f"{listed(left)}{more} {are} left out; a `layout` of as many letters pools it"
                )


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
