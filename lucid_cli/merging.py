"""`--merge`: shards to the output of one run."""

from pathlib import Path

import click

from lucid.errors import ArgumentError, LucidError
from lucid.run.process import Process
from lucid.shards.merge import merge_files
from lucid.tasks import bytes_of
from lucid_cli.batch import DASH, Outcomes, display
from lucid_cli.messages import FAILED, complain, in_shell_words, name_of, tell
from lucid_cli.request import Request

#: What a merge takes; all else the shards know.
TAKEN = ("inputs", "output", "merge", "overwrite", "dry_run", "max_memory", "threads")
DISPLAY = ("as_json", "quiet", "verbose", "no_progress")


def run_merge(request: Request) -> int:
    """Join the shards; the exit status."""
    _refuse_others()
    options = request.options
    if not request.inputs or DASH in request.inputs or request.output == DASH:
        raise click.UsageError("--merge needs shards as files, and a file for its output")
    name = request.output or f"{len(request.inputs)} shards"
    nbytes = sum(bytes_of(Path(path)) for path in request.inputs)
    outcomes = Outcomes(as_json=request.as_json)
    try:
        with Process() as process, display([(name, nbytes)], request) as progress_of:
            done = process.call(
                merge_files,
                request.inputs,
                request.output,
                options=options,
                on_progress=progress_of and progress_of(name, nbytes),
                max_memory=options.max_memory,
                threads=options.threads,
                overwrite=options.overwrite,
                dry_run=options.dry_run,
            )
            outcomes.add(done)
    except ArgumentError as error:
        raise click.UsageError(in_shell_words(str(error))) from error
    except (LucidError, MemoryError) as error:
        outcomes.fail(name, error)
        return complain(f"{name_of(name)}: {in_shell_words(str(error))}", FAILED)
    if not request.quiet:
        from lucid_cli import render

        render.show(outcomes.reports, render.console(), every=request.verbose)
        tell(outcomes.notes())
    return 0


def _refuse_others() -> None:
    """Raise for an option on the command line that a merge could only ignore."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in TAKEN + DISPLAY:
            continue
        if context.get_parameter_source(str(parameter.name)) == click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--merge takes no {parameter.opts[-1]}: the shards know it")
