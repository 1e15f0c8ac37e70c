"""Arrays in files: those that are read, and those of means that are written."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from lucid.errors import FormatError
from lucid.formats.meaning import FILL, Attributes, Meaning, cells_of_sums
from lucid.formats.regions import Region, grow, shape_of, shrink, size_of
from lucid.formats.result import Changes, changes_of, fill_of
from lucid.pooling.dtypes import FLOATS

Array: TypeAlias = npt.NDArray[Any]

#: Chunks of outputs are grown to this many bytes: HDF5's own advice is 10 KiB to 1 MiB.
CHUNK_BYTES = 1 << 18
#: Bytes of an array that may all be unwritten.
MOST_UNWRITTEN = 1 << 36


def pad_chunk(cells: Array, chunks: tuple[int, ...], fill: Array) -> Array:
    """A whole chunk: as it is, or where it reaches over the edge of its array with fill values there."""
    if cells.shape == chunks:
        return cells
    chunk = np.full(chunks, fill)
    chunk[tuple(slice(0, n) for n in cells.shape)] = cells
    return chunk


class ArraySpec(NamedTuple):
    """One array in a file.

    `numbers` names the type of its elements as `lucid.pooling.dtypes` does; `dtype` is how they
    lie in the file, byte order included, uint16 for bfloat16. `chunks` is the grid in which
    the file holds them, None where there is none; `chunk_copies` says how many times a chunk lies in
    memory while it is decoded, 0 where cells are read alone. `order` is the axis order in memory, "C" or "F".
    For a box of an array, `shape` is the shape of the box, and `offset` its first cell along the axes that are divided.
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
    place: Any = None

    def box(self, region: Region) -> "ArraySpec":
        """A box of the array, by a region of its first axes."""
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
    #: Whether these are the means of a box only, and `provenance` says what joins them.
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

    def changes_of(self, attributes: Attributes) -> Changes:
        """What becomes of the source's attributes, as `result.changes_of` says."""
        h, meaning = self.height_axis, self.meaning
        (rows, columns), (m, n) = self.source.shape[h : h + 2], self.shape[h : h + 2]
        cells = cells_of_sums(meaning, (rows, columns), (m, n)) if m and n else None
        return changes_of(attributes, meaning, self.numbers, reduce=self.reduce, cells=cells)

    @property
    def mark(self) -> Changes:
        """The attribute by which integers say what their gaps are, where none of the source's go along."""
        if not self.meaning.missing or self.numbers in FLOATS:
            return {}
        return {FILL: np.array(fill_of(self.meaning, self.numbers), self.dtype)}

    @property
    def packing(self) -> Changes:
        """The attributes that say what packed numbers stand for, where none of the source's go along."""
        scale, offset = self.meaning.scale, self.meaning.offset
        if (scale, offset) == (1, 0):
            return {}
        packing = {"scale_factor": np.float64(scale), "add_offset": np.float64(offset)}
        return packing | {key: value for key, value in self.changes_of(packing).items() if key in packing}

    @property
    def stored_numbers(self) -> str:
        """The type beside the source's attributes: where `_Unsigned` stays, the one that needs it."""
        return self.meaning.stored if self.numbers == self.meaning.numbers else self.numbers

    @property
    def chunks(self) -> tuple[int, ...]:
        """Chunks in the file: the source's, fitted; of a box those of the whole array, as far as they fit."""
        shape = self.stored_shape
        chunks = self.source.chunks or (1,) * len(self.shape)
        chunks = (chunks[0], shape[1]) if self.flat else chunks
        chunks = grow(chunks, shape, CHUNK_BYTES // self.dtype.itemsize)
        most = self.most_chunk_bytes
        return chunks if most is None else shrink(chunks, most // self.dtype.itemsize)
