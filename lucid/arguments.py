"""What the functions of the API take: options as keywords, in signature and docstring, and checks of all else."""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, ParamSpec, Protocol

from lucid.errors import ArgumentError, SizeTypeError
from lucid.options import Option, Options
from lucid.outputs import FilePath
from lucid.report import OnProgress, Report
from lucid.run import Executor

P = ParamSpec("P")


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
    known = _rows()
    for name in values:
        if name not in known:
            from difflib import get_close_matches  # seldom needed, and slow to load

            close = get_close_matches(name, known, 1)
            raise SizeTypeError(f"`{name}` is no option" + (f"; did you mean `{close[0]}`?" if close else ""))
    return Options(**values)


def check_path(path: object) -> None:
    """Raise unless it is a path that a file may have."""
    if not isinstance(path, str | os.PathLike):
        raise SizeTypeError(f"a file is {path!r:.80}; expected a path")
    if not os.fspath(path):
        raise ArgumentError("a path is empty")
    if "\0" in str(os.fspath(path)):
        raise ArgumentError(f"the path {str(path)!r:.80} holds a null byte")


def paths_of(name: str, value: FilePath | Iterable[FilePath], expected: str) -> list[str]:
    """Paths where one or several are taken; the error for none speaks of them by `name`."""
    paths = [value] if isinstance(value, str | os.PathLike) else value
    if not isinstance(paths, Iterable) or not (paths := list(paths)):
        raise ArgumentError(f"`{name}` is {value!r:.80}; expected {expected}")
    for path in paths:
        check_path(path)
    return [os.fspath(path) for path in paths]


def check_progress(on_progress: object) -> None:
    """Raise unless it is a function, or nothing."""
    if on_progress is not None and not callable(on_progress):
        raise SizeTypeError(f"`on_progress` is {on_progress!r:.80}; expected a function")


def _rows() -> dict[str, Option]:
    """Every keyword: the options, and `size`."""
    return {name: one.metadata["option"] for name, one in Options.__dataclass_fields__.items()}


def _documentation() -> str:
    """What a docstring says of every keyword."""
    from textwrap import fill, indent  # the command does without

    lines = []
    for name, row in _rows().items():
        default = row.shown or row.default
        lines.append(
            f"{name} : {row.kind.expected}" + f"; by default {default}" * (default not in (..., "required"))
        )
        lines.append(indent(fill(row.help, 100, break_on_hyphens=False), " " * 4))
    return "\n".join(lines)
