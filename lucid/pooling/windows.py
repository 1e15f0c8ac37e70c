"""The windows of adaptive pooling, in integers only.

An axis of length `n_in` pooled to `n_out` has the windows

    [floor(i * n_in / n_out), ceil((i + 1) * n_in / n_out))        0 <= i < n_out

Lengths differ by at most one and neighbours may share a cell. A window is added up
in a fixed hierarchy, so that a sum depends on the shape alone and never on how the
work was cut:

    window = slabs added in order            a slab holds at most SLAB_CELLS cells
    slab   = parts folded as a binary tree   a part is at most PART cells long
    part   = cells added in order

`PART` bounds the rounding error of a part. A slab is the smallest piece of a plane
that is ever held in memory, so `SLAB_CELLS` bounds what one step of a stream needs.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

#: Longest run of cells added one after the other along an axis. Two axes of 15 additions
#: and one division stay within the 32 roundings that 16 eps allow.
PART = 16
#: Most cells of a window that are summed in one piece: 512 KiB as float64.
SLAB_CELLS = 1 << 16
#: Longest slab along the columns: long enough to read a file in runs of 16 KiB and more.
SLAB_COLUMNS = 4096


#: Longest period that is looked for; beyond it intervals are taken one by one.
LONGEST_PERIOD = 64


class Comb(NamedTuple):
    """`repeats` intervals of `length` cells, `step` cells from start to start."""

    #: Which intervals these are among all.
    which: slice
    start: int
    length: int
    step: int
    repeats: int


@dataclass(frozen=True, eq=False)
class Cuts:
    """Consecutive intervals `[starts[i], stops[i])` of an axis, each summed in `parts`.

    Compared by identity: tiles share their cuts, and what is derived from cuts is derived once.
    """

    starts: Ints
    stops: Ints
    parts: int

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> Ints:
        """Cells in each interval."""
        return self.stops - self.starts

    @cached_property
    def longest(self) -> int:
        """Cells in the longest interval."""
        return int(self.lengths.max())

    @cached_property
    def shortest(self) -> int:
        """Cells in the shortest interval."""
        return int(self.lengths.min())

    @cached_property
    def span(self) -> tuple[int, int]:
        """The cells `[start, stop)` that the intervals cover together."""
        return (int(self.starts[0]), int(self.stops[-1])) if len(self) else (0, 0)

    def __getitem__(self, chosen: slice) -> "Cuts":
        return Cuts(self.starts[chosen], self.stops[chosen], self.parts)

    @cached_property
    def step(self) -> int:
        """The common length of intervals that follow each other without gap or overlap, else 0."""
        length = int(self.stops[0] - self.starts[0])
        edges = self.starts[0] + length * np.arange(len(self) + 1)
        seamless = np.array_equal(self.starts, edges[:-1]) and np.array_equal(self.stops, edges[1:])
        return length if seamless else 0

    @cached_property
    def combs(self) -> list["Comb"]:
        """The intervals as few sets of equally long, equally spaced ones.

        Windows repeat after `n_out / gcd(n_in, n_out)` of them, if not before.
        """
        starts, lengths = self.starts, self.lengths
        for period in range(1, min(len(self), LONGEST_PERIOD) + 1):
            steps = starts[period:] - starts[:-period]
            if (steps == steps[:1]).all() and np.array_equal(lengths[period:], lengths[:-period]):
                break
        else:
            period, steps = len(self), starts[:0]
        step = int(steps[0]) if len(steps) else 0
        return [
            Comb(slice(i, None, period), int(starts[i]), int(lengths[i]), step, len(starts[i::period]))
            for i in range(period)
        ]

    @cached_property
    def relative(self) -> "Cuts":
        """The same intervals counted from the first cell that they cover."""
        return Cuts(self.starts - self.span[0], self.stops - self.span[0], self.parts)

    @cached_property
    def in_parts(self) -> "Cuts":
        """The parts of every interval, as intervals of their own."""
        return Cuts(*split(self.starts, self.stops, self.parts), 1)


def bounds(n_in: int, n_out: int, first: int = 0, last: int | None = None) -> tuple[Ints, Ints]:
    """Start and stop of windows `[first, last)`; the integers hold for up to 2**31 windows."""
    whole, rest = divmod(n_in, n_out)
    i = np.arange(first, n_out if last is None else last, dtype=np.int64)
    starts = i * whole + i * rest // n_out
    stops = (i + 1) * whole + -(-(i + 1) * rest // n_out)
    return starts, stops


def split(starts: Ints, stops: Ints, pieces: int) -> tuple[Ints, Ints]:
    """Cut every interval into `pieces` whose lengths differ by at most one."""
    if pieces == 1:
        return starts, stops
    cut = np.arange(pieces + 1, dtype=np.int64)
    edges = starts[:, None] + cut * (stops - starts)[:, None] // pieces
    return edges[:, :-1].ravel(), edges[:, 1:].ravel()


class Axis(NamedTuple):
    """One spatial axis: `n_out` windows over `n_in` cells, each of `slabs` slabs."""

    n_in: int
    n_out: int
    slabs: int
    parts: int

    @property
    def longest(self) -> int:
        """Cells in the longest window."""
        return longest_window(self.n_in, self.n_out)

    def slabs_of(self, windows: tuple[int, int]) -> tuple[int, int]:
        """The slabs `[start, stop)` of the windows `[start, stop)`."""
        return windows[0] * self.slabs, windows[1] * self.slabs

    def cuts(self, start: int, stop: int) -> Cuts:
        """Slabs `[start, stop)` of the axis; slab `s` belongs to window `s // slabs`."""
        return _cuts(self, start, stop)


@lru_cache(maxsize=16)  # the blocks of a plan ask for the same few again and again
def _cuts(axis: Axis, start: int, stop: int) -> Cuts:
    first, last = start // axis.slabs, -(-stop // axis.slabs)
    starts, stops = split(*bounds(axis.n_in, axis.n_out, first, last), axis.slabs)
    chosen = slice(start - first * axis.slabs, stop - first * axis.slabs)
    return Cuts(starts[chosen], stops[chosen], axis.parts)


def longest_window(n_in: int, n_out: int) -> int:
    """Cells in the longest window: one more than n_in / n_out wherever that is not whole."""
    whole, rest = divmod(n_in, n_out)
    if rest == 0:
        return whole
    # A window that starts within a cell and ends within another spans one cell more;
    # that happens unless the rest divides the axis into equal steps of one.
    return whole + (1 if n_out % rest == 0 else 2) if n_out > 1 else n_in


class Grid(NamedTuple):
    """How a plane of `rows.n_in` x `cols.n_in` is pooled to `rows.n_out` x `cols.n_out`."""

    rows: Axis
    cols: Axis

    @property
    def windows_are_whole(self) -> bool:
        """True where every window is one slab."""
        return self.rows.slabs == 1 and self.cols.slabs == 1


def make_grid(plane: tuple[int, int], output_size: tuple[int, int]) -> Grid:
    """The grid for a plane (H_in, W_in) pooled to (H_out, W_out): a function of these alone."""
    (height, width), (rows, cols) = plane, output_size
    tall, wide = longest_window(height, rows), longest_window(width, cols)
    slab_columns = min(wide, SLAB_COLUMNS)
    slab_rows = min(tall, SLAB_CELLS // slab_columns)
    if slab_rows == tall:
        slab_columns = min(wide, SLAB_CELLS // slab_rows)
    return Grid(
        _axis(height, rows, tall, slab_rows),
        _axis(width, cols, wide, slab_columns),
    )


def _axis(n_in: int, n_out: int, longest: int, slab: int) -> Axis:
    slabs = -(-longest // slab)
    slab_length = -(-longest // slabs)
    return Axis(n_in, n_out, slabs, -(-slab_length // PART))
