"""What the numbers of Zarr arrays mean: the shared rules, and how attributes stand in a store.

The rules are in `lucid.formats.meaning` and `lucid.formats.result`. Two things are Zarr's own. `_FillValue` of an array
that xarray wrote is its `fill_value` in version 2, and in version 3 an attribute that holds a float as base64. And
metadata are JSON, which has no NaN: where results mark missing cells by NaN, `_FillValue` says it in these ways, and
`missing_value` goes, unless the source's is NaN in spite of JSON, as xarray writes and reads it.
"""

import base64
import struct
from typing import Any, NamedTuple

import numpy as np

from lucid.formats.arrays import Pooled
from lucid.formats.meaning import FILL, MISSING, Meaning, meaning_of
from lucid.formats.result import Changes, own_fill
from lucid.formats.values import numbers_in
from lucid.formats.zarr.nodes import DIMENSIONS_2, Node
from lucid.missing import parse_missing
from lucid.options import Options
from lucid.pooling.dtypes import FLOATS


class Described(NamedTuple):
    """What an array of results says of itself: its attributes, and its own fill value, None for `null`."""

    attributes: dict[str, Any]
    fill: Any


def is_filled_by_attribute(node: Node) -> bool:
    """Whether `_FillValue` of an array is its `fill_value`."""
    return node.version == 2 and bool(node.dims)


def decoded(node: Node, *, is_image: bool = False) -> dict[str, Any]:
    """The attributes of an array as xarray decodes them.

    In an OME-Zarr image zero is a number like all others, though axes have names and the fill value is zero.
    """
    attributes = dict(node.attributes)
    assert node.document is not None
    if is_filled_by_attribute(node) and not is_image:
        if node.document.get("fill_value") is not None:
            attributes[FILL] = _number(node.document["fill_value"])
    elif FILL in attributes:
        attributes[FILL] = _number(attributes[FILL])
    return attributes


def _number(value: Any) -> Any:
    """A fill value of JSON: a number, its name such as "NaN", or the base64 of a float of eight bytes."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        pass
    try:
        (number,) = struct.unpack("<d", base64.b64decode(value, validate=True))
    except (ValueError, struct.error):
        return value
    return number


def meaning_in(node: Node, numbers: str, options: Options, *, is_image: bool = False) -> Meaning:
    """What the numbers of an array mean."""
    missing = parse_missing(options.missing)
    return meaning_of(decoded(node, is_image=is_image), numbers, missing=missing, nan=options.nan)


def described(node: Node, own: Any, pooled: Pooled, *, is_image: bool = False) -> Described:
    """What a result says of itself, by what its source does; `own` is the source's own fill value."""
    said = decoded(node, is_image=is_image)
    return in_json(node, said, pooled.changes_of(said), pooled.meaning, own, pooled.numbers)


def in_json(
    node: Node, said: dict[str, Any], changes: Changes, meaning: Meaning, own: Any, result: str
) -> Described:
    """Changed attributes as they stand in a store, and the own fill value that goes with them."""
    changed = {k: v for k, v in changes.items() if k not in (FILL, MISSING)}
    attributes = {key: value for key, value in node.attributes.items() if key not in changed and key != FILL}
    attributes |= {key: np.asarray(value).tolist() for key, value in changed.items() if value is not None}
    marks = numbers_in(changes.get(FILL, said.get(FILL)))
    if result in FLOATS:
        is_marked = any(changes.get(key) is not None for key in (FILL, MISSING))
        marks = [np.nan] if is_marked else []
    if MISSING in changes:
        attributes.pop(MISSING, None)
        mark = changes[MISSING]
        if mark is not None and (not _has_nan(mark) or _has_nan(said[MISSING])):
            attributes[MISSING] = np.asarray(mark).tolist()
    if node.version == 2 and (is_filled_by_attribute(node) or result in FLOATS):
        if marks:
            return Described(attributes, marks[0])
        if FILL in said and is_filled_by_attribute(node):
            return Described(attributes, None)
    elif marks:
        as_text = base64.b64encode(struct.pack("<d", marks[0])).decode()
        attributes[FILL] = as_text if result in FLOATS else int(marks[0])
    elif isinstance(node.attributes.get(FILL), str | bool):
        attributes[FILL] = node.attributes[FILL]  # of another type than numbers, so it marks none of them
    if own is None:
        return Described(attributes, None)
    number = np.asarray(own)
    fill = own_fill(said, meaning, number.astype(np.uint8) if number.dtype.kind == "b" else number, result)
    return Described(attributes, fill)


def _has_nan(value: Any) -> bool:
    return any(number != number for number in numbers_in(value))


def with_dims(node: Node, attributes: dict[str, Any], dims: list[str | None]) -> dict[str, Any]:
    """Attributes with the names of axes, where the version has them there."""
    attributes = {key: value for key, value in attributes.items() if key != DIMENSIONS_2}
    is_scalar = node.attributes.get(DIMENSIONS_2) == []
    return attributes | ({DIMENSIONS_2: dims} if node.version == 2 and (any(dims) or is_scalar) else {})
