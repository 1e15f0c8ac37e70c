"""The command: its words, the run, the exit status."""

import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from lucid.errors import FileError, LucidError
from lucid_cli import streams
from lucid_cli.command import command, join_sizes
from lucid_cli.streams import FAILED, NAME, complain, in_shell_words

#: Exit status for a mistake in the command line.
USAGE = 2
#: Where the scripts that completion begins with in a shell say what they want.
COMPLETE = "_LUCID_POOL_COMPLETE"


def run(args: list[str]) -> int:
    """Run the command and return its exit status."""
    # Loading makes many objects and no garbage; nor will what was loaded become garbage, so that looking
    # at it again, at exit above all, is lost time (benchmarks/decisions.md).
    gc.disable()
    try:
        if instruction := os.environ.get(COMPLETE):
            from lucid_cli.completion import shell_complete

            return shell_complete(command, {}, NAME, COMPLETE, instruction)
        # `command.main` would end with status 1 where nobody reads the help.
        with streams.as_output(), command.make_context(NAME, join_sizes(args)) as context:
            request = command.invoke(context)
        from lucid_cli.run import run_request

        gc.freeze()
        gc.enable()
        return run_request(request)
    except click.exceptions.Exit as done:  # of --help and --version
        return done.exit_code
    except FileError as error:  # there is no room for the names of inputs
        return complain(str(error), FAILED)
    except (click.UsageError, LucidError) as error:
        text = error.format_message() if isinstance(error, click.UsageError) else in_shell_words(str(error))
        return complain(f"{text} ({NAME} --help lists the options)", USAGE)
    except StopSignal as stopped:
        (number,) = stopped.args
        words = [f"stopped by {number.name}", *getattr(stopped, "__notes__", ())]
        return complain("; ".join(words), 128 + number)
    except BrokenPipeError:  # nobody reads: end as other filters do, without a word
        return 128 + signal.SIGPIPE
    except MemoryError:
        return complain("memory ran out", FAILED)
    except ImportError as error:  # NumPy's own is a page, as where `ulimit -v` leaves no room for it
        return complain(f"cannot be loaded: {error.__cause__ or error}", FAILED)
    except OSError as error:
        return complain(f"{error.filename or 'a temporary file'} cannot be written: {error.strerror}", FAILED)


class StopSignal(BaseException):
    """A signal asked the process to end: this one."""


def _stop(number: int, _: FrameType | None) -> NoReturn:
    # The second signal ends the process at once.
    signal.signal(number, signal.SIG_DFL)
    raise StopSignal(signal.Signals(number))


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
    for stream in (sys.stdout, sys.stderr):
        streams.flush(stream)
    sys.exit(status)
