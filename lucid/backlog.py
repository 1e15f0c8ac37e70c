"""A list of any length, of which only the end and what was read last are in memory."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import IO, Any, TypeVar

Item = TypeVar("Item")

#: Items that are held in memory, and read at once.
HELD = 1 << 9
#: Bytes of others before there is a file: a process may open few, and a report on each input may be such a list.
FILE_BYTES = 1 << 17


class Backlog(Sequence[Item]):
    """A list that grows and is best read in order, as often as wanted; all but its end waits in a temporary file.

    Items must be what pickle knows, and so is the list.
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._end: list[Item] = []
        self._file: IO[bytes] | None = None
        #: Where in the file each of the lists begins that were the end; the number of the one read last, and that.
        self._offsets: list[int] = []
        self._last: tuple[int, list[Item]] = -1, []
        for item in items:
            self.append(item)

    def append(self, item: Item) -> None:
        """Add an item."""
        self._end.append(item)
        if len(self._end) == HELD:
            import pickle  # most lists are short

            self._offsets.append(self._write(pickle.dumps(self._end, pickle.HIGHEST_PROTOCOL)))
            self._end = []

    def _write(self, data: bytes) -> int:
        """Write behind the end of the file; where that is."""
        if self._file is None:
            import tempfile

            # It has no name, and goes with the process.
            self._file = tempfile.SpooledTemporaryFile(FILE_BYTES)  # noqa: SIM115
        offset = self._file.seek(0, 2)
        self._file.write(data)
        return offset

    def _read(self, number: int) -> list[Item]:
        import pickle

        assert self._file is not None
        self._file.seek(self._offsets[number])
        return pickle.load(self._file)  # type: ignore[no-any-return]  # noqa: S301  (nobody else can write to it)

    def __len__(self) -> int:
        return len(self._offsets) * HELD + len(self._end)

    def __iter__(self) -> Iterator[Item]:
        for number in range(len(self._offsets)):
            yield from self._read(number)
        yield from self._end

    def __repr__(self) -> str:
        """That of a list; of a long one, only as much as is read at once."""
        return f"[{', '.join(map(repr, islice(self, HELD)))}{', …' * (len(self) > HELD)}]"

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        number, place = divmod(range(len(self))[index], HELD)
        if number == len(self._offsets):
            return self._end[place]
        if number != self._last[0]:
            self._last = number, self._read(number)
        return self._last[1][place]

    def __getstate__(self) -> tuple[list[Item], list[int], bytes]:
        data = b""
        if self._file is not None:
            self._file.seek(0)
            data = self._file.read()
        return self._end, self._offsets, data

    def __setstate__(self, state: tuple[list[Item], list[int], bytes]) -> None:
        Backlog.__init__(self)
        self._end, self._offsets, data = state
        if data:
            self._write(data)

    def __del__(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # the disk is full, which was told
                self._file.close()
