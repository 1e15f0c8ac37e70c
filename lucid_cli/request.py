"""A command line as one value."""

from dataclasses import dataclass
from typing import Any

import click

from lucid.errors import LucidError
from lucid.options import Options, declared
from lucid_cli.messages import in_shell_words


@dataclass(frozen=True, kw_only=True)
class Request:
    """A command line: the options of the work, and the command's own."""

    options: Options
    inputs: tuple[str, ...]
    output: str | None
    output_dir: str | None
    merge: bool
    dask: str | None
    as_json: bool
    preview: bool
    quiet: bool
    verbose: bool
    no_progress: bool


def request_of(values: dict[str, Any]) -> Request:
    """What the shell gave, checked."""
    try:
        options = Options(**{name: values.pop(name) for name in declared()})
    except LucidError as error:
        raise click.UsageError(in_shell_words(str(error))) from error
    return Request(options=options, **values)
