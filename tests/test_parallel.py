"""Threads over items: all are done, errors arrive, nothing is left running."""

import os
import subprocess
import sys
from time import sleep

import pytest

from lucid.parallel import every, in_order


@pytest.mark.parametrize("workers", [1, 2, 5])
class TestEvery:
    def test_calls_for_each_item_once(self, workers):
        seen = []
        every(seen.append, range(100), workers=workers)
        assert sorted(seen) == list(range(100))

    def test_raises_the_error_and_begins_nothing_more(self, workers):
        begun = []

        def work(item):
            begun.append(item)
            if item == 10:
                raise ValueError("ten")
            sleep(0.001)

        with pytest.raises(ValueError, match="ten"):
            every(work, range(1000), workers=workers)
        assert len(begun) <= 11 + workers * 3
        seen = len(begun)
        sleep(0.01)
        assert len(begun) == seen

    def test_stopiteration_is_an_error_like_any(self, workers):
        with pytest.raises(StopIteration):
            every(lambda item: next(iter(())), range(9), workers=workers)

    def test_an_error_while_taking_an_item_is_raised_too(self, workers):
        def items():
            yield 1
            raise OSError("no more")

        with pytest.raises(OSError, match="no more"):
            every(lambda item: None, items(), workers=workers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_threads_of_its_own():
    code = (
        "import os; from lucid.parallel import every; every(print, range(2), workers=2); child = os.fork(); "
        "every(print, range(2), workers=2); child or os._exit(0); print(os.waitpid(child, 0)[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split()[-1] == "0", done.stderr


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
