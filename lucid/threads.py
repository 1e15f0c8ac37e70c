"""The only threads: a function over many items, a bounded number in flight.

NumPy, the kernel and the decoders release the GIL, so threads are enough. With one worker everything runs on the
caller's thread. `concurrent.futures` is loaded on use: that takes as long as pooling a small file.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

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
    for _ in as_done(work, items, workers=workers):
        pass


def as_done(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Generator[Result, None, None]:
    """Yield `work(item)` for every item in any order, the caller's thread being one of the workers.

    Workers take the next item themselves, so none is woken for one; what others have done is yielded between
    items of the caller's. The first error ends it: items not yet begun are dropped, those under way are waited for.
    """
    items = iter(items)
    # Nobody is begun for whom there is no item.
    begun = list(islice(items, workers))
    todo: Iterator[Any] = chain(begun, items)
    taking = threading.Lock()
    results: deque[Result] = deque()
    errors: list[BaseException] = []

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

    # Known before they are begun, so that all are waited for: a signal may raise while one begins.
    helpers = [threading.Thread(target=lambda: deque(run(), 0), daemon=True) for _ in begun[1:]]
    try:
        with suppress(RuntimeError):  # the system has no further threads: fewer do the work
            for helper in helpers:
                helper.start()
        for _ in run():
            while results:
                yield results.popleft()
    except BaseException as error:
        errors.append(error)
    finally:
        _wait(helpers, errors)
    if errors:
        raise errors[0]
    yield from results


def _wait(helpers: list[threading.Thread], errors: list[BaseException]) -> None:
    """Wait until no helper is at work, whatever a signal raises meanwhile: what they use is closed next.

    One that a signal kept from being begun in time sees the error, and does nothing.
    """
    while any(helper.is_alive() for helper in helpers):
        try:
            for helper in helpers:
                if helper.is_alive():
                    helper.join()
        except BaseException as error:
            errors.append(error)


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
