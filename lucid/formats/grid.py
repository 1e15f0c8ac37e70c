"""The grid of a result: names of its dimensions, its coordinates and the bounds of its cells.

    old dimension, new length → one new dimension        lat, 2 → lat_2
    coordinates of an axis    → means over its windows   (0, 1, 2, 3) → (0.5, 2.5)
    bounds of its cells       → the outer edges          ((0, 1), (1, 2)) → ((0, 2),)

A dimension whose length stays is the old one. Nothing here knows a file, so HDF5 and Zarr share it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lucid.formats.arrays import Array, Meaning
from lucid.formats.meaning import Attributes, meaning_of
from lucid.formats.values import numbers_in, text_of
from lucid.pooling.dtypes import name_of, storage
from lucid.pooling.means import Pooling
from lucid.pooling.sums import Rule, result_of
from lucid.pooling.windows import Axis, make_grid

#: Attributes that name other variables: of coordinates, and of the bounds of their cells.
COORDINATES, BOUNDS = "coordinates", ("bounds", "climatology")
#: The attribute that names variables that say more of each cell, such as flags of quality.
ANCILLARY = "ancillary_variables"
#: The attributes that name variables behind words with colons, which say what these are.
FORMULA_TERMS, CELL_MEASURES = "formula_terms", "cell_measures"
#: The attribute that names the variable of a projection, and GDAL's of that, which says where cells are.
GRID_MAPPING, TRANSFORM = "grid_mapping", "GeoTransform"
#: The attribute that names dimensions, before colons, and what was done along them, which is no name.
CELL_METHODS = "cell_methods"
#: Attributes of words that name variables; and those with the ones of bounds, which are made anew.
VARIABLES = (COORDINATES, ANCILLARY, GRID_MAPPING, FORMULA_TERMS, CELL_MEASURES)
NAMING = (*VARIABLES, *BOUNDS)
_EAST = ("degrees_east", "degree_east", "degrees_e", "degree_e", "degreese", "degreee")
#: The orders in which the four corners of a cell may follow one another, from the lower left one of CF.
_CORNERS = tuple(tuple((start + step * k) % 4 for k in range(4)) for step in (1, -1) for start in range(4))


def base_of(path: str) -> str:
    """The last name of a path."""
    return path.rpartition("/")[2]


def name_beside(name: str, path: str) -> str:
    """The name for what is at a path beside that which a name means, in the same groups.

    >>> name_beside("lat", "/g/lat_2"), name_beside("/g/lat", "/g/lat_2")
    ('lat_2', '/g/lat_2')

    """
    return name.removesuffix(base_of(name)) + base_of(path)


def words_of(attributes: Attributes, key: str) -> list[str]:
    """The names in an attribute.

    >>> words_of({"coordinates": "lat lon"}, "coordinates")
    ['lat', 'lon']

    """
    return text_of(attributes.get(key)).split()


def names_in(attributes: Attributes, key: str) -> list[str]:
    """The names of variables in an attribute; words with colons are names of mappings, but of terms they are none.

    >>> names_in({"grid_mapping": "crs: x y"}, "grid_mapping"), names_in({"formula_terms": "ps: p"}, "formula_terms")
    (['crs', 'x', 'y'], ['p'])

    """
    words = words_of(attributes, key)
    return [word.removesuffix(":") for word in words if key == GRID_MAPPING or not word.endswith(":")]


def bounds_name(attributes: Attributes) -> tuple[str, str] | None:
    """The attribute by which a coordinate names the bounds of its cells, and their name."""
    return next(((key, name) for key in BOUNDS if (name := text_of(attributes.get(key)))), None)


def references_of(
    attributes: Attributes, names: Mapping[str, str | None], *, is_carried: bool = False
) -> dict[str, str | None]:
    """The attributes of a result that name other things than its source's: texts, None for those that go.

    >>> references_of({"coordinates": "lat lon", "cell_measures": "area: a"}, {"lat": "lat_2", "lon": None})
    {'coordinates': 'lat_2', 'cell_measures': None}

    """
    changes: dict[str, str | None] = {}
    for key in (*NAMING, CELL_METHODS):
        words = words_of(attributes, key)
        new = [_word_of_result(key, word, names) for word in words]
        if new != words:
            changes[key] = " ".join(word for word in new if word and None not in new) or None
    # It names variables of the old grid which are neither coordinates nor pooled along.
    is_left_out = CELL_MEASURES in attributes and not is_carried
    return changes | ({CELL_MEASURES: None} if is_left_out else {})


def _word_of_result(key: str, word: str, names: Mapping[str, str | None]) -> str | None:
    """What becomes of a word in an attribute: "" where it is left out, None where the attribute goes with it."""
    name = word.removesuffix(":")
    new, has_terms = names.get(name, name), key in (FORMULA_TERMS, CELL_MEASURES)
    if key == CELL_METHODS:  # words without a colon are no names, and a dimension outlives its variable
        return word if name == word else f"{new or name}:"
    if name == word:
        return new or (None if has_terms else "")
    return word if has_terms else new and f"{new}:"


def coarse_coordinates(values: Array, attributes: Attributes, size: tuple[int, ...]) -> Array | None:
    """The coordinates of a result's cells: means along the axes that have another size, missing ones being nothing.

    Longitudes that jump from 180 to -180 degrees, or from 360 to 0, are taken as going on. None where more
    than two axes have another size.

    >>> coarse_coordinates(np.array([178.0, 180, -178, -176]), {"units": "degrees_east"}, (2,))
    array([ 179., -177.])

    """
    axes = [axis for axis, (n, m) in enumerate(zip(values.shape, size, strict=True)) if n != m]
    if len(axes) > 2:
        return None
    last, lengths = range(-len(axes), 0), tuple(size[axis] for axis in axes)
    meaning = meaning_of(attributes, name_of(values.dtype))
    cells = values.view(meaning.numbers) if meaning.numbers != meaning.stored else values
    cells = np.ascontiguousarray(np.moveaxis(cells, axes, last))
    outer = cells.shape[: cells.ndim - len(axes)]
    planes = cells.reshape(-1, *(1, 1, *cells.shape[len(outer) :])[-2:])
    height, width = (1, 1, *lengths)[-2:]
    means = _means(planes, meaning, (height, width), are_turns=is_longitude(attributes))
    coordinates: Array = np.moveaxis(means.reshape(*outer, *lengths), last, axes)
    return coordinates


def is_longitude(attributes: Attributes) -> bool:
    """Whether coordinates are degrees that go on after a turn."""
    is_east = text_of(attributes.get("units")).lower() in _EAST
    return is_east or text_of(attributes.get("standard_name")) == "longitude"


def _means(planes: Array, meaning: Meaning, size: tuple[int, int], *, are_turns: bool) -> Array:
    """Means of coordinates; longitudes, packed or not, may jump by a turn somewhere.

    The numbers along an axis are unwound. In a plane, or where some are missing, neighbours do not tell where the jump
    is: each window is averaged twice, with the jump at 0 and at 180 degrees; the mean of less variance counts.
    """
    if not are_turns:
        return _coarsen(planes, size, meaning.missing)
    turns = planes.astype(np.float64) * (meaning.scale or 1.0) + meaning.offset
    turns[np.isin(planes, np.array(meaning.missing, planes.dtype))] = np.nan
    if not any(np.any(np.abs(np.diff(turns, axis=axis)) > 180) for axis in (1, 2)):
        return _coarsen(planes, size, meaning.missing)
    middle = (float(np.nanmin(turns)) + float(np.nanmax(turns))) / 2
    if turns.shape[1] == 1 and np.all(np.isfinite(turns)):
        means = _coarsen(np.unwrap(turns, period=360), size)
    else:
        (means, variances), (others, lower) = (
            _means_and_variances((turns - start) % 360 + start, size) for start in (-180, 0)
        )
        means = np.where(lower < variances - 1e-6, others, means)
    numbers = ((means - middle + 180) % 360 - 180 + middle - meaning.offset) / (meaning.scale or 1.0)
    coordinates: Array = numbers.astype(planes.dtype if planes.dtype.kind == "f" else np.float64)
    return coordinates


def _means_and_variances(planes: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    means = _coarsen(planes, size)
    return means, _coarsen(planes * planes, size) - means * means


def _coarsen(planes: Array, size: tuple[int, int], missing: tuple[float, ...] = ()) -> Array:
    """Means of planes (planes, height, width) at a size; NaN and what is missing count as nothing."""
    source = name_of(planes.dtype)
    rule = Rule(source, result_of(source, "mean"), "mean", skip_nan=True, missing=missing)
    out = np.empty((len(planes), *size), storage(rule.result))
    pooling = Pooling(make_grid(planes.shape[1:], size), rule)
    pooling.means(planes[..., None], out[..., None], (0, size[0]), (0, size[1]))
    return out


def coarse_transform(transform: Any, plane: tuple[int, ...], size: tuple[int, ...]) -> str | Array | None:
    """GDAL's transform from cells to the ground for cells that are larger, as text or numbers as it was.

    None where it is none, or where windows differ in size: then no transform says where they are.
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


