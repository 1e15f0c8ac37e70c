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

from lucid.pooling.windows import Comb, Cuts, Grid

Floats = npt.NDArray[Any]

#: Largest window added in one chain: 31 additions and a division are 16 eps.
CHAIN_WINDOW = 32
#: Largest plane summed by chains: at 7x7 -> 3x3 a chain took 26 ms, the separable way 47 ms; at
#: 28x28 -> 9x9 19 and 27 ms; at 14x14 -> 4x4 about the same.
CHAIN_PLANE = 1000
#: Widest plane summed by runs; wider rows are added at the speed of memory anyway.
RUN_WIDTH = 64
#: Longest run summed at once, in bytes: 256 cells of float32, so that runs of 16-bit integers are exact.
RUN_BYTES = 1024
#: Rows in every matrix product. With the number fixed and a multiple of the height of every
#: register tile, a row's sum does not depend on its place; and the product is too
#: small for BLAS to start threads of its own.
GROUP = 192
#: Cells up to which the columns of regular intervals are added as strided views: pairs of
#: columns take 0.4 ns a cell so, in a product 0.8; at four about the same, at eight a product is faster.
FEW_CELLS = 4
#: Rows of a part that are added pair by pair: 2 and 3 rows of 56 cells take 0.18 ns a cell so,
#: in einsum 0.30; 8 rows 0.24 and 0.20. Rows of 16 cells are too short for it.
SHORT_PART, LONG_ENOUGH = 3, 32
#: Rows from which `np.add.reduce` is the faster: 0.12 ns a cell at 1,024 cells, einsum 0.15; at
#: 56 cells 0.44 and 0.20.
LONG_RUN = 1024
#: Windows in a matrix product: more would multiply more zeros.
BAND = 8
#: Most windows in a matrix product. From 16 on, OpenBLAS' Haswell kernel treats rows unequally.
WIDEST_BAND = 15


@lru_cache(maxsize=64)
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
    sums, errors = _separable(tile, rows, cols)
    sums += 0.0  # of -0.0 alone, some ways to add make -0.0 and others 0.0
    return sums, errors


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
    if tile.shape[2] == 1:
        # einsum would take the rows for its inner loop and add them in lanes.
        add_columns(tile, parts, out)
        return
    run = tile.shape[2]
    for comb in parts.combs:
        rows, chosen = _teeth(tile, 1, comb), out[:, comb.which]
        if comb.length <= SHORT_PART and run >= LONG_ENOUGH:
            np.add(rows[:, :, 0], rows[:, :, 1] if comb.length > 1 else 0, out=chosen)
            for k in range(2, comb.length):
                chosen += rows[:, :, k]
        elif run >= LONG_RUN:
            np.add.reduce(rows, axis=2, out=chosen)
        else:
            np.einsum("pikw->piw", rows, out=chosen)


def _teeth(tile: Floats, axis: int, comb: Comb) -> Floats:
    """A view in which `axis` is two: the intervals of a comb, and the cells of each."""
    shape, strides = tile.shape, tile.strides
    return np.lib.stride_tricks.as_strided(
        tile[(slice(None),) * axis + (slice(comb.start, None),)],
        (*shape[:axis], comb.repeats, comb.length, *shape[axis + 1 :]),
        (*strides[:axis], comb.step * strides[axis], *strides[axis:]),
        writeable=False,
    )


def add_columns(tile: Floats, parts: Cuts, out: Floats) -> None:
    """Add columns `[start, stop)` of (rows, width, inner) in order, into (rows, parts, inner)."""
    inner = tile.shape[2]
    if inner > 1:
        add_rows(tile, parts, out)
        return
    if len(tile) < GROUP or 0 < parts.step <= FEW_CELLS:
        _add_by_offset(tile[:, :, 0], parts, out[:, :, 0])
        return
    for start, stop, chosen, matrix in _column_bands(parts, tile.dtype):
        _product(tile[:, start:stop, 0], matrix, out[:, chosen, 0])


#: First cell, last, which intervals, and their 0/1 matrix as `_product` wants it.
Band = tuple[int, int, slice, Floats]


