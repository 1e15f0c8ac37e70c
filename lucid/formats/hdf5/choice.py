"""Which datasets of an HDF5 file are pooled, and why one that the user named is not.

A name is looked up; only patterns need a walk through the file. What is not chosen is not checked: it may
need a filter that is not installed, or lie in files that are away.
"""

from collections.abc import Callable, Sequence
from typing import Any

import h5py

from lucid.errors import DatasetError, UnfitError
from lucid.formats.arrays import ArraySpec
from lucid.formats.choosing import (
    MOST_NAMES,
    Criteria,
    absolute_name,
    coordinates_in,
    matches,
    name_list,
    no_match_error,
    notes_on_others,
)
from lucid.formats.grid import BOUNDS, COORDINATES, words_of
from lucid.formats.hdf5.elsewhere import is_virtual
from lucid.formats.hdf5.meaning import MATLAB_CONTENTS, attributes_of, dims_of, matlab_description
from lucid.formats.hdf5.tree import (
    EXTERNAL,
    SOFT,
    Address,
    Dataset,
    Link,
    absolute_path,
    address_of,
    datasets,
    follow_links,
    name_text,
    object_at,
)
from lucid.formats.hdf5.types import is_unnamed, numbers_of, type_name
from lucid.formats.values import text_of

MAY_BE_BFLOAT16 = "; two-byte opaque elements may be bfloat16, say `input_dtype='bfloat16'`"


