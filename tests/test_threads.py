"""Threads over items: all are done, errors arrive, nothing is left running."""

import os
import signal
import subprocess
import sys
import threading
from time import sleep

import pytest

from lucid.threads import for_each, in_order


@pytest.mark.parametrize("workers", [1, 2, 5])
class TestEvery:
    def test_calls_for_each_item_once(self, workers):
        seen = []
        for_each(seen.append, range(100), workers=workers)
        assert sorted(seen) == list(range(100))

    def test_raises_the_error_and_begins_nothing_more(self, workers):
        begun = []

        def work(item):
            begun.append(item)
            if item == 10:
                raise ValueError("ten")
            sleep(0.001)

        with pytest.raises(ValueError, match="ten"):
            for_each(work, range(1000), workers=workers)
        assert len(begun) <= 11 + workers * 3
        seen = len(begun)
        sleep(0.01)
        assert len(begun) == seen

    def test_stopiteration_is_an_error_like_any(self, workers):
        with pytest.raises(RuntimeError, match="StopIteration"):
            for_each(lambda item: next(iter(())), range(9), workers=workers)

    def test_an_error_while_taking_an_item_is_raised_too(self, workers):
        def items():
            yield 1
            raise OSError("no more")

        with pytest.raises(OSError, match="no more"):
            for_each(lambda item: None, items(), workers=workers)


def test_a_system_without_further_threads_does_with_fewer(monkeypatch):
    def fail(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    seen = []
    for_each(seen.append, range(3), workers=3)
    assert seen == [0, 1, 2]


def test_no_thread_is_left():
    count = threading.active_count()
    for_each(lambda item: sleep(0.001), range(20), workers=4)
    assert threading.active_count() == count


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_threads_of_its_own():
    code = (
        "import os; from lucid.threads import for_each; for_each(print, range(2), workers=2); child = os.fork(); "
        "for_each(print, range(2), workers=2); child or os._exit(0); print(os.waitpid(child, 0)[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split()[-1] == "0", done.stderr


def test_who_stops_asking_stops_the_work():
    done = []

    def work(n):
        sleep(0.001)
        done.append(n)
        return n

    results = in_order(work, range(10_000), workers=3, in_flight=9)
    next(results)
    results.close()
    count = len(done)
    assert count <= 9
    sleep(0.02)
    assert len(done) == count


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a signal after a time")
@pytest.mark.parametrize("rounds", range(5))
def test_a_signal_while_waiting_leaves_nobody_at_work(rounds, monkeypatch):
    """Not even one that comes while the caller waits for the last helper."""

    class StoppedError(BaseException):
        pass

    def stop(*_):
        raise StoppedError

    working = threading.Event()

    def work(n):
        if threading.current_thread() is threading.main_thread():
            working.wait(5)
            return
        working.set()
        sleep(0.05)
        working.clear()

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(StoppedError):
            for_each(work, range(100), workers=3)
        assert not working.is_set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("workers", [1, 4])
def test_results_come_in_order_and_an_error_ends_them(workers):
    assert list(in_order(lambda n: n * n, range(100), workers=workers, in_flight=7)) == [
        n * n for n in range(100)
    ]
    begun = []

    def work(n):
        begun.append(n)
        if n == 5:
            raise ValueError("five")
        return n

    with pytest.raises(ValueError, match="five"):
        list(in_order(work, range(1000), workers=workers, in_flight=4))
    assert max(begun) <= 5 + 4