@lru_cache(maxsize=16)
def _column_bands(parts: Cuts, dtype: np.dtype[np.floating]) -> list[Band]:
    """Few neighbouring intervals at a time."""
    bands = []
    for j in range(0, len(parts), BAND):
        few = parts[j : j + BAND]
        bands.append((*few.span, slice(j, j + len(few)), _padded(_indicator(few.relative, dtype))))
    return bands


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
        for start, stop, chosen, matrix in _plane_bands(rows, cols, width, tile.dtype):
            _product(flat[:, start:stop], matrix, means[:, chosen])
        return sums
    for down in rows.combs:
        windows = _teeth(tile, 1, down)
        for across in cols.combs:
            np.einsum("pirjkc->pijc", _teeth(windows, 3, across), out=sums[:, down.which, across.which])
    return sums


@lru_cache(maxsize=16)
def _plane_bands(rows: Cuts, cols: Cuts, width: int, dtype: np.dtype[np.floating]) -> list[Band]:
    """As `_column_bands` for flattened planes: the windows of one row at most, or all if few."""
    across = np.zeros((width, len(cols)), dtype)
    across[: cols.span[1]] = _indicator(cols, dtype)
    down = _indicator(rows, dtype)
    if len(rows) * len(cols) <= WIDEST_BAND:
        whole = np.einsum("ri,cj->rcij", down, across).reshape(len(down) * width, -1)
        return [(0, len(whole), slice(0, whole.shape[1]), _padded(whole))]
    width_of_band = -(-len(cols) // -(-len(cols) // WIDEST_BAND))
    bands = []
    for i, (top, bottom) in enumerate(zip(rows.starts, rows.stops, strict=True)):
        for j in range(0, len(cols), width_of_band):
            matrix = np.tile(across[:, j : j + width_of_band], (bottom - top, 1))
            first = i * len(cols) + j
            chosen = slice(first, first + matrix.shape[1])
            bands.append((int(top) * width, int(bottom) * width, chosen, _padded(matrix)))
    return bands


def _run(tile: Floats, rows: Cuts) -> tuple[Floats, Floats | None]:
    """Sum windows that span the width, each one run of memory cut in equal pieces."""
    planes, height, width, inner = tile.shape
    cells = tile.reshape(planes, height * width, inner)
    pieces = -(-rows.longest * width * tile.itemsize // RUN_BYTES)
    sums = np.empty((planes, len(rows), pieces, inner), tile.dtype)
    for i, (start, stop) in enumerate(zip(rows.starts * width, rows.stops * width, strict=True)):
        if inner == 1 and (stop - start) % pieces == 0:
            # All at once, as memory has them: 14x14 -> 1 in float64 took 4.9 ms piece by piece.
            equal = cells[:, start:stop, 0].reshape(planes, pieces, -1)
            np.einsum("pqk->pq", equal, out=sums[:, i, :, 0])
            continue
        edges = start + np.arange(pieces + 1) * (stop - start) // pieces
        for k in range(pieces):
            _add_run(cells[:, edges[k] : edges[k + 1]], sums[:, i, k])
    total: Floats
    error: Floats | None
    if pieces == 1:
        total, error = sums[:, :, 0], None
    elif tile.dtype == np.float32:
        total, error = _fold(sums.astype(np.float64), 2), None
    else:
        total, error = _fold_exactly(sums, np.zeros(sums.shape), 2)
    return total[:, :, None], None if error is None else error[:, :, None]


def _add_run(cells: Floats, out: Floats) -> None:
    """Sum (planes, cells, inner) along the cells as NumPy sums a run of memory."""
    planes, length, inner = cells.shape
    if inner == 1:
        np.einsum("pk->p", cells[:, :, 0], out=out[:, 0])
        return
    lanes = numpy_lanes(cells.dtype)
    if lanes == 0:
        runs = np.ascontiguousarray(cells.transpose(0, 2, 1)).reshape(-1, length)
        out[...] = np.einsum("pk->p", runs).reshape(planes, inner)
        return
    _add_in_lanes(cells, lanes, out)


def _add_in_lanes(cells: Floats, lanes: int, out: Floats) -> None:
    """Do as NumPy's SIMD loop does, four vectors of `lanes` cells at a time, for many runs side by side.

    Global means of channels-last (64, 512, 7, 7) took 0.4 ns a cell, transposed first 1.5 ns.
    """
    planes, length, inner = cells.shape
    total = np.zeros((planes, lanes * inner), cells.dtype)
    vectors = length // lanes
    whole = cells[:, : vectors * lanes].reshape(planes, vectors, lanes * inner)
    by_fours = vectors // 4 * 4
    for k in range(0, by_fours, 4):
        four = whole[:, k] + whole[:, k + 1]
        four += whole[:, k + 2] + whole[:, k + 3]
        total += four
    for k in range(by_fours, vectors):
        total += whole[:, k]
    rest = cells[:, vectors * lanes :].reshape(planes, -1)
    total[:, : rest.shape[1]] += rest
    while lanes > 1:
        pairs = total.reshape(planes, lanes // 2, 2, inner)
        total, lanes = pairs[:, :, 0] + pairs[:, :, 1], lanes // 2
    out[...] = total.reshape(planes, inner)


@lru_cache
def numpy_lanes(dtype: np.dtype[np.floating]) -> int:
    """Cells in the vectors by which NumPy sums runs, tried on numbers; 0 if it sums otherwise."""
    cells = _numbers_of_many_magnitudes(64, 97, dtype)  # several fours of vectors, vectors, and a rest
    for lanes in (64 // dtype.itemsize, 32 // dtype.itemsize, 16 // dtype.itemsize):
        found = np.empty((1, 64), dtype)
        _add_in_lanes(np.ascontiguousarray(cells.T)[None], lanes, found)
        if np.array_equal(found[0], np.einsum("pk->p", cells)):
            return lanes
    return 0


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
    """`rows @ matrix` for a padded 0/1 matrix, every sum added in order from the first cell."""
    windows, width = out.shape[1], matrix.shape[1]
    if not _in_order_width(rows.dtype, len(matrix), windows):
        # Many times slower, but right: no BLAS seen so far comes here for all shapes.
        out[...] = 0
        for cell, window in zip(*np.nonzero(matrix), strict=True):
            out[:, window] += rows[:, cell]
        return
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


def _padded(matrix: Floats) -> Floats:
    """The matrix with columns of zeros behind it, as BLAS wants it: once, not for every tile."""
    width = _in_order_width(matrix.dtype, *matrix.shape) or matrix.shape[1]
    padded = np.zeros((len(matrix), width), matrix.dtype)
    padded[:, : matrix.shape[1]] = matrix
    return padded


@lru_cache(maxsize=4096)
def _in_order_width(dtype: np.dtype[np.floating], cells: int, windows: int) -> int:
    """The width to which a matrix is padded for BLAS to add in order; 0 if it never does."""
    # A product with 8 windows takes 0.30 ns a cell and the copy of 7 included, one with 7 takes 0.43.
    fastest = windows + 1 if windows % 4 == 3 else max(windows, 2)
    for width in (fastest, 12, WIDEST_BAND):
        if width >= windows and _blas_adds_in_order(dtype, cells, width):
            return width
    return 0


def _blas_adds_in_order(dtype: np.dtype[np.floating], cells: int, windows: int) -> bool:
    """Whether a product of this shape equals adding cell by cell, tried on numbers.

    The order in which BLAS adds depends on the processor, the library and the shape. Numbers
    of many magnitudes make nearly every sum reveal another order, and there
    are `GROUP * windows` of them.
    """
    rows = _numbers_of_many_magnitudes(GROUP, cells, dtype)
    expected = rows[:, 0].copy()
    for k in range(1, cells):
        expected += rows[:, k]
    product = np.matmul(rows, np.ones((cells, windows), dtype))
    return bool((product == expected[:, None]).all())


def _numbers_of_many_magnitudes(rows: int, cells: int, dtype: np.dtype[np.floating]) -> Floats:
    # Sines are as good as random here, and numpy.random takes 15 ms to load.
    count = np.arange(rows * cells).reshape(rows, cells)
    numbers: Floats = (np.sin(count) * np.exp2(count * 7 % 17 - 8)).astype(dtype)
    return numbers
