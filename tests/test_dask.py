"""Dask arrays are pooled block by block to the bits of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid.errors import ArgumentError, DTypeError, ShapeError
from lucid.nn import functional

array = pytest.importorskip("dask.array", reason="dask is not installed (extra dask)")
from lucid.dask import adaptive_avg_pool2d  # noqa: E402  (needs it)


@given(st.data())
def test_bits_are_those_of_the_whole(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=4)))
    dtype = data.draw(st.sampled_from(["f2", "f4", "f8", "u1", "i8", ">f4", "?"]))
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    size = data.draw(
        st.one_of(st.integers(1, 12), st.tuples(*[st.one_of(st.none(), st.integers(1, 12))] * 2))
    )
    x = (np.random.default_rng(0).standard_normal(shape) * 50).astype(dtype)
    lazy = adaptive_avg_pool2d(array.from_array(x, chunks=chunks), size)
    expected = functional.adaptive_avg_pool2d(x, size)
    assert lazy.shape == expected.shape
    assert lazy.dtype == expected.dtype
    assert lazy.compute(scheduler="sync").tobytes() == expected.tobytes()


def test_nan_rule():
    x = array.from_array(np.array([[[np.nan, 1.0]]]))
    assert adaptive_avg_pool2d(x, 1, nan="skip").compute() == 1
    assert np.isnan(adaptive_avg_pool2d(x, 1).compute())


def test_it_is_lazy_and_keeps_chunks():
    def fail(block):
        raise AssertionError("computed")

    x = array.ones((8, 6, 4, 4), chunks=(3, 2, 4, 4)).map_blocks(fail, dtype=float, meta=np.empty((0,) * 4))
    assert adaptive_avg_pool2d(x, 2).chunks == ((3, 3, 2), (2, 2, 2), (2,), (2,))


@pytest.mark.parametrize(
    ("x", "size", "error"),
    [
        (array.ones((2, 2)), 1, ShapeError),
        (array.ones((1, 1, 0, 2)), 1, ShapeError),
        (array.ones((1, 1, 2, 2)), 0, ArgumentError),
        (array.ones((1, 1, 2, 2), dtype=complex), 1, DTypeError),
    ],
)
def test_mistakes_show_before_anything_is_computed(x, size, error):
    with pytest.raises(error):
        adaptive_avg_pool2d(x, size)


def test_planes_of_unknown_size():
    x = array.ones((4, 3, 3))
    with pytest.raises(ShapeError, match="expected planes of known size"):
        adaptive_avg_pool2d(x[:, x[0, :, 0] > 0], 1)
