"""Every input to its outputs: names settled before any work, failures told, the rest done."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import click

from lucid.errors import ArgumentError, FileError, LucidError, unexpected
from lucid.formats.disk.files import remove_stale
from lucid.formats.disk.spool import NamedSpool
from lucid.formats.registry import MAGIC_BYTES, NPY, Format, format_of_content, format_of_start
from lucid.formats.stream import STREAM, Stream
from lucid.job import pool
from lucid.options import Options, in_shell_words
from lucid.outputs import Target, default_output, is_same_file, stem_of, targets_of
from lucid.report import OnProgress, Report
from lucid.run.executor import Executor
from lucid.shards.folder import ShardFolder
from lucid_cli import jsonlines
from lucid_cli.messages import FAILED, ReaderGoneError, complain, emit, name_of, tell_notes
from lucid_cli.request import Request

DASH = str(STREAM)


class Task(NamedTuple):
    """One input: what is read, where it goes, how much there is of it."""

    source: str
    #: `{size}` is not yet filled in.
    output: str
    targets: tuple[Target, ...]
    nbytes: int
    #: Whether native code reads or writes it, which must not take the other inputs along.
    is_native: bool = False


class Outcomes:
    """What became of the inputs so far; JSON tells of each at once."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.reports: list[Report] = []
        self.failures: list[tuple[str, str]] = []

    def fail(self, source: str, error: BaseException) -> None:
        """An input failed."""
        reason = in_shell_words(str(error) or "memory ran out")
        self.failures.append((source, reason))
        if self._as_json:
            emit(jsonlines.error(source, reason))

    def add(self, report: Report) -> None:
        """An input is done."""
        self.reports.append(report)
        if self._as_json:
            emit(jsonlines.report(report))


def run_batch(request: Request) -> int:
    """Pool every input; the exit status."""
    options = request.options
    if not options.sizes:
        raise click.UsageError("Missing option '-s' / '--size'; expected the output grid")
    inputs = request.inputs or _standard_input()
    _check(request, inputs)
    outcomes = Outcomes(as_json=request.as_json)
    tasks = list(settle(inputs, request, outcomes))
    _check_standard_output(tasks, request)
    tasks = list(_prepare(tasks, request, outcomes))
    with _places(tasks, request) as places:
        with display([(task.source, task.nbytes) for task in tasks], request) as progress_of:
            for task in tasks:
                on_progress = progress_of and progress_of(task.source, task.nbytes)
                try:
                    report = places.pool(task, options, on_progress)
                except ArgumentError as error:
                    raise click.UsageError(in_shell_words(str(error))) from error
                except BrokenPipeError as error:
                    raise ReaderGoneError from error
                except (LucidError, MemoryError) as error:
                    outcomes.fail(task.source, error)
                except Exception as error:
                    outcomes.fail(task.source, unexpected(error))
                else:
                    outcomes.add(report)
        _show(outcomes, request, places)
    for source, reason in outcomes.failures:
        complain(f"{name_of(source)}: {reason}", FAILED)
    return FAILED if outcomes.failures else 0


def _show(outcomes: Outcomes, request: Request, places: "Places") -> None:
    """The summary, pictures and notes."""
    reports = outcomes.reports
    if request.quiet or not reports:
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
    tell_notes(reports)


