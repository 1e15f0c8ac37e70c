"""A command line carried out: what becomes of every input, the summary, the exit status."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from lucid.batches import Batch
from lucid.errors import ArgumentError, FormatError, LucidError
from lucid.formats.disk.replacement import remove_stale
from lucid.inputs import NO_FILE_NOTE
from lucid.options import MERGE
from lucid.outputs import Naming
from lucid.report import ProgressOf, Report
from lucid.workers import Outcome, workers_for
from lucid_cli.outcomes import Outcomes
from lucid_cli.request import Request


def run_request(request: Request) -> int:
    """Do what the command line says; the exit status."""
    outcomes = Outcomes(as_json=request.as_json, keeps_all=request.verbose or request.preview)
    start_time = time.perf_counter()
    with closing(_outcomes_of(request)) as every:
        for source, outcome in every:
            outcomes.add(source, outcome)
    outcomes.totals["total_seconds"] = time.perf_counter() - start_time  # several may be pooled at a time
    if not (outcomes.has_reports or outcomes.failures):  # all were left out
        for name in request.inputs:
            outcomes.add(name, FormatError(NO_FILE_NOTE))
    if not request.quiet:
        _show(outcomes, request)
    return outcomes.tell_failures()


def _outcomes_of(request: Request) -> Generator[tuple[str, Outcome], None, None]:
    """What becomes of every input, or of the one output of all."""
    options = request.options
    if request.merge:
        from lucid.shards.merge import merge_files

        work = {name: getattr(options, name) for name in MERGE}
        name = request.output or f"{len(request.inputs)} shards"
        merge = partial(merge_files, request.inputs, request.output, **work)
        yield from _in_process(request, name, merge, partial(merge, dry_run=True))
    elif request.pack is not None:
        from lucid.packs import pack

        make = partial(pack, request.inputs, Path(request.pack), options)
        yield from _in_process(request, request.pack, make)
    else:
        yield from _pool_inputs(request)


def _pool_inputs(request: Request) -> Generator[tuple[str, Outcome], None, None]:
    """Every input to its own outputs."""
    options = request.options
    with closing(Batch(request.inputs, Naming.of(request.output, request.output_dir), options)) as batch:
        if not options.dry_run:
            if batch.totals["to_stream"] and (request.as_json or sys.stdout.isatty()):
                terminal = "standard output is a terminal, which shows no arrays"
                both = "--json and arrays cannot both go to standard output"
                raise click.UsageError(f"{both if request.as_json else terminal}; name a file with -o")
            batch.prepare()
        with (
            workers_for(batch, options, request.dask) as workers,
            _progress(len(batch), batch.totals["bytes"], request) as progress_of,
        ):
            for task, outcome in workers.pool_all(batch, progress_of):
                if isinstance(outcome, ArgumentError) and len(batch) == 1:
                    raise outcome  # a mistake of the command line; of several inputs, some may be of another format
                yield task.source, outcome


def _in_process(
    request: Request,
    name: str,
    make: Callable[..., Any],
    rehearse: Callable[[], Report] | None = None,
) -> Generator[tuple[str, Outcome], None, None]:
    """What becomes of outputs that are made in a process of its own, which native code may crash.

    Their folders are cleared then. Where `name` is not the output's, as only shards know it, a rehearsal tells it.
    """
    from lucid.run.process import Process  # seldom needed, and slow to load

    process = Process()
    try:
        with process:
            process.start()  # while there are no other threads
            with _progress(1, 0, request) as progress_of:
                on_progress = progress_of and progress_of(name, 0)
                result = process.call(make, options=request.options, on_progress=on_progress)
    except ArgumentError:
        raise
    except (LucidError, MemoryError) as error:
        yield name, error
    else:
        yield from [(name, result)] if isinstance(result, Report) else result
    finally:
        if process.has_crashed:
            paths: tuple[Path, ...] = (Path(name),)
            with suppress(LucidError), process:  # it may crash again, before there is an output
                paths = paths if rehearse is None else process.call(rehearse, options=request.options).targets
            for path in paths:
                remove_stale(path.resolve().parent)


def _progress(count: int, total_bytes: int, request: Request) -> AbstractContextManager[ProgressOf | None]:
    """One line of progress for so many inputs, where somebody looks."""
    is_wanted = not (request.quiet or request.no_progress or request.options.dry_run)
    if not (is_wanted and count and sys.stderr.isatty()):
        return nullcontext()
    from lucid_cli import render

    console = render.console()
    return nullcontext() if console.is_dumb_terminal else render.progress_bar(console, count, total_bytes)


def _show(outcomes: Outcomes, request: Request) -> None:
    """The summary and notes, between them pictures."""
    outcomes.left_out.tell()
    if outcomes.has_reports:
        # rich takes as long to load as NumPy; without a summary it is not needed.
        from lucid_cli import render

        console = render.console()
        render.show(outcomes, console, every=request.verbose)
        if request.preview:
            from lucid_cli.preview import show_previews

            for path, error in show_previews(outcomes.reports, console, request.options):
                outcomes.add(str(path), error)
        outcomes.notes.tell()
