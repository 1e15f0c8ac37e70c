"""`--merge`: shards to the output of one run."""

from pathlib import Path
from typing import Any

import click

from lucid.errors import ArgumentError, LucidError
from lucid_cli import jsonlines
from lucid_cli.batch import FAILED, STREAM, Task, bytes_of, display
from lucid_cli.messages import complain, emit, name_of


def run_merge(
    *,
    inputs: tuple[str, ...],
    output: str | None,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    no_progress: bool,
    max_memory: int,
    threads: int | None,
    **others: Any,
) -> int:
    """Join the shards; the exit status."""
    from lucid.merge import merge_files  # takes 2 ms to load

    _refuse(others)
    if not inputs or STREAM in inputs or output == STREAM:
        raise click.UsageError("--merge needs shards as files, and a file for its output")
    shown = output or f"{len(inputs)} shards"
    task = Task(shown, shown, (), sum(bytes_of(Path(path)) for path in inputs))
    try:
        with display([task], quiet=quiet, wanted=not (no_progress or dry_run)) as on_progress:
            report = merge_files(
                inputs,
                output,
                max_memory=max_memory,
                threads=threads,
                overwrite=overwrite,
                dry_run=dry_run,
                on_progress=on_progress(task) if on_progress else None,
            )
    except ArgumentError as error:
        raise click.UsageError(str(error)) from error
    except (LucidError, MemoryError) as error:
        if as_json:
            emit(jsonlines.error(shown, error))
        return complain(f"{name_of(shown)}: {error}", FAILED)
    if as_json:
        emit(jsonlines.report(report))
    if not quiet:
        from lucid_cli import render

        render.show([report], render.console(), every=verbose)
    return 0


def _refuse(options: dict[str, Any]) -> None:
    """Raise for an option on the command line that a merge could only ignore."""
    context = click.get_current_context()
    given = [p for p in context.command.params if p.name in options]
    for parameter in given:
        source = context.get_parameter_source(str(parameter.name))
        if source == click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--merge takes no {parameter.opts[-1]}: the shards know it")
