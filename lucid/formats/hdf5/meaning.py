"""HDF5 datasets as the rules of all formats see them, and what their results say of themselves.

Those of MATLAB have rules of their own: `MATLAB_class` names the type as which MATLAB reads a dataset, so it follows
the result; text and objects are stored as integers, which are not to be averaged.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import h5py
import numpy as np

from lucid.formats.arrays import ResultSpec
from lucid.formats.contract import PROVENANCE
from lucid.formats.grid import base_of
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.hdf5.types import is_unnamed, numbers_of, type_name
from lucid.formats.result import Changes, changes_in, unwritten_fill
from lucid.formats.values import text_of
from lucid.formats.variables import A_GROUP, Variable

#: Holds a file to netCDF's classic model, and the numbers that it has; sums of integers are others.
CLASSIC_MODEL = "_nc3_strict"
CLASSIC_NUMBERS = ("int8", "int16", "int32", "float32", "float64")
#: Names the dimension scales of each axis.
SCALES = "DIMENSION_LIST"
#: Largest attribute that is looked into.
MOST_BYTES = 1 << 20
#: Where MATLAB keeps what its cells and objects hold, such as the text of a `string`, as arrays of numbers.
MATLAB_CONTENTS = ("/#refs#/", "/#subsystem#/")
MATLAB_CLASS = "MATLAB_class"
#: Classes of MATLAB whose datasets hold numbers.
_MATLAB_NUMBERS = {"double", "single", "logical", *(f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64))}
_MATLAB_FLOATS = {"float64": "double", "float32": "single"}
#: Attributes of hdf5storage, which says with them what Python's array was.
_PYTHON_TYPE, _PYTHON_SHAPE = "Python.numpy.UnderlyingType", "Python.Shape"


def attributes_of(obj: Any) -> Mapping[str, Any]:
    """Those attributes of an object that can be read."""
    names: list[bytes] = []
    if h5py.h5a.get_num_attrs(obj.id):
        h5py.h5a.iterate(obj.id, names.append)
    return _Attributes(obj, [tree.name_text(name) for name in names]) if names else {}


def attributes_at(file: h5py.File, path: str) -> Mapping[str, Any]:
    """Those of the object at a path; none where there is no object or a link. The path of its group has no link."""
    group, _, name = map(tree.name_bytes, path.rpartition("/"))
    parent = h5py.h5g.open(file.id, group or b"/")
    if path and (not parent.links.exists(name) or parent.links.get_info(name).type != tree.HARD):
        return {}
    return attributes_of(tree.object_at(file, path or "/"))


class _Attributes(Mapping[str, Any]):
    """Attributes that are read when they are asked for."""

    def __init__(self, obj: Any, names: list[str]) -> None:
        self._obj, self._names = obj, names

    def __getitem__(self, name: str) -> Any:
        if name in self._names:
            with suppress(*tree.HDF5_ERRORS):  # of a type that is not known
                is_small = h5py.h5a.open(self._obj.id, tree.name_bytes(name)).get_storage_size() <= MOST_BYTES
                value = self._obj.attrs[name] if is_small else h5py.Empty(None)
                if not isinstance(value, h5py.Empty):
                    return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Variables:
    """The datasets of a file as variables; `untyped` names the type of opaque elements of two bytes."""

    def __init__(self, file: h5py.File, untyped: str | None = None) -> None:
        self._file, self._untyped = file, untyped
        self._scale_paths: dict[tree.Address, str] = {}

    def all(self, patterns: Sequence[str]) -> Iterator[Variable]:
        """All datasets that patterns may mean, each once, and links into other files."""
        has_contents = any("#" in pattern for pattern in patterns)
        for path, obj, address in tree.walk(self._file):
            if isinstance(obj, tree.Link) and obj.type == tree.EXTERNAL:
                yield Variable(path, path, (), None, str, fault=_elsewhere(obj))
            elif isinstance(obj, Dataset) and (has_contents or not path.startswith(MATLAB_CONTENTS)):
                yield self.of(path, obj, address)

    def at(self, path: str) -> Variable | str | None:
        """The dataset that has exactly this name, by the path at which a walk meets it; if it is none, what it is."""
        end = tree.follow_links(self._file, tree.absolute_path("/", path))
        if end is None:
            return None
        if not isinstance(end, tree.Link):
            obj = tree.object_at(self._file, end)
            if isinstance(obj, Dataset):
                return self.of(end, obj)
            is_group = isinstance(obj, h5py.Group)
            return A_GROUP.format(end.rstrip("/")) if is_group else "is a named type, no dataset"
        if end.type == tree.EXTERNAL:
            return _elsewhere(end)
        if end.type == tree.SOFT:
            return "is a link that leads to nothing"
        return "is a link that only its own software can follow"

    def of(self, path: str, dataset: Dataset, address: tree.Address | None = None) -> Variable:
        """A dataset as a variable."""
        attributes, elements = attributes_of(dataset), numbers_of(dataset, self._untyped)
        # Asked for the shape of a virtual dataset, the library opens the files of its sources.
        creation = dataset.creation
        is_shown = dataset.is_virtual and creation.get_virtual_count()
        shape = creation.get_virtual_vspace(0).get_simple_extent_dims() if is_shown else dataset.shape
        what = _matlab_name(attributes)
        return Variable(
            path=path,
            key=tree.address_of(dataset) if address is None else address,
            shape=shape or (),
            attributes=attributes,
            numbers=elements[0] if elements is not None and what is None else None,
            type_name=lambda: what or type_name(dataset),
            dtype=None if elements is None else elements[1],
            dims=lambda: self._dims(dataset),
            handle=dataset,
            is_untyped=is_unnamed(dataset),
            fault="holds nothing" if shape is None else "",
        )

    def _dims(self, dataset: Dataset) -> tuple[str, ...]:
        """The names of the axes by their dimension scales, "" for those without; () where none has one."""
        scales = scales_of(dataset)
        names = tuple(base_of(self.address_and_path(of_axis[0])[1]) if of_axis else "" for of_axis in scales)
        return names if any(names) else ()

    def address_and_path(self, scale: Dataset) -> tuple[tree.Address, str]:
        """Those of a scale; the library looks for a path in all of the file, so it is asked once for each."""
        address = tree.address_of(scale)
        path = self._scale_paths.get(address)
        if path is None:
            path = self._scale_paths[address] = tree.path_of(scale)
        return address, path


def _elsewhere(link: tree.Link) -> str:
    other, inner = map(tree.name_text, link.value)
    return f"is a link to {inner} in {other}, which is not followed: pool that"


def _matlab_name(attributes: Mapping[str, Any]) -> str | None:
    """What MATLAB stores as integers that are none; None for numbers."""
    if MATLAB_CLASS in attributes and "MATLAB_empty" in attributes:
        return "the shape of an empty array of MATLAB"
    name = text_of(attributes.get(MATLAB_CLASS))
    return None if not name or name in _MATLAB_NUMBERS else f"{'text' if name == 'char' else name} of MATLAB"


def scales_of(dataset: Dataset) -> list[list[Dataset]]:
    """The dimension scales of each axis; a reference that leads to none is no scale."""
    scales: list[list[Dataset]] = [[] for _ in dataset.shape or ()]
    if h5py.h5a.exists(dataset.id, SCALES.encode()):
        with suppress(*tree.HDF5_ERRORS):  # it is no list of references
            for of_axis, references in zip(scales, dataset.attrs[SCALES], strict=True):
                for reference in references:
                    with suppress(*tree.HDF5_ERRORS):
                        of_axis.append(tree.object_of(h5py.h5r.dereference(reference, dataset.id)))
    return [[scale for scale in of_axis if isinstance(scale, Dataset)] for of_axis in scales]


def changes_of_result(origin: Dataset | None, result: ResultSpec) -> Changes:
    """The attributes of a result that differ from those of the dataset that it is made of, if it has any."""
    attributes = {} if origin is None else attributes_of(origin)
    if not attributes and not result.meaning.missing:
        return {}
    numbers = result.numbers
    others: Changes = {_PYTHON_SHAPE: None, PROVENANCE: None}  # of what the source is itself a result of
    if numbers != result.meaning.numbers:
        # How MATLAB and hdf5storage call the type.
        others |= {
            MATLAB_CLASS: _MATLAB_FLOATS.get(numbers, numbers if "int" in numbers else None),
            "MATLAB_int_decode": None,
            _PYTHON_TYPE: np.dtype(numbers).name if numbers != "bfloat16" else None,
        }
    type_attributes = {key: value for key, value in others.items() if key in attributes}
    return changes_in(result, attributes) | type_attributes


def notes_on_classic_model(file: h5py.File, results: Sequence[ResultSpec]) -> dict[str, list[str]]:
    """Results of types that netCDF's classic model lacks, if a file is held to it, by what is said of that."""
    notes: dict[str, list[str]] = {}
    for result in results if CLASSIC_MODEL in attributes_of(file) else ():
        numbers = result.stored_numbers
        if numbers not in CLASSIC_NUMBERS:
            what = f"the mark of netCDF's classic model, which has no {numbers}, is left out"
            notes.setdefault(what, []).append(result.name)
    return notes


def fill_of_result(origin: Dataset, result: ResultSpec) -> Any:
    """The own fill value of a result, by its source's properties; None where it is HDF5's, which is zero."""
    if not origin.has_own_fill or is_unnamed(origin):
        return None
    return unwritten_fill(attributes_of(origin), result.meaning, origin.fillvalue, result.numbers)
