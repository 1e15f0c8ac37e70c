"""A command line as one value, and what in it excludes each other."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module

import click
from click.core import ParameterSource

from lucid.formats.stream import STREAM
from lucid.inputs import is_stream
from lucid.options import Options, declared

DASH = str(STREAM)
#: What a merge takes; all else the shards know.
_OF_MERGE = {"inputs", "output", "merge", "overwrite", "dry_run", "max_memory", "threads"}
_OF_MERGE |= {"as_json", "quiet", "verbose", "no_progress"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A command line: the options of the work, and the command's own."""

    options: Options
    inputs: tuple[str, ...]
    output: str | None
    output_dir: str | None
    pack: str | None
    merge: bool
    dask: str | None
    as_json: bool
    preview: bool
    quiet: bool
    verbose: bool
    no_progress: bool


def request_of(context: click.Context) -> Request:
    """What the shell gave, checked; what cannot be is a UsageError or a LucidError."""
    values = dict(context.params)
    options = Options(**{name: values.pop(name) for name in declared()})
    request = Request(options=options, **values)
    if request.merge:
        for parameter in context.command.params:
            is_typed = context.get_parameter_source(str(parameter.name)) == ParameterSource.COMMANDLINE
            if is_typed and parameter.name not in _OF_MERGE:
                raise click.UsageError(f"--merge takes no {parameter.opts[-1]}: the shards know it")
    for text in _mistakes(request):
        raise click.UsageError(text)
    if request.dask is not None:
        import_module("lucid.run.dask")
    return replace(request, inputs=request.inputs or (DASH,))


def _mistakes(request: Request) -> Iterator[str]:
    """What is missing, and what excludes each other."""
    options = request.options
    has_files = bool(request.inputs) and DASH not in request.inputs
    if request.merge:
        if not has_files or request.output == DASH:
            yield "--merge needs shards as files, and a file for its output"
        return
    if request.pack is not None:
        if not has_files:
            yield "--pack needs files or folders as inputs"
        for name in ("output", "output_dir", "dask", "preview"):
            if getattr(request, name):
                yield f"--pack is one output for all inputs; choose it or --{name.replace('_', '-')}"
    if not options.sizes:
        yield "Missing option '-s' / '--size'; expected the output grid"
    if not request.inputs and sys.stdin.isatty():
        yield "Missing argument 'INPUT...'; expected files, or - with data on standard input"
    if request.output is not None and request.output_dir is not None:
        yield "--output and --output-dir exclude each other"
    if request.inputs.count(DASH) > 1:
        yield "standard input (-) can be read once only"
    reads_stream = not request.inputs or any(map(is_stream, request.inputs))
    if reads_stream or request.output == DASH:
        if request.dask is not None:
            yield "--dask needs files that the workers find by their names"
        if options.resume:
            yield "--resume needs files; standard input and output cannot be read or written again"
        if options.slice is not None:
            yield "--slice needs files; a shard and its input are found again by their names"
    if request.dask is not None and options.slice is not None:
        yield "--dask divides the work itself; choose it or --slice"
    if request.preview:
        if options.slice is not None:
            yield "--preview shows the first sample, which a --slice may not hold; choose one"
        if reads_stream:
            yield "--preview reads the input again, which standard input and pipes do not allow"
        if request.as_json:
            yield "--preview is for people, --json for programs; choose one"
