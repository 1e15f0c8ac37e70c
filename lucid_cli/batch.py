"""Every input to its outputs: failures told, the rest done."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import click

from lucid.batches import Batch
from lucid.errors import ArgumentError, FormatError, LucidError
from lucid.formats.stream import STREAM
from lucid.inputs import is_stream, misfit
from lucid.options import Options
from lucid.places import Outcome, Places, places_for
from lucid.report import OnProgress
from lucid.tasks import Naming, Task
from lucid_cli.messages import FAILED, complain, in_shell_words, name_of, tell
from lucid_cli.outcomes import Outcomes
from lucid_cli.request import Request, refuse
from lucid_cli.streams import ReaderGoneError

DASH = str(STREAM)


def run_batch(request: Request) -> int:
    """Pool every input; the exit status."""
    options = request.options
    if not options.sizes:
        raise click.UsageError("Missing option '-s' / '--size'; expected the output grid")
    inputs = request.inputs or _standard_input()
    _check(request, inputs)
    outcomes = Outcomes(as_json=request.as_json, keeps_all=request.verbose or request.preview)
    batch = Batch(Naming.of(request.output, request.output_dir), options, inputs)
    try:
        batch.settle(outcomes.fail, outcomes.leave_out)
        _check_standard_output(batch, request)
        batch.prepare(outcomes.fail)
    except ArgumentError as error:
        raise click.UsageError(in_shell_words(str(error))) from error
    with places_for(batch, options, request.dask) as places:
        with display(len(batch), batch.size_bytes, request) as progress_of:

            def watch(task: Task) -> OnProgress | None:
                return progress_of and progress_of(task.source, task.size_bytes)

            begun = time.perf_counter()
            try:
                with closing(places.pool_all(batch, watch)) as done:
                    for task, outcome in done:
                        _tell(task, outcome, options, outcomes)
            except BrokenPipeError as error:
                raise ReaderGoneError from error
            if len(batch) > 1:  # several may be pooled at a time
                outcomes.summary.total_seconds = time.perf_counter() - begun
        _show(outcomes, request, places)
    if outcomes.left_out.first and not outcomes.has_reports and not outcomes.failures:
        for name in inputs:
            outcomes.fail(name, FormatError("holds no file that can be pooled"))
    return end(outcomes)


def end(outcomes: Outcomes) -> int:
    """Say what failed; the exit status."""
    for source, reason in outcomes.failures:
        complain(f"{name_of(source)}: {reason}", FAILED)
    return FAILED if outcomes.failures else 0


def _tell(task: Task, outcome: Outcome, options: Options, outcomes: Outcomes) -> None:
    """Note what became of an input."""
    if isinstance(outcome, ArgumentError) and not outcomes.has_reports:
        raise click.UsageError(in_shell_words(str(outcome))) from outcome
    if reason := misfit(outcome, options, is_found=task.is_found):
        outcomes.leave_out(task.source, reason)
    elif isinstance(outcome, BaseException):
        outcomes.fail(task.source, outcome)
    elif outcome.skipped and not outcome.targets:
        outcomes.leave_out(task.source, *outcome.notes)
    else:
        conflict = (f"the run would fail: {task.conflict}",) if task.conflict else ()
        outcomes.add(replace(outcome, source=Path(task.source), notes=conflict + outcome.notes))


def _show(outcomes: Outcomes, request: Request, places: Places) -> None:
    """The summary, pictures and notes."""

    def pictures() -> None:
        from lucid_cli import render
        from lucid_cli.preview import show_preview

        for report in outcomes.summary.reports:
            try:
                show_preview(report, render.console(), request.options, places.read)
            except (LucidError, MemoryError) as error:
                outcomes.fail(str(report.source), error)

    show_summary(outcomes, request, pictures if request.preview else None)


def show_summary(outcomes: Outcomes, request: Request, pictures: Callable[[], None] | None = None) -> None:
    """The summary and notes, between them pictures."""
    if request.quiet:
        return
    tell(outcomes.left_out)
    if not outcomes.has_reports:
        return
    # rich takes as long to load as NumPy; without a summary it is not needed.
    from lucid_cli import render

    render.show(outcomes.summary, render.console(), every=request.verbose)
    if pictures is not None:
        pictures()
    tell(outcomes.notes)


def _standard_input() -> tuple[str, ...]:
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError(
            "Missing argument 'INPUT...'; expected files, or - with data on standard input"
        )
    return (DASH,)


def _check(request: Request, inputs: tuple[str, ...]) -> None:
    """Raise for options that exclude each other."""
    options = request.options
    reads_stream = any(map(is_stream, inputs))
    streams = reads_stream or request.output == DASH
    refuse(
        (request.dask is not None and streams, "--dask needs files that the workers find by their names"),
        (
            request.dask is not None and options.slice is not None,
            "--dask divides the work itself; choose it or --slice",
        ),
        (
            request.output is not None and request.output_dir is not None,
            "--output and --output-dir exclude each other",
        ),
        (inputs.count(DASH) > 1, "standard input (-) can be read once only"),
        (
            options.resume and streams,
            "--resume needs files; standard input and output cannot be read or written again",
        ),
        (
            options.slice is not None and streams,
            "--slice needs files; a shard and its input are found again by their names",
        ),
        (
            request.preview and options.slice is not None,
            "--preview shows the first sample, which a --slice may not hold; choose one",
        ),
        (
            request.preview and reads_stream,
            "--preview reads the input again, which standard input and pipes do not allow",
        ),
        (request.preview and request.as_json, "--preview is for people, --json for programs; choose one"),
    )
    if request.dask is not None:
        try:
            import_module("lucid.run.dask")
        except LucidError as error:
            raise click.UsageError(str(error)) from error


def _check_standard_output(batch: Batch, request: Request) -> None:
    if request.options.dry_run or not batch.to_stream:
        return
    if request.as_json:
        raise click.UsageError("--json and arrays cannot both go to standard output; name a file with -o")
    if sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal, which shows no arrays; name a file with -o")


def display(
    count: int, total_bytes: int, request: Request
) -> AbstractContextManager[Callable[[str, int], OnProgress] | None]:
    """One progress line for so many inputs; it gives each, by name and bytes, the callback for its events."""
    is_wanted = not (request.quiet or request.no_progress or request.options.dry_run)
    if not (is_wanted and count and sys.stderr.isatty()):
        return nullcontext()
    from lucid_cli import render

    return render.progress_bar(render.console(), count, total_bytes)
