"""Where else work is done: in a process of its own, on a Dask cluster."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from lucid.threads import Item, Result


class Executor(Protocol):
    """Calls a function with every item, and with how many threads it may use; the results come in any order.

    The function is pickled, and so are items and results. What the executor cannot do, and what a call raises,
    comes as an exception, after which no call is left running.
    """

    def run(
        self, work: Callable[[Item, int], Result], items: Sequence[Item], wait: Callable[[], None], /
    ) -> Iterator[Result]:
        """Do it; `wait` is called now and then while there is nothing else to do."""

    @property
    def threads(self) -> int | None:
        """Threads that work on it; None where the options say it."""
