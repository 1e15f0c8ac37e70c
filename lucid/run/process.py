"""A process of its own for native code that a hostile file can crash, or send round in circles.

The parent sends calls of functions and gets events and results through a pipe. A crash, a
kill for want of memory or a hang of the HDF5 library then costs one input, and a signal to the command is
answered at once, though the library listens to none. One process serves all inputs of a
batch; forked on Linux, it takes a few milliseconds to start.
"""

import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lucid.errors import FileError
from lucid.forks import END_SECONDS, Child, end_with_parent
from lucid.options import Options
from lucid.report import OnProgress, Progress
from lucid.threads import Result

if TYPE_CHECKING:
    from lucid.forks import Pipe

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


class Process(AbstractContextManager["Process"]):
    """The parent's end; the process is started when there is work and again after a crash."""

    def __init__(self) -> None:
        #: Whether any process ended without cleaning up.
        self.has_crashed = False
        self._child: Child | None = None

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
        child = self._child or self.start()
        request = function, args, keywords, options, on_progress is not None
        try:
            result, error = child.ask(request, partial(_receive, child, on_progress))
        except BaseException:
            self.stop()
            raise
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def start(self) -> Child:
        """Start the process, before there is work for it or after it crashed."""
        try:
            # Spawned, a worker would load everything again; but only Linux forks well.
            self._child = Child(_prepare, "fork" if sys.platform == "linux" else "spawn")
        except OSError as error:  # there are too many processes, or open files
            raise FileError(f"needs a process of its own, which cannot begin: {error.strerror}") from error
        return self._child

    def stop(self) -> int:
        """End the process, if it runs, letting it clean up; its status, negative for a signal."""
        if self._child is None:
            return 0
        child, self._child = self._child, None
        # One that waits for work ends by itself now; one at work is told to.
        status = child.stop(END_SECONDS / 8)
        self.has_crashed = self.has_crashed or status not in (0, 128 + signal.SIGTERM, -signal.SIGTERM)
        return status

    def __exit__(self, *_: object) -> None:
        self.stop()


def _receive(child: Child, on_progress: OnProgress | None) -> Any:
    """Wait for the answer, as long as the process shows signs of life; tell of events."""
    life, since = "", time.monotonic()
    while True:
        if child.pipe.poll(min(1.0, HANG_SECONDS)):
            answer = child.pipe.recv()
            if not isinstance(answer, Progress):
                return answer
            assert on_progress is not None
            on_progress(answer)
        now = signs_of_life(str(child.pid))
        if now != life:
            life, since = now, time.monotonic()
        elif time.monotonic() - since >= HANG_SECONDS:
            raise FileError(f"neither read nor wrote for {HANG_SECONDS:.0f} seconds and was given up")


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


def _prepare(pipe: "Pipe") -> Callable[[Any], Any]:
    """Prepare the process; what it does with a request."""
    end_with_parent(signal.SIGTERM)
    _keep_freed_memory()
    # The parent is interrupted too, and says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # h5py prints what goes wrong when objects are let go of; what matters of it comes as an error.
    sys.excepthook = lambda *_: None
    sys.unraisablehook = lambda _: None
    # What libraries warn of, such as codecs that a specification has not yet, is no word of the command's.
    warnings.simplefilter("ignore")

    def work(request: Any) -> Any:
        function, args, keywords, options, is_watched = request
        limit_memory(options)
        callbacks = {"on_progress": _sender(pipe)} if is_watched else {}
        return function(*args, **callbacks, **keywords)

    return work


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


def _sender(pipe: "Pipe") -> Callable[[Progress], None]:
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
