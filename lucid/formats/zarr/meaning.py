"""What the numbers of Zarr arrays mean: the shared rules, and how attributes stand in a store.

The rules are in `lucid.formats.meaning` and `lucid.formats.result`. Two things are Zarr's own. `_FillValue` of an array
that xarray wrote is its `fill_value` in version 2, and in version 3 an attribute that holds a float as base64. And
metadata are JSON, which has no NaN: where results mark missing cells by NaN, `_FillValue` says it in these ways or
not at all, and `missing_value` goes, unless the source's is NaN in spite of JSON, as xarray writes and reads it.
"""

import base64
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lucid.formats.arrays import Meaning
from lucid.formats.meaning import FILL, MISSING
from lucid.formats.result import Changes, unwritten_fill
from lucid.formats.values import numbers_in
from lucid.formats.variables import Variable
from lucid.formats.zarr.documents import TWO_BYTES
from lucid.formats.zarr.nodes import Node
from lucid.pooling.dtypes import FLOATS


class Description(NamedTuple):
    """What an array says of itself: attributes as they stand in a store, names of axes, own fill value."""

    attributes: dict[str, Any]
    dims: list[str | None] = []  # noqa: RUF012  (nobody changes it)
    #: None for `null`.
    fill: Any = None


def _is_filled_by_document(node: Node) -> bool:
    """Whether `_FillValue` of an array is its `fill_value`; `null` is none."""
    document = node.document or {}
    return node.version == 2 and bool(node.dims) and document.get("fill_value") is not None


def variable_of(node: Node, untyped: str | None, *, is_image: bool) -> Variable:
    """An array as a variable; `untyped` is what two bytes without a type are.

    In an OME-Zarr image zero is a number like all others, though axes have names and the fill value is zero.
    """
    attributes, document = dict(node.attributes), node.document or {"data_type": None}
    is_filled = _is_filled_by_document(node) and not is_image
    mark = document["fill_value"] if is_filled else attributes.get(FILL)
    if mark is not None:
        attributes[FILL] = _number(mark)
    data_type = document["data_type"]
    type_name = data_type.get("name", data_type) if isinstance(data_type, dict) else data_type
    return Variable(
        path=node.name,
        key=node.path,
        shape=node.shape,
        attributes=attributes,
        numbers=node.numbers(untyped),
        type_name=lambda: str(type_name),
        dims=lambda: node.dims,
        handle=node,
        is_untyped=data_type in TWO_BYTES,
        fault=node.damage,
    )


def _number(value: Any) -> Any:
    """A fill value of JSON: a number, its name such as "NaN", or the base64 of a float of eight bytes."""
    if not isinstance(value, str):
        return value
    for read in (float, lambda text: struct.unpack("<d", base64.b64decode(text, validate=True))[0]):
        try:
            return read(value)
        except (ValueError, struct.error):
            continue
    return value


def describe_result(
    origin: Variable,
    changes: Changes,
    meaning: Meaning,
    fill: Any,
    result: str,
    dims: list[str | None],
) -> Description:
    """What a result of a type says of itself, by what changes with its numbers and its place.

    `fill` is the source's own fill value.
    """
    node, attributes = origin.handle, origin.attributes
    marks = numbers_in(changes.get(FILL, attributes.get(FILL)))
    new_attributes = {key: value for key, value in changes.items() if key != FILL} | {FILL: None}
    if _has_nan(new_attributes.get(MISSING)) and not _has_nan(attributes[MISSING]):
        new_attributes[MISSING] = None
    is_float = result in FLOATS
    if FILL in attributes and _is_filled_by_document(node):
        return Description(with_changes(node.attributes, new_attributes), dims, marks[0] if marks else None)
    if marks and not is_float:
        new_attributes[FILL] = int(marks[0])
    elif is_float and node.version == 3 and any(changes.get(key) is not None for key in (FILL, MISSING)):
        new_attributes[FILL] = base64.b64encode(struct.pack("<d", np.nan)).decode()
    elif not marks and isinstance(node.attributes.get(FILL), str | bool):
        new_attributes[FILL] = node.attributes[FILL]  # of another type than numbers, so it marks none of them
    if fill is not None:
        fill = np.asarray(fill)
        fill = fill.astype(np.uint8) if fill.dtype.kind == "b" else fill
        fill = unwritten_fill(attributes, meaning, fill, result)
    return Description(with_changes(node.attributes, new_attributes), dims, fill)


def with_changes(attributes: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """Attributes with others, of which None says that there is none; arrays as JSON has them."""
    new_attributes = {key: np.asarray(value).tolist() for key, value in changes.items() if value is not None}
    return {key: value for key, value in attributes.items() if key not in changes} | new_attributes


def _has_nan(value: Any) -> bool:
    return any(number != number for number in numbers_in(value))
