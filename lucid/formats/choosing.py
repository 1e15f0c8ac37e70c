"""Names of arrays as the user says them, exactly or by patterns.

A name is that name before it is a pattern, so that `ch[0]` can be chosen where `ch0` is there, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import accumulate, islice

from lucid.errors import DatasetError
from lucid.formats.arrays import ResultSpec
from lucid.options import Options

#: Names that are listed before they are only counted.
MOST_NAMES = 10


def absolute_name(pattern: str) -> str:
    """A name or pattern as paths are written, from a slash on."""
    return pattern if pattern.startswith("/") else f"/{pattern}"


def matches(name: str, pattern: str) -> bool:
    """Whether a path is meant by a pattern.

    >>> matches("/ch0", "ch[0]"), matches("/g/x", "/g/*"), matches("/G/x", "/g/*")
    (True, True, False)

    """
    return fnmatchcase(name, absolute_name(pattern))


def is_left_out(path: str, patterns: Iterable[str]) -> bool:
    """Whether `--drop` leaves out what is at a path: names it or a group that it is in, exactly or by a pattern.

    >>> is_left_out("/g/h/x", ["g"]), is_left_out("/g/h/x", ["h"]), is_left_out("/ch[0]", ["ch[0]"])
    (True, False, True)

    """
    paths = [f"/{name}" for name in accumulate(path.removeprefix("/").split("/"), "{}/{}".format)]
    return any(
        one == absolute_name(pattern) or matches(one, pattern) for pattern in patterns for one in paths
    )


class CarriedNames:
    """Which names of a source an output carries over beside its results: those that `--drop` does not leave out."""

    def __init__(self, results: Sequence[ResultSpec], options: Options) -> None:
        #: Whether there is nothing but results; shards hold means alone.
        self.is_alone = not options.carry or any(result.is_shard for result in islice(results, 1))
        self.patterns = options.drop if not self.is_alone else ()
        #: Patterns that have left out nothing yet.
        self._unused = [*dict.fromkeys(self.patterns)]
        #: Names of what is pooled, which is never left out; and names that only results have, as with several sizes.
        self._pooled_names = {result.source.name for result in results} if self.patterns else set()
        self.new_names = {result.name for result in results if result.name != result.source.name}

    def drops(self, name: str) -> bool:
        """Whether a name is left out."""
        if not self.patterns or name in self._pooled_names:
            return False
        patterns = [pattern for pattern in self.patterns if is_left_out(name, [pattern])]
        self._unused = [pattern for pattern in self._unused if pattern not in patterns]
        return bool(patterns)

    def check(self, name: str) -> None:
        """Raise where a result has the name of what is neither pooled nor left out."""
        if name in self.new_names:
            raise DatasetError(
                f"output would have two of the name {name!r}, a result and what is carried over; `drop` leaves that out"
            )

    def carries(self, name: str) -> bool:
        """Whether the name of what is not pooled is carried over; a DatasetError where a result has it, too."""
        if self.is_alone or self.drops(name):
            return False
        self.check(name)
        return True

    @property
    def notes(self) -> dict[str, list[str]]:
        """Patterns that left out nothing, under what is said of them."""
        what = "nothing that is carried over has a name that `drop` says"
        return {what: self._unused} if self._unused else {}


def note_lines(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Names that are kept by what is said of them, a line each; none for what is said of no name."""
    return [f"{what}: {name_list(names)}" for what, names in notes.items() if names]


def name_list(names: Sequence[str]) -> str:
    """Names; where they are many, the first of them and how many more there are.

    >>> name_list(["a", "b"]), name_list("abcdefghijkl")
    ('a, b', 'a, b, c, d, e, f, g, h, i, j and 2 more')

    """
    more = len(names) - MOST_NAMES
    return ", ".join(islice(names, MOST_NAMES)) + (f" and {more} more" if more > 0 else "")


def no_match_error(pattern: str, known: Sequence[str]) -> DatasetError:
    """The error that nothing can be pooled which is called so; what is `known` can be."""
    close: list[str] = []
    if len(known) <= 10_000:  # each is compared with
        from difflib import get_close_matches  # seldom needed

        close = get_close_matches(absolute_name(pattern), known, 1)
    if known[:2] == [""]:
        return DatasetError(f"has no dataset {pattern!r} that can be pooled; it has one array without a name")
    hint = f"did you mean {close[0]!r}? it has: " if close else "it has "
    return DatasetError(f"has no dataset {pattern!r} that can be pooled; {hint}{name_list(known)}")
