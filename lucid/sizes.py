"""Sizes of outputs: for each of two axes a length, a share of the input's, or None for the input's own."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from lucid.errors import ShapeError
from lucid.kinds import Kind, count

#: A length, a share of the input's ("/2", "50%"), or None for the input's own.
Dimension: TypeAlias = int | str | None
OutputSize: TypeAlias = Dimension | Sequence[Dimension]
#: What layers take, as PyTorch's do.
LayerSize: TypeAlias = int | tuple[int | None, int | None] | list[int | None] | None
#: A size as rows and columns.
Size: TypeAlias = tuple[Dimension, Dimension]

#: A dimension in the shell.
DIMENSION = r"(\d+|keep|/\d+|\d+(\.\d+)?%)"


def _pair(value: Any, read: Callable[[Any], Dimension]) -> Size:
    """Rows and columns; one dimension is both."""
    rows, cols = map(read, value if isinstance(value, tuple | list) else (value, value))
    return rows, cols


def _length(value: Any) -> int | None:
    return None if value is None else count(value)


def _dimension(value: Any) -> Dimension:
    if not isinstance(value, str):
        return _length(value)
    if value == "keep":
        return None
    if not re.fullmatch(DIMENSION, value, re.ASCII) or not re.search("[1-9]", value):
        raise ValueError
    return int(value) if value.isdigit() else value


def read_size(value: Any) -> Size:
    """A size as Python or the shell has it.

    >>> read_size((4, None)), read_size(4), read_size("4xkeep"), read_size("/2")
    ((4, None), (4, 4), (4, None), ('/2', '/2'))
    """
    if isinstance(value, str):
        words = re.split(r"[x,\s]", value.strip().lower())
        value = words if len(words) > 1 else words * 2
    return _pair(value, _dimension)


_EXPECTED = "one or two dimensions, each an integer of at least 1"
#: What is said of files.
SIZE = Kind(read_size, f"{_EXPECTED}, keep, or a share such as /2 or 50%", "H [W]")
SIZES = replace(SIZE, is_list=True)
LAYER_SIZE = Kind(lambda value: _pair(value, _length), f"{_EXPECTED} or None")


def length_of(dimension: Dimension, length: int) -> int:
    """The length of a pooled axis; of a share, what is left after division is dropped, but one cell stays.

    >>> length_of("/2", 7), length_of("50%", 7), length_of("/9", 4), length_of(None, 5)
    (3, 3, 1, 5)
    """
    if dimension is None:
        return length
    if isinstance(dimension, int):
        return dimension
    if dimension.startswith("/"):
        return max(1, length // int(dimension[1:]))
    whole, _, decimals = dimension[:-1].partition(".")
    return max(1, length * int(whole + decimals) // int(10 ** (2 + len(decimals))))


def resolve(size: Size, plane: tuple[int, int]) -> tuple[int, int]:
    """(H_out, W_out) for a plane (H_in, W_in), which must not be empty."""
    if 0 in plane:
        raise ShapeError(f"planes of {plane[0]}x{plane[1]} have no cells to average")
    return length_of(size[0], plane[0]), length_of(size[1], plane[1])


def size_name(size: Size) -> str:
    """A size as it stands in names: 4x5, keepx1; of shares by2xby2, 50pctx50pct."""
    return "x".join("keep" if n is None else str(n).replace("/", "by").replace("%", "pct") for n in size)
