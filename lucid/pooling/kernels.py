"""The ways to sum windows, and the rule that picks one from shapes.

A tile is an array (planes, height, width, inner) of float32 or float64; `inner` is 1
for channels-first data and the number of channels for channels-last. Every kernel
returns the sums of the windows, shape (planes, rows, columns, inner).

Floating-point sums depend on their order, so the order is part of the definition and
each kernel keeps it whatever the batch, the memory layout or the thread:

- `separable`: in every part (see `windows`) rows are added first, top to bottom, then
  columns, left to right; parts are folded as binary trees, columns first.
- `chain`: the cells of a window are added one by one in reading order. For planes so
  small that the separable way spends its time on loops instead of sums.
- `run`: one window spans the whole width, so its cells are one run of memory, and NumPy
  sums runs with SIMD. For narrow planes, where adding row by row is slow.

Separable sums use two facts. Adding rows is `einsum('pkw->pw')`, which runs at the
speed of memory: (64, 256, 56, 56) to 7x7 took 10 ms, with `np.add.reduce` 18 ms, with
one matrix product per plane 23 ms. Adding columns is a product with a banded 0/1
matrix, which BLAS does many times faster than any loop over windows; whether BLAS adds
in order is tried once per shape (`_blas_adds_in_order`), since some kernels do not.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid.pooling.windows import Cuts, Grid

Floats = npt.NDArray[Any]

#: Largest window added in one chain: 31 additions and a division are 16 eps.
CHAIN_WINDOW = 32
#: Largest plane summed by chains: at 7x7 -> 3x3 a chain took 26 ms, the separable way 47 ms; at
#: 28x28 -> 9x9 19 and 27 ms; at 14x14 -> 4x4 about the same.
CHAIN_PLANE = 1000
#: Widest plane summed by runs; wider rows are added at the speed of memory anyway.
RUN_WIDTH = 64
#: Longest run summed at once, in bytes: NumPy adds it in lanes of 64 bytes, so 24 deep and a
#: few more to join them.
RUN_BYTES = 1536
#: Rows in every matrix product. With the number fixed and a multiple of the height of every
#: register tile, a row's sum does not depend on its place; and the product is too
#: small for BLAS to start threads of its own.
GROUP = 192
#: Cells up to which the columns of regular intervals are added as strided views: pairs of
#: columns take 0.26 ns a cell so, in a product 0.55 ns; at 14 the product is the faster.
FEW_CELLS = 8
#: Windows in a matrix product: more would multiply more zeros.
BAND = 8
#: Most windows in a matrix product. From 16 on, OpenBLAS' Haswell kernel treats rows unequally.
WIDEST_BAND = 15


def order_of(grid: Grid) -> str:
    """Name of the order in which a grid's windows are summed: a function of shapes alone."""
    rows, cols = grid.rows, grid.cols
    # Windows without gap and overlap are added as views, which no product matches:
    # 14x14 -> 7x7 took 6.0 ms, as chains 9.5 ms.
    regular = rows.n_in % rows.n_out == 0 and cols.n_in % cols.n_out == 0
    is_small = rows.n_in * cols.n_in <= CHAIN_PLANE and rows.longest * cols.longest <= CHAIN_WINDOW
    if is_small and not regular:
        return "chain"
    if grid.cols.n_out == grid.cols.slabs == 1 and grid.cols.n_in <= RUN_WIDTH:
        return "run"
    return "separable"


def window_sums(tile: Floats, rows: Cuts, cols: Cuts, order: str) -> tuple[Floats, Floats | None]:
    """Sum of every window as (sums, errors): `sums + errors` where parts were folded.

    Windows of one part are summed in the tile's dtype and have no errors.
    """
    if order == "chain":
        return _chain(tile, rows, cols), None
    if order == "run":
        return _run(tile, rows)
    return _separable(tile, rows, cols)


def _separable(tile: Floats, rows: Cuts, cols: Cuts) -> tuple[Floats, Floats | None]:
    planes, _, width, inner = tile.shape
    row_parts, col_parts = rows.in_parts, cols.in_parts
    bands = np.empty((planes, len(row_parts), width * inner), tile.dtype)
    add_rows(tile.reshape(planes, -1, width * inner), row_parts, bands)
    sums = np.empty((planes * len(row_parts), len(col_parts), inner), tile.dtype)
    add_columns(bands.reshape(-1, width, inner), col_parts, sums)
    if rows.parts == cols.parts == 1:
        return sums.reshape(planes, len(rows), len(cols), inner), None
    parts = sums.reshape(planes, len(rows), rows.parts, len(cols), cols.parts, inner)
    if tile.dtype == np.float32:
        return _fold(_fold(parts.astype(np.float64), 4), 2), None
    return _fold_exactly(*_fold_exactly(parts, np.zeros(parts.shape), 4), 2)