@dataclass
class Places:
    """Where inputs are pooled: native code in a process of its own, the rest here, or all on a cluster."""

    process: Any = None
    executor: Executor | None = None
    #: Whether the cluster is one of processes with a thread each, made here.
    is_local: bool = False
    #: Why the cluster cannot be reached.
    error: LucidError | None = None

    def pool(self, task: Task, options: Options, on_progress: OnProgress | None) -> Report:
        """Pool an input where it belongs."""
        if self.error is not None:
            raise self.error
        if task.source == DASH:
            return self._pool_standard_input(task, options, on_progress)
        return self._pool(task.source, task, options, on_progress, is_native=task.is_native)

    def read(self, function: Callable[..., Any], path: Path, *args: Any, options: Options) -> Any:
        """Call a function that looks into a file."""
        if format_of_content(path).is_native:
            return self._started().call(function, path, *args, options=options)
        return function(path, *args)

    def _pool_standard_input(self, task: Task, options: Options, on_progress: OnProgress | None) -> Report:
        stream = Stream(sys.stdin.buffer)
        format_ = format_of_start(stream.peek(MAGIC_BYTES))
        if format_ is None or not format_.is_native:
            # To a native format, too: what is written is our own, and a stream need not fit the disk.
            target: Any = sys.stdout.buffer if task.output == DASH else task.output
            return pool(stream, target, options, on_progress=on_progress, has_prepared=True)
        spool = NamedSpool()
        try:
            stream.copy_to(spool.file, None)
            spool.file.flush()
            report = self._pool(str(spool.path), task, options, on_progress, is_native=True)
        finally:
            spool.close()
        return replace(report, source=STREAM)

    def _pool(
        self, source: str, task: Task, options: Options, on_progress: OnProgress | None, *, is_native: bool
    ) -> Report:
        keywords: dict[str, Any] = {"has_prepared": True, "executor": self.executor}
        options = replace(options, threads=None) if self.is_local else options
        try:
            if is_native:
                return self._started().call(  # type: ignore[no-any-return]
                    pool_to,
                    source,
                    task.output,
                    options,
                    options=options,
                    on_progress=on_progress,
                    **keywords,
                )
            return pool_to(source, task.output, options, on_progress=on_progress, **keywords)
        except BaseException as error:
            if any(ShardFolder.path_of(target).is_dir() for target in task.targets[:1]):
                error.add_note("shards that are done are kept, and the same command goes on with them")
            raise

    def _started(self) -> Any:
        if self.process is None:
            from lucid.run.process import Process  # seldom needed, and slow to load

            self.process = Process()
        return self.process


def pool_to(
    source: str, output: str, options: Options, *, on_progress: OnProgress | None = None, **keywords: Any
) -> Report:
    """Pool a file, `-` as output being the standard output of the process that does it."""
    target = sys.stdout.buffer if output == DASH else output
    return pool(source, target, options, on_progress=on_progress, **keywords)


@contextmanager
def _places(tasks: list[Task], request: Request) -> Iterator[Places]:
    """The process for native code and the cluster, if they are needed."""
    places, options = Places(), request.options
    with ExitStack() as stack:
        if any(task.is_native for task in tasks):
            places._started().start()  # now, while there are no other threads
        stack.callback(_end, places, tasks)
        if request.dask is not None and tasks and not options.dry_run:
            try:
                from lucid.run import dask
            except LucidError as error:
                raise click.UsageError(str(error)) from error
            places.is_local = request.dask == dask.LOCAL
            workers = options.threads if places.is_local else None
            try:
                places.executor = stack.enter_context(dask.connect(request.dask, workers=workers))
            except LucidError as error:
                places.error = error
        yield places


def _end(places: Places, tasks: list[Task]) -> None:
    """End the process; what it leaves beside outputs in a crash is removed."""
    if places.process is not None:
        places.process.stop()
        if places.process.has_crashed:
            _remove_stale(tasks)


def _remove_stale(tasks: list[Task]) -> None:
    for folder in {target.path.resolve().parent for task in tasks for target in task.targets}:
        remove_stale(folder)


def _standard_input() -> tuple[str, ...]:
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError(
            "Missing argument 'INPUT...'; expected files, or - with data on standard input"
        )
    return (DASH,)


def _check(request: Request, inputs: tuple[str, ...]) -> None:
    """Raise for options that exclude each other."""
    options = request.options
    is_stream = DASH in inputs or request.output == DASH
    rules = (
        (request.dask is not None and is_stream, "--dask needs files that the workers find by their names"),
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
            options.resume and is_stream,
            "--resume needs files; standard input and output cannot be read or written again",
        ),
        (
            options.slice is not None and is_stream,
            "--slice needs files; a shard and its input are found again by their names",
        ),
        (
            request.preview and options.slice is not None,
            "--preview shows the first sample, which a --slice may not hold; choose one",
        ),
        (
            request.preview and DASH in inputs,
            "--preview reads the input again, which standard input does not allow",
        ),
        (request.preview and request.as_json, "--preview is for people, --json for programs; choose one"),
    )
    for is_wrong, text in rules:
        if is_wrong:
            raise click.UsageError(text)


