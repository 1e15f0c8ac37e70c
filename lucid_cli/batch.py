"""Every input to its outputs: failures told, the rest done."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import click

from lucid.errors import (
    ArgumentError,
    DatasetError,
    DTypeError,
    FileError,
    FormatError,
    LucidError,
    ShapeError,
    unexpected,
)
from lucid.formats.stream import STREAM
from lucid.inputs import is_stream
from lucid.options import Options
from lucid.places import Places, places_for
from lucid.report import OnProgress, Report
from lucid.tasks import Naming, Task, prepare, settle
from lucid_cli import jsonlines
from lucid_cli.messages import FAILED, complain, in_shell_words, name_of, tell
from lucid_cli.request import Request
from lucid_cli.streams import ReaderGoneError, emit

DASH = str(STREAM)


class Outcomes:
    """What became of the inputs so far; JSON tells of each at once."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.reports: list[Report] = []
        self.failures: list[tuple[str, str]] = []
        #: Files of folders that are not pooled, and why.
        self.left_out: list[tuple[str, str]] = []

    def fail(self, source: str, error: BaseException) -> None:
        """An input failed."""
        reason = in_shell_words(str(error) or "memory ran out")
        self.failures.append((source, reason))
        if self._as_json:
            emit(jsonlines.error(source, reason))

    def leave_out(self, source: str, reason: str) -> None:
        """A file of a folder is not pooled."""
        reason = in_shell_words(reason)
        self.left_out.append((source, f"left out: {reason}"))
        if self._as_json:
            emit(jsonlines.left_out(source, reason))

    def add(self, report: Report) -> None:
        """An input is done."""
        report = replace(report, notes=tuple(map(in_shell_words, report.notes)))
        self.reports.append(report)
        if self._as_json:
            emit(jsonlines.report(report))

    def notes(self) -> Iterator[tuple[Path, str]]:
        """What somebody should know, by the input."""
        return ((report.source, note) for report in self.reports for note in report.notes)


def run_batch(request: Request) -> int:
    """Pool every input; the exit status."""
    options = request.options
    if not options.sizes:
        raise click.UsageError("Missing option '-s' / '--size'; expected the output grid")
    inputs = request.inputs or _standard_input()
    naming = Naming.of(request.output, request.output_dir)
    _check(request, inputs)
    outcomes = Outcomes(as_json=request.as_json)
    try:
        tasks = settle(inputs, options, naming, outcomes.fail, outcomes.leave_out)
        _check_standard_output(tasks, request)
        tasks = prepare(tasks, options, naming, inputs)
    except ArgumentError as error:
        raise click.UsageError(in_shell_words(str(error))) from error
    if not options.dry_run:
        tasks = list(_without_conflicts(tasks, outcomes))
    with places_for(tasks, options, request.dask) as places:
        with display([(task.source, task.size_bytes) for task in tasks], request) as progress_of:
            for task in tasks:
                on_progress = progress_of and progress_of(task.source, task.size_bytes)
                _pool_one(task, options, places, outcomes, on_progress)
        _show(outcomes, request, places)
    if outcomes.left_out and not outcomes.reports and not outcomes.failures:
        for name in inputs:
            outcomes.fail(name, FormatError("holds no file that can be pooled"))
    for source, reason in outcomes.failures:
        complain(f"{name_of(source)}: {reason}", FAILED)
    return FAILED if outcomes.failures else 0


def _without_conflicts(tasks: list[Task], outcomes: "Outcomes") -> Iterator[Task]:
    """The tasks whose outputs may be written; others fail before any work, not after hours of it."""
    for task in tasks:
        if task.conflict:
            outcomes.fail(task.source, FileError(task.conflict))
        else:
            yield task


def _pool_one(
    task: Task, options: Options, places: Places, outcomes: "Outcomes", on_progress: OnProgress | None
) -> None:
    try:
        report = places.pool(task, options, on_progress)
    except ArgumentError as error:
        if not outcomes.reports:
            raise click.UsageError(in_shell_words(str(error))) from error
        outcomes.fail(task.source, error)
    except BrokenPipeError as error:
        raise ReaderGoneError from error
    except (DatasetError, ShapeError, DTypeError) as error:
        if task.is_found and not options.datasets:
            outcomes.leave_out(task.source, f"it {error}")
        else:
            outcomes.fail(task.source, error)
    except (LucidError, MemoryError) as error:
        outcomes.fail(task.source, error)
    except Exception as error:
        outcomes.fail(task.source, unexpected(error))
    else:
        if report.skipped and not report.targets:
            outcomes.leave_out(task.source, *report.notes)
        else:
            conflict = (f"the run would fail: {task.conflict}",) if task.conflict else ()
            outcomes.add(replace(report, source=Path(task.source), notes=conflict + report.notes))


def _show(outcomes: Outcomes, request: Request, places: Places) -> None:
    """The summary, pictures and notes."""
    reports = outcomes.reports
    if request.quiet:
        return
    tell(outcomes.left_out)
    if not reports:
        return
    # rich takes as long to load as NumPy; without a summary it is not needed.
    from lucid_cli import render

    render.show(reports, render.console(), every=request.verbose)
    if request.preview:
        from lucid_cli.preview import show_preview

        for report in reports:
            if not report.skipped:
                try:
                    show_preview(report, render.console(), request.options, places.read)
                except (LucidError, MemoryError) as error:
                    outcomes.fail(str(report.source), error)
    tell(outcomes.notes())


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
    rules = (
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
    for is_wrong, text in rules:
        if is_wrong:
            raise click.UsageError(text)
    if request.dask is not None:
        try:
            import_module("lucid.run.dask")
        except LucidError as error:
            raise click.UsageError(str(error)) from error


def _check_standard_output(tasks: list[Task], request: Request) -> None:
    if request.options.dry_run or all(task.targets for task in tasks):
        return
    if request.as_json:
        raise click.UsageError("--json and arrays cannot both go to standard output; name a file with -o")
    if sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal, which shows no arrays; name a file with -o")


def display(
    inputs: list[tuple[str, int]], request: Request
) -> AbstractContextManager[Callable[[str, int], OnProgress] | None]:
    """One progress line for all inputs, by names and bytes; it gives each the callback for its events."""
    is_wanted = not (request.quiet or request.no_progress or request.options.dry_run)
    if not (is_wanted and inputs and sys.stderr.isatty()):
        return nullcontext()
    from lucid_cli import render

    return render.progress_bar(render.console(), inputs)
