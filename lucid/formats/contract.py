"""The contract between files and the rest.

A `Source` is one open file that holds arrays. It lists them (`arrays`) and reads a region
of one into a buffer of the caller (`read`), from any thread.

A `Sink` is one output file while it is written. `begin` is told all that will be in it, `write`
takes regions of means in any order and from any thread, unless it is `in_sequence`; `commit`
makes the file appear under its name, complete and on disk; `close` without it leaves nothing
behind. A file written is a function of its contents: neither the division into regions nor their
order shows in it.

A region is a tuple of slices with start and stop, one for each axis.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from lucid.errors import DatasetError, LucidError
from lucid.formats.choosing import chosen
from lucid.formats.meaning import Attributes, Meaning, cells_of_sums
from lucid.formats.result import Changes, changes_of
from lucid.options import Options

Array = npt.NDArray[Any]
Region = tuple[slice, ...]

#: The attribute that says what an array is the means of.
PROVENANCE = "lucid_pool"
#: Chunks of outputs are grown to this many bytes: HDF5's own advice is 10 KiB to 1 MiB.
CHUNK_BYTES = 1 << 18


class ArraySpec(NamedTuple):
    """One array in a file.

    `numbers` names the type of its elements as `lucid.pooling.dtypes` does; `dtype` is how they
    lie in the file, byte order included, uint16 for bfloat16. `chunks` is the grid in which
    the file holds them, None where there is none; `whole_chunks` says that a chunk can
    only be read whole, for being compressed. `order` is the axis order in memory, "C" or "F".
    Of a box of an array, `shape` is the box's, and `offset` its first cell, but for axes that are whole.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    numbers: str
    chunks: tuple[int, ...] | None = None
    whole_chunks: bool = False
    order: str = "C"
    offset: tuple[int, ...] = ()
    #: What the numbers mean, where the file says more than that they are numbers.
    meaning: Meaning | None = None
    #: Names of the axes, "" for one that has none; () where no axis has a name.
    dims: tuple[str, ...] = ()

    def box(self, region: Region) -> "ArraySpec":
        """A box of the array, by a region of its first axes."""
        shape = (*shape_of(region), *self.shape[len(region) :])
        return self._replace(shape=shape, offset=tuple(s.start for s in region))

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return size_of(self.shape) * self.dtype.itemsize


class Pooled(NamedTuple):
    """One array of means to be written: what it is the means of, and its attribute `lucid_pool`."""

    source: ArraySpec
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    numbers: str
    provenance: str
    #: Axes of the source that were pooled, the first of two.
    height_axis: int = 2
    #: Whether it is stored as two axes, the first and all others joined; regions are still of `shape`.
    flat: bool = False
    #: Whether these are the means of a box only, and `provenance` says what joins them.
    is_shard: bool = False
    #: Pools coordinates: means of a plane at a size, NaN counting as nothing.
    coarsen: Callable[[Array, tuple[int, int]], Array] | None = None
    #: What was done: "mean", "max", "min" or "sum".
    reduce: str = "mean"

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape in the file."""
        return (self.shape[0], size_of(self.shape[1:])) if self.flat else self.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return size_of(self.shape) * self.dtype.itemsize

    @property
    def meaning(self) -> Meaning:
        """What the source's numbers mean."""
        return self.source.meaning or Meaning(self.source.numbers, self.source.numbers)

    def changes_of(self, attributes: Attributes) -> Changes:
        """What becomes of the source's attributes, as `result.changes_of` says."""
        h, meaning = self.height_axis, self.meaning
        (rows, columns), (m, n) = self.source.shape[h : h + 2], self.shape[h : h + 2]
        cells = cells_of_sums(meaning, (rows, columns), (m, n)) if m and n else None
        return changes_of(attributes, meaning, self.numbers, reduce=self.reduce, cells=cells)

    @property
    def stored_numbers(self) -> str:
        """The type in the file: where `_Unsigned` stays, the one that needs it."""
        return self.meaning.stored if self.numbers == self.meaning.numbers else self.numbers


class Carried(NamedTuple):
    """What an output takes over as it is: how many items, and the bytes that they take there."""

    items: int = 0
    nbytes: int = 0


