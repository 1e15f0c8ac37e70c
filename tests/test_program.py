"""What is prepared for one array is right for the next of its geometry, and for no other."""

import gc
import weakref

import numpy as np
import pytest

from lucid.nn import functional
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.pooling import jit, program

if not jit.is_there():
    pytest.skip("Numba is not installed: the extra `fast`", allow_module_level=True)

from lucid.pooling.compiled import machine


@pytest.fixture(autouse=True)
def all_is_compiled_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(machine, "PAYS", 0)
    monkeypatch.setattr(functional, "SMALL_COMPILED", 0)
    monkeypatch.setattr(functional, "for_array", lambda _: jit.Kernels.COMPILED)
    monkeypatch.setattr(program, "_known", {})


def by_numpy(monkeypatch, x, size):
    with monkeypatch.context() as patch:
        patch.setattr(functional, "for_array", lambda _: jit.Kernels.NUMPYS)
        return adaptive_avg_pool2d(x, size)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3])
def test_later_arrays_of_a_geometry(monkeypatch, rng, threads, size):
    """The second has cells that kernels leave to NumPy, in other planes than the third."""
    for k in range(3):
        x = rng.standard_normal((9, 30, 7, 7)).astype(np.float32)
        x[k::4, 5 * k, 2, 2:5] = [np.nan, np.inf, -np.inf][k]
        found = adaptive_avg_pool2d(x, size, threads=threads)
        assert len(program._known) == 1
        assert np.array_equal(found.view("u4"), by_numpy(monkeypatch, x, size).view("u4"))


def test_other_geometries_are_not_taken_for_it(monkeypatch, rng):
    x = rng.standard_normal((40, 40, 6, 6))
    arrays = [
        x,
        x.transpose(1, 0, 2, 3),
        x.transpose(0, 1, 3, 2),
        x[:, ::-1],
        x[:, :, ::-1, ::-1],
        x.astype(">f8"),
        x.view(np.int64),
        np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        x,
    ]
    for threads in (1, 2):
        for array in arrays:
            expected = by_numpy(monkeypatch, array, (4, 2))
            assert np.array_equal(adaptive_avg_pool2d(array, (4, 2), threads=threads), expected)
    skipped = adaptive_avg_pool2d(np.where(x > 2, np.nan, x), (4, 2), nan="skip")
    assert np.isfinite(skipped).all()
    assert len(program._known) > 4


def test_neither_arrays_nor_many_geometries_are_kept(rng):
    x = rng.standard_normal((40, 6, 6))
    x_gone, out = weakref.ref(x), adaptive_avg_pool2d(x, 3, threads=2)
    out_gone = weakref.ref(out)
    del x, out
    gc.collect()
    assert (x_gone(), out_gone()) == (None, None)
    for planes in range(32, 32 + program.MOST + 8):
        adaptive_avg_pool2d(np.ones((planes, 6, 6)), 3)
        assert 1 <= len(program._known) <= program.MOST