def add_rows(tile: Floats, parts: Cuts, out: Floats) -> None:
    """Add rows `[start, stop)` of (planes, height, run) in order, into (planes, parts, run)."""
    planes, _, run = tile.shape
    if run == 1:
        # einsum would take the rows for its inner loop and add them in lanes.
        add_columns(tile, parts, out)
        return
    if parts.step:
        start, stop = parts.span
        regular = tile[:, start:stop].reshape(planes * len(parts), parts.step, run)
        np.einsum("pkw->pw", regular, out=out.reshape(-1, run))
        return
    for i, (start, stop) in enumerate(zip(parts.starts, parts.stops, strict=True)):
        np.einsum("pkw->pw", tile[:, start:stop], out=out[:, i])


def add_columns(tile: Floats, parts: Cuts, out: Floats) -> None:
    """Add columns `[start, stop)` of (rows, width, inner) in order, into (rows, parts, inner)."""
    inner = tile.shape[2]
    if inner > 1:
        for j, (start, stop) in enumerate(zip(parts.starts, parts.stops, strict=True)):
            np.einsum("rkc->rc", tile[:, start:stop], out=out[:, j])
        return
    if len(tile) < GROUP or 0 < parts.step <= FEW_CELLS:
        _add_by_offset(tile[:, :, 0], parts, out[:, :, 0])
        return
    for start, stop, first, matrix in _column_bands(parts, tile.dtype):
        _product(tile[:, start:stop, 0], matrix, out[:, first : first + matrix.shape[1], 0])


Band = tuple[int, int, int, Floats]


@lru_cache(maxsize=16)
def _column_bands(parts: Cuts, dtype: np.dtype[np.floating]) -> list[Band]:
    """Few neighbouring intervals at a time: (first cell, last, first interval, 0/1 matrix)."""
    return [
        (*parts[j : j + BAND].span, j, _indicator(parts[j : j + BAND].relative, dtype))
        for j in range(0, len(parts), BAND)
    ]


def _indicator(cuts: Cuts, dtype: np.dtype[np.floating]) -> Floats:
    """The 0/1 matrix (cells, intervals) of the intervals that hold each cell."""
    cells = np.arange(cuts.span[1])[:, None]
    return ((cells >= cuts.starts) & (cells < cuts.stops)).astype(dtype)


def _add_by_offset(rows: Floats, parts: Cuts, out: Floats) -> None:
    """Add the first cells of all intervals, then their second, and so on."""
    if parts.step:
        start, stop = parts.span
        regular = rows[:, start:stop].reshape(len(rows), len(parts), parts.step)
        out[...] = regular[:, :, 0]
        for k in range(1, parts.step):
            out += regular[:, :, k]
        return
    out[...] = rows[:, parts.starts]
    for k in range(1, parts.longest):
        if k < parts.shortest:
            out += rows[:, parts.starts + k]
        else:
            longer = np.flatnonzero(parts.lengths > k)
            out[:, longer] += rows[:, parts.starts[longer] + k]


def _chain(tile: Floats, rows: Cuts, cols: Cuts) -> Floats:
    """Add the cells of each window in reading order."""
    planes, _, width, inner = tile.shape
    sums = np.zeros((planes, len(rows), len(cols), inner), tile.dtype)
    if inner == 1:
        # Flattened, a plane is one row and its windows are columns of a 0/1 matrix over its cells.
        flat, means = tile.reshape(planes, -1), sums.reshape(planes, -1)
        for start, stop, first, matrix in _plane_bands(rows, cols, width, tile.dtype):
            _product(flat[:, start:stop], matrix, means[:, first : first + matrix.shape[1]])
        return sums
    for i, (top, bottom) in enumerate(zip(rows.starts, rows.stops, strict=True)):
        for j, (left, right) in enumerate(zip(cols.starts, cols.stops, strict=True)):
            np.einsum("prkc->pc", tile[:, top:bottom, left:right], out=sums[:, i, j])
    return sums


