"""The plan is arithmetic: it is tested without a file."""

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid.blocking import BLOCK_BYTES, blockings
from lucid.errors import MemoryLimitError
from lucid.formats.arrays import ArraySpec
from lucid.formats.regions import runs, shape_of, size_of
from lucid.pooling.windows import make_grid


def plan_of(
    shape,
    size,
    *,
    h=2,
    chunks=None,
    whole_chunks=False,
    max_memory=1 << 20,
    workers=1,
    dtype="float32",
    order="C",
):
    spec = ArraySpec("x", shape, np.dtype(dtype), dtype, chunks, 2 * whole_chunks, order=order)
    grid = make_grid(shape[h : h + 2], size)
    return blocking_of(spec, grid, h, max_memory=max_memory, workers=workers)


def blocking_of(spec, grid, h=2, *, max_memory=1 << 30, workers=1):
    (blocking,) = blockings(spec, [grid], h, 4, max_memory=max_memory, workers=workers)
    return blocking


def reads(plan):
    """Every block, and the regions that are read for it."""
    for (block,) in plan.blocks():
        columns = [] if plan.is_whole else plan.columns(block)
        yield block, [read for _, down in columns for read in down] or [plan.cells(block)]


AXIS = st.integers(1, 9)


def test_columns_cover_the_cells_of_a_block_in_order():
    plan = plan_of((1, 1, 5000, 3000), (2, 1), max_memory=1 << 19)
    for block, regions in reads(plan):
        seen = np.zeros((5000, 3000), np.uint8)
        for region in regions:
            assert not seen[region[2].start :, region[3].start :][: region[2].stop - region[2].start].any()
            seen[region[2:]] += 1
        assert (seen[plan.cells(block)[2:]] == 1).all()
    assert not plan.is_whole


@given(
    st.tuples(AXIS, AXIS, AXIS, AXIS, AXIS),
    st.tuples(AXIS, AXIS),
    st.integers(0, 3),
    st.integers(7, 20),
    st.integers(1, 3),
    st.sampled_from("CF"),
)
def test_blocks_cover_every_window_once_within_the_limit(shape, size, h, bits, workers, order):
    try:
        plan = plan_of(shape, size, h=h, max_memory=1 << bits, workers=workers, order=order)
    except MemoryLimitError:
        return
    assert plan.peak_bytes <= 1 << bits
    written = np.zeros((*shape[:h], *size, *shape[h + 2 :]), np.uint8)
    for block, regions in reads(plan):
        for region in regions:
            assert int(np.prod(shape_of(region))) * 4 <= plan.input_bytes
            assert all(0 <= s.start < s.stop <= n for s, n in zip(region, shape, strict=True))
        written[block] += 1
    assert (written == 1).all()


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 6), st.integers(1, 6))
def test_any_plane_fits_one_mebibyte(height, width, rows, cols):
    for dtype in ("uint8", "float64"):
        plan = plan_of((1, 1, height, width), (rows, cols), max_memory=1 << 20, workers=2, dtype=dtype)
        assert plan.peak_bytes <= 1 << 20


@pytest.mark.parametrize("max_memory", [1 << 20, 64 << 20])
@pytest.mark.parametrize("shape", [(5000, 64, 56, 56), (8, 64, 999, 999), (1, 1, 20_000, 20_000)])
def test_fortran_order_is_read_in_long_runs(shape, max_memory):
    spec = ArraySpec("x", shape, np.dtype("f4"), "float32", order="F")
    (plan,) = blockings(spec, [make_grid(shape[2:4], (4, 4))], 2, 4, max_memory=max_memory, workers=2)
    assert plan.peak_bytes <= max_memory
    for _, regions in islice(reads(plan), 3):
        for region in regions[:3]:
            calls = sum(1 for _ in runs(shape[::-1], region[::-1]))
            assert calls <= 10 + size_of(shape_of(region)) // 100


def test_a_plane_of_20_gigabytes():
    plan = plan_of((1, 1, 70_711, 70_711), (4, 4), max_memory=256 << 20, workers=2)
    assert plan.peak_bytes <= 256 << 20
    assert not plan.is_whole