def _check_standard_output(tasks: list[Task], request: Request) -> None:
    if request.options.dry_run or not any(task.output == DASH for task in tasks):
        return
    if request.as_json:
        raise click.UsageError("--json and arrays cannot both go to standard output; name a file with -o")
    if sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal, which shows no arrays; name a file with -o")


def settle(inputs: tuple[str, ...], request: Request, outcomes: Outcomes) -> Iterator[Task]:
    """Every input with its output; those that cannot be named become failures.

    Raises
    ------
    click.UsageError
        Two inputs would have one output, or a name fits no format.

    """
    owners: dict[str, str] = {}
    for source in inputs:
        try:
            task = _task_of(source, request)
        except ArgumentError as error:
            raise click.UsageError(in_shell_words(str(error))) from error
        except LucidError as error:
            outcomes.fail(source, error)
            continue
        for target in task.targets:
            owner = owners.setdefault(os.path.realpath(target.path), source)
            if owner is not source:
                raise click.UsageError(
                    f"{owner} and {source} would both be written to {target.path}; "
                    "use {stem} or {parent} in --output, or --output-dir"
                )
        yield task


def _task_of(source: str, request: Request) -> Task:
    path, is_stream = Path(source), source == DASH
    format_: Format = NPY if is_stream else format_of_content(path)
    nbytes = 0 if is_stream else bytes_of(path)
    if request.output == DASH or (is_stream and request.output is None and request.output_dir is None):
        return Task(source, DASH, (), nbytes, format_.is_native)
    folder = None if request.output_dir is None else Path(request.output_dir)
    output = request.output or default_output(path, format_, request.options, folder)
    targets = targets_of(path, format_, output, request.options)
    is_native = format_.is_native or any(target.format.is_native for target in targets)
    # A stream that is spooled has another name than the one that fills in the template.
    text = output.replace("{stem}", stem_of(path)) if is_stream else output
    return Task(source, text, targets, nbytes, is_native)


def _prepare(tasks: list[Task], request: Request, outcomes: Outcomes) -> Iterator[Task]:
    """The tasks whose outputs may be written; others fail before any work, not after hours of it."""
    options = request.options
    if request.output_dir is not None and not options.dry_run:
        try:
            Path(request.output_dir).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.UsageError(
                f"--output-dir {request.output_dir} cannot be made: {error.strerror}"
            ) from error
    if not options.dry_run:
        _remove_stale(tasks)
    sources = {os.path.realpath(source): Path(source) for source in request.inputs if source != DASH}
    is_planned_folder = request.output_dir is not None and not Path(request.output_dir).exists()
    for task in tasks:
        try:
            for target in task.targets:
                other = sources.get(os.path.realpath(target.path))
                if other is not None and is_same_file(other, target.path):
                    raise FileError(
                        f"output {target.path} is an input, which is never changed; name another with -o"
                    )
                if not is_planned_folder:
                    target.refuse_existing(overwrite=options.overwrite or options.resume)
        except LucidError as error:
            outcomes.fail(task.source, error)
        else:
            yield task


def bytes_of(path: Path) -> int:
    """Size of a file; 0 if there is none, or it is a folder."""
    try:
        return 0 if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


def display(
    inputs: list[tuple[str, int]], request: Request
) -> AbstractContextManager[Callable[[str, int], OnProgress] | None]:
    """One progress line for all inputs, by names and bytes; it gives each the callback for its events."""
    is_wanted = not (request.quiet or request.no_progress or request.options.dry_run)
    if not (is_wanted and inputs and sys.stderr.isatty()):
        return nullcontext()
    from lucid_cli import render

    return render.progress_bar(render.console(), inputs)
