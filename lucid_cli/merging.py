"""`--merge`: shards to the output of one run."""

from pathlib import Path

import click

from lucid.shards.merge import merge_files
from lucid.tasks import bytes_of
from lucid_cli.batch import DASH, end, show_summary
from lucid_cli.one_output import make_output
from lucid_cli.outcomes import Outcomes
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
    outcomes = Outcomes(as_json=request.as_json, keeps_all=request.verbose)
    done = make_output(
        name,
        nbytes,
        request,
        outcomes,
        merge_files,
        request.inputs,
        request.output,
        max_memory=options.max_memory,
        threads=options.threads,
        overwrite=options.overwrite,
        dry_run=options.dry_run,
    )
    if done is None:
        return end(outcomes)
    outcomes.add(done)
    show_summary(outcomes, request)
    return 0


def _refuse_others() -> None:
    """Raise for an option on the command line that a merge could only ignore."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in TAKEN + DISPLAY:
            continue
        if context.get_parameter_source(str(parameter.name)) == click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--merge takes no {parameter.opts[-1]}: the shards know it")
