"""A process of its own for what native code might crash: `python -m lucid_cli.worker`.

The parent sends calls of `pool_file` and gets events and a result, as pickles on pipes; both
ends are this program. A crash, a kill for want of memory or a hang of the HDF5 library then costs one
input. One worker serves all inputs of a batch: it takes a quarter of a second to start.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from lucid.errors import FileError, LucidError
from lucid.report import Progress, Report

#: Seconds that a worker has to clean up.
STOP_SECONDS = 0.8

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

#: Seconds without any progress after which a worker is taken to hang. A block has 4 MiB or one chunk.
HANG_SECONDS = 300.0


class Worker:
    """The parent's end; the process is started when there is work and again after a crash."""

    def __init__(self) -> None:
        #: Whether any process ended without cleaning up.
        self.has_crashed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._calls: Connection[Any, Any] | None = None
        self._answers: Connection[Any, Any] | None = None

    def pool_file(self, *args: Any, on_progress: Callable[[Progress], None] | None, **options: Any) -> Report:
        """Call `lucid.pool_file` in the worker.

        Raises
        ------
        LucidError
            As `lucid.pool_file`; a FileError if the worker crashed or hung.

        """
        if self._process is None:
            self._start()
        assert self._calls is not None
        assert self._answers is not None
        try:
            self._calls.send((args, options))
            while True:
                if not self._answers.poll(HANG_SECONDS):
                    self.stop()
                    raise FileError(f"made no progress for {HANG_SECONDS:.0f} seconds and was given up")
                kind, value = self._answers.recv()
                if kind == "progress":
                    if on_progress is not None:
                        on_progress(value)
                elif kind == "report":
                    return value  # type: ignore[no-any-return]
                else:
                    raise value
        except (EOFError, OSError) as error:
            if isinstance(error, LucidError):
                raise
            raise FileError(f"crashed the process that read it: {self.stop()}") from None
        except LucidError:
            raise
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        from multiprocessing.connection import Connection

        self._process = subprocess.Popen(
            [sys.executable, "-m", "lucid_cli.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._calls = Connection(os.dup(self._process.stdin.fileno()), readable=False)
        self._answers = Connection(os.dup(self._process.stdout.fileno()), writable=False)

    def stop(self) -> str:
        """End the process, letting it clean up; how it ended."""
        if self._process is None:
            return "it was not running"
        process, self._process = self._process, None
        for end in (self._calls, self._answers):
            assert end is not None
            end.close()
        process.terminate()
        try:
            process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        code = process.returncode
        self.has_crashed = self.has_crashed or code not in (0, 128 + signal.SIGTERM)
        if code == -signal.SIGKILL:
            return "killed, as the system does when memory runs out"
        return signal.Signals(-code).name if code < 0 else f"status {code}"

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def serve(calls: "Connection[Any, Any]", answers: "Connection[Any, Any]") -> None:
    """The worker's end: do one call after the other until there are no more."""
    from lucid.job import pool_file

    while True:
        try:
            args, options = calls.recv()
        except EOFError:
            return
        try:
            report = pool_file(*args, on_progress=lambda event: answers.send(("progress", event)), **options)
        except (LucidError, MemoryError) as error:
            answers.send(("error", error))
        else:
            answers.send(("report", report))


def main() -> None:
    """Entry point of the worker."""
    from multiprocessing.connection import Connection

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # The parent is interrupted too, and says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _terminate)
    # What a library prints must not be taken for an answer.
    calls, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    os.dup2(2, 1)
    with suppress(BrokenPipeError):  # the parent is gone; what was begun is done
        serve(calls, answers)


if __name__ == "__main__":
    main()
