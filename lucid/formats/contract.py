"""The contract between files and the rest: `Source` is an open file to read, `Sink` one while it is written.

A format is a subclass of each. Both take regions, which are tuples of slices (`regions.py`), of arrays, which
are described by `ArraySpec` and `ResultSpec` (`arrays.py`). A file written is a function of its contents: neither the
division into regions nor their order shows in it.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from lucid.errors import translate_errors
from lucid.formats.arrays import Array, ArraySpec, ResultSpec
from lucid.formats.disk.replacement import Replacement
from lucid.formats.regions import Region
from lucid.formats.resource import Resource
from lucid.options import Options

#: The attribute that says what an array is the means of.
PROVENANCE = "lucid_pool"
#: Reads under way where each waits for a network.
FAR_READS = 16


class File(Resource):
    """A file that is read or written, under some options."""

    def __init__(self, path: Path, options: Options) -> None:
        self.path = path
        self.options = options
        #: What the user should know of it, a line each; complete once arrays were chosen, or an output was begun.
        self.notes: list[str] = []


class Source(File):
    """An open file: `choose` lists its arrays, `read` reads a region of one, from any thread."""

    #: What is doubtful of arrays that were chosen, and their names.
    doubts: Mapping[str, Sequence[str]] = MappingProxyType({})
    #: Whether regions can only be read once, in the order in which they lie, by one thread.
    in_sequence: bool = False

    @abstractmethod
    def choose(self, patterns: Sequence[str]) -> Sequence[ArraySpec]:
        """The arrays that fit the options and are named, exactly or by patterns; without any, all that fit.

        Raises
        ------
        DatasetError
            A pattern matches no array that can be pooled, or there is none; the error says why.

        """

    @abstractmethod
    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region into a buffer of bytes; the result is a view of it, in the region's shape.

        It counts cells from the array's first one, also where `spec` is a region.

        Raises
        ------
        FormatError
            The file ends early, or cannot be decoded.

        """

    def is_locked(self, spec: ArraySpec) -> bool:  # noqa: ARG002
        """Whether only one thread of a process at a time can read the array."""
        return False

    def check_unchanged(self) -> None:
        """Raise a FormatError if the file changed since it was opened; what a stream gave is given."""

    def signature(self, specs: Sequence[ArraySpec]) -> str:
        """A digest of the file's state and of where these arrays are; what cannot be read again has none."""
        raise NotImplementedError

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The arrays that say what they are means of, each with what it says; "" where none can say it."""
        yield from ()

    def is_whole(self, spec: ArraySpec) -> bool:  # noqa: ARG002
        """Whether an array of a shard still has all that was written, as far as that is seen without decoding it."""
        return True


class CarriedArrays(NamedTuple):
    """What an output takes over as it is: how many arrays, and the bytes that they take there."""

    arrays: int = 0
    nbytes: int = 0


class Sink(File):
    """An output file while it is written.

    `begin` is told all that will be in it, `write` takes regions of means in any order, from any thread or a forked
    process, so it writes at an offset of an open file and remembers nothing; `commit` makes the file appear under its
    name, complete and on disk; `close` without it leaves nothing behind.
    All but `close` are called within `name_errors`.
    """

    #: Whether regions must be written in the order in which they lie, by one thread.
    in_sequence: bool = False
    #: What it holds besides means; known once it was begun, or in a dry run by `refuse`.
    carried = CarriedArrays()

    def name_errors(self) -> AbstractContextManager[None]:
        """Say which output it is that the system refuses to write."""
        return translate_errors(f"output {self.path} cannot be written")

    @abstractmethod
    def begin(self, source: Source, results: Sequence[ResultSpec]) -> None:
        """Prepare the arrays to be written, and whatever else the format carries over."""

    def refuse(self, source: Source, results: Sequence[ResultSpec]) -> None:
        """Raise for what `begin` would raise for, without making anything; note what it would note."""

    @abstractmethod
    def write(self, result: ResultSpec, region: Region, values: Array) -> None:
        """Write a region of means."""

    @abstractmethod
    def commit(self, group: list[Replacement] | None = None) -> None:
        """Make the file appear under its name, or add it, finished, to a `group` that is put in place together."""
