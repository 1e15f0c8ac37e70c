"""Which arrays of a file are pooled: those that the user names, exactly or by patterns.

Choosing comes before checking: an array that is not chosen is never looked into. A name is that name before
it is a pattern, so that `ch[0]` can be chosen where `ch0` is there, too.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from lucid.errors import DatasetError
from lucid.options import Options

#: Names that are listed before they are only counted.
MOST_NAMES = 10


class Criteria(NamedTuple):
    """What pooled arrays have: so many axes, `height_axis` the first that is pooled; or both dimensions of `dims`."""

    rank: int
    height_axis: int
    dims: tuple[str, str] | None = None
    #: What two bytes without a type are.
    input_numbers: str | None = None

    @classmethod
    def of(cls, options: Options) -> "Criteria":
        """Those of some options."""
        return cls(len(options.layout), options.height_axis, options.names, options.input_dtype)

    def plane(self, shape: tuple[int, ...], names: Callable[[], Sequence[str]]) -> tuple[int, ...] | None:
        """Lengths of the axes that would be pooled, by the names of all; None where there are no such axes."""
        if self.dims is None:
            return shape[self.height_axis : self.height_axis + 2] if len(shape) == self.rank else None
        own = names()
        return tuple(shape[own.index(d)] for d in self.dims) if {*self.dims} <= {*own} else None

    def why_not(self, shape: tuple[int, ...], plane: tuple[int, ...] | None) -> str | None:
        """Why axes do not fit, or have nothing to be pooled; None where they do."""
        if plane is None and self.dims is not None:
            return f"has no dimensions {' and '.join(self.dims)}"
        if plane is None:
            return f"has {len(shape)} axes, {shape}; expected {self.rank}, one for each letter of `layout`"
        empty = f"has planes of {plane[0]}x{plane[1]}, which have no cells to average"
        return empty if 0 in plane else None

    def __str__(self) -> str:
        return f"with the dimensions {' and '.join(self.dims)}" if self.dims else f"with {self.rank} axes"


def coordinates_in(named: Mapping[str, Iterable[str]], known: Container[str]) -> set[str]:
    """Which arrays are coordinates of others: those that one names which none names itself.

    `named` is what each array names, which is in its group or in those around. Some name themselves and one
    another, as those of weather models do.

    >>> named = {"/g/t": ["lat", "lon"], "/lat": ["lat", "lon"], "/a": ["b"], "/b": ["a"]}
    >>> sorted(coordinates_in(named, ["/g/t", "/lat", "/g/lon", "/lon", "/a", "/b"]))
    ['/g/lon', '/lat']

    """
    found = {
        path: {
            paths[0]
            for word in words
            if (paths := [one for one in candidate_paths(path, word) if one in known])
        }
        for path, words in named.items()
    }
    by_others = {one for path, paths in found.items() for one in paths if one != path}
    return {one for path, paths in found.items() if path not in by_others for one in paths}


def candidate_paths(path: str, name: str) -> Iterator[str]:
    """Where a variable may be that another one means by a name: in its group, or in those around.

    >>> list(candidate_paths("/g/h/x", "lat")), list(candidate_paths("/g/x", "/lat"))
    (['/g/h/lat', '/g/lat', '/lat'], ['/lat'])

    """
    if name.startswith("/"):
        yield name
        return
    while path:
        path = path.rpartition("/")[0]
        yield f"{path}/{name}"


def notes_on_others(
    others: Mapping[tuple[int, ...], Sequence[str]], planes: Container[tuple[int, ...] | None]
) -> Iterator[str]:
    """Lines about arrays, by their shape, that have the plane of what is pooled and other axes before it."""
    for shape, names in others.items():
        if not names or shape[-2:] not in planes:
            continue
        verb, was = ("have", "were") if len(names) > 1 else ("has", "was")
        what = f"{name_list(names)} {verb} {len(shape)} axes, {shape}, and {was} left out"
        yield f"{what}; a `layout` of as many letters pools it"


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


def names_of(patterns: Sequence[str], names: Sequence[str]) -> set[str]:
    """The paths that any of these patterns names; one that names none is an error.

    >>> sorted(names_of(["ch[0]", "a/*"], ["/ch[0]", "/ch0", "/a/b"]))
    ['/a/b', '/ch[0]']

    """
    known, paths = set(names), set[str]()
    for pattern in patterns:
        exact = absolute_name(pattern)
        own = {exact} if exact in known else {name for name in names if matches(name, pattern)}
        if not own:
            raise no_match_error(pattern, names)
        paths |= own
    return paths


def is_meant(name: str, patterns: Sequence[str]) -> bool:
    """Whether a path is named by any of these, exactly or as a pattern; `--drop` leaves it out if it is.

    >>> is_meant("/ch[0]", ["ch[0]"]), is_meant("/a", ["b*"])
    (True, False)

    """
    return any(name == absolute_name(pattern) or matches(name, pattern) for pattern in patterns)


def name_list(names: Sequence[str]) -> str:
    """Names; where they are many, the first of them and how many more there are.

    >>> name_list(["a", "b"]), name_list("abcdefghijkl")
    ('a, b', 'a, b, c, d, e, f, g, h, i, j and 2 more')

    """
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def no_match_error(pattern: str, names: Iterable[str]) -> DatasetError:
    """The error that nothing can be pooled which is called so; `names` are what can be."""
    known = list(names)
    close: list[str] = []
    if known and len(known) <= 10_000:  # each is compared with
        from difflib import get_close_matches  # seldom needed

        close = get_close_matches(absolute_name(pattern), known, 1)
    if known == [""]:
        return DatasetError(f"has no dataset {pattern!r} that can be pooled; it has one array without a name")
    shown = name_list(known) or "none"
    hint = f"did you mean {close[0]!r}? it has: {shown}" if close else f"it has {shown}"
    return DatasetError(f"has no dataset {pattern!r} that can be pooled; {hint}")
