"""A command line as one value: the command's own options, each declared once, and what excludes each other."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module

import click
from click.core import ParameterSource

from lucid.kinds import TRUTH, Kind
from lucid.options import MERGE, WORK, Options, option, option_rows

DASH = "-"
FILE, FOLDER = Kind(str, "a path", "PATH"), Kind(str, "a folder", "DIR")
#: What a merge takes.
_MERGE_OPTIONS = {*MERGE, "inputs", "output", "merge", "as_json", "quiet", "verbose", "no_progress"}


@dataclass(frozen=True)
class Request:
    """A command line: the inputs, the options of the work, and the command's own."""

    inputs: tuple[str, ...]
    options: Options
    output: str | None = option(
        "output",
        None,
        FILE,
        "Output, or - for standard output; its suffix picks the format; {stem}, {parent} and {size} are filled in; "
        "DIR/ is --output-dir DIR.",
        "-o --output",
        "NAME.pooled.EXT",
    )
    output_dir: str | None = option(
        "output",
        None,
        FOLDER,
        "Folder for outputs with default names; it is made if it is not there, and inputs from a folder keep their "
        "place below it.",
    )
    pack: str | None = option(
        "output",
        None,
        FILE,
        "One output for all inputs, of a format that holds several arrays. FOLDER/a/b.npy is a/b in it; where an input "
        "has several arrays, their names follow. It holds all inputs, or is not made.",
    )
    merge: bool = option(
        WORK,
        False,
        TRUTH,
        "The inputs are all shards of one file; join them to what one run would have written.",
    )
    dask: str | None = option(
        WORK,
        None,
        Kind(str, "an address", "ADDRESS"),
        "Pool on a Dask cluster: a scheduler's address, or `local` for one process per CPU.",
    )
    as_json: bool = option(
        "display", False, TRUTH, "Report on standard output, one JSON object per input and line.", "--json"
    )
    preview: bool = option(
        "display", False, TRUTH, "Show channels of one sample before and after, as heat maps."
    )
    quiet: bool = option("display", False, TRUTH, "No summary and no progress; errors only.", "-q --quiet")
    verbose: bool = option(
        "display", False, TRUTH, "The summary lists every file, and the plan.", "-v --verbose"
    )
    no_progress: bool = option("display", False, TRUTH, "No progress bar.")


def request_of(context: click.Context) -> Request:
    """What the shell gave, checked; what cannot be is a UsageError or a LucidError."""
    values = dict(context.params)
    options = Options(**{name: values.pop(name) for name in option_rows()})
    request = Request(values.pop("inputs"), options, **values)
    if request.merge:
        for parameter in context.command.params:
            is_typed = context.get_parameter_source(str(parameter.name)) == ParameterSource.COMMANDLINE
            if is_typed and parameter.name not in _MERGE_OPTIONS:
                raise click.UsageError(f"--merge takes no {parameter.opts[-1]}: the shards know it")
    for text in _mistakes(request):
        raise click.UsageError(text)
    if request.dask is not None:
        import_module("lucid.run.dask")
    return replace(request, inputs=request.inputs or (DASH,))


def _mistakes(request: Request) -> Iterator[str]:
    """What is missing, and what excludes each other."""
    from lucid.inputs import is_stream  # `--help` does without

    options = request.options
    for name in ("output", "output_dir", "pack", "dask"):
        if getattr(request, name) == "":
            yield f"--{name.replace('_', '-')} is empty"
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
    if request.output in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        yield f"-o is {request.output!r}; standard output is -o {DASH}"
    if request.output is not None and request.output_dir is not None:
        yield "--output and --output-dir exclude each other"
    if request.inputs.count(DASH) > 1:
        yield "standard input (-) can be read once only"
    reads_stream = not request.inputs or any(map(is_stream, request.inputs))
    if reads_stream or request.output == DASH:
        for name, value in (("dask", request.dask), ("resume", options.resume), ("slice", options.slice)):
            if value:
                yield f"--{name} needs files; standard input and output cannot be found or read again by name"
    if request.dask is not None and options.slice is not None:
        yield "--dask divides the work itself; choose it or --slice"
    if request.preview:
        if options.slice is not None:
            yield "--preview shows the first sample, which a --slice may not hold; choose one"
        if reads_stream:
            yield "--preview reads the input again, which standard input and pipes do not allow"
        if request.as_json:
            yield "--preview is for people, --json for programs; choose one"
