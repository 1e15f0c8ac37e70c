"""Every input to its outputs: names settled before any work, failures told, the rest done."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, NoReturn

import click

from lucid.errors import ArgumentError, LucidError
from lucid.formats.disk.files import remove_stale
from lucid.formats.registry import NPY, format_of_content
from lucid.job import pool_file
from lucid.naming import Size, Target, default_output, targets_of
from lucid.report import Progress, Report
from lucid_cli import jsonlines
from lucid_cli.messages import ReaderGoneError, complain, emit, name_of

if TYPE_CHECKING:
    from lucid_cli.worker import Worker

#: Exit status where at least one input failed.
FAILED = 1
#: An input, and what was wrong with it.
Failure = tuple[str, Exception]
#: Stands for standard input and standard output.
STREAM = "-"


class Task(NamedTuple):
    """One input: what is read, where it goes (`{size}` not yet filled in), how much there is of it."""

    source: str
    output: str
    targets: tuple[Target, ...]
    nbytes: int
    #: Whether native code reads it, which must not take the other inputs along.
    is_native: bool = False


def run_batch(
    *,
    inputs: tuple[str, ...],
    size: tuple[Size, ...],
    output: str | None,
    output_dir: str | None,
    dataset: tuple[str, ...],
    overwrite: bool,
    resume: bool,
    slice: slice | None,  # noqa: A002  (the option's name)
    dask: str | None,
    dry_run: bool,
    as_json: bool,
    preview: bool,
    quiet: bool,
    verbose: bool,
    no_progress: bool,
    **options: Any,
) -> int:
    """Pool every input; the exit status."""
    if not size:
        raise click.UsageError("Missing option '-s' / '--size'; expected the output grid")
    inputs = inputs or _standard_input()
    _check(inputs, output, output_dir, as_json=as_json, preview=preview, resume=resume, part=slice, dask=dask)
    failures: list[Failure] = []
    tasks = list(settle(inputs, size, output, output_dir, failures, slice))
    _check_standard_output(tasks, as_json=as_json, dry_run=dry_run)
    if refused := list(refuse_outputs(tasks, overwrite=overwrite or resume)):
        # A name that is taken is found before any work, not after hours of it.
        failures, tasks = [*failures, *refused], []
    if as_json:
        for source, reason in failures:
            emit(jsonlines.error(source, reason))
    reports: list[Report] = []
    with (
        _pools(tasks, dask, options["threads"], dry_run=dry_run) as pools,
        display(tasks, quiet=quiet, wanted=not (no_progress or dry_run)) as on_progress,
    ):
        for task in tasks:
            try:
                report = pools(task)(
                    _source(task),
                    _target(task),
                    size=list(size),
                    datasets=dataset,
                    overwrite=overwrite,
                    resume=resume,
                    **({} if slice is None else {"slice": slice}),
                    **({"dry_run": True} if dry_run else {}),
                    on_progress=on_progress(task) if on_progress else None,
                    **options,
                )
            except ArgumentError as error:
                raise click.UsageError(str(error)) from error
            except BrokenPipeError as error:
                raise ReaderGoneError from error
            except (LucidError, MemoryError) as error:
                failures.append((task.source, error))
                if as_json:
                    emit(jsonlines.error(task.source, error))
                continue
            if as_json:
                emit(jsonlines.report(report))
            reports.append(report)
    if not quiet and reports:
        # rich takes as long to load as NumPy; without a summary it is not needed.
        from lucid_cli import render

        render.show(reports, render.console(), every=verbose)
        if preview:
            from lucid_cli.preview import show_preview

            for report in (report for report in reports if not report.skipped):
                show_preview(report, render.console(), options["layout"], size, options["nan"] or "propagate")
    for source, reason in failures:
        complain(f"{name_of(source)}: {reason}", FAILED)
    return FAILED if failures else 0


#: Gives each task what pools it: a function like `lucid.pool_file`.
Pools = Callable[[Task], Callable[..., Report]]


@contextmanager
def _pools(tasks: list[Task], dask: str | None, threads: int | None, *, dry_run: bool) -> Iterator[Pools]:
    """Where inputs are pooled: in this process, in a worker, on a cluster."""
    if dask is not None and tasks and not dry_run:
        try:
            from lucid import cluster
        except LucidError as error:
            raise click.UsageError(str(error)) from error
        # Here threads are processes of one each; elsewhere they are those of a task.
        is_local = dask == cluster.LOCAL
        with ExitStack() as stack:
            try:
                connected = cluster.connect(dask, workers=threads if is_local else None)
                client = stack.enter_context(connected)
            except LucidError as error:
                yield partial(_fail, error)
                return

            def pool(*args: Any, threads: int | None, **options: Any) -> Report:
                threads = None if is_local else threads
                try:
                    return cluster.pool_file_on(client, *args, threads=threads, **options)
                except BaseException as error:
                    error.add_note("shards that are done are kept, and the same command goes on with them")
                    raise

            yield lambda _: pool
        return
    with _worker(tasks) as worker:
        yield lambda task: worker.pool_file if worker is not None and task.is_native else pool_file


def _fail(error: LucidError, _: Task) -> NoReturn:
    raise error


@contextmanager
def _worker(tasks: list[Task]) -> Iterator["Worker | None"]:
    """A process for native code, if there is any; what it leaves beside outputs in a crash is removed."""
    if not any(task.is_native for task in tasks):
        yield None
        return
    from lucid_cli.worker import Worker  # multiprocessing takes 10 ms to load

    worker = Worker()
    try:
        with worker:
            worker.start()  # now, while there are no other threads
            yield worker
    finally:
        if worker.has_crashed:
            remove_stale.cache_clear()
            for folder in {target.path.resolve().parent for task in tasks for target in task.targets}:
                remove_stale(folder)


def _standard_input() -> tuple[str, ...]:
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError(
            "Missing argument 'INPUT...'; expected files, or - with data on standard input"
        )
    return (STREAM,)


def _check(
    inputs: tuple[str, ...],
    output: str | None,
    output_dir: str | None,
    *,
    as_json: bool,
    preview: bool,
    resume: bool,
    part: slice | None,
    dask: str | None,
) -> None:
    if dask is not None and (STREAM in inputs or output == STREAM):
        raise click.UsageError("--dask needs files that the workers find by their names")
    if dask is not None and part is not None:
        raise click.UsageError("--dask cuts slices itself; choose it or --slice")
    if output is not None and output_dir is not None:
        raise click.UsageError("--output and --output-dir exclude each other")
    if inputs.count(STREAM) > 1:
        raise click.UsageError("standard input (-) can be read once only")
    if resume and (STREAM in inputs or output == STREAM):
        raise click.UsageError(
            "--resume needs files; standard input and output cannot be read or written again"
        )
    if part is not None and (STREAM in inputs or output == STREAM):
        raise click.UsageError("--slice needs files; a shard and its input are found again by their names")
    if preview and part is not None:
        raise click.UsageError("--preview shows the first sample, which a --slice may not hold; choose one")
    if preview and STREAM in inputs:
        raise click.UsageError("--preview reads the input again, which standard input does not allow")
    if preview and as_json:
        raise click.UsageError("--preview is for people, --json for programs; choose one")


def _check_standard_output(tasks: list[Task], *, as_json: bool, dry_run: bool) -> None:
    if dry_run or not any(task.output == STREAM for task in tasks):
        return
    if as_json:
        raise click.UsageError("--json and arrays cannot both go to standard output; name a file with -o")
    if sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal, which shows no arrays; name a file with -o")


def settle(
    inputs: tuple[str, ...],
    sizes: tuple[Size, ...],
    output: str | None,
    output_dir: str | None,
    failures: list[Failure],
    part: slice | None = None,
) -> Iterator[Task]:
    """Every input with its output; those that cannot be named become failures.

    Raises
    ------
    click.UsageError
        Two inputs would have one output, or a name fits no format.

    """
    owners: dict[str, str] = {}
    folder = None if output_dir is None else Path(output_dir)
    for source in inputs:
        path = Path(source)
        is_stream = source == STREAM
        if output == STREAM or (is_stream and output is None and folder is None):
            yield Task(source, STREAM, (), 0 if is_stream else bytes_of(path))
            continue
        try:
            format_ = NPY if is_stream else format_of_content(path)
            text = default_output(path, format_, sizes, folder, part) if output is None else output
            targets = targets_of(path, format_, text, sizes, part)
        except ArgumentError as error:
            raise click.UsageError(str(error)) from error
        except LucidError as error:
            failures.append((source, error))
            continue
        for target in targets:
            owner = owners.setdefault(os.path.realpath(target.path), source)
            if owner is not source:
                raise click.UsageError(
                    f"{owner} and {source} would both be written to {target.path}; "
                    "use {stem} in --output, or --output-dir"
                )
        nbytes = 0 if is_stream else bytes_of(path)
        yield Task(source, text, targets, nbytes, format_.is_native)


def refuse_outputs(tasks: list[Task], *, overwrite: bool) -> Iterator[Failure]:
    """What is wrong with outputs that may not be written."""
    for task in tasks:
        for target in task.targets:
            try:
                target.format.refuse_existing(target.path, overwrite=overwrite)
            except LucidError as error:
                yield task.source, error


def bytes_of(path: Path) -> int:
    """Size of a file; 0 if there is none, or it is a folder."""
    try:
        return 0 if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


def _source(task: Task) -> str | BinaryIO:
    return sys.stdin.buffer if task.source == STREAM else task.source


def _target(task: Task) -> str | BinaryIO:
    return sys.stdout.buffer if task.output == STREAM else task.output


#: Gives each input's task the callback for its events.
OnProgress = Callable[[Task], Callable[[Progress], None]]


def display(tasks: list[Task], *, quiet: bool, wanted: bool) -> AbstractContextManager[OnProgress | None]:
    """One progress line for all inputs, in bytes of their files."""
    if quiet or not wanted or not tasks or not sys.stderr.isatty():
        return nullcontext()
    from lucid_cli import render

    return render.progress_bar(render.console(), tasks)