@lru_cache(maxsize=16)
def _plane_bands(rows: Cuts, cols: Cuts, width: int, dtype: np.dtype[np.floating]) -> list[Band]:
    """As `_column_bands` for flattened planes: the windows of one row at most, or all if few."""
    across = np.zeros((width, len(cols)), dtype)
    across[: cols.span[1]] = _indicator(cols, dtype)
    down = _indicator(rows, dtype)
    if len(rows) * len(cols) <= WIDEST_BAND:
        whole = np.einsum("ri,cj->rcij", down, across).reshape(len(down) * width, -1)
        return [(0, len(whole), 0, whole)]
    width_of_band = -(-len(cols) // -(-len(cols) // WIDEST_BAND))
    bands = []
    for i, (top, bottom) in enumerate(zip(rows.starts, rows.stops, strict=True)):
        for j in range(0, len(cols), width_of_band):
            matrix = np.tile(across[:, j : j + width_of_band], (bottom - top, 1))
            bands.append((int(top) * width, int(bottom) * width, i * len(cols) + j, matrix))
    return bands


def _run(tile: Floats, rows: Cuts) -> tuple[Floats, Floats | None]:
    """Sum windows that span the width, each one run of memory cut in equal pieces."""
    planes, height, width, inner = tile.shape
    if inner > 1:
        tile = np.ascontiguousarray(tile.transpose(0, 3, 1, 2))
    cells = tile.reshape(planes * inner, height * width)
    pieces = -(-rows.longest * width * tile.itemsize // RUN_BYTES)
    sums = np.empty((planes * inner, len(rows), pieces), tile.dtype)
    for i, (start, stop) in enumerate(zip(rows.starts * width, rows.stops * width, strict=True)):
        edges = start + np.arange(pieces + 1) * (stop - start) // pieces
        for k in range(pieces):
            np.einsum("pk->p", cells[:, edges[k] : edges[k + 1]], out=sums[:, i, k])
    if pieces == 1:
        total, error = sums[..., 0], None
    elif tile.dtype == np.float32:
        total, error = _fold(sums.astype(np.float64), 2), None
    else:
        total, error = _fold_exactly(sums, np.zeros(sums.shape), 2)
    return _unrun(total, planes, inner), None if error is None else _unrun(error, planes, inner)


def _unrun(sums: Floats, planes: int, inner: int) -> Floats:
    """(planes * inner, rows) as (planes, rows, 1, inner)."""
    return np.ascontiguousarray(sums.reshape(planes, inner, -1, 1).transpose(0, 2, 3, 1))


def two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """`a + b` rounded, and the error of that: their sum is exact (Knuth 1969)."""
    total = a + b
    grown = total - a
    return total, (a - (total - grown)) + (b - grown)


def _fold(sums: Floats, axis: int) -> Floats:
    """Sum an axis as a binary tree and remove it: for float64 sums of float32, which have bits to spare."""
    sums = np.moveaxis(sums, axis, 0)
    while len(sums) > 1:
        half = len(sums) // 2
        folded = sums[:half] + sums[half : 2 * half]
        if len(sums) % 2:
            folded[0] += sums[-1]
        sums = folded
    total: Floats = sums[0]
    return total


def _fold_exactly(sums: Floats, errors: Floats, axis: int) -> tuple[Floats, Floats]:
    """The same, keeping what rounding drops."""
    sums, errors = np.moveaxis(sums, axis, 0), np.moveaxis(errors, axis, 0)
    while len(sums) > 1:
        half = len(sums) // 2
        folded, dropped = two_sum(sums[:half], sums[half : 2 * half])
        dropped += errors[:half] + errors[half : 2 * half]
        if len(sums) % 2:
            folded[0], last = two_sum(folded[0], sums[-1])
            dropped[0] += last + errors[-1]
        sums, errors = folded, dropped
    return sums[0], errors[0]


def _product(rows: Floats, matrix: Floats, out: Floats) -> None:
    """`rows @ matrix` for a 0/1 matrix, every sum added in order from the first cell."""
    windows = matrix.shape[1]
    width = _in_order_width(rows.dtype, *matrix.shape)
    if width == 0:
        # Many times slower, but right: no BLAS seen so far comes here for all shapes.
        out[...] = 0
        for cell, window in zip(*np.nonzero(matrix), strict=True):
            out[:, window] += rows[:, cell]
        return
    if width > windows:
        matrix = np.pad(matrix, ((0, 0), (0, width - windows)))
    whole = len(rows) // GROUP * GROUP
    if whole:
        groups = rows[:whole].reshape(-1, GROUP, rows.shape[1])
        if width == windows:
            np.matmul(groups, matrix, out=out[:whole].reshape(-1, GROUP, windows))
        else:
            out[:whole] = np.matmul(groups, matrix).reshape(whole, width)[:, :windows]
    if whole < len(rows):
        last = np.zeros((GROUP, rows.shape[1]), rows.dtype)
        last[: len(rows) - whole] = rows[whole:]
        out[whole:] = np.matmul(last, matrix)[: len(rows) - whole, :windows]


@lru_cache(maxsize=4096)
def _in_order_width(dtype: np.dtype[np.floating], cells: int, windows: int) -> int:
    """The width to which a matrix is padded for BLAS to add in order; 0 if it never does."""
    for width in (max(windows, 2), 12, WIDEST_BAND):
        if width >= windows and _blas_adds_in_order(dtype, cells, width):
            return width
    return 0


def _blas_adds_in_order(dtype: np.dtype[np.floating], cells: int, windows: int) -> bool:
    """Whether a product of this shape equals adding cell by cell, tried on numbers.

    The order in which BLAS adds depends on the processor, the library and the shape. Numbers
    of many magnitudes make nearly every sum reveal another order, and there
    are `GROUP * windows` of them.
    """
    # Sines are as good as random here, and numpy.random takes 15 ms to load.
    count = np.arange(GROUP * cells).reshape(GROUP, cells)
    rows = (np.sin(count) * np.exp2(count * 7 % 17 - 8)).astype(dtype)
    expected = rows[:, 0].copy()
    for k in range(1, cells):
        expected += rows[:, k]
    product = np.matmul(rows, np.ones((cells, windows), dtype))
    return bool((product == expected[:, None]).all())