def size_of(shape: Sequence[int]) -> int:
    """Number of elements, in integers that do not overflow."""
    total = 1
    for length in shape:
        total *= int(length)
    return total


def shape_of(region: Region) -> tuple[int, ...]:
    """Shape of a region."""
    return tuple(s.stop - s.start for s in region)


def fitted_chunks(pooled: Pooled) -> tuple[int, ...]:
    """A chunk shape for means: not below the source's, grown by whole ones from the last axis up.

    An axis grows only when those after it are whole, so that chunks are runs of the array. A box of
    an array has the chunks of the whole, as far as they fit it.
    """
    shape = pooled.stored_shape
    chunks = pooled.source.chunks or (1,) * len(pooled.shape)
    chunks = (chunks[0], shape[1]) if pooled.flat else chunks
    fitted = [max(1, min(c, n)) for c, n in zip(chunks, shape, strict=True)]
    for axis in range(len(shape) - 1, -1, -1):
        others = size_of(fitted) // fitted[axis] * pooled.dtype.itemsize
        most = CHUNK_BYTES // max(1, others)
        grown = most // chunks[axis] * chunks[axis] if axis == 0 else most
        fitted[axis] = max(fitted[axis], min(shape[axis], grown), 1)
        if fitted[axis] < shape[axis]:
            break
    return tuple(fitted)


