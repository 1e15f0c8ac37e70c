"""Every input to its output: names settled before any work, failures told, the rest done."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click

from lucid.errors import ArgumentError, LucidError
from lucid.formats.files import refuse_existing
from lucid.formats.registry import format_of_suffix
from lucid.job import OnProgress, Report, default_target, pool_file
from lucid_cli import jsonlines
from lucid_cli.messages import complain, emit
from lucid_cli.options import Size, size_name

#: Exit status where at least one input failed.
FAILED = 1

Pair = tuple[Path, Path]


def run_batch(
    *,
    inputs: tuple[str, ...],
    size: Size,
    output: str | None,
    output_dir: str | None,
    dataset: tuple[str, ...],
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    no_progress: bool,
    **options: Any,
) -> int:
    """Pool every input; the exit status."""
    pairs, status = settle(inputs, size, output, output_dir)
    if refuse_outputs(pairs, overwrite=overwrite):
        return FAILED
    show: Callable[[Report], None] | None = None
    bar: AbstractContextManager[OnProgress | None] = nullcontext()
    if not quiet:
        # rich takes as long to load as NumPy; without a summary it is not needed.
        from lucid_cli import render

        console = render.console()
        show = partial(render.show, to=console)
        bar = render.progress_bar(console, wanted=not (no_progress or dry_run))
    with bar as on_progress:
        for source, target in pairs:
            try:
                report = pool_file(
                    source,
                    target,
                    size=size,
                    datasets=dataset,
                    overwrite=overwrite,
                    dry_run=dry_run,
                    on_progress=on_progress,
                    **options,
                )
            except ArgumentError as error:
                raise click.UsageError(str(error)) from error
            except (LucidError, MemoryError) as error:
                status = complain(f"{source}: {error}", FAILED)
                if as_json:
                    emit(jsonlines.error(source, error))
                continue
            if as_json:
                emit(jsonlines.report(report))
            if show is not None:
                show(report)
    return status


def settle(
    inputs: tuple[str, ...], size: Size, output: str | None, output_dir: str | None
) -> tuple[list[Pair], int]:
    """Every input with its output, and the status so far: an input may fail to be named.

    Raises
    ------
    click.UsageError
        Two inputs would have one output, or the options contradict each other.

    """
    if output is not None and output_dir is not None:
        raise click.UsageError("--output and --output-dir exclude each other")
    pairs: list[Pair] = []
    status = 0
    owners: dict[str, Path] = {}
    for source in map(Path, inputs):
        try:
            if output is None:
                target = default_target(source, None if output_dir is None else Path(output_dir))
            else:
                target = Path(output.replace("{stem}", source.stem).replace("{size}", size_name(size)))
                format_of_suffix(target)
        except ArgumentError as error:
            raise click.UsageError(str(error)) from error
        except LucidError as error:
            status = complain(f"{source}: {error}", FAILED)
            continue
        owner = owners.setdefault(os.path.realpath(target), source)
        if owner is not source:
            raise click.UsageError(
                f"{owner} and {source} would both be written to {target}; use {{stem}} in --output"
            )
        pairs.append((source, target))
    return pairs, status


def refuse_outputs(pairs: list[Pair], *, overwrite: bool) -> bool:
    """Say which outputs cannot be written, before any work."""
    refused = False
    for source, target in pairs:
        try:
            refuse_existing(target, overwrite=overwrite)
        except LucidError as error:
            refused = bool(complain(f"{source}: {error}", FAILED))
    return refused
