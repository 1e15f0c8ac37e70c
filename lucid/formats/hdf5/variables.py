"""Variables of an HDF5 file: datasets as the rules of all formats see them.

MATLAB stores text and objects as integers, which are not to be averaged; `MATLAB_class` says what they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import h5py

from lucid.formats.grid import base_of
from lucid.formats.hdf5.elsewhere import is_virtual
from lucid.formats.hdf5.tree import (
    EXTERNAL,
    HDF5_ERRORS,
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
    object_of,
    path_of,
)
from lucid.formats.hdf5.types import is_unnamed, numbers_of, type_name
from lucid.formats.values import text_of
from lucid.formats.variables import GROUP, Variable

#: Names the dimension scales of each axis.
SCALES = "DIMENSION_LIST"
#: Largest attribute that is looked into.
MOST_BYTES = 1 << 20
#: Where MATLAB keeps what its cells and objects hold, such as the text of a `string`, as arrays of numbers.
MATLAB_CONTENTS = ("/#refs#/", "/#subsystem#/")
MATLAB_CLASS = "MATLAB_class"
#: Classes of MATLAB whose datasets hold numbers.
_MATLAB_NUMBERS = {
    "double",
    "single",
    "logical",
    *(f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64)),
    "",
}


class Attributes(Mapping[str, Any]):
    """Those attributes of an object that can be read, each when it is asked for."""

    def __init__(self, obj: Any) -> None:
        self._obj = obj
        self._count = h5py.h5a.get_num_attrs(obj.id)

    def __getitem__(self, name: str) -> Any:
        with suppress(*HDF5_ERRORS):  # of a type that is not known
            if self._count and h5py.h5a.exists(self._obj.id, name.encode()):
                is_small = h5py.h5a.open(self._obj.id, name.encode()).get_storage_size() <= MOST_BYTES
                value = self._obj.attrs[name] if is_small else h5py.Empty(None)
                if not isinstance(value, h5py.Empty):
                    return value
        raise KeyError(name)

    def __len__(self) -> int:
        return int(self._count)

    def __iter__(self) -> Iterator[str]:
        names: list[bytes] = []
        h5py.h5a.iterate(self._obj.id, names.append)
        return map(name_text, names)


def variables_in(file: h5py.File, patterns: Sequence[str], untyped: str | None) -> Iterator[Variable]:
    """All datasets that patterns may mean, each once."""
    has_contents = any("#" in pattern for pattern in patterns)
    for path, dataset, address in datasets(file):
        if has_contents or not path.startswith(MATLAB_CONTENTS):
            yield variable_of(path, dataset, untyped, address)


def variable_at(file: h5py.File, path: str, untyped: str | None = None) -> Variable | str | None:
    """The dataset that has exactly this name, by the path at which a walk meets it; if it is none, what it is."""
    place = follow_links(file, absolute_path("/", path))
    if place is None:
        return None
    if not isinstance(place, Link):
        obj = object_at(file, place)
        if isinstance(obj, Dataset):
            return variable_of(place, obj, untyped)
        return (
            GROUP.format(place.rstrip("/")) if isinstance(obj, h5py.Group) else "is a named type, no dataset"
        )
    if place.type == EXTERNAL:
        other, inner = (name_text(name) for name in place.value)
        return f"is a link to {inner} in {other}, which is not followed: pool that"
    is_soft = place.type == SOFT
    return "is a link that leads to nothing" if is_soft else "is a link that only its own software can follow"


def variable_of(
    path: str, dataset: Dataset, untyped: str | None = None, address: Address | None = None
) -> Variable:
    """A dataset as a variable; `untyped` is what two bytes without a type are."""
    attributes, elements, creation = Attributes(dataset), numbers_of(dataset, untyped), dataset.creation
    # The library's own word of a virtual one's shape opens the files that it speaks of.
    is_shown = is_virtual(creation) and creation.get_virtual_count()
    shape = creation.get_virtual_vspace(0).get_simple_extent_dims() if is_shown else dataset.shape
    what = _matlab_name(attributes)
    return Variable(
        path=path,
        key=address_of(dataset) if address is None else address,
        shape=shape or (),
        attributes=attributes,
        numbers=elements[0] if elements is not None and what is None else None,
        type_name=lambda: what or type_name(dataset),
        dims=lambda: dims_of(dataset),
        handle=dataset,
        is_untyped=is_unnamed(dataset),
        fault="holds nothing" if shape is None else "",
    )


def _matlab_name(attributes: Mapping[str, Any]) -> str | None:
    """What MATLAB stores as integers that are none; None for numbers."""
    if MATLAB_CLASS in attributes and "MATLAB_empty" in attributes:
        return "the shape of an empty array of MATLAB"
    name = text_of(attributes.get(MATLAB_CLASS))
    return None if name in _MATLAB_NUMBERS else f"{'text' if name == 'char' else name} of MATLAB"


def scales_of(dataset: Dataset) -> list[list[Dataset]]:
    """The dimension scales of each axis; a reference that leads to none is no scale."""
    scales: list[list[Dataset]] = [[] for _ in dataset.shape]
    if h5py.h5a.exists(dataset.id, SCALES.encode()):
        with suppress(*HDF5_ERRORS):  # it is no list of references
            for of_axis, references in zip(scales, dataset.attrs[SCALES], strict=True):
                for reference in references:
                    with suppress(*HDF5_ERRORS):
                        of_axis.append(object_of(h5py.h5r.dereference(reference, dataset.id)))
    return [[one for one in of_axis if isinstance(one, Dataset)] for of_axis in scales]


def dims_of(dataset: Dataset) -> tuple[str, ...]:
    """The names of the axes by their dimension scales, "" for those without; () where none has one."""
    names = tuple(base_of(path_of(of_axis[0])) if of_axis else "" for of_axis in scales_of(dataset))
    return names if any(names) else ()
