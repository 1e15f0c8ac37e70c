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
from typing import TYPE_CHECKING, Any, TypeAlias

from lucid import threads
from lucid.errors import FileError, attempt
from lucid.threads import Item, Result

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    Pipe: TypeAlias = Connection[Any, Any]

#: Bytes to be decoded from which on processes save more than their beginning takes (benchmarks/decisions.md).
WORTH_BYTES = 32 << 20
#: Memory that a process takes beside what it works on: pages of this one that either writes to.
PROCESS_BYTES = 10 << 20
#: The process that forked them ends them; nobody else does.
IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Where Linux lists the threads of this process.
TASKS = Path("/proc/self/task")
#: Seconds that a process has to end.
END_SECONDS = 0.8
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
    children: list[Child] = []
    idle: list[Child] = []

    def prepare(_: "Pipe") -> Callable[[Item], Result]:
        end_with_parent(signal.SIGKILL)
        for one in IGNORED_SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return work

    def call(item: Item) -> Result:
        child = idle.pop()
        result, error = child.ask(item)
        if error is not None:
            raise error
        idle.append(child)
        return result  # type: ignore[no-any-return]

    give_memory_back()
    results = threads.in_order(call, items, workers=workers, in_flight=in_flight)
    try:
        # A handler of a signal would raise between two forks, or run in the new process what is for this one only.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
        try:
            while len(children) < workers:
                children.append(Child(prepare))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        idle += children
        for result in results:  # noqa: UP028  (`yield from` would close it first, which waits for them)
            yield result
    finally:
        for child in children:
            child.kill()
        with suppress(FileError):  # of one that was killed at work
            results.close()
        for child in children:
            child.stop(END_SECONDS)


def give_memory_back() -> None:
    """Give what was freed here back to the system, where it is glibc, since processes come beside it.

    In a program of a user it costs a few page faults, and changes nothing else.
    """
    import ctypes

    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Child:
    """A process that does what it is sent, one after the other, and the pipe to it."""

    def __init__(self, prepare: Callable[["Pipe"], Callable[[Any], Any]], method: str = "fork") -> None:
        import multiprocessing  # seldom needed, and slow to load

        context: Any = multiprocessing.get_context(method)
        self.pipe: Pipe
        self.pipe, theirs = context.Pipe()
        arguments = prepare, theirs, self.pipe, os.getpid()
        self._process = context.Process(target=_serve, args=arguments, name="lucid-pool", daemon=True)
        own = multiprocessing.current_process()
        # multiprocessing lets daemons, as the workers of a user's pool are, begin no process.
        is_daemon, own.daemon = own.daemon, False
        try:
            self._process.start()
        except BaseException:
            self.pipe.close()
            raise
        finally:
            own.daemon = is_daemon
            theirs.close()
        self.pid: int = self._process.pid

    def ask(self, item: Any, receive: Callable[[], Any] | None = None) -> tuple[Any, Exception | None]:
        """What it makes of an item, or the error of that; a FileError where the process ends meanwhile."""
        try:
            self.pipe.send(item)
            return receive() if receive else self.pipe.recv()  # type: ignore[no-any-return]
        except (EOFError, BrokenPipeError, ConnectionResetError) as end:
            status = self.stop(END_SECONDS)
            if status == -signal.SIGKILL:
                ending = "killed, as the system does when memory runs out"
            else:
                ending = signal.Signals(-status).name if status < 0 else f"status {status}"
            raise FileError(f"crashed the process that read it: {ending}") from end

    def kill(self) -> None:
        """End it; there is nothing that it would clean up."""
        self._process.kill()

    def stop(self, patience: float) -> int:
        """End it, after so many seconds in which it may end by itself; its status, negative for a signal."""
        self.pipe.close()
        self._process.join(patience)
        for end in (self._process.terminate, self._process.kill):
            if self._process.is_alive():
                end()
                self._process.join(END_SECONDS)
        self._process.join()
        return self._process.exitcode or 0


def _serve(
    prepare: Callable[["Pipe"], Callable[[Any], Any]], pipe: "Pipe", parents: "Pipe", parent: int
) -> None:
    """The process's end: do what comes, one after the other, until nothing more does, or nobody listens."""
    import multiprocessing

    parents.close()  # else the parent's end would stay open with the parent gone
    multiprocessing.current_process().daemon = False  # it may have processes of its own
    work = prepare(pipe)
    if os.getppid() == parent:  # else it ended before this process could hear of it
        with suppress(EOFError, BrokenPipeError, ConnectionResetError):
            while True:
                pipe.send(attempt(partial(work, pipe.recv())))


def end_with_parent(number: signal.Signals) -> None:
    """Have this process get a signal when the one that began it ends in any way, where the system can."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
