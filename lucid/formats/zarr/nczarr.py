"""NCZarr: what netCDF-C writes besides, which its reader holds groups and arrays to.

Arrays name the dimensions of their axes, with the groups that declare them, and the types of attributes; groups
list their dimensions with lengths, and their arrays. Other software reads the rest as any store.
"""

from collections.abc import Mapping, Sequence
from typing import Any

ARRAY, GROUP, TYPES = "_nczarr_array", "_nczarr_group", "_nczarr_attr"
#: How an array names its dimensions, also in older versions; and how a group does.
_REFERENCES = ("dimension_references", "dimrefs")
_DIMENSIONS = ("dimensions", "dims")


def references_of(attributes: Mapping[str, Any], dims: Sequence[str | None]) -> list[str]:
    """The dimensions of a result with their groups: a new one is declared where the old one is.

    >>> references_of({"_nczarr_array": {"dimrefs": ["/t", "/g/lat"]}}, ["t", "lat_2"])
    ['/t', '/g/lat_2']

    """
    said = attributes.get(ARRAY)
    key = next(
        (key for key in _REFERENCES if isinstance(said, dict) and isinstance(said.get(key), list)), None
    )
    if not isinstance(said, dict) or key is None or not said[key]:
        return []
    old = [str(reference) for reference in said[key]]
    groups = [reference.rpartition("/")[0] for reference in old]
    return [
        f"{groups[min(axis, len(old) - 1)]}/{name}" if name else old[min(axis, len(old) - 1)]
        for axis, name in enumerate(dims)
    ]


def array_again(attributes: dict[str, Any], old: Mapping[str, Any], references: list[str]) -> dict[str, Any]:
    """The attributes of a result; those that are new or another have the types that they look like."""
    again = dict(attributes)
    if references:
        key = next(key for key in _REFERENCES if key in again[ARRAY])
        again[ARRAY] = again[ARRAY] | {key: references}
    said = again.get(TYPES)
    if isinstance(said, dict) and isinstance(said.get("types"), dict):
        types = {
            k: t
            for k, t in said["types"].items()
            if k.startswith("_nczarr") or again.get(k, old) == old.get(k)
        }
        again[TYPES] = said | {"types": types}
    return again


def group_again(
    attributes: Mapping[str, Any], lengths: Mapping[str, int], arrays: Sequence[str]
) -> dict[str, Any] | None:
    """The attributes of a group with further dimensions, and with these arrays; None if it is not NCZarr's.

    >>> group_again({"_nczarr_group": {"dims": {"lat": 4}, "arrays": []}}, {"lat_2": 2}, ["v"])
    {'_nczarr_group': {'dims': {'lat': 4, 'lat_2': 2}, 'arrays': ['v']}}

    """
    said = attributes.get(GROUP)
    key = next(
        (key for key in _DIMENSIONS if isinstance(said, dict) and isinstance(said.get(key), dict)), None
    )
    if not isinstance(said, dict) or key is None:
        return None
    described = said | {key: said[key] | dict(lengths)}
    return dict(attributes) | {GROUP: described | ({"arrays": list(arrays)} if "arrays" in said else {})}
