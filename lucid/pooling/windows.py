"""Windows of adaptive pooling: integers only.

    window i of n_out over n_in cells = [floor(i * n_in / n_out), ceil((i + 1) * n_in / n_out))

Windows may differ in length by one and overlap by one cell; where n_out > n_in, one cell is in several.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
#: An interval [start, stop) of windows or of cells along an axis.
Interval = tuple[int, int]


class Axis(NamedTuple):
    """One spatial axis: `n_out` windows over `n_in` cells.

    >>> [Axis(7, 3).cells((i, i + 1)) for i in range(3)]
    [(0, 3), (2, 5), (4, 7)]
    """

    n_in: int
    n_out: int

    def start(self, i: int) -> int:
        """The first cell of window `i`."""
        return i * self.n_in // self.n_out

    def stop(self, i: int) -> int:
        """The first cell behind window `i`."""
        return -(-(i + 1) * self.n_in // self.n_out)

    def cells(self, windows: Interval) -> Interval:
        """The cells that consecutive windows cover."""
        return self.start(windows[0]), self.stop(windows[1] - 1)

    def bounds(self, windows: Interval) -> tuple[Ints, Ints]:
        """Starts and stops of consecutive windows, counted from the first cell that they cover.

        In two steps, so that no product exceeds 64 bits for up to 2**31 windows.
        """
        i = np.arange(*windows, dtype=np.int64)
        whole, rest = divmod(self.n_in, self.n_out)
        starts = i * whole + i * rest // self.n_out
        stops = (i + 1) * whole + -(-(i + 1) * rest // self.n_out)
        return starts - self.start(windows[0]), stops - self.start(windows[0])

    @property
    def longest(self) -> int:
        """Cells in the longest window.

        A window that starts within a cell and ends within another has one cell more, which happens unless the rest
        of the division cuts the axis into equal steps.

        >>> Axis(8, 3).longest, Axis(9, 3).longest, Axis(4, 6).longest
        (4, 3, 2)
        """
        whole, rest = divmod(self.n_in, self.n_out)
        if rest == 0:
            return whole
        return whole + (1 if self.n_out % rest == 0 else 2)


class Grid(NamedTuple):
    """How a plane of `rows.n_in` x `cols.n_in` cells is pooled to `rows.n_out` x `cols.n_out`."""

    rows: Axis
    cols: Axis


def make_grid(plane: tuple[int, int], output_size: tuple[int, int]) -> Grid:
    """The grid for a plane (H_in, W_in) pooled to (H_out, W_out)."""
    return Grid(Axis(plane[0], output_size[0]), Axis(plane[1], output_size[1]))