def coarse_bounds(bounds: Array, size: tuple[int, ...], *, are_turns: bool = False) -> Array | None:
    """The bounds of the cells of a result, as the source has them: (n, 2), or the corners (…, height, width, 4).

    From the first edge of the first old cell to the last of the last, where `are_turns` also from one turn to
    the next; None where the corners of neighbours do not meet, so that their order cannot be told.

    >>> coarse_bounds(np.array([[0, 1], [1, 2], [2, 3], [3, 4]]), (2,)).tolist()
    [[0, 2], [2, 4]]

    """
    if bounds.shape[1:] == (2,) and len(size) == 1:
        first, behind = Axis(len(bounds), size[0]).bounds((0, size[0]))
        edges = bounds.astype(np.float64)
        edges = np.unwrap(edges.ravel(), period=360).reshape(edges.shape) if are_turns else edges
        rises = edges[-1].sum() >= edges[0].sum()
        is_forward = np.all(edges[:, 1] >= edges[:, 0]) == rises or len(edges) == 1
        low, high = (first, behind - 1) if is_forward else (behind - 1, first)
        return np.stack([bounds[low, 0], bounds[high, 1]], 1)
    if bounds.ndim == len(size) + 1 > 2 and bounds.shape[-1] == 4 and bounds.shape[:-3] == size[:-2]:
        return _with_corners(bounds, size)
    return None


def _with_corners(bounds: Array, size: tuple[int, ...]) -> Array | None:
    """Bounds by the order of corners in which those of neighbours meet, or nearly so; if in several, all are alike."""
    near = 1e-3 * float(np.median(np.ptp(bounds, -1)))
    (top, below), (left, right) = (
        Axis(n, m).bounds((0, m)) for n, m in zip(bounds.shape[-3:-1], size[-2:], strict=True)
    )
    rows, cols = (top, top, below - 1, below - 1), (left, right - 1, right - 1, left)
    for order in _CORNERS:
        a, b, c, d = (bounds[..., k] for k in order)
        aside = (b[..., :-1], a[..., 1:]), (c[..., :-1], d[..., 1:])
        below_one_another = (d[..., :-1, :], a[..., 1:, :]), (c[..., :-1, :], b[..., 1:, :])
        if all(np.allclose(*pair, rtol=0, atol=near) for pair in (*aside, *below_one_another)):
            coarse = np.empty((*size, 4), bounds.dtype)
            for k, row, col in zip(order, rows, cols, strict=True):
                coarse[..., k] = bounds[..., row[:, None], col, k]
            return coarse
    return None
