"""A list and a table of any length, of which only the end and what was read last are in memory."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import IO, Any, Generic, TypeVar

from lucid.errors import translate_errors

Item = TypeVar("Item")

#: Items that are held in memory, and read at once.
HELD = 1 << 9
#: Bytes of others before there is a file: a process may open few, and a report on each input may be such a list.
FILE_BYTES = 1 << 17
#: Items of a table that are held in memory.
MOST_NAMES = 1 << 12
#: What is said where there is no room for the file.
_REFUSED = "a temporary file (TMPDIR) cannot be written"


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
        with translate_errors(_REFUSED):
            if self._file is None:
                import tempfile

                # It has no name, and goes with the process.
                self._file = tempfile.SpooledTemporaryFile(FILE_BYTES)  # noqa: SIM115
            offset = self._file.seek(0, 2)
            self._file.write(data)
            self._file.flush()
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
        number, at = divmod(range(len(self))[index], HELD)
        if number == len(self._offsets):
            return self._end[at]
        if number != self._last[0]:
            self._last = number, self._read(number)
        return self._last[1][at]

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


class Table(Generic[Item]):
    """Items by their names, best gone through in the order of these; all but the last wait in a temporary database.

    Items must be what pickle knows. One thread at a time may use it.
    """

    def __init__(self) -> None:
        self._last: dict[str, Item] = {}
        self._database: Any = None

    def add(self, name: str, item: Item) -> bool:
        """Add an item, unless there is one of that name; whether it was added."""
        if name in self:
            return False
        self._last[name] = item
        if len(self._last) % MOST_NAMES == 0:
            with suppress(ImportError):  # a Python may be built without the database, and hold all
                self._store()
        return True

    def _store(self) -> None:
        """Move what is in memory to the database."""
        import pickle
        import sqlite3

        with translate_errors(_REFUSED, (OSError, sqlite3.Error)):
            if self._database is None:
                self._database = sqlite3.connect("", check_same_thread=False)
                self._database.execute("CREATE TABLE items (name BLOB PRIMARY KEY, item BLOB) WITHOUT ROWID")
            rows = ((_key(name), pickle.dumps(item)) for name, item in self._last.items())
            self._database.executemany("INSERT INTO items VALUES (?, ?)", rows)
        self._last = {}

    def _select(self, clause: str, *values: bytes) -> Iterator[Item]:
        """Items from the database."""
        import pickle

        if self._database is not None:
            rows = self._database.execute(f"SELECT item FROM items {clause}", values)  # noqa: S608  (no value is in it)
            for (data,) in rows:
                yield pickle.loads(data)  # noqa: S301  (nobody else can write to it)

    def __contains__(self, name: str) -> bool:
        return name in self._last or any(True for _ in self._select("WHERE name = ?", _key(name)))

    def get(self, name: str) -> Item | None:
        """The item of a name, if there is one."""
        if name in self._last:
            return self._last[name]
        return next(self._select("WHERE name = ?", _key(name)), None)

    def __iter__(self) -> Iterator[Item]:
        """The items in the order of their names."""
        if self._database is None:
            return (self._last[name] for name in sorted(self._last))
        self._store()
        return self._select("ORDER BY name")

    def __del__(self) -> None:
        if self._database is not None:
            self._database.close()


def _key(name: str) -> bytes:
    """A name in bytes that sort as it does; names of files need not be text."""
    return name.encode("utf-8", "surrogatepass")
