"""Memory of large results: taken again, never while somebody holds it."""

import errno
import gc
import mmap
import weakref

import numpy as np
import pytest

from lucid.nn.functional import adaptive_avg_pool2d
from lucid.pooling import memory

if not hasattr(mmap, "MADV_FREE"):
    pytest.skip("large results are NumPy's on this system", allow_module_level=True)

LARGE = (memory.LARGE // 8 + 100,)


@pytest.fixture(autouse=True)
def nothing_is_kept():
    gc.collect()
    memory._kept.clear()
    yield
    memory._kept.clear()


def place(array):
    return array.__array_interface__["data"][0]


def test_memory_is_taken_again_once_no_view_is_left():
    first = memory.empty(LARGE, np.float64)
    first[:] = 1
    here, view = place(first), first.reshape(2, -1)[1, ::7]
    del first
    second = memory.empty(LARGE, np.float64)
    assert place(second) != here
    second[:] = 2
    assert (view == 1).all()
    del view
    third = memory.empty((memory.LARGE // 12 + 1, 3), np.float32)
    assert place(third) == here
    assert third.flags.writeable
    assert third.flags.c_contiguous


def test_memory_that_numpys_views_or_buffers_hold_is_not_taken():
    array = memory.empty(LARGE, np.float64)
    held = weakref.ref(array.base)
    buffer = memoryview(array)
    del array
    assert held() is not None
    assert not memory._kept
    buffer.release()
    assert held() is None
    assert len(memory._kept) == 1


def test_what_is_much_too_large_is_left_and_no_more_than_a_bound_is_kept():
    shapes = [(memory.LARGE + k,) for k in (0, 1, 2)]
    arrays = [memory.empty(shape, np.uint8) for shape in [(memory.KEPT - memory.LARGE,), *shapes]]
    places = [place(array) for array in arrays]
    while arrays:
        del arrays[0]
    assert sum(map(len, memory._kept)) <= memory.KEPT
    assert [len(kept) for kept in memory._kept] == [shape[0] for shape in shapes]
    latest = memory.empty(shapes[0], np.uint8)
    assert place(latest) == places[-1]
    assert place(memory.empty((2 * memory.LARGE + 3,), np.uint8)) not in places


def test_small_arrays_are_numpys():
    assert memory.empty((memory.LARGE - 1,), np.uint8).flags.owndata
    assert memory.empty((0, 3), np.float64).shape == (0, 3)


def test_where_the_system_knows_of_no_such_thing_arrays_are_numpys(monkeypatch):
    monkeypatch.delattr(mmap, "MADV_FREE")
    assert memory.empty(LARGE, np.float64).flags.owndata


def test_too_large_an_array_is_numpys_error(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(memory.mmap, "mmap", refuse)
    with pytest.raises(MemoryError, match="Unable to allocate"):
        memory.empty((1 << 58,), np.float64)


def test_pooling_again_and_again_takes_the_same_memory_and_gives_the_same_means(rng):
    x = rng.standard_normal((64, 4, 4))
    places = []
    for sign in (1, -1, 1):
        means = adaptive_avg_pool2d(sign * x, 256)
        assert np.array_equal(means[:, ::64, ::64], sign * x)
        places.append(place(means))
        del means
    assert len(set(places)) == 1
