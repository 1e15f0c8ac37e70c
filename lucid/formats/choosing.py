"""Which arrays of a file are pooled: those that somebody names, exactly or by patterns.

Choosing comes before checking: an array that is not chosen is never looked into. A name is that name before
it is a pattern, so that `ch[0]` can be chosen where `ch0` is there, too.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from lucid.errors import DatasetError

#: Names that are listed before they are only counted.
MOST_NAMES = 10


def absolute_name(pattern: str) -> str:
    """A name or pattern as paths are written.

    >>> absolute_name("g/x"), absolute_name("/g/x")
    ('/g/x', '/g/x')

    """
    return pattern if pattern.startswith("/") else f"/{pattern}"


def matches(name: str, pattern: str) -> bool:
    """Whether a path is meant by a pattern.

    >>> matches("/ch0", "ch[0]"), matches("/g/x", "/g/*"), matches("/G/x", "/g/*")
    (True, True, False)

    """
    return fnmatchcase(name, absolute_name(pattern))


def chosen(names: Sequence[str], patterns: Sequence[str]) -> set[str]:
    """The paths that any of these names.

    Raises
    ------
    DatasetError
        One names no path.

    >>> sorted(chosen(["/ch[0]", "/ch0", "/a/b"], ["ch[0]", "a/*"]))
    ['/a/b', '/ch[0]']

    """
    known, wanted = set(names), set[str]()
    for pattern in patterns:
        exact = absolute_name(pattern)
        found = {exact} if exact in known else {name for name in names if matches(name, pattern)}
        if not found:
            raise not_there(pattern, names)
        wanted |= found
    return wanted


def is_meant(name: str, patterns: Sequence[str]) -> bool:
    """Whether a path is named by any of these, exactly or as a pattern; `--drop` leaves it out if it is.

    >>> is_meant("/ch[0]", ["ch[0]"]), is_meant("/a", ["b*"])
    (True, False)

    """
    return any(name == absolute_name(pattern) or matches(name, pattern) for pattern in patterns)


def listed(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """Names, cut where they are many.

    >>> listed(["/a", "/b", "/c"], 2)
    '/a, /b and 1 more'

    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def not_there(pattern: str, names: Iterable[str]) -> DatasetError:
    """The error that nothing can be pooled which is called so; `names` are what can be."""
    known = list(names)
    close: list[str] = []
    if known and len(known) <= 10_000:  # beyond, a comparison with each takes seconds
        from difflib import get_close_matches  # takes 3 ms to load

        close = get_close_matches(absolute_name(pattern), known, 1)
    if known == [""]:
        return DatasetError(f"has no dataset {pattern!r} that can be pooled; it has one array without a name")
    shown = listed(known) or "none"
    hint = f"did you mean {close[0]!r}? it has: {shown}" if close else f"it has {shown}"
    return DatasetError(f"has no dataset {pattern!r} that can be pooled; {hint}")
