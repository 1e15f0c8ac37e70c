"""`--missing` and `--min-valid` as values: which cells count as nothing, and how many windows may lack."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from lucid.errors import ArgumentError

Number: TypeAlias = int | float


class Missing(NamedTuple):
    """`--missing` as a value: what it names, and whether attributes name cells that hold nothing, too."""

    values: tuple[Number, ...] = ()
    by_attributes: bool = True


def parse_missing(texts: Sequence[str | Number]) -> Missing:
    """The values that `--missing` names.

    Raises
    ------
    ArgumentError
        One of them is no number and not `none`.

    >>> parse_missing(["-9999", "1e20", "none"])
    Missing(values=(-9999, 1e+20), by_attributes=False)

    """
    values: list[Number] = []
    by_attributes = True
    for text in texts:
        if isinstance(text, str) and text.strip().lower() == "none":
            by_attributes = False
        else:
            values.append(_number(text))
    return Missing(tuple(values), by_attributes)


def texts_of(missing: Missing) -> list[str]:
    """What `parse_missing` makes the same value of, for JSON, which has no NaN.

    >>> texts_of(Missing((-9, 1e20), by_attributes=False))
    ['-9', '1e+20', 'none']

    """
    return [*map(str, missing.values), *([] if missing.by_attributes else ["none"])]


def _number(text: str | Number) -> Number:
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ArgumentError(f"`missing` is {text!r}; expected a number, nan or none")
    if not isinstance(text, str):
        return text
    for kind in (lambda text: int(text, 0), int, float):
        try:
            number: Number = kind(text)
        except ValueError:
            continue
        return number
    raise ArgumentError(f"`missing` is {text!r}; expected a number, nan or none")


def check_min_valid(fraction: float) -> float:
    """A fraction of valid cells.

    Raises
    ------
    ArgumentError
        It is none.

    """
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        raise ArgumentError(f"`min_valid` is {fraction}; expected a fraction of the cells, 0 to 1")
    return float(fraction)
