"""A list of any length, of which only the end is in memory."""

from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Generic, TypeVar

Item = TypeVar("Item")

#: Items that are held in memory.
HELD = 1 << 9


class Backlog(Generic[Item]):
    """A list that grows and is read in order, as often as wanted; all but its end waits in a temporary file."""

    def __init__(self) -> None:
        self._end: list[Item] = []
        self._file: IO[bytes] | None = None
        #: Where in the file each of the lists begins that were the end.
        self._offsets: list[int] = []

    def append(self, item: Item) -> None:
        """Add an item, which must be one that pickle knows."""
        self._end.append(item)
        if len(self._end) == HELD:
            import pickle  # most lists are short
            import tempfile

            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  (it has no name, and goes with the process)
            self._offsets.append(self._file.seek(0, 2))
            pickle.dump(self._end, self._file, pickle.HIGHEST_PROTOCOL)
            self._end = []

    def __len__(self) -> int:
        return len(self._offsets) * HELD + len(self._end)

    def __iter__(self) -> Iterator[Item]:
        for offset in self._offsets:
            import pickle

            assert self._file is not None
            self._file.seek(offset)
            yield from pickle.load(self._file)  # noqa: S301  (nobody else can write to it)
        yield from self._end

    def __del__(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # the disk is full, which was told
                self._file.close()
