"""A process of its own for native code that a hostile file can crash, or send round in circles.

The parent sends calls of functions and gets events and results through a pipe. A crash, a
kill for want of memory or a hang of the HDF5 library then costs one input, and a signal to the command is
answered at once, though the library listens to none. One process serves all inputs of a
batch; forked on Linux, it takes a few milliseconds to start.
"""

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from lucid import forks
from lucid.errors import FileError
from lucid.options import Options
from lucid.report import OnProgress, Progress
from lucid.threads import Result

#: Seconds without an event, a byte read or a byte written, after which a process is taken to hang.
HANG_SECONDS = 60.0
#: Memory that a call may take beyond `max_memory`, and for each thread: far more than any needs. Some of the
#: codecs of HDF5 and Zarr know no limit, and a chunk of a megabyte may hold a hundred gigabytes of zeros.
MARGIN_BYTES, THREAD_BYTES = 8 << 30, 256 << 20
#: What the user's shell has set, as by `ulimit -v`.
_SET_LIMIT = resource.getrlimit(resource.RLIMIT_AS)[0]
#: glibc's numbers for the sizes from which memory is taken from the system by itself, and given back.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
#: Seconds between events.
PROGRESS_SECONDS = 0.1
#: Seconds that a process has to clean up.
STOP_SECONDS = 0.8


class Process(AbstractContextManager["Process"]):
    """The parent's end; the process is started when there is work and again after a crash."""

    def __init__(self) -> None:
        #: Whether any process ended without cleaning up.
        self.has_crashed = False
        self._process: BaseProcess | None = None
        self._pipe: Connection[Any, Any] | None = None

    def call(
        self,
        function: Callable[..., Result],
        *args: Any,
        options: Options,
        on_progress: OnProgress | None = None,
        **keywords: Any,
    ) -> Result:
        """Call a function in the process, with the memory that these options may need.

        It raises what the function raises, and a FileError if the process crashed or hung.
        """
        pipe = self._pipe or self.start()
        request = function, args, keywords, options, on_progress is not None
        try:
            receive = partial(self._receive, pipe, on_progress)
            result, error = forks.ask(pipe, request, receive, partial(self.stop, has_ended=True))
        except BaseException:
            self.stop()
            raise
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def start(self) -> "Connection[Any, Any]":
        """Start the process, before there is work for it or after it crashed; its pipe."""
        # Spawned, a worker would load everything again; but only Linux forks well.
        context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        pipes: tuple[Connection[Any, Any], ...] = ()
        try:
            pipes = ours, theirs = context.Pipe()
            process = context.Process(
                target=serve, args=(theirs, ours, os.getpid()), name="lucid-pool", daemon=True
            )
            process.start()
        except OSError as error:  # there are too many processes, or open files
            for pipe in pipes:
                pipe.close()
            raise FileError(f"needs a process of its own, which cannot begin: {error.strerror}") from error
        theirs.close()
        self._pipe, self._process = pipes[0], process
        return pipes[0]

    def _receive(self, pipe: "Connection[Any, Any]", on_progress: OnProgress | None) -> Any:
        """Wait for the answer, as long as the process shows signs of life; tell of events."""
        life, since = "", time.monotonic()
        while True:
            if pipe.poll(min(1.0, HANG_SECONDS)):
                answer = pipe.recv()
                if not isinstance(answer, Progress):
                    return answer
                assert on_progress is not None
                on_progress(answer)
            assert self._process is not None
            now = signs_of_life(str(self._process.pid))
            if now != life:
                life, since = now, time.monotonic()
            elif time.monotonic() - since >= HANG_SECONDS:
                raise FileError(f"neither read nor wrote for {HANG_SECONDS:.0f} seconds and was given up")

    def stop(self, *, has_ended: bool = False) -> int:
        """End the process, if it runs, letting it clean up; its status, negative for a signal."""
        if self._process is None or self._pipe is None:
            return 0
        self._pipe.close()
        process, self._process, self._pipe = self._process, None, None
        # One that waits for work ends by itself now; one at work is told to.
        process.join(STOP_SECONDS if has_ended else STOP_SECONDS / 8)
        if process.is_alive():
            process.terminate()
            process.join(STOP_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        status = process.exitcode or 0
        self.has_crashed = self.has_crashed or status not in (0, 128 + signal.SIGTERM, -signal.SIGTERM)
        return status

    def __exit__(self, *_: object) -> None:
        self.stop()


def signs_of_life(pid: str) -> str:
    """What changes while a process, or a child of it, reads, writes or waits for the disk; not on Linux, time."""
    folder = Path("/proc", pid)
    try:
        state = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
        # D is a wait for the disk, as in a long sync.
        wait = str(time.monotonic()) if state == "D" else ""
        children = (folder / "task" / pid / "children").read_text(encoding="ascii").split()
        return (folder / "io").read_text(encoding="ascii") + wait + "".join(map(signs_of_life, children))
    except (OSError, IndexError):
        return str(time.monotonic() // (10 * HANG_SECONDS))


def serve(pipe: "Connection[Any, Any]", parents: "Connection[Any, Any]", parent: int) -> None:
    """The process's end: prepare, and do one call after the other."""
    parents.close()  # else the parent's end would stay open with the parent gone
    forks.end_with_parent(parent, signal.SIGTERM)
    _keep_freed_memory()
    # The parent is interrupted too, and says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # h5py prints what goes wrong when objects are let go of; what matters of it comes as an error.
    sys.excepthook = lambda *_: None
    sys.unraisablehook = lambda _: None

    def work(request: Any) -> Any:
        function, args, keywords, options, is_watched = request
        limit_memory(options)
        callbacks = {"on_progress": _sender(pipe)} if is_watched else {}
        return function(*args, **callbacks, **keywords)

    forks.serve(pipe, work)


def _keep_freed_memory() -> None:
    """Have the C library keep what decoded chunks took for the next ones, where it is glibc.

    Given back to the system and asked for again, it costs a third of the time (benchmarks/decisions.md).
    """
    if sys.platform == "linux":
        import ctypes

        with suppress(AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            for parameter, size_bytes in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 256 << 20)):
                mallopt(parameter, size_bytes)


def _sender(pipe: "Connection[Any, Any]") -> Callable[[Progress], None]:
    """Send events, not more than ten a second: each costs as much as the calls of Python for a block."""
    due = 0.0

    def send(event: Progress) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due or event.done_bytes == event.total_bytes:
            due = now + PROGRESS_SECONDS
            pipe.send(event)

    return send


def limit_memory(options: Options) -> None:
    """Let this process have as much memory as a call can need, and no more, where the system can say so."""
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = (
            pages * resource.getpagesize()
            + options.max_memory
            + MARGIN_BYTES
            + options.workers * THREAD_BYTES
        )
        limit = limit if _SET_LIMIT == resource.RLIM_INFINITY else min(limit, _SET_LIMIT)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
