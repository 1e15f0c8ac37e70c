"""Processes for what lets only one thread in: a function over many items, as `threads.in_order` does it.

HDF5 has one lock for all threads of a process, so only several processes decode on several CPUs. They are forked for
one call and gone after it: what is open here is open there, and what one writes at an offset of an open file is
written. Only items and results go through pipes; items are small, so that sending one never waits for a result to be
read. A crash of one ends the call with an error. Only Linux forks well, and only where no other thread may hold a lock.
"""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lucid.errors import FileError, LucidError, unexpected
from lucid.threads import Item, Result

#: Bytes to be decoded from which on processes save more than their beginning takes (benchmarks/decisions.md).
WORTH_BYTES = 32 << 20
#: Items that each process has at hand, so that it need not wait for the next one.
AHEAD = 2
#: The process that forked them ends them; nobody else does.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Linux's number for a signal that comes when the parent ends.
PR_SET_PDEATHSIG = 1


def are_worth(size_bytes: int, workers: int) -> bool:
    """Whether so many bytes that are decoded behind a lock are done sooner by processes, and may be."""
    return workers > 1 and size_bytes >= WORTH_BYTES and may_fork()


def may_fork() -> bool:
    """Whether a forked process works: on Linux, where no other thread may hold a lock."""
    return sys.platform == "linux" and threading.active_count() == 1


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, in_flight: int
) -> Generator[Result, None, None]:
    """Yield `work(item)` for every item in their order.

    At most `in_flight` items are begun and not yet yielded. The first error ends it, and all processes.

    Raises
    ------
    FileError
        A process crashed.

    """
    from multiprocessing.connection import wait  # seldom needed, and slow to load

    todo = enumerate(items)
    results: dict[int, Result] = {}
    begun = done = 0
    with _forked(work, workers) as forks:
        free = deque([*forks] * AHEAD)
        while True:
            while free and begun - done < in_flight and (next_one := next(todo, None)) is not None:
                free.popleft().send(next_one)
                begun += 1
            if begun == done:
                return
            ready = wait([fork.pipe for fork in forks])
            for fork in forks:
                if fork.pipe in ready:
                    number, result = fork.receive()
                    results[number] = result
                    free.append(fork)
            while done in results:
                yield results.pop(done)
                done += 1


@contextmanager
def _forked(work: Callable[[Any], Any], workers: int) -> Iterator[list["_Fork"]]:
    """So many processes, which are gone afterwards whatever happens."""
    forks: list[_Fork] = []
    try:
        # A signal's handler would raise in the midst of it, and in a new process do what only this one must.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
        try:
            while len(forks) < workers:
                forks.append(_Fork(work, before))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield forks
    finally:
        for fork in forks:
            fork.kill()
        for fork in forks:
            fork.wait()


class _Fork:
    """A process that does one item after the other, and the pipe to it."""

    def __init__(self, work: Callable[[Any], Any], signals: Iterable[int]) -> None:
        from multiprocessing import Pipe

        parent = os.getpid()
        self.pipe, theirs = Pipe()
        self._status: int | None = None
        self._pid = os.fork()
        if self._pid:
            theirs.close()
            return
        try:
            end_with_parent(signal.SIGKILL)
            for one in IGNORED:
                signal.signal(one, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
            if os.getppid() == parent:
                _serve(theirs, work)
        finally:
            os._exit(0)

    def send(self, item: tuple[int, Any]) -> None:
        """Hand over a numbered item."""
        try:
            self.pipe.send(item)
        except OSError as error:
            raise self._crashed() from error

    def receive(self) -> tuple[int, Any]:
        """A result and its number; raise what the work raised."""
        try:
            number, result = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise self._crashed() from error
        if number is None:
            raise result
        return number, result

    def _crashed(self) -> FileError:
        return FileError(f"crashed the process that read it: {ending(self.wait())}")

    def kill(self) -> None:
        """End it; there is nothing that it would clean up."""
        if self._status is None:
            os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end; its status, negative for a signal."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self.pipe.close()
        return self._status


def _serve(pipe: Any, work: Callable[[Any], Any]) -> None:
    """Do items until nobody sends any more; an error goes back without a number."""
    while True:
        number, item = pipe.recv()
        try:
            answer: tuple[int | None, Any] = number, work(item)
        except (LucidError, MemoryError) as error:
            answer = None, error
        except Exception as error:
            answer = None, unexpected(error)
        pipe.send(answer)


def end_with_parent(number: signal.Signals) -> None:
    """Have this process get a signal when the one that began it ends in any way, where the system can."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def ending(status: int) -> str:
    """How a process ended, in words."""
    if status == -signal.SIGKILL:
        return "killed, as the system does when memory runs out"
    return signal.Signals(-status).name if status < 0 else f"status {status}"
