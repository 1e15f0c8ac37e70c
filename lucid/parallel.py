"""The only threads: a function over many items, a bounded number in flight.

NumPy and the kernels release the GIL, so threads are enough. With one worker everything
runs on the caller's thread.
"""

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Comes after the last item.
END = object()


def available_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def every(work: Callable[[Item], object], items: Iterable[Item], *, workers: int) -> None:
    """Call `work(item)` for every item, as `as_done` does."""
    if workers == 1:
        try:
            for item in items:
                work(item)
        except StopIteration as error:
            raise RuntimeError("StopIteration where no generator is") from error  # as from `as_done`
        return
    for _ in as_done(work, items, workers=workers):
        pass


def as_done(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Generator[Result, None, None]:
    """Yield `work(item)` for every item in any order, the caller's thread being one of the workers.

    The first error ends it: items not yet begun are dropped, those under way are waited for. What the helpers
    have done is yielded between items of the caller's, so nobody wakes anybody for an item. With
    a caller that only waits, a file of 4 GB took 0.8 s in blocks of 3 MiB, so 0.5 s.
    """
    todo: Iterator[Any] = iter(items)
    taking = threading.Lock()
    errors: list[BaseException] = []
    results: deque[Result] = deque()

    def run() -> Iterator[None]:
        """Do items until there are no more, pausing after each."""
        try:
            while not errors:
                with taking:
                    item: Any = next(todo, END)
                if item is END:
                    return
                results.append(work(item))
                yield
        except BaseException as error:  # raised below, on the caller's thread
            errors.append(error)

    calls: list[_Call] = []
    try:
        calls.extend(helper.call(lambda: deque(run(), 0)) for helper in _Helper.free(workers - 1))
        for _ in run():
            while results:
                yield results.popleft()
    except BaseException as error:
        errors.append(error)
    finally:
        _finish(calls, errors)
    if errors:
        raise errors[0]
    yield from results


class _Call:
    """What a helper is to do, which never fails; a caller may take the turn first, and call it off so."""

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run
        self.turn = threading.Lock()
        # Held until it has ended: an `Event` costs several times as much.
        self.at_work = threading.Lock()
        self.at_work.acquire()


def _finish(calls: list[_Call], errors: list[BaseException]) -> None:
    """Wait until no helper is at work, whatever a signal raises meanwhile: what is in use is closed next."""
    for call in calls:
        while True:
            try:
                if not call.turn.acquire(blocking=False):
                    with call.at_work:  # given back, since a signal may raise when it was got
                        pass
                break
            except BaseException as error:
                errors.append(error)


class _Helper:
    """A thread that waits for further calls; there are as many as were ever needed at once."""

    idle: ClassVar[deque["_Helper"]] = deque()

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self._cpus: set[int] = set()
        self._thread = threading.Thread(target=self._serve, name="lucid", daemon=True)
        self._thread.start()

    @classmethod
    def free(cls, count: int) -> list["_Helper"]:
        """So many threads without work, or fewer if the system has no more; each on CPUs of its own."""
        helpers: list[_Helper] = []
        with suppress(RuntimeError):
            while len(helpers) < count:
                try:
                    helpers.append(cls.idle.pop())
                except IndexError:
                    helpers.append(cls())
        if helpers and _current_cpu is not None:
            for helper, cpus in zip(helpers, _shares(len(helpers), _current_cpu()), strict=True):
                helper.stay_on(cpus)
        return helpers

    def stay_on(self, cpus: set[int]) -> None:
        """Leave other CPUs alone."""
        if cpus != self._cpus:
            self._cpus = cpus
            assert self._thread.native_id  # 0 would be the caller
            with suppress(OSError):  # the CPUs of the process were changed just now
                os.sched_setaffinity(self._thread.native_id, cpus)

    def call(self, run: Callable[[], object]) -> _Call:
        """Begin a call."""
        call = _Call(run)
        self._calls.put(call)
        return call

    def _serve(self) -> None:
        while True:
            call = self._calls.get()
            if call.turn.acquire(blocking=False):
                call.run()
            self.idle.append(self)
            call.at_work.release()
            del call  # it holds the caller's arrays


def _shares(count: int, callers: int) -> list[set[int]]:
    """CPUs for each of so many helpers, none of them the caller's; all of them where there are too few.

    Linux wakes a thread where its waker runs, even if that goes on there while another CPU has nothing to
    do: on two CPUs, the helper came to work only when the caller was done in about half of the calls, and
    28x28 -> 9x9 in float64 took 8.4 ms instead of 5.0.
    """
    allowed = os.sched_getaffinity(0)
    others = sorted(allowed - {callers})
    return [set(others[k::count]) if count <= len(others) else allowed for k in range(count)]


#: The CPU that the calling thread runs on, where the system tells and threads can be kept on some.
_current_cpu: Callable[[], int] | None = (
    getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None
)

if hasattr(os, "register_at_fork"):
    # A child has none of its parent's threads.
    os.register_at_fork(after_in_child=_Helper.idle.clear)


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, in_flight: int
) -> Iterator[Result]:
    """Yield `work(item)` for every item in their order.

    At most `in_flight` items are begun and not yet yielded. The first error ends it: items
    not yet begun are dropped, those under way are waited for.
    """
    items = iter(items)
    begun = list(islice(items, 2))
    if workers == 1 or len(begun) < 2:
        yield from map(work, chain(begun, items))
        return
    # Loaded on use: it takes as long as pooling a small file.
    from concurrent.futures import ThreadPoolExecutor

    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lucid")
    try:
        for item in chain(begun, items):
            pending.append(pool.submit(work, item))
            if len(pending) >= in_flight:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
