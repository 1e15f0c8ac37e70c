"""Variables of a file, as the rules of all formats see them."""

from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from lucid.formats.meaning import Attributes

#: Why a group cannot be pooled, which is no variable.
A_GROUP = "is a group; name a dataset in it, or {}/* for all"


class Variable(NamedTuple):
    """An array of a file, as it describes itself."""

    #: Its path, from a slash on; nothing for the only array of a store.
    path: str
    #: What is equal under all its names, and can be the key of a dict.
    key: Any
    shape: tuple[int, ...]
    #: The type of the elements by name, None where they are no numbers; and what errors call it.
    numbers: str | None
    type_name: Callable[[], str]
    #: In what its elements are read, where the format says so here.
    dtype: Any = None
    #: What the format itself has for it.
    handle: Any = None
    #: As xarray decodes them.
    attributes: Attributes = MappingProxyType({})
    #: The names of the axes, "" for those without one; () where none has one.
    dims: Callable[[], Sequence[str]] = tuple
    #: Whether elements are two bytes without a type.
    is_untyped: bool = False
    #: Why nothing can be read of it, if so.
    fault: str = ""


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