def test_columns_are_read_by_rows_of_chunks():
    plan = plan_of(
        (1, 1, 20_480, 20_480), (4, 4), chunks=(1, 1, 512, 512), whole_chunks=True, max_memory=64 << 20
    )
    assert not plan.is_whole
    rows = [read[2] for _, regions in reads(plan) for read in regions]
    assert all(row.start % 512 == 0 and row.stop % 512 == 0 for row in rows)


def test_blocks_follow_the_chunks():
    plan = plan_of(
        (50_000, 2048, 7, 7), (1, 1), chunks=(1000, 1, 7, 7), whole_chunks=True, max_memory=256 << 20
    )
    assert plan.lengths[0] % 1000 == 0
    assert plan.input_bytes <= BLOCK_BYTES


def test_blocks_of_a_region_end_where_chunks_end():
    shape = (50000, 8, 7, 7)
    spec = ArraySpec("x", shape, np.dtype("f4"), "float32", (1000, 8, 7, 7), chunk_copies=2).within(
        (slice(1500, 42000),)
    )
    plan = blocking_of(spec, make_grid((7, 7), (2, 2)))
    starts = [(block[0].start, block[0].stop) for (block,) in plan.blocks()]
    assert len(starts) > 2
    assert starts[0][0] == 0
    assert starts[-1][1] == 40500
    assert all((1500 + stop) % 1000 == 0 for _, stop in starts[:-1])
    assert all(a[1] == b[0] for a, b in pairwise(starts))


def test_a_region_that_fits_a_block_is_one():
    spec = ArraySpec("x", (5000, 2, 7, 7), np.dtype("f4"), "float32", (1000, 2, 7, 7), chunk_copies=2)
    box = spec.within((slice(1500, 4200),))
    plan = blocking_of(box, make_grid((7, 7), (2, 2)))
    assert [block[0] for (block,) in plan.blocks()] == [slice(0, 2700)]


@pytest.mark.parametrize("offset", [(0, 0), (3, 0), (1, 2)])
@pytest.mark.parametrize("shape", [(9, 5, 64, 64), (1, 1, 3000, 2000), (0, 4, 8, 8)])
def test_blocks_are_counted_without_making_them(offset, shape):
    spec = ArraySpec("x", shape, np.dtype("f4"), "float32", (2, 2, 64, 64), offset=offset)
    plan = blocking_of(spec, make_grid(shape[2:], (7, 3)), max_memory=1 << 18)
    assert plan.block_count == len(list(plan.blocks()))


def test_a_chunk_that_does_not_fit_names_the_limit_it_needs():
    with pytest.raises(MemoryLimitError) as raised:
        plan_of((100, 100, 7, 7), (1, 1), chunks=(100, 100, 7, 7), whole_chunks=True, max_memory=1 << 20)
    needed = int(str(raised.value).split("at least ")[1].split(" ")[0])
    assert str(raised.value).endswith("for its chunks of 1960000 bytes; it is 1048576")
    assert plan_of((100, 100, 7, 7), (1, 1), chunks=(100, 100, 7, 7), whole_chunks=True, max_memory=needed)


def test_fewer_workers_where_memory_is_short():
    plan = plan_of((8, 1, 7, 7), (1, 1), chunks=(1, 1, 7, 7), whole_chunks=True, max_memory=1000, workers=8)
    assert plan.workers == 1


def test_all_sizes_are_pooled_in_one_pass_where_planes_fit():
    spec = ArraySpec("x", (40, 3, 200, 300), np.dtype("f4"), "float32")
    grids = [make_grid((200, 300), size) for size in ((1, 1), (7, 400))]
    (shared,) = blockings(spec, grids, 2, 4, max_memory=1 << 20, workers=2)
    assert shared.peak_bytes <= 1 << 20
    for i, size in enumerate(((1, 1), (7, 400))):
        written = np.zeros((40, 3, *size), np.uint8)
        for block in shared.blocks():
            assert shared.cells(block[0])[2:] == (slice(0, 200), slice(0, 300))
            written[block[i]] += 1
        assert (written == 1).all()
    assert len(blockings(spec, grids, 2, 4, max_memory=1 << 18, workers=2)) == 2
