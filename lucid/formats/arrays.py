"""Arrays in files: those that are read, and those of means that are written."""

import threading
from typing import Any, NamedTuple

import numpy as np

from lucid.errors import FormatError
from lucid.formats.regions import Region, shape_of, size_of
from lucid.missing import Number
from lucid.pooling.dtypes import Array as Array

#: Bytes of an array that may all be unwritten.
MOST_UNWRITTEN = 1 << 36


class KeptChunk(threading.local):
    """The chunk that a thread decoded last, for reads of less than a chunk: the next one is mostly of the same."""

    key: Any = None
    cells: Array | None = None

    def keep(self, key: Any = None, cells: Array | None = None) -> None:
        """Keep a chunk in place of the one before, or none."""
        self.key, self.cells = key, cells


def pad_chunk(cells: Array, chunks: tuple[int, ...], fill: Array) -> Array:
    """A whole chunk: as it is, or where it reaches over the edge of its array with fill values there."""
    if cells.shape == chunks:
        return cells
    chunk = np.full(chunks, fill)
    chunk[tuple(slice(0, n) for n in cells.shape)] = cells
    return chunk


class Meaning(NamedTuple):
    """What the numbers of a variable mean."""

    #: Their type in the file, and the one as which they are pooled: another one by `_Unsigned`.
    stored: str
    numbers: str
    #: Cells of these values count as nothing; each is exact in the type `numbers`, and none is NaN.
    missing: tuple[Number, ...] = ()
    skip_nan: bool = False
    #: A number stands for `scale * number + offset`.
    scale: float = 1.0
    offset: float = 0.0
    #: Whether attributes name missing cells, which `--missing none` denies.
    by_attributes: bool = True


class ArraySpec(NamedTuple):
    """One array in a file.

    `numbers` names the type of its elements as `lucid.pooling.dtypes` does; `dtype` is how they
    lie in the file, byte order included, uint16 for bfloat16. `chunks` is the grid in which
    the file holds them, None where there is none; `chunk_copies` says how many times a chunk lies in
    memory while it is decoded, 0 where cells are read alone. `order` is the axis order in memory, "C" or "F".
    Of a region of an array, `shape` is the region's, and `offset` its first cell along the axes that are divided.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    numbers: str
    chunks: tuple[int, ...] | None = None
    chunk_copies: int = 0
    order: str = "C"
    offset: tuple[int, ...] = ()
    #: What the numbers mean, where the file says more than that they are numbers.
    meaning: Meaning | None = None
    #: Names of the axes, "" for one that has none; () where no axis has a name.
    dims: tuple[str, ...] = ()
    #: Whether it is behind a network, so that all chunks of a read are asked for at once.
    is_far: bool = False
    #: What its source finds it by, where nothing else has to be known of it; nobody else looks at it.
    handle: Any = None

    def within(self, region: Region) -> "ArraySpec":
        """What lies in a region of its first axes."""
        shape = (*shape_of(region), *self.shape[len(region) :])
        return self._replace(shape=shape, offset=tuple(s.start for s in region))

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return size_of(self.shape) * self.dtype.itemsize

    def check_claim(self, subject: str, holder: str, held_bytes: int, ratio: int) -> None:
        """Raise where it has far more bytes than what holds it: it is a lie, which would be pooled for years."""
        if self.nbytes > max(MOST_UNWRITTEN, ratio * held_bytes):
            raise FormatError(
                f"{subject}claims {self.nbytes} bytes, of which a {holder} of {held_bytes} can hold few"
            )


class ResultSpec(NamedTuple):
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
    #: Whether these are the means of a region only, and `provenance` says what joins them.
    is_shard: bool = False
    #: What was done: "mean", "max", "min" or "sum".
    reduce: str = "mean"
    #: Its number among the arrays of its output.
    number: int = 0
    #: Most bytes of a chunk, where the format of its file has a limit.
    most_chunk_bytes: int | None = None

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
        return self.source.meaning or Meaning(stored=self.source.numbers, numbers=self.source.numbers)

    @property
    def stored_numbers(self) -> str:
        """The type beside the source's attributes: where `_Unsigned` stays, the one that needs it."""
        return self.meaning.stored if self.numbers == self.meaning.numbers else self.numbers
