"""The arithmetic against exact rational numbers, and every guarantee by itself."""

import math
from fractions import Fraction

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lucid.pooling.average import Pooling

from lucid.pooling import jit, kernels, windows
from lucid.pooling.dtypes import NAMES, numbers
from lucid.pooling.windows import make_grid

SIZE = st.tuples(st.integers(1, 12), st.integers(1, 12))
SHAPE = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 40))
FLOATS = ["float16", "float32", "float64"]
INTEGERS = [n for n in NAMES if n not in (*FLOATS, "bfloat16")]


class Compiled:
    """Whether `pool` takes the compiled kernels."""

    chosen = jit.Kernels.NUMPYS


def pool(x, size, *, channels_last=False, **options):
    """Pool (N, C, H, W) with the layer under test, in either memory layout."""
    if Compiled.chosen is jit.Kernels.COMPILED:
        # Compiled kernels leave a few planes or channels to NumPy: here are enough of the same.
        copies, channels = -(-64 // x.shape[1]), x.shape[1]
        means = pool_as_it_is(np.tile(x, (1, copies, 1, 1)), size, channels_last=channels_last, **options)
        for k in range(1, copies):
            again = means[:, k * channels : (k + 1) * channels]
            assert np.array_equal(again, means[:, :channels], equal_nan=means.dtype.kind == "f")
        return means[:, :channels]
    return pool_as_it_is(x, size, channels_last=channels_last, **options)


def pool_as_it_is(x, size, *, skip_nan=False, result=None, tile_cells=1 << 18, channels_last=False):
    grid, kinds = make_grid(x.shape[-2:], size), numbers(x.dtype.name, result)
    pooling = Pooling(grid, kinds, skip_nan, tile_cells, kernels=Compiled.chosen)
    spans = (0, size[0]), (0, size[1])
    dtype = pooling.numbers.result_dtype
    if channels_last:
        out = np.empty((x.shape[0], *size, x.shape[1]), dtype)
        pooling.means(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), out, *spans)
        return out.transpose(0, 3, 1, 2)
    out = np.empty((*x.shape[:2], *size), dtype)
    pooling.means(x.reshape(-1, *x.shape[-2:], 1), out.reshape(-1, *size, 1), *spans)
    return out


@pytest.fixture(params=["real slabs", "tiny slabs", "compiled"])
def slabs(request, monkeypatch):
    """Every rule must hold where windows are summed in many slabs, too, and by compiled kernels."""
    if request.param == "compiled":
        if not jit.is_there():
            pytest.skip("Numba is not installed: the extra `fast`")
        from lucid.pooling.compiled import machine

        monkeypatch.setattr(machine, "PAYS", 0)
        monkeypatch.setattr(Compiled, "chosen", jit.Kernels.COMPILED)
    if request.param == "tiny slabs":
        monkeypatch.setattr(windows, "SLAB_CELLS", 48)
        monkeypatch.setattr(windows, "SLAB_COLUMNS", 12)


def check(x, size, **options):
    """Every mean within 16 eps of the mean of |x| of its window, non-finite ones as they must be."""
    means = pool(x, size, **options)
    expected = oracle.adaptive_avg_pool2d(x, size, skip_nan=options.get("skip_nan", False))
    eps = Fraction(float(np.finfo(means.dtype).eps))
    tiny = Fraction(float(np.finfo(means.dtype).smallest_subnormal))
    for at in np.ndindex(*means.shape):
        exact, mean = expected[at], means[at].item()
        if isinstance(exact, float):
            assert mean == exact or (math.isnan(mean) and math.isnan(exact)), at
            continue
        cells = [
            x[(*at[:2], r, c)].item()
            for r in oracle.window(at[2], x.shape[2], size[0])
            for c in oracle.window(at[3], x.shape[3], size[1])
        ]
        present = [abs(Fraction(v)) for v in cells if not math.isnan(v)]
        bound = 16 * eps * sum(present) / len(present) + tiny
        assert math.isfinite(mean), at
        assert abs(Fraction(mean) - exact) <= bound, (at, mean, float(exact))
    return means