class Choice:
    """The datasets of a file that fit, chosen by names and patterns."""

    def __init__(
        self, file: h5py.File, criteria: Criteria, spec: Callable[[str, Dataset], ArraySpec]
    ) -> None:
        self._file, self._criteria, self._spec = file, criteria, spec
        #: Notes for the user, one line each.
        self.notes: list[str] = []

    def choose(self, patterns: Sequence[str]) -> list[ArraySpec]:
        """What is pooled, each dataset once; a DatasetError where something named is not there, or cannot be."""
        exact = [(pattern, self._path_of(pattern)) for pattern in patterns]
        names = [path for _, path in exact if path is not None]
        globs = [pattern for pattern, path in exact if path is None]
        specs = self._match_globs(names, globs) if globs or not patterns else {}
        for path in names:
            obj = object_at(self._file, path)
            if address_of(obj) not in specs:
                specs[address_of(obj)] = self._spec_of(path, obj)
        return list(specs.values())

    def _match_globs(self, names: Sequence[str], globs: Sequence[str]) -> dict[Address, ArraySpec]:
        """What patterns match, or all that fits where there are none; described while it is open."""
        specs: dict[Address, ArraySpec] = {}
        fitting, seen = list[str](), list[str]()
        planes, bounds = set[tuple[int, ...] | None](), set[str]()
        #: What datasets that fit name as their coordinates; by shape, datasets of numbers that have other axes.
        named, others = dict[str, list[str]](), dict[tuple[int, ...], list[str]]()
        unfit, is_untyped = None, False
        for path, dataset, address in datasets(self._file):
            plane, why = self._plane(dataset)
            attributes = attributes_of(dataset, (*BOUNDS, COORDINATES, "CLASS"))
            # A scale of two axes, as netCDF has for lat(lat, lon), says where others lie and stays as long as they are.
            bounds |= {path} if text_of(attributes.get("CLASS")) == "DIMENSION_SCALE" else set()
            bounds |= {absolute_path(path, text_of(attributes[key])) for key in BOUNDS if key in attributes}
            if len(seen) <= MOST_NAMES:
                seen.append(f"{path} {type_name(dataset)} {shape_of(dataset)}")
            if path.startswith(MATLAB_CONTENTS) and not any("#" in glob for glob in globs):
                continue
            is_match = not globs or any(matches(path, glob) for glob in globs)
            if why is None:
                fitting.append(path)
                if COORDINATES in attributes:
                    named[path] = words_of(attributes, COORDINATES)
                if is_match:
                    specs[address] = self._spec(path, dataset)
                    planes.add(plane)
                continue
            is_untyped |= why.endswith(MAY_BE_BFLOAT16)
            if globs and is_match:
                unfit = unfit or f"{path} {why}"
            shape = shape_of(dataset)
            has_numbers = numbers_of(dataset, self._criteria.input_numbers) is not None
            if plane is None and shape is not None and len(shape) >= 2 and has_numbers:
                others.setdefault(shape, []).append(path)
        if not globs:
            # Those of fewer axes are pooled along, as coordinates of what names them.
            numbers = {*fitting, *(name for some in others.values() for name in some)}
            aside = bounds | coordinates_in(named, numbers)
            left = {shape: [name for name in some if name not in aside] for shape, some in others.items()}
            self.notes += notes_on_others(left, planes)
        aside = bounds | coordinates_in(named, set(fitting))
        fields = {
            address: spec for address, spec in specs.items() if spec.name in names or spec.name not in aside
        }
        if not globs:
            fields = fields or {address: spec for address, spec in specs.items() if spec.name not in bounds}
            if not fields:
                raise self._unfit_error(seen, MAY_BE_BFLOAT16 * is_untyped)
        for glob in globs:
            if not any(matches(spec.name, glob) for spec in fields.values()):
                if unfit is not None:
                    raise DatasetError(f"has no dataset {glob!r} that can be pooled: {unfit}")
                raise no_match_error(glob, [path for path in fitting if path not in aside or path in names])
        return fields

    def _plane(self, dataset: Dataset) -> tuple[tuple[int, ...] | None, str | None]:
        """Lengths of the axes that would be pooled, and why none are."""
        shape = shape_of(dataset)
        if shape is None:
            return None, "holds nothing"
        plane = self._criteria.plane(shape, lambda: dims_of(dataset))
        if plane is not None:
            description = matlab_description(dataset)
            if description is not None:
                return plane, f"is {description}, which has no mean"
            if numbers_of(dataset, self._criteria.input_numbers) is None:
                hint = MAY_BE_BFLOAT16 * is_unnamed(dataset)
                return plane, f"is {type_name(dataset)}, which has no mean here{hint}"
        return plane, self._criteria.why_not(shape, plane)

    def _path_of(self, pattern: str) -> str | None:
        """The path at which a walk meets what has exactly this name; None where there is none.

        A link on the way that leads out of the file, or to nothing, is a DatasetError.
        """
        link = follow_links(self._file, absolute_path("/", absolute_name(pattern)))
        if not isinstance(link, Link):
            return link
        why = "is a link that only its own software can follow"
        if link.type == EXTERNAL:
            file, path = (name_text(part) for part in link.value)
            why = f"is a link to {path} in {file}, which is not followed: pool that"
        elif link.type == SOFT:
            why = "is a link that leads to nothing"
        raise DatasetError(f"dataset {pattern!r} {why}")

    def _spec_of(self, path: str, obj: Any) -> ArraySpec:
        """A dataset that was named, if it can be pooled."""
        if isinstance(obj, h5py.Group):
            raise DatasetError(f"{path} is a group; name a dataset in it, or {path.rstrip('/')}/* for all")
        if not isinstance(obj, Dataset):
            raise DatasetError(f"{path} is a named type, no dataset")
        _, why = self._plane(obj)
        if why is not None:
            raise DatasetError(f"dataset {path} {why}")
        return self._spec(path, obj)

    def _unfit_error(self, seen: Sequence[str], hint: str) -> UnfitError:
        shown = name_list(seen[:MOST_NAMES]) + (" …" if len(seen) > MOST_NAMES else "")
        return UnfitError(
            f"has no dataset of numbers {self._criteria}; it has {shown or 'no dataset at all'}{hint}"
        )


def shape_of(dataset: Dataset) -> tuple[int, ...] | None:
    """A dataset's shape, None if it has none; a virtual one's without opening the files it speaks of."""
    creation = dataset.creation
    if is_virtual(creation) and creation.get_virtual_count():
        shape: tuple[int, ...] = creation.get_virtual_vspace(0).get_simple_extent_dims()
        return shape
    lengths: tuple[int, ...] | None = dataset.shape
    return lengths
