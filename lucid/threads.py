"""Threads: a function over many items, a bounded number in flight. All threads of Python are made here.

NumPy, the kernel and the decoders release the GIL, so threads are enough. The caller's thread is one of the workers:
with one worker everything runs there. `concurrent.futures` would wake a worker for every item, and takes as long to
load as pooling a small file.
"""

import os
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Threads beyond so many only take memory and time to begin, on any machine.
MOST_THREADS = 1024
#: Comes after the last item.
END = object()
#: Results of each worker that may wait for one before them.
AHEAD = 4


def thread_count(threads: int | None) -> int:
    """Threads to use where so many are asked for; by default, the CPUs that this process may use."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(threads or cpus or 1, MOST_THREADS)


def for_each(work: Callable[[Item], object], items: Iterable[Item], *, workers: int) -> None:
    """Call `work(item)` for every item, as `in_order` does."""
    for _ in in_order(work, items, workers=workers, in_flight=AHEAD * max(1, workers)):
        pass


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, in_flight: int
) -> Generator[Result, None, None]:
    """Yield `work(item)` for every item in their order, the caller's thread being one of the workers.

    Workers take items themselves, in order and one at a time, so an item is made by the thread that works on it. At
    most `in_flight` items are taken and not yet yielded. The first error ends it: no further items are taken, and those
    under way are waited for.
    """
    queue, item_count, is_more = iter(items), 0, True
    lock, room, news = threading.Lock(), threading.Semaphore(in_flight), threading.Semaphore(0)
    results: dict[int, Result] = {}
    errors: list[BaseException] = []

    def take_one() -> None:
        """Do the next item, for which there is room, if there is one."""
        nonlocal item_count, is_more
        with lock:
            item: Any = next(queue, END) if is_more and not errors else END
            if item is END:
                is_more = False
                return
            number, item_count = item_count, item_count + 1
        results[number] = work(item)

    def help_out() -> None:
        """Do items until there are no more; the caller, and the next helper, hear of everything."""
        try:
            while is_more and not errors:
                room.acquire()
                take_one()
                news.release()
        except BaseException as error:  # raised below, on the caller's thread
            errors.append(error)
        room.release()
        news.release()

    # The list is whole before the first thread begins, so that all are waited for if a signal raises meanwhile.
    helpers = [threading.Thread(target=help_out, daemon=True) for _ in range(workers - 1)]
    try:
        with suppress(RuntimeError):  # the system has no further threads: fewer do the work
            for helper in helpers:
                helper.start()
        number_due = 0
        while not errors and (is_more or number_due < item_count):
            if number_due in results:
                yield results.pop(number_due)
                number_due += 1
                room.release()
            elif is_more and room.acquire(blocking=False):
                take_one()
            else:
                news.acquire()
    except BaseException as error:
        errors.append(error)
    finally:
        room.release(max(1, workers))
        _wait(helpers, errors)
    if errors:
        raise errors[0]


def _wait(helpers: list[threading.Thread], errors: list[BaseException]) -> None:
    """Wait until no helper is at work, whatever a signal raises meanwhile, since the caller closes what they use next.

    One that a signal kept from being begun in time sees the error, and does nothing.
    """
    while any(helper.is_alive() for helper in helpers):
        try:
            for helper in helpers:
                if helper.is_alive():
                    helper.join()
        except BaseException as error:
            errors.append(error)