@pytest.mark.usefixtures("slabs")
class TestAgainstTheOracle:
    @pytest.mark.parametrize("dtype", FLOATS)
    def test_random_floats(self, dtype, rng):
        for _ in range(15):
            shape, size = tuple(rng.integers(1, [3, 4, 40, 40])), tuple(map(int, rng.integers(1, 12, 2)))
            x = (rng.standard_normal(shape) * np.exp(rng.standard_normal(shape))).astype(dtype)
            check(x, size)

    @given(data=st.data())
    def test_any_float32(self, data):
        shape = data.draw(st.tuples(st.just(1), st.integers(1, 2), st.integers(1, 20), st.integers(1, 20)))
        elements = st.floats(width=32, allow_subnormal=False)
        x = data.draw(hnp.arrays(np.float32, shape, elements=elements, fill=st.just(1.5)))
        check(x, data.draw(SIZE), skip_nan=data.draw(st.booleans()))

    @given(data=st.data())
    def test_any_float64(self, data):
        shape = data.draw(st.tuples(st.just(1), st.just(1), st.integers(1, 20), st.integers(1, 20)))
        elements = st.floats(allow_subnormal=False)
        x = data.draw(hnp.arrays(np.float64, shape, elements=elements, fill=st.just(1.5)))
        check(x, data.draw(SIZE), skip_nan=data.draw(st.booleans()))

    @pytest.mark.parametrize("plane", [(20, 19), (6, 64), (40, 60)])
    def test_large_16_bit_integers_in_large_windows_are_exact(self, plane, rng):
        x = rng.integers(65000, 65536, (1, 200, *plane)).astype(np.uint16)
        expected = x.sum((2, 3), dtype=np.int64) / x[0, 0].size
        assert np.array_equal(pool(x, (1, 1))[:, :, 0, 0], expected.astype(np.float32))

    @pytest.mark.parametrize("dtype", INTEGERS)
    def test_integers_give_the_correctly_rounded_mean(self, dtype, rng):
        for _ in range(8):
            shape, size = tuple(rng.integers(1, [3, 3, 40, 40])), tuple(map(int, rng.integers(1, 12, 2)))
            top = 2 if dtype == "bool" else min(np.iinfo(dtype).max, 2**40)
            x = rng.integers(0, top, shape).astype(dtype)
            means = pool(x, size)
            assert means.dtype == ("float64" if dtype[-2:] in ("32", "64") else "float32")
            expected = oracle.adaptive_avg_pool2d(x, size)
            assert np.array_equal(means, np.vectorize(float, otypes=[float])(expected).astype(means.dtype))

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("value", [0.1, 1 / 3, 5e-8, 1e4, -0.7])
    def test_constants_are_exact(self, dtype, value, rng):
        for _ in range(10):
            shape, size = tuple(rng.integers(1, [3, 4, 60, 60])), tuple(map(int, rng.integers(1, 12, 2)))
            x = np.full(shape, value, dtype)
            assert (pool(x, size) == x.flat[0]).all(), (shape, size)

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_a_constant_window_is_exact_beside_others(self, dtype, rng):
        x = rng.standard_normal((1, 2, 60, 60)).astype(dtype)
        x[..., :30, :30] = 0.1
        assert (pool(x, (2, 2))[..., 0, 0] == x[0, 0, 0, 0]).all()

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("sign", [1, -1])
    def test_no_false_overflow(self, dtype, sign, rng):
        biggest = sign * np.finfo(dtype).max
        for shape, size in [((1, 2, 40, 40), (1, 1)), ((2, 1, 9, 14), (2, 3)), ((1, 1, 50, 7), (3, 7))]:
            x = np.full(shape, biggest, dtype)
            assert (pool(x, size) == biggest).all()
            check((x * rng.choice([1, 0.75, 0.5], shape)).astype(dtype), size)

    def test_a_large_corner_does_not_ruin_the_rest(self, rng):
        x = rng.standard_normal((1, 1, 40, 40)).astype(np.float32)
        clean = pool(x, (4, 4))
        x[0, 0, 0, 0] = 1e30
        dirty = pool(x, (4, 4))
        assert np.array_equal(clean.ravel()[1:], dirty.ravel()[1:])

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize(
        ("shape", "size"), [((2, 3, 40, 40), (7, 6)), ((2, 3, 7, 7), (3, 3)), ((2, 3, 30, 8), (4, 1))]
    )
    def test_non_finite_values_stay_in_their_windows(self, value, shape, size, rng):
        x = rng.standard_normal(shape).astype(np.float32)
        clean = pool(x, size)
        x[1, 2, 5, 3] = value
        dirty = pool(x, size)
        hit = np.zeros(shape[-2:], bool)
        hit[5, 3] = True
        touched = oracle.adaptive_avg_pool2d(hit[None, None], size)[0, 0].astype(float) > 0
        assert np.array_equal(dirty[1, 2][touched], np.full(touched.sum(), value), equal_nan=True)
        dirty[1, 2][touched] = clean[1, 2][touched]
        assert np.array_equal(dirty, clean)

    def test_infinities_of_both_signs_give_nan(self):
        x = np.ones((1, 1, 4, 4), np.float32)
        x[0, 0, 0, :2] = np.inf, -np.inf
        assert np.array_equal(pool(x, (2, 2))[0, 0], [[np.nan, 1], [1, 1]], equal_nan=True)

    def test_skip_takes_the_mean_of_what_is_there(self):
        x = np.array([[[[1, np.nan, 3, np.nan], [5, np.nan, np.nan, np.nan]]]], np.float32)
        assert np.array_equal(pool(x, (1, 2), skip_nan=True), [[[[3, 3]]]])
        assert np.array_equal(pool(x, (2, 4), skip_nan=True), x, equal_nan=True)

    def test_skip_leaves_arrays_without_nan_alone(self, rng):
        x = rng.standard_normal((2, 3, 30, 30)).astype(np.float32)
        dirty = x.copy()
        dirty[0, 0, 0, 0] = np.nan
        skipped = pool(dirty, (4, 4), skip_nan=True)
        assert np.array_equal(skipped.ravel()[1:], pool(x, (4, 4)).ravel()[1:])


