"""What the functions of the API take: options as keywords, in signature and docstring, and checks of all else."""

import inspect
import io
import os
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, BinaryIO, ParamSpec, Protocol

from lucid.errors import SizeTypeError
from lucid.kinds import Kind
from lucid.options import Option, Options
from lucid.outputs import FilePath
from lucid.report import OnProgress, Report
from lucid.run import Executor

P = ParamSpec("P")
#: Every keyword: the options, and `size`.
_ROWS: dict[str, Option] = {
    name: one.metadata["option"] for name, one in Options.__dataclass_fields__.items()
}


class PoolFile(Protocol[P]):
    """The signature of `pool_file`: its keywords are the fields of `Options`."""

    def __call__(
        self,
        source: FilePath | BinaryIO,
        target: FilePath | BinaryIO | None = None,
        on_progress: OnProgress | None = None,
        executor: Executor | None = None,
        *args: P.args,
        **options: P.kwargs,
    ) -> Report: ...


def takes_options(options: Callable[P, Options]) -> Callable[[Callable[..., Report]], PoolFile[P]]:
    """Give a function the keywords of `Options`, in its signature and its docstring."""

    def with_keywords(function: Callable[..., Report]) -> PoolFile[P]:
        *own, _ = inspect.signature(function).parameters.values()
        every = (*own, *inspect.signature(options).parameters.values())
        # Without their types, which the docstring tells in words, `help` shows the keywords on a few lines.
        readable = [one.replace(annotation=one.empty) for one in every]
        function.__signature__ = inspect.Signature(readable, return_annotation=Report)  # type: ignore[attr-defined]
        # Python 3.13 takes the indentation off, earlier ones do not.
        function.__doc__ = inspect.cleandoc(str(function.__doc__)).replace("@OPTIONS@", _documentation())
        return function

    return with_keywords


def options_of(values: Mapping[str, Any]) -> Options:
    """Options of keywords; one that there is not is a lucid error, too."""
    for name in values:
        if name not in _ROWS:
            from difflib import get_close_matches  # seldom needed, and slow to load

            close = get_close_matches(name, _ROWS, 1)
            raise SizeTypeError(f"`{name}` is no option" + (f"; did you mean `{close[0]}`?" if close else ""))
    return Options(**values)


def _path(value: Any) -> str:
    """A path that a file may have."""
    path = os.fspath(value)
    if not isinstance(path, str):
        raise TypeError
    if not path or "\0" in path:
        raise ValueError
    return path


def _paths(value: Any) -> list[str]:
    """Paths, where one alone is a list of one."""
    paths = [value] if isinstance(value, str | os.PathLike) else list(value)
    if not paths:
        raise ValueError
    return [_path(path) for path in paths]


def _file(value: Any, *methods: str) -> Any:
    """A path, or a binary stream that has these methods."""
    if isinstance(value, str | os.PathLike):
        return _path(value)
    if isinstance(value, io.TextIOBase):
        raise TypeError
    return attrgetter(*methods)(value)


PATH, PATHS = Kind(_path, "a path"), Kind(_paths, "paths of files")
SOURCE = Kind(lambda value: _file(value, "read", "readinto"), "a path or a binary stream")
TARGET = Kind(lambda value: _file(value, "write", "flush"), SOURCE.expected)
PROGRESS = Kind(attrgetter("__call__"), "a function")
EXECUTOR = Kind(attrgetter("run", "threads"), "an executor, as `lucid.run` describes it")


def _documentation() -> str:
    """What a docstring says of every keyword."""
    from textwrap import fill, indent  # the command does without

    lines = []
    for name, row in _ROWS.items():
        default = row.shown or row.default
        lines.append(
            f"{name} : {row.kind.expected}" + f"; by default {default}" * (default not in (..., "required"))
        )
        lines.append(indent(fill(row.help, 100, break_on_hyphens=False), " " * 4))
    return "\n".join(lines)
