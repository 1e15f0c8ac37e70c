"""The tree of an HDF5 file: walked without following links, and copied but for what is pooled.

References point into their own file, so in a copy each is made anew: to the copy of what it
pointed to, or to nothing if that is not there. Dimension scales are references too; an axis that was
pooled has another length than its scale, so it gets a new one, with the means of the coordinates.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import h5py
import numpy as np

from lucid.errors import FormatError
from lucid.formats.hdf5.copy import copy_attribute, group_properties, has_fill_in_heap, remake_dataset

#: What h5py raises where the library fails; it picks one by the words of the library's message.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, TypeError, ValueError, NotImplementedError, OverflowError)

#: Elements of a dataset of references that are rewritten at once.
REFERENCES = 1 << 16
#: What netCDF notes of the dimensions of a variable; of a pooled one it would be wrong.
NETCDF_NUMBER = "_Netcdf4Dimid"
NETCDF_DIMENSIONS = ("_Netcdf4Coordinates", NETCDF_NUMBER)

#: What makes a dataset a scale, which the library writes.
SCALE_ATTRIBUTES = ("CLASS", "NAME", "REFERENCE_LIST", *NETCDF_DIMENSIONS)
#: How netCDF names the scale of a dimension that has a length and no coordinates.
NETCDF_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable."
#: Longest scale whose coordinates are pooled.
MOST_COORDINATES = 1 << 24

Identity = tuple[int, bytes]


def reason(error: Exception) -> str:
    """The part of an HDF5 error that a person can use: what stands in the last parentheses."""
    text = str(error).strip()
    return text[text.find("(") + 1 : text.rfind(")")] if "(" in text and text.endswith(")") else text


def encoded(name: str) -> bytes:
    """A name as it is in the file, UTF-8 or not."""
    return name.encode("utf-8", "surrogateescape")


class Link(NamedTuple):
    """A soft link's path, or an external link's file and path, as bytes of any encoding."""

    kind: int
    value: Any


def walk(file: h5py.File) -> Iterator[tuple[str, Any, bool]]:
    """Every link as (path, object, whether it is the first to that object).

    Soft and external links come as a `Link` and are not followed.
    """
    seen = {identity(file)}
    pending: list[tuple[str, Iterator[str | bytes], h5py.Group]] = [("", iter(file), file)]
    while pending:
        path, names, group = pending[-1]
        name = next(names, None)
        if name is None:
            pending.pop()
            continue
        if isinstance(name, bytes):  # h5py leaves what is not UTF-8 as it is
            name = name.decode("utf-8", "surrogateescape")
        full = f"{path}/{name}"
        kind = group.id.links.get_info(encoded(name)).type
        if kind != h5py.h5l.TYPE_HARD:
            yield full, Link(kind, group.id.links.get_val(encoded(name))), True
            continue
        item = group[encoded(name)]
        own = identity(item)
        first = own not in seen
        seen.add(own)
        yield full, item, first
        if first and isinstance(item, h5py.Group):
            pending.append((full, iter(item), item))


def datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset once, by its first path through hard links, parents before children."""
    for name, item, first in walk(file):
        if first and isinstance(item, h5py.Dataset):
            yield name, item


def identity(item: Any) -> Identity:
    """What two names of one object have in common."""
    info = h5py.h5o.get_info(item.id)
    return info.fileno, bytes(str(info.addr), "ascii")


class Made(NamedTuple):
    """A dataset that takes the place of a pooled one, and how to make it."""

    name: str
    make: Callable[[h5py.Dataset], h5py.Dataset]
    #: The axes that are pooled; None where all axes but the first are joined.
    axes: tuple[int, int] | None
    #: Pools the coordinates of the first or second of these axes.
    coarsen: Callable[[Any, int], Any] | None

    def keeps(self, axis: int) -> bool:
        """Whether an axis is as it was, so that its scale still fits."""
        return self.axes is not None and axis not in self.axes


def carry(source: h5py.File, target: h5py.File, made: Mapping[str, Sequence[Made]]) -> None:
    """Copy groups, datasets, types, links and attributes; what `made` names is made instead."""
    copy = _Copy(source, target, with_scales=True)
    for name, item, first in walk(source):
        if isinstance(item, Link):
            make_link(target, encoded(name), item)
        elif name in made:
            copy.make(item, made[name])
        elif not first:
            copy.link(name, item)
        elif isinstance(item, h5py.Group):
            made_group = h5py.h5g.create(target.id, encoded(name), gcpl=group_properties(item))
            copy.add(item, h5py.Group(made_group))
        elif has_fill_in_heap(item):
            refuse_more_than_there_is(name, item)
            copy.add(item, remake_dataset(item, target, encoded(name)))
        else:
            refuse_more_than_there_is(name, item)
            h5py.h5o.copy(source.id, encoded(name), target.id, encoded(name))
            copy.add(item, target[encoded(name)], copied=True)
    copy.finish()