@pytest.mark.usefixtures("slabs")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8"])
class TestTheBitsDependOnTheInputAlone:
    CASES = (((5, 7, 14, 14), (4, 4)), ((6, 5, 7, 7), (3, 3)), ((7, 4, 33, 9), (5, 1)), ((3, 4, 70, 50), (3, 4)),
             ((4, 40, 8, 8), (16, 16)), ((2, 3, 130, 1), (2, 1)))  # fmt: skip

    @pytest.fixture(params=CASES, ids=str)
    def case(self, request, dtype, rng):
        shape, size = request.param
        x = rng.standard_normal(shape) * np.exp2(rng.integers(-9, 9, shape))
        x = np.abs(x).clip(0, 255).astype(dtype) if dtype == "uint8" else x.astype(dtype)
        return x, size

    def test_not_on_the_batch(self, case):
        x, size = case
        whole = pool(x, size)
        for n in range(len(x)):
            assert np.array_equal(pool(x[n : n + 1], size)[0], whole[n])
            assert np.array_equal(pool(x[n:], size), whole[n:])
        for c in range(x.shape[1]):
            assert np.array_equal(pool(np.ascontiguousarray(x[:, c : c + 1]), size)[:, 0], whole[:, c])

    @pytest.mark.parametrize("tile_cells", [1, 100, 3000])
    def test_not_on_the_tiles(self, case, tile_cells):
        x, size = case
        assert np.array_equal(pool(x, size, tile_cells=tile_cells), pool(x, size))

    def test_not_on_the_layout(self, case):
        x, size = case
        whole = pool(x, size)
        assert np.array_equal(pool(x, size, channels_last=True), whole)
        one = np.ascontiguousarray(x[:, :1])
        assert np.array_equal(pool(one, size, channels_last=True), whole[:, :1])

    def test_not_on_the_blas(self, case, monkeypatch):
        x, size = case
        whole = pool(x, size)
        monkeypatch.setattr(kernels, "_in_order_width", lambda *_: 0)
        assert np.array_equal(pool(x, size), whole)


def test_blas_is_used_here():
    """Without this the test above would compare the loops with themselves."""
    assert kernels._in_order_width(np.dtype("float32"), 56, 8)
    assert kernels._in_order_width(np.dtype("float64"), 56, 8)


@given(hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(-3e38, 3e38)))
def test_bfloat16_is_rounded_once_to_even(values):
    from lucid.pooling.dtypes import narrow, widen

    bits = np.empty(values.shape, np.uint16)
    narrow(values, "bfloat16", bits)
    rounded = np.empty(values.shape, np.float64)
    widen(bits, "bfloat16", rounded)
    for value, mean, code in zip(values.tolist(), rounded.tolist(), bits, strict=True):
        near = np.array([int(code) - 1 & 0xFFFF, int(code) + 1 & 0xFFFF], np.uint32) << 16
        neighbours = [v for v in near.view(np.float32).tolist() if math.isfinite(v)]
        for other in neighbours:
            gap, own = abs(Fraction(other) - Fraction(value)), abs(Fraction(mean) - Fraction(value))
            assert own < gap or (own == gap and code % 2 == 0)


def test_all_half_precision_numbers_are_widened_exactly():
    from lucid.pooling.dtypes import widen

    for order in "<>":
        halves = np.arange(1 << 16, dtype=np.uint16).view("f2").astype(f"{order}f2")
        wide = np.empty(halves.shape, np.float32)
        widen(halves, "float16", wide)
        assert np.array_equal(wide, halves.astype(np.float32), equal_nan=True)
        assert np.array_equal(np.signbit(wide), np.signbit(halves.astype(np.float32)))
