"""Kinds of values: what an option takes, and the one form in which it is kept.

A kind reads a value as Python, the shell or JSON has it, so that `max_memory` is 1048576 or "1MiB" wherever it is said.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from lucid.errors import ArgumentError, LucidError, SizeTypeError

NanRule: TypeAlias = Literal["propagate", "skip"]


@dataclass(frozen=True)
class Kind:
    """A kind of values; `read` raises a ValueError, a TypeError or an AttributeError for what is none."""

    read: Callable[[Any], Any]
    #: What an error says that it takes.
    expected: str
    #: What the command's help shows for a value.
    metavar: str | None = None
    #: All values, where they are few.
    choices: tuple[str, ...] = ()
    #: Whether it takes any number of values; one alone is a list of one.
    is_list: bool = False

    def check(self, name: str, value: Any, *, takes_none: bool = False) -> Any:
        """The value, or values, as they are kept; an error speaks of them by `name`."""
        if value is None and takes_none:
            return None
        if not self.is_list:
            return self._check(name, value)
        values = value if isinstance(value, list | tuple | set | frozenset) else (value,)
        return tuple(self._check(name, one) for one in values)

    def _check(self, name: str, value: Any) -> Any:
        try:
            return self.read(value)
        except LucidError:
            raise
        except (AttributeError, TypeError, ValueError) as error:
            text = " ".join(f"{value!r:.80}".split())
            kind = ArgumentError if isinstance(error, ValueError) else SizeTypeError
            raise kind(f"`{name}` is {text}; expected {self.expected}") from error


def one_of(*choices: str) -> Kind:
    """One of a few texts."""
    *others, last = choices
    expected = f"{', '.join(others)} or {last}" if others else last
    return Kind(lambda value: choices[choices.index(value)], expected, choices=choices)


def dtype_of(*choices: str) -> Kind:
    """One of a few dtypes, by its name or as NumPy has it: `np.float16`, `np.dtype(">f4")`, `float`."""
    kind = one_of(*choices)

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            import numpy as np  # `--help` does without

            value = np.dtype(value).name
        return kind.read(value)

    return replace(kind, read=read)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def count(value: Any) -> int:
    """An integer of at least 1; numpy's are as good as Python's."""
    # NumPy's truth values are called so, too, and are integers before its version 2.3.
    number = operator.index(None if type(value).__name__ == "bool" else value)  # type: ignore[arg-type]
    if number < 1:
        raise ValueError
    return number


def byte_count(value: Any) -> int:
    """A number of bytes.

    >>> byte_count("1.5GB"), byte_count("64M"), byte_count("256MiB")
    (1500000000, 67108864, 268435456)
    """
    if not isinstance(value, str):
        return count(value)
    match = re.fullmatch(
        r"(\d{1,18}(?:\.\d+)?)\s*(?:([KMGT])(i?))?(B?)", value.strip(), re.IGNORECASE | re.ASCII
    )
    if match is None:
        raise ValueError
    number, unit, binary, byte = match.groups()
    base = 1000 if byte and not binary else 1024  # 64M is binary, as shells have it
    return count(int(float(number) * base ** " KMGT".index((unit or " ").upper())))


def _name(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    return value


def _layout(value: Any) -> str:
    letters = str(value.upper()).replace("YX", "HW")
    if "HW" not in letters or len({*letters}) < len(letters) or not (letters.isascii() and letters.isalpha()):
        raise ValueError
    return letters


def _fraction(value: Any) -> float:
    if isinstance(value, bool) or not 0 <= float(value) <= 1:
        raise ValueError
    return float(value)


def _samples(value: Any) -> slice:
    if isinstance(value, str):
        match = re.fullmatch(r"(\d*):(\d*)", value.strip(), re.ASCII)
        if match is None:
            raise ValueError
        value = slice(*(int(number) if number else None for number in match.groups()))
    start, stop = operator.index(value.start or 0), None if value.stop is None else operator.index(value.stop)
    if value.step not in (None, 1) or start < 0 or (stop is not None and stop <= start):
        raise ValueError
    return slice(start, stop)


def _dims(value: Any) -> tuple[str, str]:
    first, second = value.replace(",", " ").split() if isinstance(value, str) else value
    if not (isinstance(first, str) and isinstance(second, str)) or first == second:
        raise ValueError
    return first, second


def slice_name(samples: slice) -> str:
    """Some samples as they stand in names: 0-1000, 5000-end."""
    return f"{samples.start}-{'end' if samples.stop is None else samples.stop}"


TRUTH = Kind(_truth, "True or False")
COUNT = Kind(
    lambda value: count(int(value) if isinstance(value, str) else value), "an integer of at least 1", "N"
)
BYTES = Kind(byte_count, "a number of bytes such as 1048576, 256MiB or 1G", "SIZE")
NAMES = Kind(_name, "names of datasets", "PATH", is_list=True)
LAYOUT = Kind(_layout, "different letters with HW or YX in them, such as NCHW", "AXES")
FRACTION = Kind(_fraction, "a fraction of the cells, 0 to 1", "F")
DIMS = Kind(_dims, "the names of two dimensions, such as lat,lon", "LAT,LON")
SAMPLES = Kind(_samples, "A:B with 0 <= A < B, such as 0:1000 or 5000:", "A:B")
NAN = one_of("propagate", "skip")
