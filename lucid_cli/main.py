"""The command: parse, pool every input, render, exit status."""

import gc
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from lucid import __version__
from lucid_cli.messages import NAME, ReaderGoneError, complain
from lucid_cli.options import (
    BytesType,
    SizeType,
    SliceType,
    complete_compressions,
    complete_datasets,
    join_sizes,
)

#: Exit status for a mistake in the command line; see also `lucid_cli.batch.FAILED`.
USAGE = 2


@click.command(
    NAME,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "LUCID_POOL",
        "max_content_width": 100,
    },
)
@click.argument("inputs", metavar="[INPUT]...", nargs=-1, type=click.Path())
@click.option(
    "-s",
    "--size",
    multiple=True,
    type=SizeType(),
    metavar="H [W]",
    help="Required. Output grid: 4, 4 5, 4x5 or 4,5; `keep` keeps a dimension. Repeatable: all in one pass.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="PATH",
    help="Output, or - for standard output; its suffix picks the format; {stem} and {size} are"
    " filled in.  [default: NAME.pooled.EXT]",
)
@click.option(
    "--output-dir",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Folder for outputs with default names.",
)
@click.option(
    "-d",
    "--dataset",
    multiple=True,
    metavar="PATH",
    shell_complete=complete_datasets,
    help="HDF5: pool only these; repeatable, globs.  [default: all that fit the layout]",
)
@click.option(
    "--carry/--no-carry",
    default=True,
    show_default=True,
    help="HDF5: carry over unchanged what is not pooled.",
)
@click.option(
    "--layout",
    default="NCHW",
    show_default=True,
    metavar="AXES",
    help="Axis letters with HW in them: NCHW, NHWC, CHW, NTCHW, …",
)
@click.option("--flatten", is_flag=True, help="Write each pooled dataset as (N, everything else).")
@click.option(
    "--dtype",
    type=click.Choice(["float16", "bfloat16", "float32", "float64"]),
    help="dtype of the means.  [default: as the input]",
)
@click.option(
    "--input-dtype", type=click.Choice(["bfloat16"]), help="What two-byte elements without a type are."
)
@click.option(
    "--nan",
    type=click.Choice(["propagate", "skip"]),
    help="NaN in a window gives NaN, or counts as nothing.  [default: propagate; skip where NaN marks gaps]",
)
@click.option(
    "--missing",
    multiple=True,
    metavar="VALUE",
    help="Cells of this value count as nothing, as those of `_FillValue` do; repeatable; none turns all off.",
)
@click.option(
    "--slice",
    type=SliceType(),
    metavar="A:B",
    help="Pool only samples A to B, into a shard: NAME.pooled.A-B.EXT.",
)
@click.option(
    "--merge",
    is_flag=True,
    help="The inputs are all shards of one file; join them to what one run would have written.",
)
@click.option(
    "--allow-external",
    is_flag=True,
    help="HDF5: read virtual datasets and external storage, whose elements are in other files.",
)
@click.option(
    "--compression",
    default="keep",
    show_default=True,
    metavar="NAME[:LEVEL]",
    shell_complete=complete_compressions,
    help="HDF5: keep, none, gzip, lzf; with the extra `filters` zstd, lz4, bitshuffle, blosc, blosc-zstd, …",
)
@click.option(
    "--max-memory",
    type=BytesType(),
    default="256MiB",
    show_default=True,
    metavar="SIZE",
    help="Bound of the buffers, whatever the shapes.",
)
@click.option(
    "-j",
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="Threads.  [default: the CPUs this process may use]",
)
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Pool on a Dask cluster: a scheduler's address, or `local` for one process per CPU.",
)
@click.option("-f", "--overwrite", is_flag=True, help="Replace existing outputs.")
@click.option(
    "--resume",
    is_flag=True,
    help="Continue an interrupted run with --resume; outputs that are there are complete and skipped.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan: shapes, bytes, memory; write nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="Report on standard output, one JSON object per input and line."
)
@click.option("--preview", is_flag=True, help="Show channels of one sample before and after, as heat maps.")
@click.option("-q", "--quiet", is_flag=True, help="No summary and no progress; errors only.")
@click.option("-v", "--verbose", is_flag=True, help="The summary lists every file, and the plan.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def command(**options: Any) -> int:
    """Pool the spatial axes of arrays in .npy, HDF5 and Zarr files to a fixed grid.

    Each output cell is the mean of its window, as in adaptive average pooling:
    lucid-pool features.h5 --size 4 4 writes features.pooled.h5.

    INPUT - is standard input: .npy arrays one after another, or an HDF5 file; without -o the
    means go to standard output as .npy.

    A file named like a number is given as ./4. Every option also reads LUCID_POOL_<NAME>
    from the environment.
    """
    # Loading makes many objects and no garbage: a small file took 202 ms, so 188. Nor will what was loaded
    # become garbage: looking at it again, at exit above all, took 8 ms more.
    gc.disable()
    from lucid_cli.batch import run_batch

    gc.freeze()
    gc.enable()
    if options.pop("merge"):
        from lucid_cli.merging import run_merge  # seldom wanted

        return run_merge(**options)
    return run_batch(**options)


def run(args: list[str]) -> int:
    """Run the command and return its exit status."""
    try:
        status = command.main(join_sizes(args), prog_name=NAME, standalone_mode=False)
    except click.UsageError as error:
        return complain(f"{error.format_message()} ({NAME} --help lists the options)", USAGE)
    except Stopped as stopped:
        told = [f"stopped by {stopped.signal.name}", *getattr(stopped, "__notes__", ())]
        return complain("; ".join(told), 128 + stopped.signal)
    except ReaderGoneError:
        # End as other filters do, without a word, also from the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return int(status or 0)


class Stopped(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


def _stop(number: int, _: FrameType | None) -> NoReturn:
    # The second signal ends the process at once.
    signal.signal(number, signal.SIG_DFL)
    raise Stopped(number)


def main() -> NoReturn:
    """Entry point of the command."""
    # Blocks are pooled on threads of our own, to whose products BLAS adds none.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What is ignored stays so, as under nohup or in the background of a shell.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)
    sys.exit(run(sys.argv[1:]))
