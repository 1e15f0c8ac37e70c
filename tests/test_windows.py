import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid.pooling.windows import PART, SLAB_CELLS, Axis, bounds, longest_window, make_grid, split

LENGTH = st.integers(1, 300)


@given(LENGTH, LENGTH)
def test_bounds_are_the_definition(n_in, n_out):
    starts, stops = bounds(n_in, n_out)
    expected = [oracle.window(i, n_in, n_out) for i in range(n_out)]
    assert list(zip(starts, stops, strict=True)) == [(w.start, w.stop) for w in expected]
    assert longest_window(n_in, n_out) == max(map(len, expected))


@pytest.mark.parametrize(("n_in", "n_out"), [(21, 19), (5873, 3527), (2**40 + 1, 3), (2**31, 2**31 - 1)])
def test_bounds_where_floating_point_goes_wrong(n_in, n_out):
    for first in (0, n_out // 2, n_out - 3):
        starts, stops = bounds(n_in, n_out, first, first + 3)
        for i, start, stop in zip(range(first, first + 3), starts, stops, strict=True):
            assert (start, stop) == (i * n_in // n_out, -(-(i + 1) * n_in // n_out))


@given(LENGTH, LENGTH, st.integers(1, 5))
def test_split_covers_each_interval_once(n_in, n_out, pieces):
    starts, stops = bounds(n_in, n_out)
    wide = stops - starts >= pieces
    starts, stops = starts[wide], stops[wide]
    cut_starts, cut_stops = split(starts, stops, pieces)
    for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        own = slice(i * pieces, (i + 1) * pieces)
        cells = [c for a, b in zip(cut_starts[own], cut_stops[own], strict=True) for c in range(a, b)]
        assert cells == list(range(start, stop))


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.integers(1, 50), st.integers(1, 50))
def test_slabs_and_parts_stay_below_their_limits(height, width, rows, cols):
    grid = make_grid((height, width), (rows, cols))
    tall = max(grid.rows.cuts(s, s + 1).lengths[0] for s in range(min(grid.rows.slabs, 3)))
    wide = max(grid.cols.cuts(s, s + 1).lengths[0] for s in range(min(grid.cols.slabs, 3)))
    assert tall * wide <= SLAB_CELLS
    assert -(-tall // grid.rows.parts) <= PART
    assert -(-wide // grid.cols.parts) <= PART


def test_cuts_of_an_axis_are_its_windows_in_slabs():
    axis = Axis(n_in=100, n_out=3, slabs=4, parts=1)
    cuts = axis.cuts(0, 12)
    assert cuts.span == (0, 100)
    assert np.array_equal(axis.cuts(5, 7).starts, cuts.starts[5:7])
    assert axis.cuts(4, 8).relative.starts[0] == 0
