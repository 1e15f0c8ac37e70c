import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid.pooling.windows import Axis, make_grid

LENGTH = st.integers(1, 300)


@given(LENGTH, LENGTH)
def test_windows_are_the_definition(n_in, n_out):
    axis = Axis(n_in, n_out)
    expected = [oracle.window(i, n_in, n_out) for i in range(n_out)]
    starts, stops = axis.bounds((0, n_out))
    assert list(zip(starts, stops, strict=True)) == [(w.start, w.stop) for w in expected]
    assert [(axis.start(i), axis.stop(i)) for i in range(n_out)] == [(w.start, w.stop) for w in expected]
    assert axis.longest == max(map(len, expected))


@given(LENGTH, LENGTH, st.data())
def test_some_windows_are_counted_from_the_first_cell_that_they_cover(n_in, n_out, data):
    first = data.draw(st.integers(0, n_out - 1))
    stop = data.draw(st.integers(first + 1, n_out))
    axis = Axis(n_in, n_out)
    expected = [oracle.window(i, n_in, n_out) for i in range(first, stop)]
    assert axis.cells((first, stop)) == (expected[0].start, expected[-1].stop)
    starts, stops = axis.bounds((first, stop))
    origin = expected[0].start
    assert list(zip(starts, stops, strict=True)) == [(w.start - origin, w.stop - origin) for w in expected]


@pytest.mark.parametrize("n_in", [21, 5873, 2**31, 2**40 + 1])
@pytest.mark.parametrize("n_out", [3, 19, 3527, 2**31 - 1])
def test_bounds_where_floating_point_or_64_bits_go_wrong(n_in, n_out):
    axis = Axis(n_in, n_out)
    for first in (0, n_out // 2, n_out - 3):
        starts, stops = axis.bounds((first, first + 3))
        assert starts.dtype == stops.dtype == np.int64
        for i, start, stop in zip(range(first, first + 3), starts.tolist(), stops.tolist(), strict=True):
            window = oracle.window(i, n_in, n_out)
            assert (start + axis.start(first), stop + axis.start(first)) == (window.start, window.stop)


@given(st.integers(1, 10**12), st.integers(1, 10**5))
def test_no_window_is_longer_than_the_longest(n_in, n_out):
    axis = Axis(n_in, n_out)
    for i in {0, 1, n_out // 3, n_out // 2, n_out - 1}:
        assert 1 <= axis.stop(i) - axis.start(i) <= axis.longest


def test_a_grid_is_an_axis_of_rows_and_one_of_columns():
    assert make_grid((5, 6), (2, 3)) == (Axis(5, 2), Axis(6, 3))
