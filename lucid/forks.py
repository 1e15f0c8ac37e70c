"""Processes for what lets only one thread in: a function over many items, as `threads.in_order` does it.

HDF5 has one lock for all threads of a process, so only several processes decode on several CPUs. They are forked for
one call and gone after it: what is open here is open there, and what one writes at an offset of an open file is
written. Each has a thread here that hands it items, and only items and results go through pipes. A crash of one ends
the call with an error. Only Linux forks well, and only where no other thread may hold a lock.
"""

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lucid import threads
from lucid.errors import FileError, attempt
from lucid.threads import Item, Result

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

#: Bytes to be decoded from which on processes save more than their beginning takes (benchmarks/decisions.md).
WORTH_BYTES = 32 << 20
#: Memory that a process takes beside what it works on: pages of this one that either writes to.
PROCESS_BYTES = 10 << 20
#: The process that forked them ends them; nobody else does.
IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Where Linux lists the threads of this process.
TASKS = Path("/proc/self/task")
#: Linux's number for a signal that comes when the parent ends.
PR_SET_PDEATHSIG = 1


def pay_off(size_bytes: int, workers: int) -> bool:
    """Whether so many bytes that are decoded behind a lock are done sooner by processes, and may be."""
    return workers > 1 and size_bytes >= WORTH_BYTES and may_fork()


def may_fork() -> bool:
    """Whether a forked process works: on Linux, where no thread, of Python or a library, may hold a lock."""
    try:
        return sys.platform == "linux" and len([*TASKS.iterdir()]) == 1
    except OSError:  # there is no /proc to tell
        return False


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, in_flight: int
) -> Generator[Result, None, None]:
    """Yield `work(item)` for every item, as `threads.in_order` does; a process that crashed is a FileError."""
    forks: list[_Fork] = []
    idle: list[_Fork] = []

    def call(item: Item) -> Result:
        fork = idle.pop()
        result: Result = fork.call(item)
        idle.append(fork)
        return result

    give_memory_back()
    results = threads.in_order(call, items, workers=workers, in_flight=in_flight)
    try:
        # A handler of a signal would raise between two forks, or run in the new process what is for this one only.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
        try:
            while len(forks) < workers:
                forks.append(_Fork(work, before))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        idle += forks
        for result in results:  # noqa: UP028  (`yield from` would close it first, which waits for them)
            yield result
    finally:
        for fork in forks:
            fork.kill()
        results.close()
        for fork in forks:
            fork.wait()


def give_memory_back() -> None:
    """Give what was freed here back to the system, where it is glibc, since processes come beside it.

    In a program of a user it costs a few page faults, and changes nothing else.
    """
    import ctypes

    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Fork:
    """A process that does one item after the other, and the pipe to it."""

    def __init__(self, work: Callable[[Any], Any], signals: Iterable[int]) -> None:
        from multiprocessing import Pipe  # seldom needed, and slow to load

        parent = os.getpid()
        self._pipe, theirs = Pipe()
        self._status: int | None = None
        self._pid = os.fork()
        if self._pid:
            theirs.close()
            return
        try:
            end_with_parent(parent, signal.SIGKILL)
            for one in IGNORED_SIGNALS:
                signal.signal(one, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
            serve(theirs, work)
        finally:
            os._exit(0)

    def call(self, item: Any) -> Any:
        """Have an item done; raise what the work raised."""
        result, error = ask(self._pipe, item, self._pipe.recv, self.wait)
        if error is not None:
            raise error
        return result

    def kill(self) -> None:
        """End it; there is nothing that it would clean up."""
        if self._status is None:
            with suppress(ProcessLookupError):  # a thread may be waiting for it
                os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end; its status, negative for a signal."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._pipe.close()
        return self._status


def serve(pipe: "Connection[Any, Any]", work: Callable[[Any], Any]) -> None:
    """Do what comes through a pipe, one after the other, until nothing more does, or nobody listens."""
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            pipe.send(attempt(partial(work, pipe.recv())))


def ask(pipe: "Connection[Any, Any]", item: Any, receive: Callable[[], Any], wait: Callable[[], int]) -> Any:
    """What a process that serves makes of an item, or its error; `wait` tells the status of one that ended."""
    try:
        pipe.send(item)
        return receive()
    except (EOFError, BrokenPipeError, ConnectionResetError) as end:
        status = wait()
        if status == -signal.SIGKILL:
            ending = "killed, as the system does when memory runs out"
        else:
            ending = signal.Signals(-status).name if status < 0 else f"status {status}"
        raise FileError(f"crashed the process that read it: {ending}") from end


def end_with_parent(parent: int, number: signal.Signals) -> None:
    """Have this process get a signal when the one that began it ends in any way, where the system can."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended before
        os._exit(0)
