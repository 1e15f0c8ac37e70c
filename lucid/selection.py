"""Which arrays of a file are pooled: those that patterns name."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from lucid.errors import DatasetError
from lucid.formats.contract import ArraySpec


def chosen(specs: tuple[ArraySpec, ...], patterns: Sequence[str]) -> list[ArraySpec]:
    """The arrays that any pattern matches, all if there is none.

    Raises
    ------
    DatasetError
        A pattern matches no array.

    """
    if not patterns:
        return list(specs)
    names = [spec.name for spec in specs]
    for pattern in patterns:
        if not any(fnmatchcase(name, _absolute(pattern)) for name in names):
            listed = ", ".join(names) if names != [""] else "one array without a name"
            from difflib import get_close_matches  # takes 3 ms to load

            close = get_close_matches(_absolute(pattern), names, 1)
            hint = f"did you mean {close[0]!r}? it has: " if close else "it has "
            raise DatasetError(f"has no dataset {pattern!r} that can be pooled; {hint}{listed}")
    return [s for s in specs if any(fnmatchcase(s.name, _absolute(p)) for p in patterns)]


def _absolute(pattern: str) -> str:
    return pattern if pattern.startswith("/") else f"/{pattern}"
