"""The grid of a result: names of its dimensions, its coordinates and the bounds of its cells.

    old dimension, new length → one new dimension        lat, 2 → lat_2
    coordinates of an axis    → means over its windows   (0, 1, 2, 3) → (0.5, 2.5)
    bounds of its cells       → the outer edges          ((0, 1), (1, 2)) → ((0, 2),)

A dimension whose length stays is the old one. Nothing here knows a file, so HDF5 and Zarr share it.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lucid.formats.meaning import Attributes, meaning_of
from lucid.formats.values import numbers_in, text_of
from lucid.pooling.dtypes import FLOATS, name_of

Array: TypeAlias = npt.NDArray[Any]
#: Means of planes (planes, height, width) at a size, NaN counting as nothing.
Coarsen: TypeAlias = Callable[[Array, tuple[int, int]], Array]

#: Attributes that name other variables: of coordinates, and of the bounds of their cells.
COORDINATES, BOUNDS = "coordinates", ("bounds", "climatology")
#: The attribute that names the variable of a projection, and GDAL's of that, which says where cells are.
GRID_MAPPING, TRANSFORM = "grid_mapping", "GeoTransform"
#: Attributes that name variables of the old grid which are neither coordinates nor pooled along.
OF_OLD_GRID = ("cell_measures",)
#: Attributes in which dimensions or variables are named, followed by a colon.
_WITH_COLONS = ("cell_methods",)
_EAST = ("degrees_east", "degree_east", "degrees_e", "degree_e", "degreese", "degreee")
#: The orders in which the four corners of a cell may follow one another, from the lower left one of CF.
_CORNERS = tuple(tuple((start + step * k) % 4 for k in range(4)) for step in (1, -1) for start in range(4))


def coarse_name(name: str, sizes: Sequence[int], taken: Container[str] = ()) -> str:
    """The name of what takes the place of a dimension or a coordinate where axes have other lengths.

    >>> coarse_name("lat", [2]), coarse_name("lat", [2, 3]), coarse_name("lat", [2], {"lat_2"})
    ('lat_2', 'lat_2x3', 'lat_2_')

    """
    made = f"{name}_{'x'.join(map(str, sizes))}"
    while made in taken:
        made += "_"
    return made


def base_of(path: str) -> str:
    """The last name of a path."""
    return path.rpartition("/")[2]


def windows(n_in: int, n_out: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First cells of the windows of an axis, and the cells behind their last.

    >>> [edges.tolist() for edges in windows(5, 2)]
    [[0, 2], [3, 5]]

    """
    i = np.arange(n_out)
    return i * n_in // n_out, -((i + 1) * -n_in // n_out)


def words_of(attributes: Attributes, key: str) -> list[str]:
    """The names in an attribute.

    >>> words_of({"coordinates": "lat lon"}, "coordinates")
    ['lat', 'lon']

    """
    return text_of(attributes.get(key)).split()


def bounds_name(attributes: Attributes) -> tuple[str, str] | None:
    """The attribute by which a coordinate names the bounds of its cells, and their name."""
    return next(((key, name) for key in BOUNDS if (name := text_of(attributes.get(key)))), None)


def reworded(text: str, names: Mapping[str, str | None]) -> str:
    """A text of names with some replaced, or left out; those with a colon are never left out.

    >>> reworded("lat lon height", {"lat": "lat_2", "height": None})
    'lat_2 lon'
    >>> reworded("lat: lon: mean", {"lat": "lat_2"})
    'lat_2: lon: mean'

    """
    replaced = (
        f"{names.get(word[:-1]) or word[:-1]}:" if word.endswith(":") else names.get(word, word)
        for word in text.split()
    )
    return " ".join(word for word in replaced if word)


def references_of(attributes: Attributes, names: Mapping[str, str | None]) -> dict[str, str | None]:
    """The attributes of a result that name other things than its source's: texts, None for those that go.

    >>> references_of({"coordinates": "lat lon", "cell_measures": "area: a"}, {"lat": "lat_2", "lon": None})
    {'coordinates': 'lat_2', 'cell_measures': None}

    """
    changed: dict[str, str | None] = {}
    for key in (COORDINATES, *_WITH_COLONS):
        text = text_of(attributes.get(key))
        new = reworded(text, names)
        if text and new.split() != text.split():
            changed[key] = new or None
    return changed | {key: None for key in OF_OLD_GRID if key in attributes}


def coarse_coordinates(
    values: Array, attributes: Attributes, size: tuple[int, ...], coarsen: Coarsen
) -> Array | None:
    """The coordinates of a result's cells: means along the axes that have another size, missing ones being nothing.

    Longitudes that jump from 180 to -180 degrees, or from 360 to 0, are taken as going on. None where more
    than two axes have another size.

    >>> coarsen = lambda planes, size: planes.reshape(1, 1, size[1], -1).mean(-1)
    >>> coarse_coordinates(np.array([178.0, 180, -178, -176]), {"units": "degrees_east"}, (2,), coarsen)
    array([ 179., -177.])

    """
    axes = [
        axis for axis, (before, after) in enumerate(zip(values.shape, size, strict=True)) if before != after
    ]
    if len(axes) > 2:
        return None
    cells = np.moveaxis(_with_nan(values, attributes), axes, range(-len(axes), 0))
    plane = (1, 1, *cells.shape[cells.ndim - len(axes) :])[-2:]
    height, width = (1, 1, *(size[axis] for axis in axes))[-2:]
    planes = np.ascontiguousarray(cells).reshape(-1, *plane)
    means = _longitudes(planes, (height, width), coarsen) if _is_east(attributes) else None
    if means is None:
        means = coarsen(planes, (height, width))
    whole = means.reshape(*cells.shape[: cells.ndim - len(axes)], *(size[axis] for axis in axes))
    moved: Array = np.moveaxis(whole, range(-len(axes), 0), axes)
    return moved


