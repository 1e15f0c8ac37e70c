"""The one interface of those who do tasks."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(Protocol):
    """Does a task for every item; the results come in any order.

    A task that goes elsewhere is pickled, and so are its items and results. What the executor cannot do,
    and what a task raises, comes as an exception, after which no task is left running.
    """

    def run(
        self, task: Callable[[Item], Result], items: Sequence[Item], wait: Callable[[], None], /
    ) -> Iterator[Result]:
        """Do it; `wait` is called now and then while there is nothing else to do."""

    @property
    def threads(self) -> int | None:
        """Threads that work on it; None where the options say it."""


class Here:
    """One task after the other, in this process."""

    threads = None

    def run(
        self, task: Callable[[Item], Result], items: Sequence[Item], _wait: Callable[[], None], /
    ) -> Iterator[Result]:
        yield from map(task, items)
