"""The ways to sum windows keep one order, on every BLAS that numpy's own library has."""

import os
import subprocess
import sys

import numpy as np
import pytest

from lucid.pooling import kernels
from lucid.pooling.windows import Cuts, bounds, make_grid

SCRIPT = """
import numpy as np, hashlib
from lucid.nn.functional import adaptive_avg_pool2d
rng = np.random.default_rng(3)
bits = hashlib.sha256()
for shape, size in [((9, 50, 14, 14), 4), ((9, 50, 7, 7), 3), ((4, 20, 56, 56), 7), ((3, 5, 100, 90), (9, 30)), ((30, 50, 8, 8), 16)]:
    for dtype in "float32", "float64":
        x = (rng.standard_normal(shape) * np.exp2(rng.integers(-20, 20, shape))).astype(dtype)
        bits.update(adaptive_avg_pool2d(x, size).tobytes())
        assert np.array_equal(adaptive_avg_pool2d(x[1:3], size), adaptive_avg_pool2d(x, size)[1:3])
print(bits.hexdigest())
"""


def test_the_bits_do_not_depend_on_the_processor():
    """OpenBLAS has kernels for many processors; those that this one cannot run end by a signal."""
    seen = set()
    for core in ("", "Prescott", "Nehalem", "Sandybridge", "Haswell", "SkylakeX"):
        environment = {**os.environ, "OPENBLAS_CORETYPE": core} if core else dict(os.environ)
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode < 0 and core:
            continue
        assert done.returncode == 0, done.stderr
        seen.add(done.stdout)
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.parametrize("rows", [1, 31, 200])
@pytest.mark.parametrize(("n_in", "n_out"), [(30, 7), (16, 16), (5, 9), (64, 4)])
def test_columns_are_added_from_left_to_right(dtype, inner, rows, n_in, n_out, rng):
    tile = (
        rng.standard_normal((rows, n_in, inner)) * np.exp2(rng.integers(-9, 9, (rows, n_in, inner)))
    ).astype(dtype)
    out = np.empty((rows, n_out, inner), dtype)
    kernels.add_columns(tile, Cuts(*bounds(n_in, n_out), 1), out)
    for j, (start, stop) in enumerate(zip(*bounds(n_in, n_out), strict=True)):
        expected = np.zeros((rows, inner), dtype)
        for k in range(start, stop):
            expected += tile[:, k]
        assert np.array_equal(out[:, j], expected)


@pytest.mark.parametrize(
    ("plane", "size", "order"),
    [
        ((7, 7), (3, 3), "chain"),
        ((7, 7), (1, 1), "run"),
        ((56, 56), (4, 4), "separable"),
        ((7, 200), (7, 1), "separable"),
    ],
)
def test_the_order_follows_from_shapes(plane, size, order):
    assert kernels.order_of(make_grid(plane, size)) == order