def refuse_more_than_there_is(name: str, item: Any) -> None:
    """Raise for a dataset whose storage the file cannot hold: the library would copy zeros for days."""
    if not isinstance(item, h5py.Dataset) or item.id.get_create_plist().get_external_count():
        return
    claimed, held = item.id.get_storage_size(), item.file.id.get_filesize()
    if claimed > held:
        raise FormatError(f"dataset {name} claims {claimed} bytes, the whole file has {held}")


def make_only(source: h5py.File, target: h5py.File, made: Mapping[str, Sequence[Made]]) -> None:
    """Make what `made` names, with its own attributes, and nothing else."""
    copy = _Copy(source, target, with_scales=False)
    for name in made:
        copy.make(source[encoded(name)], made[name])
    copy.finish()


class _Copy:
    """Objects and their copies; attributes come last, when all is there that they can refer to."""

    def __init__(self, source: h5py.File, target: h5py.File, *, with_scales: bool) -> None:
        self._source, self._target, self._with_scales = source, target, with_scales
        #: Scales made for pooled axes, by scale and new length.
        self._scales: dict[tuple[Identity, int], h5py.Dataset] = {}
        #: netCDF's number of the next dimension, None where the file is not netCDF's.
        self._next_dimension: int | None = None
        #: Paths of the copies of each object; of a pooled dataset there may be several.
        self._paths: dict[Identity, list[str]] = {identity(source): ["/"]}
        self._made: dict[Identity, list[Made]] = {}
        #: Object, its copy, whether the library made the copy, what it was pooled to.
        self._pending: list[tuple[Any, Any, bool, Made | None]] = [(source, target, False, None)]

    def add(self, item: Any, copy: Any, *, copied: bool = False) -> None:
        """Note an object's copy, or a group in its place."""
        self._paths[identity(item)] = [path_of(copy)]
        if NETCDF_NUMBER in item.attrs and isinstance(item, h5py.Dataset):
            number = int(np.ravel(item.attrs[NETCDF_NUMBER])[0])
            self._next_dimension = max(self._next_dimension or 0, number + 1)
        self._pending.append((item, copy, copied, None))

    def make(self, item: h5py.Dataset, made: Sequence[Made]) -> None:
        """Make what takes the place of a pooled dataset."""
        own = identity(item)
        if own in self._made:
            return
        self._made[own] = list(made)
        self._paths[own] = [one.name for one in made]
        self._pending += [(item, one.make(item), False, one) for one in made]

    def link(self, name: str, item: Any) -> None:
        """Give an object's copy a further name; a dataset pooled to several sizes keeps only their own."""
        paths = self._paths[identity(item)]
        if len(paths) == 1:
            self._target[encoded(name)] = self._target[encoded(paths[0])]

    def finish(self) -> None:
        """Copy attributes, and rewrite references that the library could only set to zero."""
        for item, copy, copied, made in self._pending:
            for name in item.attrs:
                attribute = item.attrs.get_id(name)
                if made is None and not attribute.get_type().detect_class(h5py.h5t.REFERENCE):
                    if not copied:
                        copy_attribute(attribute, copy, encoded(name))
                    continue
                kind = attribute.dtype
                value = self._attribute(name, item.attrs[name], made)
                if value is not None:
                    copy.attrs.create(name, value, dtype=kind)
                elif copied:
                    del copy.attrs[name]
            if made is None and isinstance(item, h5py.Dataset) and holds_references(item.dtype):
                self._rewrite(item, copy)
            if made is not None and made.axes is not None and self._with_scales:
                for i, axis in enumerate(made.axes):
                    for scale in scales_of(item, axis):
                        new = self._coarse_scale(scale, item.shape[axis], copy.shape[axis], made, i)
                        h5py.h5ds.attach_scale(copy.id, new.id, axis)

    def _attribute(self, name: str, value: Any, made: Made | None) -> Any:
        """An attribute's value in the copy; None if it has none there."""
        if name == "REFERENCE_LIST":
            return self._scale_of(value)
        if made is not None:
            if name in NETCDF_DIMENSIONS or (name == "DIMENSION_LABELS" and made.axes is None):
                return None
            if name == "DIMENSION_LIST":
                # With some axes labelled and others not, netCDF cannot read a variable.
                kept = [scales if made.keeps(axis) else scales[:0] for axis, scales in enumerate(value)]
                if not self._with_scales or not any(map(len, kept)):
                    return None
                value = np.empty(len(kept), object)
                value[:] = kept
        if isinstance(value, h5py.Empty):
            return value
        return self._redirected(value)

    def _scale_of(self, entries: Any) -> Any:
        """The axes that a dimension scale belongs to, (dataset, axis) each, as they are in the copy."""
        found = []
        for entry in entries:
            dataset, axis = entry[0], int(entry[1])
            if not dataset:
                continue
            own = identity(self._source[dataset])
            for i, path in enumerate(self._paths.get(own, [])):
                if own not in self._made or self._made[own][i].keeps(axis):
                    found.append((self._target[encoded(path)].ref, axis))
        return np.array(found, entries.dtype) if found else None

    def _coarse_scale(
        self, scale: h5py.Dataset, before: int, after: int, made: Made, which: int
    ) -> h5py.Dataset:
        """The scale of a pooled axis: means of the coordinates if they are numbers, else a name only."""
        key = identity(scale), after
        if key in self._scales:
            return self._scales[key]
        name = f"{path_of(scale)}_{after}"
        while encoded(name) in self._target:
            name += "_"
        has_values = (
            made.coarsen is not None
            and scale.shape == (before,)
            and before <= MOST_COORDINATES
            and scale.dtype.kind in "fiu"
            and scale.dtype.itemsize <= 8
            and not (scale.attrs.get("NAME", b"") or b"").startswith(NETCDF_NO_VARIABLE)
        )
        if has_values and made.coarsen is not None:
            new = self._target.create_dataset(encoded(name), data=made.coarsen(scale[()], which))
            label = name.rsplit("/", 1)[-1].encode("utf-8", "surrogateescape")
        else:
            new = self._target.create_dataset(encoded(name), (after,), ">f4")
            label = NETCDF_NO_VARIABLE + b"%10d" % after
        h5py.h5ds.set_scale(new.id, label)
        for attribute in scale.attrs:
            kind = scale.attrs.get_id(attribute).dtype
            if attribute not in SCALE_ATTRIBUTES and not holds_references(kind):
                new.attrs.create(attribute, scale.attrs[attribute], dtype=kind)
        if self._next_dimension is not None:
            # Without numbers, netCDF takes those of other dimensions for them.
            new.attrs.create(NETCDF_NUMBER, self._next_dimension, dtype=np.int32)
            self._next_dimension += 1
        self._scales[key] = new
        return new

    def _redirected(self, value: Any) -> Any:
        """A value with its references replaced by those to the objects' copies."""
        if isinstance(value, h5py.RegionReference):
            path = self._path(value)
            if path is None or identity(self._source[value]) in self._made:
                return h5py.h5r.RegionReference()
            space = h5py.h5r.get_region(value, self._source.id)
            return h5py.h5r.create(self._target.id, encoded(path), h5py.h5r.DATASET_REGION, space)
        if isinstance(value, h5py.Reference):
            path = self._path(value)
            return h5py.h5r.Reference() if path is None else self._target[encoded(path)].ref
        if isinstance(value, np.void) and value.dtype.hasobject:
            return self._redirected(np.array(value))[()]
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            changed = value.copy()
            for field in value.dtype.names or (Ellipsis,):
                part = value[field]
                if part.dtype.hasobject:
                    cells = np.empty(part.shape, object)
                    for at in np.ndindex(part.shape):
                        cells[at] = self._redirected(part[at])
                    changed[field] = cells
            return changed
        return value

    def _path(self, reference: Any) -> str | None:
        """The path of the first copy of what a reference points to."""
        if not reference:
            return None
        try:
            own = identity(self._source[reference])
        except HDF5_ERRORS:
            return None  # it dangles
        paths = self._paths.get(own)
        return paths[0] if paths else None

    def _rewrite(self, item: h5py.Dataset, copy: h5py.Dataset) -> None:
        if item.shape is None:
            return
        if item.ndim == 0:
            copy[()] = self._redirected(np.asarray(item[()], item.dtype))[()]
            return
        step = max(1, REFERENCES // max(1, item.size // max(1, len(item))))
        for start in range(0, len(item), step):
            copy[start : start + step] = self._redirected(item[start : start + step])


def scales_of(dataset: h5py.Dataset, axis: int) -> list[h5py.Dataset]:
    """The dimension scales of an axis."""
    if "DIMENSION_LIST" not in dataset.attrs:
        return []
    return [dataset.file[reference] for reference in dataset.attrs["DIMENSION_LIST"][axis] if reference]


def path_of(item: Any) -> str:
    """The path by which an object was opened."""
    name = h5py.h5i.get_name(item.id)
    text: str = name.decode("utf-8", "surrogateescape")
    return text


def holds_references(dtype: np.dtype[Any]) -> bool:
    """Whether elements are references, or hold some."""
    if h5py.check_ref_dtype(dtype) is not None:
        return True
    nested = h5py.check_vlen_dtype(dtype)
    if isinstance(nested, np.dtype):
        return holds_references(nested)
    if dtype.subdtype is not None:
        return holds_references(dtype.subdtype[0])
    return any(holds_references(dtype[name]) for name in dtype.names or ())


def make_link(file: h5py.File, name: bytes, link: Link) -> None:
    """Make a soft or external link; other kinds only their own software can make."""
    if link.kind == h5py.h5l.TYPE_SOFT:
        file.id.links.create_soft(name, link.value)
    elif link.kind == h5py.h5l.TYPE_EXTERNAL:
        file.id.links.create_external(name, *link.value)
    else:
        raise FormatError(f"link {name.decode('utf-8', 'replace')} is of a kind that cannot be copied")
