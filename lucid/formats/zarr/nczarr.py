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


def attributes_of_array(
    attributes: dict[str, Any], old: Mapping[str, Any], references: list[str]
) -> dict[str, Any]:
    """The attributes of a result; those that are new or another have the types that they look like."""
    new_attributes = dict(attributes)
    if references:
        key, _ = _entry(new_attributes, ARRAY, _REFERENCES, list)
        name = name_in(new_attributes, ARRAY)
        new_attributes[name] = new_attributes[name] | {key: references}
    _, types = _entry(new_attributes, TYPES, ("types",), dict)
    if types:
        is_own = re.compile("_nczarr", re.IGNORECASE).match
        new_types = {k: t for k, t in types.items() if is_own(k) or new_attributes.get(k, old) == old.get(k)}
        name = name_in(new_attributes, TYPES)
        new_attributes[name] = new_attributes[name] | {"types": new_types}
    return new_attributes


def attributes_of_group(
    attributes: Mapping[str, Any], lengths: Mapping[str, int], arrays: Sequence[str]
) -> dict[str, Any]:
    """The attributes of a group with further dimensions, and with these arrays, if it is NCZarr's.

    >>> attributes_of_group({"_nczarr_group": {"dims": {"lat": 4}, "arrays": []}}, {"lat_2": 2}, ["v"])
    {'_nczarr_group': {'dims': {'lat': 4, 'lat_2': 2}, 'arrays': ['v']}}

    """
    key, dimensions = _entry(attributes, GROUP, _DIMENSIONS, dict)
    if not key:
        return {**attributes}
    name = name_in(attributes, GROUP)
    holder = attributes[name]
    return {
        **attributes,
        name: holder
        | {key: dimensions | dict(lengths)}
        | {one: [*arrays] for one in ("arrays", "vars") if one in holder},
    }
