"""Axes by their names: `--dims LAT,LON` is the two that are pooled, in arrays of any rank."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from lucid.errors import DatasetError
from lucid.kinds import Kind


class Plane(NamedTuple):
    """The two axes that are pooled: the first of them, and whether it is the second one named."""

    height_axis: int
    is_swapped: bool = False


def read_dims(value: Any) -> tuple[str, str]:
    """Two names.

    >>> read_dims("lat,lon"), read_dims(["y", "x"])
    (('lat', 'lon'), ('y', 'x'))
    """
    first, second = value.replace(",", " ").split() if isinstance(value, str) else value
    if not (isinstance(first, str) and isinstance(second, str)) or first == second:
        raise ValueError
    return first, second


DIMS = Kind(read_dims, "the names of two dimensions, such as lat,lon", "LAT,LON")


def plane_of(dims: Sequence[str], names: tuple[str, str]) -> Plane:
    """Where the two axes are in an array that has both, which must be side by side.

    >>> plane_of(["time", "lat", "lon"], ("lat", "lon")), plane_of(["lon", "lat"], ("lat", "lon"))
    (Plane(height_axis=1, is_swapped=False), Plane(height_axis=0, is_swapped=True))

    """
    first, second = (list(dims).index(name) for name in names)
    if abs(first - second) != 1:
        raise DatasetError(f"has axes {', '.join(dims)}; {names[0]} and {names[1]} are not side by side")
    return Plane(min(first, second), first > second)
