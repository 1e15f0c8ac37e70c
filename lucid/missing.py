"""`--missing` as a value: which cells count as nothing."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeAlias

from lucid.kinds import Kind

Number: TypeAlias = int | float


class Missing(NamedTuple):
    """The values that name cells which hold nothing, and whether attributes name some, too."""

    values: tuple[Number, ...] = ()
    by_attributes: bool = True


def _text_of(value: Any) -> str:
    """A value as JSON can have it, which knows no NaN."""
    if isinstance(value, str):
        return "none" if value.strip().lower() == "none" else str(_number(value))
    if isinstance(value, bool) or not isinstance(value, Real):  # NumPy's numbers are such, too
        raise TypeError
    return str(int(value) if isinstance(value, Integral) else float(value))


def _number(text: str) -> Number:
    for read in (lambda text: int(text, 0), int):
        try:
            return read(text)
        except ValueError:
            continue
    return float(text)


MISSING = Kind(_text_of, "a number, nan or none", "VALUE", is_list=True)


def parse_missing(texts: Sequence[Any]) -> Missing:
    """What texts stand for that the kind has read.

    >>> parse_missing(MISSING.check("missing", ["-9999", 1e20, "None"]))
    Missing(values=(-9999, 1e+20), by_attributes=False)
    """
    return Missing(tuple(_number(text) for text in texts if text != "none"), "none" not in texts)
