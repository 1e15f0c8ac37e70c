"""A list of any length, of which only the end is in memory."""

from collections.abc import Iterator
from typing import IO, Generic, TypeVar

Item = TypeVar("Item")

#: Items that are held in memory.
HELD = 1 << 9


class Backlog(Generic[Item]):
    """A list that grows and is read in order, as often as wanted; all but its end waits in a temporary file."""

    def __init__(self) -> None:
        self._end: list[Item] = []
        self._file: IO[bytes] | None = None
        self._stop = self._count = 0

    def append(self, item: Item) -> None:
        """Add an item, which must be one that pickle knows."""
        self._end.append(item)
        self._count += 1
        if len(self._end) >= HELD:
            self._write()

    def _write(self) -> None:
        import pickle  # most lists are short
        import tempfile

        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (it has no name, and goes with the process)
        self._file.seek(self._stop)
        pickle.dump(self._end, self._file, pickle.HIGHEST_PROTOCOL)
        self._file.flush()
        self._stop, self._end = self._file.tell(), []

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        end, stop, at = self._end, self._stop, 0
        while self._file is not None and at < stop:
            import pickle

            self._file.seek(at)
            items = pickle.load(self._file)  # noqa: S301  (nobody else can write to it)
            at = self._file.tell()
            yield from items
        yield from end

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()
