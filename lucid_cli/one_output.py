"""The call of `--pack` and `--merge`, which make one output, and what became of it."""

from collections.abc import Callable
from typing import Any

import click

from lucid.errors import ArgumentError, LucidError
from lucid.run.process import Process
from lucid_cli.batch import display
from lucid_cli.messages import in_shell_words
from lucid_cli.outcomes import Outcomes
from lucid_cli.request import Request


def make_output(
    name: str,
    size_bytes: int,
    request: Request,
    outcomes: Outcomes,
    function: Callable[..., Any],
    *args: Any,
    **keywords: Any,
) -> Any:
    """What a function returns in a process of its own, which native code may crash; None if it fails."""
    try:
        with Process() as process, display(1, size_bytes, request) as progress_of:
            on_progress = progress_of and progress_of(name, size_bytes)
            return process.call(function, *args, options=request.options, on_progress=on_progress, **keywords)
    except ArgumentError as error:
        raise click.UsageError(in_shell_words(str(error))) from error
    except (LucidError, MemoryError) as error:
        outcomes.fail(name, error)
        return None
