"""Compiled kernels give the bits of NumPy's, whatever they are given, and leave what they cannot do."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid.pooling import jit
from lucid.pooling.average import Pooling
from lucid.pooling.dtypes import NAMES, numbers, storage
from lucid.pooling.kernels import order_of
from lucid.pooling.windows import make_grid

if not jit.is_there():
    pytest.skip("Numba is not installed: the extra `fast`", allow_module_level=True)

from numba import njit

from lucid.pooling.compiled import choice, machine
from lucid.pooling.compiled.vectors import load, store, transpose

#: Planes or channels, sizes of planes and outputs: one for each kernel, order and number of parts.
PROBLEMS = [
    ("planar", (70, 14, 14, 1), (4, 4)),  # chains
    ("planar", (33, 6, 6, 1), (3, 3)),
    ("planar", (40, 40, 6, 1), (2, 3)),  # several parts
    ("planar", (64, 60, 41, 1), (30, 20)),  # more cells than stay in the cache
    ("wide", (3, 30, 40, 1), (3, 4)),
    ("wide", (2, 70, 90, 1), (2, 2)),
    ("wide", (5, 14, 51, 1), (7, 17)),  # windows as wide as each other
    ("wide", (3, 16, 56, 1), (2, 7)),
    ("run", (1, 7, 7, 1), (1, 1)),
    ("run", (5, 40, 30, 1), (3, 1)),
    ("global_run", (40, 7, 7, 1), (1, 1)),
    ("channels_last", (3, 14, 14, 70), (4, 4)),
    ("channels_last", (2, 28, 28, 16), (14, 14)),
    ("channels_last", (2, 40, 41, 9), (2, 2)),
    ("channels_last", (2, 33, 20, 5), (3, 1)),
    ("channels_last", (2, 8, 8, 130), (16, 16)),
]


@pytest.fixture(autouse=True, scope="module")
def _at_once():
    """Kernels are compiled for the few elements of tests, too, and all that are asked for can be had."""
    kernel = machine.kernel

    def had(*args):
        call = kernel(*args)
        assert call is not None
        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "PAYS", 0)
        patch.setattr(machine, "kernel", had)
        yield


def random_cells(rng, name, shape):
    """Numbers of many magnitudes, zeros, equal neighbours; for integers, of the whole range."""
    if name == "bool":
        return rng.random(shape) < 0.5
    if name not in ("float16", "bfloat16", "float32", "float64"):
        limits = np.iinfo(name)
        return rng.integers(limits.min, limits.max, shape, dtype=name, endpoint=True)
    cells = rng.standard_normal(shape) * np.exp2(rng.integers(-9, 9, shape))
    cells[rng.random(shape) < 0.2] = 0
    cells[:, : shape[1] // 2] = np.where(
        rng.random((shape[0], 1, 1, 1)) < 0.3, 0.1, cells[:, : shape[1] // 2]
    )
    if name == "bfloat16":
        return (cells.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return cells.astype(name)


def both_ways(cells, name, size, result=None, out_axes=(0, 1, 2, 3)):
    """The means by NumPy and by compiled kernels, as integers of their bits; NaN as one."""
    pooling = Pooling(make_grid(cells.shape[1:3], size), numbers(name, result))
    found = []
    for kernels in (jit.Kernels.NUMPYS, jit.Kernels.COMPILED):
        shape = (cells.shape[0], *size, cells.shape[3])
        out = np.empty([shape[axis] for axis in out_axes], storage(pooling.numbers.result))
        out = out.transpose(np.argsort(out_axes))
        pooling._replace(kernels=kernels).means(cells, out, (0, size[0]), (0, size[1]))
        if out.dtype.kind == "f":
            out = np.where(np.isnan(out), np.nan, out).astype(out.dtype)
        found.append(np.ascontiguousarray(out).view(f"u{out.itemsize}"))
    return found


def name_of(plan):
    return plan.task.recipe[0].partition(":")[2]


@pytest.fixture
def taken(monkeypatch):
    """The names of the kernels that ran; None where NumPy did."""
    names, plan = [], choice.planned

    def planned(*facts):
        found = plan(*facts)
        names.append(found and name_of(found))
        return found

    monkeypatch.setattr(choice, "planned", planned)
    return names


@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("kernel", "shape", "size"), PROBLEMS, ids=str)
def test_the_bits_are_those_of_numpys_kernels(kernel, shape, size, name, rng, taken):
    cells = random_cells(rng, name, shape)
    numpys, compiled = both_ways(cells, name, size)
    assert np.array_equal(numpys, compiled)
    assert taken == [kernel]


RESULTS = ["float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize(
    ("name", "result"), [(name, None) for name in NAMES] + [("float32", result) for result in RESULTS]
)
def test_from_any_number_type_to_any(name, result, rng, taken):
    """What a processor has no instruction for is put together: conversions, in vectors."""
    for _, shape, size in (problem for problem in PROBLEMS if problem[0] == "run"):
        numpys, compiled = both_ways(random_cells(rng, name, shape), name, size, result)
        assert np.array_equal(numpys, compiled)
    assert taken == ["run", "run"]


@given(
    st.integers(1, 70), st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 1, 3, 4, 8, 17, 64, 65]),
    st.tuples(st.integers(1, 34), st.integers(1, 34)), st.permutations(range(4)), st.sampled_from(["C", "planes", "rows", "columns", "F"]), st.integers(0, 1 << 30),
)  # fmt: skip
def test_any_shape_layout_and_stride(planes, height, width, inner, size, axes, layout, seed):
    cells = random_cells(np.random.default_rng(seed), "float32", (planes, height, width, inner))
    if layout == "F":
        cells = np.asfortranarray(cells)
    elif layout != "C":
        axis = ["planes", "rows", "columns"].index(layout)
        cells = np.repeat(cells, 2, axis)[(slice(None),) * axis + (slice(None, None, 2),)]
    numpys, compiled = both_ways(cells, "float32", size, out_axes=axes)
    assert np.array_equal(numpys, compiled)


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("kernel", "shape", "size"), PROBLEMS, ids=str)
def test_what_sums_do_not_keep_is_kept(kernel, shape, size, name, rng, taken):
    """NaN, Inf, overflow, constants, -0.0, numbers below the smallest normal one."""
    cells = random_cells(rng, name, shape)
    numbers_of_planes = [np.nan, np.inf, -np.inf, np.finfo(name).max, -0.0, np.finfo(name).smallest_subnormal]
    for plane, value in enumerate(numbers_of_planes[: shape[0]]):
        part = cells[plane, :, : shape[2] // 2 + 1, plane % shape[3]]
        part[...] = value if plane > 2 else part
        part[rng.integers(shape[1]), 0] = value
    for start in range(0, len(numbers_of_planes), shape[0]):
        cells[0, 0, 0, 0] = numbers_of_planes[start]
        numpys, compiled = both_ways(cells, name, size)
        assert np.array_equal(numpys, compiled)
    assert set(taken) == {kernel}


def test_what_is_left_to_numpy(rng, taken):
    little = rng.standard_normal((40, 7, 7, 1)).astype(np.float32)
    both_ways(little.astype(">f4"), "float32", (3, 3))
    both_ways(little[:31], "float32", (3, 3))
    both_ways(rng.standard_normal((2, 9, 9, 3)).astype(np.float32), "float32", (3, 3))
    assert set(taken) <= {None}
    both_ways(little[:32], "float32", (3, 3))
    assert taken[-1] == "planar"


def test_the_choice_follows_shapes():
    def chosen(plane, size):
        grid = make_grid(plane, size)
        assert order_of(grid) == "separable"
        rows, cols = grid.rows.cuts(0, size[0]), grid.cols.cuts(0, size[1])
        facts = (64, *plane, 1), steps_of(plane), steps_of(size)
        return name_of(choice.planned(numbers("float32"), "separable", *facts, rows, cols))

    def steps_of(plane):
        return plane[0] * plane[1] * 4, plane[1] * 4, 4, 4

    assert chosen((56, 60), (7, 7)) == "wide"
    assert chosen((56, 60), (14, 13)) == "planar"  # lower than FINE_ROWS, and not alike
    assert chosen((56, 60), (14, 15)) == "wide"


@pytest.mark.parametrize(
    ("plane", "size", "inner", "kernel"),
    [
        ((8, 1 << 16), (4, 1 << 15), 1, "wide"),  # too wide to lie side by side
        ((8, 1 << 22), (4, 1 << 21), 1, None),
        ((4, 1 << 14), (4, 1 << 14), 256, "channels_last"),
        ((1 << 22, 12), (1 << 22, 6), 1, "planar"),
    ],
)
def test_scratch_is_bounded(plane, size, inner, kernel):
    grid = make_grid(plane, size)
    shape, out = (64, *plane, inner), (64, *size, inner)
    steps = [
        tuple(4 * np.prod(lengths[k + 1 :], dtype=int).item() for k in range(4)) for lengths in (shape, out)
    ]
    rows, cols = grid.rows.cuts(0, size[0]), grid.cols.cuts(0, size[1])
    plan = choice.planned(numbers("float32"), order_of(grid), shape, *steps, rows, cols)
    assert (plan and name_of(plan)) == kernel
    assert plan is None or sum(plan.task.scratch) <= choice.MOST_SCRATCH


@pytest.mark.parametrize("result", ["float16", "bfloat16", "float32"])
def test_numbers_are_rounded_once_to_even(result):
    """Against the rounding of `dtypes.narrow`, at all halves, between them and beside the middle."""
    from lucid.pooling.dtypes import narrow

    @njit
    def rounded(source, target, count, step):
        for k in range(0, count, 16):
            store(load(source + k * 8, "float64", "float64", 16), target + k * step, result)

    every = np.arange(1 << 16, dtype=np.uint16)
    halves = (
        every.view(np.float16) if result == "float16" else (every.astype(np.uint32) << 16).view(np.float32)
    )
    finite = np.sort(halves[np.isfinite(halves)].astype(np.float64))
    between = (finite[:-1] + finite[1:]) / 2
    values = np.concatenate([finite, between, np.nextafter(between, np.inf), np.nextafter(between, -np.inf)])
    values = np.concatenate([values, np.ldexp(values, -3), np.full(-len(values) * 2 % 16, -0.0)])
    found, expected = (np.zeros(values.shape, storage(result)) for _ in range(2))
    rounded(values.ctypes.data, found.ctypes.data, len(values), found.itemsize)
    narrow(values, result, expected)
    kind = f"u{found.itemsize}"
    assert np.array_equal(found.view(kind), expected.view(kind))


@pytest.mark.parametrize("n", [4, 8, 16])
@pytest.mark.parametrize("some", [None, 3])
def test_squares_are_transposed(n, some):
    @njit
    def turned(source, target, step, some):
        transpose(source, step, None, target, n * 8, some, "float32", "float32", "float64", n)

    cells = np.arange(n * 20, dtype=np.float32).reshape(n, 20)
    found = np.full((n, n), -1.0)
    turned(cells.ctypes.data, found.ctypes.data, cells.strides[0], some)
    expected = np.full((n, n), -1.0)
    expected[:, :some] = cells[:, :n].T[:, :some]
    assert np.array_equal(found, expected)


SCRIPT = """
import hashlib, sys, numpy as np
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.pooling import jit
assert jit.is_there()
rng, bits = np.random.default_rng(3), hashlib.sha256()
for shape, size, dtype in [((4, 30, 14, 14), 4, "f4"), ((9, 50, 14, 14), 1, "f2"), ((2, 20, 56, 56), 7, "f4")]:
    x = (rng.standard_normal(shape) * np.exp2(rng.integers(-9, 9, shape))).astype(dtype)
    bits.update(adaptive_avg_pool2d(x, size).tobytes())
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    bits.update(adaptive_avg_pool2d(x, size).tobytes())
print(bits.hexdigest())
"""


def test_the_bits_do_not_depend_on_the_processor(tmp_path):
    """Numba compiles for any processor of the kind; this one has the instructions of those before it."""
    import llvmlite.binding

    features = llvmlite.binding.get_host_cpu_features()
    seen = set()
    for name in ("", *(["haswell"] if features.get("avx2") else [])):
        environment = dict(os.environ)
        if name:
            environment |= {
                "NUMBA_CPU_NAME": name,
                "NUMBA_CPU_FEATURES": "+avx2,+f16c,+fma",
                "NUMBA_CACHE_DIR": str(tmp_path),
            }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        seen.add(done.stdout)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "reason", ["sys.modules['numba'] = None", "import os; os.environ['NUMBA_DISABLE_JIT'] = '1'"]
)
def test_without_numba_numpys_kernels_do_it_all(reason):
    code = (
        f"import sys; {reason}; import numpy as np; from lucid.nn.functional import adaptive_avg_pool2d; "
        "assert adaptive_avg_pool2d(np.ones((1 << 12, 1, 32, 40)), 3).sum() == 9 << 12; "
        "from lucid.pooling import jit; print(jit.is_there())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")