def boxes_of(shape: tuple[int, ...], most: int) -> Iterator[Region]:
    """Regions of an array in order, each a run of at most so many elements."""
    steps = [1] * len(shape)
    for axis in reversed(range(len(shape))):
        steps[axis] = max(1, min(shape[axis], most // max(1, size_of(shape[axis + 1 :]))))
        if steps[axis] < shape[axis]:
            break
    ranges = [range(0, length, step) for length, step in zip(shape, steps, strict=True)]
    for corner in product(*ranges):
        yield tuple(slice(a, min(a + s, n)) for a, s, n in zip(corner, steps, shape, strict=True))


def overlaps(region: Region, chunks: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Region, Region]]:
    """Every chunk of a grid that a region touches: its index, the common cells in it and in the region."""
    if 0 in shape_of(region):
        return
    axes = []
    for s, c in zip(region, chunks, strict=True):
        axis = []
        for i in range(s.start // c, -(-s.stop // c)):
            start, stop = max(s.start, i * c), min(s.stop, (i + 1) * c)
            axis.append((i, slice(start - i * c, stop - i * c), slice(start - s.start, stop - s.start)))
        axes.append(axis)
    for chunk in product(*axes):
        index, inside, outside = zip(*chunk, strict=True) if chunk else ((), (), ())
        yield index, inside, outside


def shifted(region: Region, by: Sequence[int]) -> Region:
    """The same region, so many cells further on along the first axes."""
    moved = (slice(s.start + n, s.stop + n) for s, n in zip(region, by, strict=False))
    return (*moved, *region[len(by) :])


@contextmanager
def named(what: str) -> Iterator[None]:
    """Say which file an error is about."""
    try:
        yield
    except LucidError as error:
        raise type(error)(f"{what}: {error}") from error


class Resource(ABC):
    """Something to be closed; a context manager."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Source(Resource):
    """An open file to read arrays from."""

    #: Whether regions can only be read once, in the order in which they lie, by one thread.
    in_sequence: bool = False
    #: Whether reads wait for a network, so that more of them are under way than there are CPUs.
    is_far: bool = False

    def __init__(self, path: Path, options: Options) -> None:
        self.path = path
        self.options = options
        #: What the user should know of the input, a line each; complete once arrays were chosen.
        self.notes: list[str] = []

    @abstractmethod
    def arrays(self, rank: int) -> tuple[ArraySpec, ...]:
        """The arrays of that rank which can be averaged."""

    def choose(
        self,
        rank: int,
        patterns: Sequence[str],
        height_axis: int = 2,  # noqa: ARG002  (by which a format leaves out what has no cells)
        dims: tuple[str, str] | None = None,
    ) -> tuple[ArraySpec, ...]:
        """The arrays of that rank, or with both dimensions, that the user names, or all.

        A format overrides it where looking at all arrays costs more than looking at those.

        Raises
        ------
        DatasetError
            A pattern matches no array that can be averaged; the error says why.

        """
        if dims is not None:
            raise DatasetError("has axes without names, so `dims` names none of them; say `layout`")
        specs = self.arrays(rank)
        if not patterns:
            return specs
        wanted = chosen([spec.name for spec in specs], patterns)
        return tuple(spec for spec in specs if spec.name in wanted)

    def is_locked(self, spec: ArraySpec) -> bool:  # noqa: ARG002
        """Whether only one thread of a process at a time can read the array."""
        return False

    @abstractmethod
    def check_unchanged(self) -> None:
        """Raise a FormatError if the file changed since it was opened."""

    @abstractmethod
    def signature(self, specs: Sequence[ArraySpec]) -> str:
        """A digest of the file's state and of where these arrays are; another one means another file."""

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The arrays that say what they are means of, each with what it says; "" where none can say it."""
        yield from ()

    @abstractmethod
    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region into a buffer of bytes; the result is a view of it, in the region's shape.

        It counts cells from the array's first one, also where `spec` is a box.

        Raises
        ------
        FormatError
            The file ends early, or cannot be decoded.

        """


class ShardArray(NamedTuple):
    """Means of a box, in a shard: the array there, the place of its first cell in the output, the shard."""

    spec: ArraySpec
    #: Along all axes of the output, as it is stored.
    offset: tuple[int, ...]
    path: Path
    opened: Callable[[], Source]

    @property
    def region(self) -> Region:
        """The box in the output."""
        return tuple(slice(start, start + n) for start, n in zip(self.offset, self.spec.shape, strict=True))

    def open(self) -> Source:
        """The shard, open until another one is opened; an error says which one it was."""
        with named(f"shard {self.path}"):
            return self.opened()

    def read(self, shard: Source, region: Region, buffer: Array) -> Array:
        """Read a region of the output; an error says where."""
        with named(f"shard {self.path}"):
            return shard.read(self.spec, shifted(region, [-n for n in self.offset]), buffer)


class Sink(Resource):
    """An output file while it is written; closed before `commit`, it leaves nothing behind."""

    #: Whether regions must be written in the order in which they lie, by one thread.
    in_sequence: bool = False
    #: Whether `write` writes at an offset of a file and remembers nothing, so that a forked process may do it.
    by_offset: bool = False

    def __init__(self, path: Path, options: Options, *, joins: bool = False) -> None:
        self.path = path
        self.options = options
        #: Whether the means come from shards, by `join`, and not by `write`.
        self.joins = joins
        #: What the user should know of the output, a line each; complete once it was begun.
        self.notes: list[str] = []
        #: What it holds besides means; known once it was begun, or in a dry run by `refuse`.
        self.carried = Carried()
        #: Where `commit` leaves the finished output if it is put in place with others.
        self.later: list[Any] | None = None

    def carries(self, pooled: Sequence[Pooled]) -> bool:
        """Whether it takes over what is not pooled; shards hold means alone."""
        return self.options.carry and not any(array.is_shard for array in pooled)

    @abstractmethod
    def begin(self, source: Source, pooled: Sequence[Pooled]) -> None:
        """Prepare the arrays to be written, and whatever else the format carries over."""

    def refuse(self, source: Source, pooled: Sequence[Pooled]) -> None:
        """Raise for what `begin` would raise for, without making anything; note what it would note."""

    @abstractmethod
    def write(self, pooled: Pooled, region: Region, values: Array) -> None:
        """Write a region of means."""

    def join(self, pooled: Pooled, shards: Sequence[ShardArray], buffer: Array) -> None:
        """Write an array whose means lie in shards, which make it up."""
        stored = pooled._replace(shape=pooled.stored_shape)
        for one in shards:
            shard = one.open()
            moved = (self.move(pooled, one, shard),)
            rest = (one.spec.shape[0] - moved[0], *one.spec.shape[1:])
            for box in boxes_of(rest, len(buffer) // pooled.dtype.itemsize):
                region = shifted(shifted(box, moved), one.offset)
                self.write(stored, region, one.read(shard, region, buffer))

    def move(self, pooled: Pooled, one: ShardArray, shard: Source) -> int:  # noqa: ARG002
        """Take over the first samples of a shard as they are stored; how many that were."""
        return 0

    @abstractmethod
    def commit(self) -> None:
        """Make the file appear under its name."""
