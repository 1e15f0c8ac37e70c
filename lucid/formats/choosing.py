"""Names of arrays as the user says them, exactly or by patterns.

A name is that name before it is a pattern, so that `ch[0]` can be chosen where `ch0` is there, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import PurePosixPath

from lucid.backlog import Backlog
from lucid.errors import DatasetError

#: Names that are listed before they are only counted.
MOST_NAMES = 10
#: What is said of names that leave nothing out.
UNUSED = "nothing that is carried over has a name that `drop` says"


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


def is_meant(name: str, patterns: Sequence[str]) -> bool:
    """Whether a path is named by any of these, exactly or as a pattern; `--drop` leaves it out if it is.

    >>> is_meant("/ch[0]", ["ch[0]"]), is_meant("/a", ["b*"])
    (True, False)

    """
    return any(name == absolute_name(pattern) or matches(name, pattern) for pattern in patterns)


def is_left_out(path: str, patterns: Sequence[str]) -> bool:
    """Whether `--drop` leaves out what is at a path, or a group that it is in.

    >>> is_left_out("/g/h/x", ["g"]), is_left_out("/g/h/x", ["h"])
    (True, False)

    """
    if not patterns:
        return False  # as for most files, of which some have very many names
    place = PurePosixPath(path)
    return any(is_meant(str(one), patterns) for one in (place, *place.parents[:-1]))


def unused(patterns: Sequence[str], names: Iterable[str]) -> dict[str, list[str]]:
    """Patterns that mean none of the names that are left out, under what is said of them.

    >>> unused(["labels", "lables", "x*"], ["/labels"]).values()
    dict_values([['lables', 'x*']])

    """
    left = [pattern for pattern in patterns if not any(is_meant(name, [pattern]) for name in names)]
    return {UNUSED: left} if left else {}


def note_lines(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Names that are kept by what is said of them, a line each."""
    return [f"{what}: {name_list(names)}" for what, names in notes.items()]


def two_of_one_name(name: str) -> DatasetError:
    """The error that a result would have the name of what is carried over."""
    return DatasetError(
        f"output would have two of the name {name!r}, a result and what is carried over; `drop` leaves that out"
    )


def name_list(names: Sequence[str]) -> str:
    """Names; where they are many, the first of them and how many more there are.

    >>> name_list(["a", "b"]), name_list("abcdefghijkl")
    ('a, b', 'a, b, c, d, e, f, g, h, i, j and 2 more')

    """
    more = len(names) - MOST_NAMES
    return ", ".join(islice(names, MOST_NAMES)) + (f" and {more} more" if more > 0 else "")


def no_match_error(pattern: str, names: Iterable[str]) -> DatasetError:
    """The error that nothing can be pooled which is called so; `names` are what can be."""
    known = Backlog(names)
    close: list[str] = []
    if known and len(known) <= 10_000:  # each is compared with
        from difflib import get_close_matches  # seldom needed

        close = get_close_matches(absolute_name(pattern), known, 1)
    if [*islice(known, 2)] == [""]:
        return DatasetError(f"has no dataset {pattern!r} that can be pooled; it has one array without a name")
    shown = name_list(known) or "none"
    hint = f"did you mean {close[0]!r}? it has: {shown}" if close else f"it has {shown}"
    return DatasetError(f"has no dataset {pattern!r} that can be pooled; {hint}")
