"""The command: parse, pool every input, render, exit status."""

import gc
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from lucid import __version__
from lucid.pooling import kernel_name
from lucid_cli import streams
from lucid_cli.messages import FAILED, NAME, complain
from lucid_cli.options import Command, join_sizes, option, work_options

#: Exit status for a mistake in the command line.
USAGE = 2

DESCRIPTION = """Pool the spatial axes of arrays in .npy, .npz, HDF5, Zarr and safetensors files to a fixed grid.

Each output cell is the mean of its window, as in adaptive average pooling:
lucid-pool features.h5 --size 4 4 writes features.pooled.h5.

An INPUT that is a folder stands for all files in it that can be read, at any depth. INPUT - is standard
input: .npy arrays one after another, or a file; without -o the means go to standard output as .npy, and so
they do for pipes, <(...).

A file named like a number is given as ./4. Every option but --version and --help also reads
LUCID_POOL_<NAME> from the environment, several values separated by a semicolon.
"""


def callback(**values: Any) -> int:
    """Do what the command line says; the exit status."""
    # Loading makes many objects and no garbage; nor will what was loaded become garbage, so that looking
    # at it again, at exit above all, is lost time (benchmarks/decisions.md).
    gc.disable()
    from lucid_cli.batch import run_batch
    from lucid_cli.request import request_of

    gc.freeze()
    gc.enable()
    request = request_of(values)
    if request.merge:
        from lucid_cli.merging import run_merge

        return run_merge(request)
    return run_batch(request)


command = Command(
    NAME,
    callback=callback,
    help=DESCRIPTION,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        click.Argument(["inputs"], metavar="[INPUT]...", nargs=-1, type=click.Path()),
        option(
            "-o",
            "--output",
            group="output",
            type=click.Path(),
            metavar="PATH",
            help="Output, or - for standard output; its suffix picks the format; {stem}, {parent} and {size}"
            " are filled in; DIR/ is --output-dir DIR.  [default: NAME.pooled.EXT]",
        ),
        option(
            "--output-dir",
            group="output",
            type=click.Path(file_okay=False),
            metavar="DIR",
            help="Folder for outputs with default names; it is made if it is not there, and inputs from a folder"
            " keep their place below it.",
        ),
        *work_options(),
        option(
            "--merge",
            group="work",
            is_flag=True,
            help="The inputs are all shards of one file; join them to what one run would have written.",
        ),
        option(
            "--dask",
            group="work",
            metavar="ADDRESS",
            help="Pool on a Dask cluster: a scheduler's address, or `local` for one process per CPU.",
        ),
        option(
            "--json",
            group="display",
            name="as_json",
            is_flag=True,
            help="Report on standard output, one JSON object per input and line.",
        ),
        option(
            "--preview",
            group="display",
            is_flag=True,
            help="Show channels of one sample before and after, as heat maps.",
        ),
        option(
            "-q", "--quiet", group="display", is_flag=True, help="No summary and no progress; errors only."
        ),
        option(
            "-v",
            "--verbose",
            group="display",
            is_flag=True,
            help="The summary lists every file, and the plan.",
        ),
        option("--no-progress", group="display", is_flag=True, help="No progress bar."),
    ],
)
command.examples = (
    "lucid-pool features.h5 --size 4 4",
    "lucid-pool features/ --size 1 --size 2 --output-dir pooled",
    "cat features.npy | lucid-pool --size 1 --flatten > means.npy",
)
command = click.version_option(__version__, message=f"%(prog)s %(version)s ({kernel_name()} kernel)")(command)


def run(args: list[str]) -> int:
    """Run the command and return its exit status."""
    try:
        with streams.as_output():
            status = command.main(join_sizes(args), prog_name=NAME, standalone_mode=False)
    except click.UsageError as error:
        return complain(f"{error.format_message()} ({NAME} --help lists the options)", USAGE)
    except Stopped as stopped:
        words = [f"stopped by {stopped.signal.name}", *getattr(stopped, "__notes__", ())]
        return complain("; ".join(words), 128 + stopped.signal)
    except streams.ReaderGoneError:
        # End as other filters do, without a word.
        return 128 + signal.SIGPIPE
    except streams.OutputError as error:
        return complain(f"standard output cannot be written: {error}", FAILED)
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
    streams.open_closed()
    # Nothing is left to BLAS, whose threads would take time and memory to start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What is ignored stays so, as under nohup or in the background of a shell.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)
    status = run(sys.argv[1:])
    streams.flush()
    sys.exit(status)