def _with_nan(values: Array, attributes: Attributes) -> Array:
    """Values as they are pooled, NaN where they are missing."""
    meaning = meaning_of(attributes, name_of(values.dtype))
    cells = values.view(meaning.numbers) if meaning.numbers != meaning.stored else values
    if not meaning.missing:
        return cells
    floats = cells.astype(cells.dtype if meaning.numbers in FLOATS else np.float64)
    floats[np.isin(cells, np.array(meaning.missing, cells.dtype))] = np.nan
    is_small = meaning.numbers in ("int8", "int16", "uint8", "uint16")
    return floats.astype(np.float32) if is_small else floats


def _is_east(attributes: Attributes) -> bool:
    """Whether coordinates are degrees of longitude."""
    is_east = text_of(attributes.get("units")).lower() in _EAST
    return is_east or text_of(attributes.get("standard_name")) == "longitude"


def _longitudes(planes: Array, shape: tuple[int, int], coarsen: Coarsen) -> Array | None:
    """Means of longitudes that jump by a turn somewhere; None where they do not.

    An axis is unwound. In a plane, or where some are missing, each window is averaged with the jump at 0 and at
    180 degrees, and the means count that lie in the midst of closer numbers.
    """
    turns = planes.astype(np.float64)
    if not any(np.any(np.abs(np.diff(turns, axis=axis)) > 180) for axis in (1, 2)):
        return None
    middle = (float(np.nanmin(turns)) + float(np.nanmax(turns))) / 2
    if turns.shape[1] == 1 and np.all(np.isfinite(turns)):
        means = coarsen(np.unwrap(turns, period=360), shape)
    else:
        (means, spread), (others, closer) = (
            (mean, coarsen(cut * cut, shape) - mean * mean)
            for start in (-180, 0)
            for cut in ((turns - start) % 360 + start,)
            for mean in (coarsen(cut, shape),)
        )
        means = np.where(closer < spread - 1e-6, others, means)
    turned = (means - middle + 180) % 360 - 180 + middle
    rounded: Array = turned.astype(planes.dtype if planes.dtype.kind == "f" else np.float64)
    return rounded


def coarse_transform(transform: Any, plane: tuple[int, ...], size: tuple[int, ...]) -> str | Array | None:
    """GDAL's transform from cells to the ground for cells that are larger, as text or numbers as it was.

    None where it is none, or where windows differ in size: then no transform says where they are.

    >>> coarse_transform("100 10 0 50 0 -10", (4, 6), (2, 2))
    '100.0 30.0 0.0 50.0 0.0 -20.0'

    """
    text = text_of(transform)
    try:
        old = [float(word) for word in text.split()] if text else numbers_in(transform)
    except ValueError:
        return None
    if len(old) != 6 or any(n % m for n, m in zip(plane, size, strict=True)):
        return None
    rows, cols = (n // m for n, m in zip(plane, size, strict=True))
    new = [a * n for a, n in zip(old, (1, cols, rows, 1, cols, rows), strict=True)]
    return " ".join(str(float(value)) for value in new) if text else np.array(new, np.float64)


def coarse_bounds(bounds: Array, size: tuple[int, ...]) -> Array | None:
    """The bounds of the cells of a result, as the source has them: (n, 2), or the corners (height, width, 4).

    From the first edge of the first old cell to the last of the last; None where the corners of
    neighbours do not meet, so that their order cannot be told.

    >>> coarse_bounds(np.array([[0, 1], [1, 2], [2, 3], [3, 4]]), (2,)).tolist()
    [[0, 2], [2, 4]]
    >>> coarse_bounds(np.array([[3, 4], [2, 3], [1, 2], [0, 1]]), (2,)).tolist()
    [[2, 4], [0, 2]]

    """
    if bounds.ndim == 2 and bounds.shape[1] == 2:
        first, behind = windows(len(bounds), size[0])
        middles = bounds.astype(np.float64).sum(1)
        rises = middles[-1] >= middles[0]
        is_forward = np.all(bounds[:, 1] >= bounds[:, 0]) == rises or len(bounds) == 1
        low, high = (first, behind - 1) if is_forward else (behind - 1, first)
        return np.stack([bounds[low, 0], bounds[high, 1]], 1)
    if bounds.ndim == 3 and bounds.shape[2] == 4:
        return next(_with_corners(bounds, size), None)
    return None


def _with_corners(bounds: Array, size: tuple[int, ...]) -> Iterator[Array]:
    """Bounds by each order of corners in which those of neighbours meet; all of them are alike."""
    (top, below), (left, right) = windows(bounds.shape[0], size[0]), windows(bounds.shape[1], size[1])
    rows, cols = (top, top, below - 1, below - 1), (left, right - 1, right - 1, left)
    for order in _CORNERS:
        a, b, c, d = (bounds[..., k] for k in order)
        meets = (
            np.array_equal(b[:, :-1], a[:, 1:])
            and np.array_equal(c[:, :-1], d[:, 1:])
            and np.array_equal(d[:-1], a[1:])
            and np.array_equal(c[:-1], b[1:])
        )
        if meets:
            made = np.empty((*size, 4), bounds.dtype)
            for k, row, col in zip(order, rows, cols, strict=True):
                made[..., k] = bounds[np.ix_(row, col)][..., k]
            yield made
