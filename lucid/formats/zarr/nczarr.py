"""NCZarr: what netCDF-C writes besides, which its reader holds groups and arrays to.

Arrays name the dimensions of their axes, with the groups that declare them, and the types of attributes; groups
list their dimensions with lengths, and their arrays. Other software reads the rest as any store.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

#: Before netCDF-C 4.9.3 these were written large, and the first two stood beside the metadata of Zarr.
ARRAY, GROUP, TYPES = "_nczarr_array", "_nczarr_group", "_nczarr_attr"
#: How an array names its dimensions, also in older versions; and how a group does.
_REFERENCES = ("dimension_references", "dimrefs")
_DIMENSIONS = ("dimensions", "dims")


def name_in(attributes: Mapping[str, Any], name: str) -> str:
    """One of these names as it is written there.

    >>> name_in({"_NCZARR_GROUP": {}}, GROUP)
    '_NCZARR_GROUP'

    """
    return name.upper() if name.upper() in attributes else name


def _entry(
    attributes: Mapping[str, Any], name: str, keys: Sequence[str], holder_type: type
) -> tuple[str, Any]:
    """Under which of some keys an attribute holds what it says, and that; "" where it does not."""
    holder = attributes.get(name_in(attributes, name))
    if isinstance(holder, dict):
        for key in keys:
            if isinstance(holder.get(key), holder_type):
                return key, holder[key]
    return "", holder_type()


def names_of(attributes: Mapping[str, Any]) -> list[str]:
    """The names of the axes of an array; none where it does not say them.

    >>> names_of({"_nczarr_array": {"dimrefs": ["/t", "/g/lat"]}})
    ['t', 'lat']

    """
    return [str(one).rpartition("/")[2] for one in _entry(attributes, ARRAY, _REFERENCES, list)[1]]


def references_of(attributes: Mapping[str, Any], dims: Sequence[str | None]) -> list[str]:
    """The dimensions of a result with their groups: a new one is declared where the old one is.

    >>> references_of({"_nczarr_array": {"dimrefs": ["/t", "/g/lat"]}}, ["t", "lat_2"])
    ['/t', '/g/lat_2']

    """
    _, old = _entry(attributes, ARRAY, _REFERENCES, list)
    near = [str(old[min(axis, len(old) - 1)]) for axis in range(len(dims) if old else 0)]
    return [
        f"{one.rpartition('/')[0]}/{name}" if name else one for one, name in zip(near, dims, strict=False)
    ]


def _replace(attributes: Mapping[str, Any], name: str, keys: Sequence[str], value: Any) -> dict[str, Any]:
    """Attributes in which one of them holds another value under the one of some keys that it has, if it has one."""
    key, _ = _entry(attributes, name, keys, type(value))
    name = name_in(attributes, name)
    return {**attributes, name: attributes[name] | {key: value}} if key else {**attributes}


def attributes_of_array(
    attributes: Mapping[str, Any], old: Mapping[str, Any], references: list[str]
) -> dict[str, Any]:
    """The attributes of a result; those that are new or another have the types that they look like."""
    _, types = _entry(attributes, TYPES, ("types",), dict)
    is_own = re.compile("_nczarr", re.IGNORECASE).match
    types = {k: t for k, t in types.items() if is_own(k) or attributes.get(k, old) == old.get(k)}
    attributes = _replace(attributes, TYPES, ("types",), types)
    return _replace(attributes, ARRAY, _REFERENCES, references) if references else attributes


def attributes_of_group(
    attributes: Mapping[str, Any], lengths: Mapping[str, int], arrays: list[str]
) -> dict[str, Any]:
    """The attributes of a group with further dimensions, and with these arrays, if it is NCZarr's.

    >>> attributes_of_group({"_nczarr_group": {"dims": {"lat": 4}, "arrays": []}}, {"lat_2": 2}, ["v"])
    {'_nczarr_group': {'dims': {'lat': 4, 'lat_2': 2}, 'arrays': ['v']}}

    """
    _, dimensions = _entry(attributes, GROUP, _DIMENSIONS, dict)
    attributes = _replace(attributes, GROUP, _DIMENSIONS, {**dimensions, **lengths})
    return _replace(_replace(attributes, GROUP, ("arrays",), arrays), GROUP, ("vars",), arrays)
