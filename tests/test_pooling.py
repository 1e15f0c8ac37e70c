"""The arithmetic: every promise of docs/semantics.md by itself, for the compiled kernel and for its twin in NumPy."""

import math
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from slow import slow
from vectors import make

from lucid.pooling import kernel_name, means, sums
from lucid.pooling.dtypes import ELEMENTS, FLOATS, NAMES, narrow, storage, widened
from lucid.pooling.means import Pooling, Total, sums_of_columns
from lucid.pooling.stacks import stacks
from lucid.pooling.sums import REDUCTIONS, Reduction, Rule, result_of
from lucid.pooling.windows import make_grid

KERNEL = means.kernel
INTEGERS = tuple(name for name in NAMES if name not in FLOATS)
without_kernel = pytest.mark.skipif(KERNEL is None, reason="installed without the compiled kernel")


@pytest.fixture(params=[pytest.param("compiled", marks=without_kernel), "NumPy"], scope="class")
def twin(request):
    """Everything in a class that asks for it holds for both."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "NumPy":
            patch.setattr(means, "kernel", None)
        yield request.param


def pool(cells, size, rule, rows=None, cols=None, out=None):
    """Results of (planes, height, width, inner) as they are stored, and how many overflowed."""
    rows, cols = rows or (0, size[0]), cols or (0, size[1])
    if out is None:
        out = np.empty(
            (len(cells), rows[1] - rows[0], cols[1] - cols[0], cells.shape[3]), storage(rule.result)
        )
    return out, Pooling(make_grid(cells.shape[1:3], size), rule).means(cells, out, rows, cols)


def pool_plane(values, size, dtype=None, **options):
    """Results of (height, width) as numbers, by the default rule for its dtype."""
    values = np.asarray(values, dtype)
    results, _ = pool(values[None, :, :, None], size, rule_for(values.dtype.name, **options))
    return results[0, :, :, 0]


def rule_for(name, reduce="mean", wanted=None, **options):
    return Rule(name, result_of(name, reduce, wanted), reduce, **options)


def store(values, name):
    """Numbers as an array of a number type holds them; bfloat16 as its bits."""
    if name != "bfloat16":
        with np.errstate(over="ignore"):
            return np.array(values, name)
    bits = np.empty(np.shape(values), np.uint16)
    narrow(np.asarray(values, np.float64), name, bits)
    return bits


def numbers(stored, name):
    """What an array of a number type holds, as numbers that Python compares exactly."""
    return widened(stored, name) if name in FLOATS else stored


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# ---------------------------------------------------------------- the oracle's bounds


def ulp(value, name):
    digits, least, _ = make.FLOATS[name]
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length() if size else least
    exponent -= bool(size) and Fraction(2) ** exponent > size
    return Fraction(2) ** (max(exponent, least) - digits + 1)


def is_right(result, exact, cells, rule):
    """Whether a result is within the bound: see "Correctly rounded" and "Exact" in docs/semantics.md."""
    if exact is None:
        return math.isnan(result) if rule.result in FLOATS else result == rule.fill
    if isinstance(exact, float) and not math.isfinite(exact):
        return result == exact or (math.isnan(exact) and math.isnan(result))
    exact = Fraction(exact)
    if rule.result not in FLOATS:
        info = np.iinfo("uint8" if rule.result == "bool" else rule.result)
        return result == min(max(round(exact), info.min), info.max)
    if rule.reduce in ("max", "min") or rule.source in INTEGERS:
        # Rounded to float64 and then to the result's type: what is left of ties is seen by fewer than one in 2**28.
        return result == make.rounded(Fraction(make.rounded(exact, "float64")), rule.result)
    if not math.isfinite(result):
        return result == make.rounded(exact, rule.result)
    size = sum(abs(Fraction(cell)) for cell in cells if math.isfinite(cell) and cell not in rule.missing)
    size = size / len(cells) if rule.reduce == "mean" else size
    if rule.source == "float64":
        bound = ulp(exact, rule.result) + len(cells) ** 2 * size / 2**104
    else:
        bound = Fraction(51, 100) * ulp(exact, rule.result) + len(cells) * size / 2**52
    return abs(Fraction(result) - exact) <= bound


def check(stored, size, rule):
    """Every result of (height, width, inner) is right, and overflows are counted."""
    results, overflows = pool(stored[None], size, rule)
    values = numbers(stored, rule.source).transpose(2, 0, 1)
    results = numbers(results[0], rule.result).transpose(2, 0, 1)
    options = {"skip_nan": rule.skip_nan, "missing": rule.missing, "min_valid": rule.min_valid}
    exact = oracle.pool(values, size, rule.reduce, **options)
    exceeded = 0
    for place, cells in oracle.windows(values, size):
        result, right = results[place].item(), exact[place]
        assert is_right(result, right, cells, rule), (place, result, right, cells, rule)
        if right is None or (isinstance(right, float) and not math.isfinite(right)):
            continue
        exceeded += not math.isfinite(result) if rule.result in FLOATS else result != round(Fraction(right))
    assert overflows == exceeded


def draw(rng, name, shape):
    """Numbers of a type, of a kind that goes wrong somewhere."""
    kind = rng.integers(6)
    if name == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if name not in FLOATS:
        info = np.iinfo(name)
        low, high = [(info.min, info.max), (max(info.min, -5), 5), (info.max - 3, info.max)][kind % 3]
        return rng.integers(low, high, shape, name, endpoint=True)
    x = rng.standard_normal(shape)
    wide = {"float64": 300, "float16": 4}.get(name, 37)
    if kind == 1:
        x *= 10.0 ** rng.integers(-wide, wide, shape)
    elif kind == 2:
        x = np.full(shape, rng.standard_normal())
    elif kind == 3:
        x[rng.random(shape) < 0.05] = np.nan
        x[rng.random(shape) < 0.03] = np.inf
        x[rng.random(shape) < 0.03] = -np.inf
    elif kind == 4:
        x[rng.random(shape) < 0.5] = np.nan
    elif kind == 5:
        x = np.sign(x) * float((2 - 2.0 ** (1 - make.FLOATS[name][0])) * 2.0 ** make.FLOATS[name][2])
    return store(x, name)


def draw_rule(rng, stored, name):
    """Any rule for these cells, with values among them as missing ones."""
    reduce = rng.choice(list(REDUCTIONS)).item()
    wanted = rng.choice([None, "keep", *FLOATS]) if reduce in ("mean", "sum") else None
    result = result_of(name, reduce, wanted)
    few = stored.reshape(-1)[rng.integers(0, stored.size, rng.choice([0, 0, 1, 2, 3]))]
    missing = tuple(value.item() for value in numbers(few, name) if value == value)
    return Rule(
        name,
        result,
        reduce,
        skip_nan=bool(rng.random() < 0.4),
        missing=missing,
        min_valid=float(rng.choice([0, 0, 0.3, 1])),
        fill=int(rng.integers(0, 2)),
    )


def draw_case(rng, longest=40):
    """Cells that windows cover, and how they are pooled: size, rule, rows and columns of windows."""
    name = rng.choice(NAMES).item()
    plane = rng.integers(1, longest, 2)
    size = tuple(int(rng.integers(1, n + 3)) for n in plane)
    if rng.random() < 0.3:
        size = tuple(max(1, int(n // rng.integers(1, 9))) for n in plane)
    planes, inner = int(rng.integers(1, 7)), 1 if rng.random() < 0.6 else int(rng.integers(2, 40))
    if plane.prod() > 2000:
        planes, inner = 1, min(inner, 3)
    x = draw(rng, name, (planes, *plane, inner))
    if rng.random() < 0.2:
        x = x.astype(x.dtype.newbyteorder(">"))
    if rng.random() < 0.1:
        x = x[:, ::-1]
    spans = [sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in size]
    if rng.random() < 0.5:
        spans = [[0, n] for n in size]
    grid = make_grid(x.shape[1:3], size)
    (top, bottom), (left, right) = grid.rows.cells(spans[0]), grid.cols.cells(spans[1])
    return grid, x[:, top:bottom, left:right], draw_rule(rng, x, name), tuple(spans[0]), tuple(spans[1])


# ---------------------------------------------------------------- right


@pytest.mark.usefixtures("twin")
class TestAgainstTheOracle:
    @pytest.mark.parametrize("name", NAMES)
    def test_random(self, name, rng):
        for reduce in REDUCTIONS:
            for _ in range(3):
                shape, size = tuple(rng.integers(1, [20, 20, 4])), tuple(map(int, rng.integers(1, 9, 2)))
                check(draw(rng, name, shape), size, rule_for(name, reduce))

    @pytest.mark.parametrize("name", NAMES)
    def test_random_rules(self, name, rng):
        for _ in range(10):
            shape, size = tuple(rng.integers(1, [12, 12, 4])), tuple(map(int, rng.integers(1, 7, 2)))
            x = draw(rng, name, shape)
            check(x, size, draw_rule(rng, x, name))

    @given(data=st.data())
    def test_any_float(self, data):
        name = data.draw(st.sampled_from(["float32", "float64", "float16"]))
        width = int(name[5:])
        shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 2)))
        x = data.draw(hnp.arrays(name, shape, elements=st.floats(width=width), fill=st.just(1.5)))
        size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
        reduce = data.draw(st.sampled_from(list(REDUCTIONS)))
        check(x, size, rule_for(name, reduce, skip_nan=data.draw(st.booleans())))

    @given(data=st.data())
    def test_any_integer(self, data):
        name = data.draw(st.sampled_from(["uint8", "int32", "uint32", "int64", "uint64"]))
        shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 2)))
        x = data.draw(hnp.arrays(name, shape))
        size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
        reduce = data.draw(st.sampled_from(list(REDUCTIONS)))
        wanted = data.draw(st.sampled_from([None, "keep"]))
        missing = data.draw(st.lists(st.sampled_from(x.reshape(-1).tolist()), max_size=2).map(tuple))
        check(x, size, rule_for(name, reduce, wanted, missing=missing, fill=7))

    @pytest.mark.parametrize("name", ["float64", *slow("float32", "bfloat16")])
    def test_large_windows(self, name, rng):
        check(store(rng.standard_normal((60, 150, 1)) + 1, name), (1, 1), rule_for(name))


@pytest.mark.usefixtures("twin")
class TestExact:
    @pytest.mark.parametrize("name", FLOATS)
    def test_constants(self, name, rng):
        for value in [0.1, 1 / 3, 5e-8, 1e4, -0.7, 0.0] * 10:
            shape, size = tuple(rng.integers(1, [3, 60, 60, 4])), tuple(map(int, rng.integers(1, 12, 2)))
            x = store(np.full(shape, value), name)
            results, _ = pool(x, size, rule_for(name))
            assert (results == x.flat[0]).all(), (value, shape, size)

    def test_the_least_numbers(self):
        for name in FLOATS:
            x = store(np.full((1, 7, 9, 1), 2.0 ** (make.FLOATS[name][1] - make.FLOATS[name][0] + 1)), name)
            assert (pool(x, (2, 3), rule_for(name))[0] == x.flat[0]).all()
            assert x.flat[0] != 0

    def test_a_constant_window_beside_others(self, rng):
        x = rng.standard_normal((60, 60)).astype(np.float32)
        x[:30, :30] = 0.1
        assert pool_plane(x, (2, 2))[0, 0] == x[0, 0]

    def test_constants_at_the_limits_of_integers(self):
        for name in INTEGERS:
            limits = (False, True) if name == "bool" else (np.iinfo(name).min, np.iinfo(name).max)
            for limit in limits:
                x = np.full((33, 41), limit, name)
                for reduce in ("mean", "max", "min"):
                    assert (pool_plane(x, (2, 3), reduce=reduce, wanted="keep") == limit).all()
                assert (pool_plane(x, (2, 3)) == np.float64(limit)).all()

    def test_64_bits_to_the_last(self):
        for name in ("int64", "uint64"):
            top = np.iinfo(name).max
            assert pool_plane([[top, top - 1, top - 2]], (1, 1), name, wanted="keep") == top - 1
            assert pool_plane([[2**53 + 1, 0]], (1, 1), name, reduce="sum") == 2**53 + 1
            assert pool_plane([[top, top - 1]], (1, 1), name, reduce="max") == top
            assert pool_plane([[top, top - 1]], (1, 1), name, reduce="min") == top - 1

    def test_large_16_bit_integers_in_large_windows(self, rng):
        x = rng.integers(65000, 65536, (200, 40, 60, 1)).astype(np.uint16)
        expected = x.sum((1, 2), dtype=np.int64) / x[0].size
        assert np.array_equal(pool(x, (1, 1), rule_for("uint16"))[0][:, 0, 0], expected.astype(np.float32))

    def test_kept_integers_are_rounded_to_nearest_and_ties_to_even(self):
        assert pool_plane([[0, 1, 1, 2, -1, 0, -1, -2, 0, 0]], (1, 5), "int8", wanted="keep").tolist() == [
            [0, 2, 0, -2, 0]
        ]
        assert pool_plane([[0, 1, 1, 2, -1, 0, -1, -2]], (1, 4), "int64", wanted="keep").tolist() == [
            [0, 2, 0, -2]
        ]

    def test_bools_are_what_is_not_zero(self):
        """Files can hold other bytes than 0 and 1."""
        x = np.array([[0, 2, 255, 1]], np.uint8).view(bool)
        assert pool_plane(x, (1, 1)) == 0.75
        assert pool_plane(x, (1, 1), missing=(True,)) == 0
        assert pool_plane(x, (1, 1), reduce="sum") == 3
        assert pool_plane(x, (1, 1), reduce="max").view(np.uint8) == 1

    @pytest.mark.parametrize("name", ["int32", "int64", "uint64"])
    @pytest.mark.parametrize("limit", ["min", "max"])
    def test_carries_of_lower_bits(self, name, limit):
        """What 2**33 cells come to, without 2**33 cells: those before the last are told by their columns."""
        rule, value = rule_for(name, wanted="keep"), getattr(np.iinfo(name), limit)
        size, cells = sums.LOW_BITS, np.full((1, 8, 1, 1), value, name)
        whole = (2**30 - 8) * value
        band = np.array([whole >> size, whole & (2**size - 1)]).reshape(2, 1, 1, 1, 1)
        band = np.concatenate([band, sums.lift(cells, rule)], sums.ROWS)
        band = sums.along(band, sums.ROWS, np.array([0]), np.array([9]), rule)
        assert (int(band[0].item()) << size) + band[1].item() == 2**30 * value
        assert band[1].item() < 2**size
        total = Total(Pooling(make_grid((2**30, 8), (1, 1)), rule), (0, 1), (0, 1))
        for left in range(8):
            total.add(band, left)
        results = np.empty((1, 1, 1, 1), name)
        assert total.finish(results) == 0
        assert results.item() == value


@pytest.mark.usefixtures("twin")
def test_the_fill_of_truth_values_is_one():
    rule = rule_for("bool", "max", missing=(1,), fill=7)
    results, _ = pool(np.ones((1, 2, 2, 1), bool), (1, 1), rule)
    assert results.view("u1").item() == 1


@pytest.mark.usefixtures("twin")
class TestLocal:
    @pytest.mark.parametrize("name", ["float32", "float64"])
    @pytest.mark.parametrize(
        ("plane", "size"),
        [((40, 40), (7, 6)), ((7, 7), (3, 3)), ((30, 8), (4, 1)), ((9, 70), (2, 9)), ((12, 12), (6, 6))],
    )
    def test_what_is_not_finite_stays_in_its_windows(self, plane, size, name, rng):
        touched = [
            (1, i, j, 1) for i in range(size[0]) for j in range(size[1])
            if 5 in oracle.window(i, plane[0], size[0]) and 3 in oracle.window(j, plane[1], size[1])
        ]  # fmt: skip
        assert touched
        for reduce, value in product(REDUCTIONS, (np.nan, np.inf, -np.inf)):
            x = rng.standard_normal((3, *plane, 2)).astype(name)
            clean, _ = pool(x, size, rule_for(name, reduce))
            x[1, 5, 3, 1] = value
            dirty, _ = pool(x, size, rule_for(name, reduce))
            for place in touched:
                shows = math.isnan(value) or reduce in ("mean", "sum") or (value > 0) == (reduce == "max")
                if shows:
                    assert np.array_equal(dirty[place], value, equal_nan=True)
                dirty[place] = clean[place]
            assert same_bits(dirty, clean), (reduce, value)

    def test_infinities_of_both_signs_give_nan(self):
        for name in ("float16", "float32", "float64"):
            x = np.ones((4, 4), name)
            x[0, :2] = np.inf, -np.inf
            assert np.array_equal(pool_plane(x, (2, 2)), [[np.nan, 1], [1, 1]], equal_nan=True)
            x = np.ones((4, 4), name)
            x[:2, 0] = np.inf, -np.inf
            assert np.array_equal(pool_plane(x, (2, 2)), [[np.nan, 1], [1, 1]], equal_nan=True)
            assert pool_plane(x, (2, 2), reduce="max")[0, 0] == np.inf
            assert pool_plane(x, (2, 2), reduce="min")[0, 0] == -np.inf

    def test_every_nan_is_the_same(self):
        """Whatever sign and payload the one in the window has."""
        for bits in (0x7F800001, 0xFFC12345, 0x7FC00000):
            x = np.array([[bits, 0]], np.uint32).view(np.float32)
            for reduce in REDUCTIONS:
                assert pool_plane(x, (1, 1), reduce=reduce).view(np.uint32) == 0x7FC00000

    def test_a_large_corner_does_not_ruin_the_rest(self, rng):
        x = rng.standard_normal((40, 40)).astype(np.float32)
        clean = pool_plane(x, (4, 4))
        x[0, 0] = 1e30
        assert np.array_equal(pool_plane(x, (4, 4)).ravel()[1:], clean.ravel()[1:])

    def test_cancellation_is_exact_in_float64(self):
        x = [[1e300, 1.0, -1e300, 1e-300], [3.0, 0.5, 2.0, 0.25]]
        assert pool_plane(x, (1, 1), reduce="sum") == 6.75


@pytest.mark.usefixtures("twin")
class TestOverflow:
    @pytest.mark.parametrize("name", FLOATS)
    def test_none_where_the_mean_is_finite(self, name, rng):
        digits, _, most = make.FLOATS[name]
        biggest = float((2 - Fraction(2) ** (1 - digits)) * Fraction(2) ** most)
        for sign, (plane, size) in product(
            (1, -1), [((20, 30), (1, 1)), ((9, 14), (2, 3)), ((50, 7), (3, 7))]
        ):
            x = store(np.full((1, *plane, 1), sign * biggest), name)
            results, overflows = pool(x, size, rule_for(name))
            assert (results == x.flat[0]).all()
            assert overflows == 0
            for shares in ([1, 0.75, 0.5], [1, -1, 0.5]):
                cells = sign * biggest * rng.choice(shares, (*plane, 1))
                check(store(cells, name), size, rule_for(name))

    def test_float64_sums_that_overflow_on_the_way(self):
        most = np.finfo(np.float64).max
        assert pool_plane([[most, most, -most, -most, 8.0]], (1, 1)) == pytest.approx(1.6, abs=1e280)
        assert pool_plane([[most], [most], [-most], [-most]], (1, 1)) == 0
        assert pool_plane([[most, most, -most]], (1, 1), reduce="sum") == most
        assert pool_plane([[most, most, np.inf]], (1, 1)) == np.inf
        assert np.isnan(pool_plane([[most, most, np.nan]], (1, 1)))
        assert pool_plane([[most, most, np.nan]], (1, 1), skip_nan=True) == most
        assert pool_plane([[most, most, 5.0]], (1, 1), missing=(5.0,)) == most

    @pytest.mark.parametrize("name", ["float16", "bfloat16"])
    def test_narrow_results_are_counted(self, name):
        x = np.array([[3e38, 3e38, 1.0, 2.0, 65520.0, 65520.0, np.inf, 1.0]], np.float32)
        expected = {"float16": [np.inf, 1.5, np.inf, np.inf], "bfloat16": [3e38, 1.5, 65536, np.inf]}[name]
        results, overflows = pool(x[None, :, :, None], (1, 4), rule_for("float32", wanted=name))
        assert np.allclose(numbers(results, name).ravel(), expected, rtol=2**-8)
        assert overflows == (2 if name == "float16" else 0)

    def test_sums_that_their_type_cannot_hold_are_counted(self):
        for name, values, expected, count in [
            ("float32", [[3e38, 3e38, 1.0, 1.0]], [np.inf, 2], 1),
            ("float16", [[60000, 60000, -60000, -60000]], [np.inf, -np.inf], 2),
            ("float64", [[1.7e308, 1.7e308, 1, 1]], [np.inf, 2], 1),
            ("int64", [[2**63 - 1, 1, 5, 5]], [2**63 - 1, 10], 1),
            ("int64", [[-(2**63), -1, 5, 5]], [-(2**63), 10], 1),
            ("uint64", [[2**64 - 1, 1, 5, 5]], [2**64 - 1, 10], 1),
            ("uint32", [[2**32 - 1, 2**32 - 1, 5, 5]], [2**33 - 2, 10], 0),
        ]:  # fmt: skip
            x = np.array(values, name)
            results, overflows = pool(x[None, :, :, None], (1, 2), rule_for(name, "sum"))
            assert results.ravel().tolist() == expected
            assert overflows == count

    def test_what_does_not_count_does_not_overflow(self):
        x = np.array([[3e38, 3e38, 1.0, 2.0]], np.float32)[None, :, :, None]
        rule = rule_for("float32", wanted="float16", missing=(np.float32(3e38).item(),))
        results, overflows = pool(x, (1, 2), rule)
        assert np.isnan(results[0, 0, 0, 0])
        assert overflows == 0


# ---------------------------------------------------------------- what counts


@pytest.mark.usefixtures("twin")
class TestSkipping:
    def test_the_mean_of_what_is_there(self):
        x = np.array([[1, np.nan, 3, np.nan], [5, np.nan, np.nan, np.nan]], np.float32)
        assert np.array_equal(pool_plane(x, (1, 2), skip_nan=True), [[3, 3]])
        assert np.array_equal(pool_plane(x, (2, 4), skip_nan=True), x, equal_nan=True)

    @pytest.mark.parametrize("name", FLOATS)
    def test_arrays_without_nan_are_left_alone(self, name, rng):
        x = store(rng.standard_normal((3, 30, 30, 2)), name)
        clean, _ = pool(x, (4, 4), rule_for(name))
        x[0, 0, 0, 0] = store(np.nan, name)
        for reduce in REDUCTIONS:
            a, _ = pool(x, (4, 4), rule_for(name, reduce, skip_nan=True))
            b, _ = pool(x, (4, 4), rule_for(name, reduce))
            assert np.isfinite(numbers(a, name).flat[0])
            assert np.isnan(numbers(b, name).flat[0])
            assert same_bits(a.ravel()[1:], b.ravel()[1:])
        assert same_bits(pool(x, (4, 4), rule_for(name, skip_nan=True))[0].ravel()[1:], clean.ravel()[1:])

    def test_values_at_the_limits_of_their_type(self):
        cases = [("bool", 0), ("bool", 1), ("bfloat16", 0.0)]
        for name in NAMES:
            if name in FLOATS:
                cases += [(name, -math.inf), (name, math.inf)]
                cases += [(name, float(np.finfo(name).max))] if name != "bfloat16" else []
            elif name != "bool":
                cases += [(name, int(np.iinfo(name).min)), (name, int(np.iinfo(name).max)), (name, 0)]
        for name, limit in cases:
            other = 1 if limit != 1 else 0
            x = store([[limit, other, other, limit, limit, limit]], name)[None, :, :, None]
            for reduce in REDUCTIONS:
                rule = rule_for(name, reduce, missing=(limit,), fill=other)
                results = numbers(pool(x, (1, 3), rule)[0], rule.result).ravel().tolist()
                assert results[:2] == [other, other], (name, limit, reduce)
                assert results[2] == other or math.isnan(results[2])

    def test_zeros_of_both_signs_are_one_value(self):
        for zero in (0.0, -0.0):
            for name in FLOATS:
                x = store([[0.0, -0.0, 3.0, 5.0]], name)[None, :, :, None]
                results, _ = pool(x, (1, 1), rule_for(name, missing=(zero,)))
                assert numbers(results, name).item() == 4

    def test_several_values(self):
        assert pool_plane([[1, 2, 3, 4, 9]], (1, 1), "int16", missing=(1, 9, 2)) == 3.5
        assert pool_plane([[1, 2, 3, 4, 9]], (1, 1), "uint64", missing=(1, 9, 2)) == 3.5
        assert pool_plane([[1, 2, 3, 4, np.nan]], (1, 1), missing=(1, 2), skip_nan=True) == 3.5
        assert np.isnan(pool_plane([[1, 2, 3, 4, np.nan]], (1, 1), missing=(1, 2)))

    def test_a_value_that_the_type_does_not_have_is_nowhere(self):
        assert pool_plane([[0, 1]], (1, 1), "uint8", missing=(0.5,)) == 0.5
        assert pool_plane([[0, 1]], (1, 1), "int16", missing=(65536.0,)) == 0.5

    def test_the_least_fraction_that_counts(self):
        x = [[1, 1, 7, 7], [1, 7, 7, 7]]
        for name in ("uint8", "int64", "float32", "float64"):
            for fraction, expected in [
                (0.0, [1, None]),
                (0.5, [1, None]),
                (0.75, [1, None]),
                (0.76, [None, None]),
            ]:
                results = pool_plane(x, (1, 2), name, missing=(7,), min_valid=fraction)
                assert [None if np.isnan(v) else v for v in results.ravel()] == expected
            assert pool_plane(x, (1, 1), name, missing=(7,), min_valid=3 / 8) == 1
            assert np.isnan(pool_plane(x, (1, 1), name, missing=(7,), min_valid=0.38))

    def test_integers_without_a_valid_cell_are_the_fill_value(self):
        for source, reduce, fill in [
            ("int16", "mean", -32767), ("uint8", "mean", 255), ("uint8", "max", 255), ("int8", "min", -127),
            ("int16", "sum", -(2**63) + 2), ("uint8", "sum", 2**64 - 2), ("uint64", "mean", 2**64 - 2),
            ("uint64", "max", 2**64 - 2), ("int64", "min", -(2**63) + 2), ("int64", "mean", -(2**63) + 2),
            ("uint32", "sum", 2**64 - 2), ("bool", "max", 1),
        ]:  # fmt: skip
            wanted = "keep" if reduce == "mean" else None
            options = {"reduce": reduce, "wanted": wanted, "missing": (1,), "fill": fill}
            results = pool_plane([[1, 1, 0, 0]], (1, 2), source, **options)
            assert results.ravel().tolist() == [fill, 0], (source, reduce)

    def test_extremes_skip_what_would_win(self):
        x = [[np.nan, 1, np.inf, -np.inf, 2, 3]]
        assert pool_plane(x, (1, 1), "float32", reduce="max", skip_nan=True, missing=(math.inf,)) == 3
        assert pool_plane(x, (1, 1), "float32", reduce="min", skip_nan=True, missing=(-math.inf,)) == 1
        assert pool_plane([[-np.inf, -np.inf]], (1, 1), reduce="max", skip_nan=True) == -np.inf


# ---------------------------------------------------------------- the same bits


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("inner", [1, 9])
def test_cells_are_added_top_to_bottom_and_columns_left_to_right(inner):
    """One is lost beside what is so large, and is there where that has gone before."""
    large = 2.0**60
    for window, total in [
        ([[large], [1], [-large]], 0), ([[large], [-large], [1]], 1), ([[large, 1, -large]], 0), ([[large, -large, 1]], 1),
        ([[large, 1], [-large, 0]], 1), ([[large, -large], [1, 0]], 0), ([[0] * 4] * 9 + [[large, 1, -large, 1]], 1),
        ([*([[0, 0]] * 8), [large, 0], [1, 0], [-large, 0]], 0),
    ]:  # fmt: skip
        x = np.tile(np.array(window, np.float32)[None, :, :, None], (2, 3, 5, inner))
        results, _ = pool(x, (3, 5), rule_for("float32", "sum"))
        assert (results == total).all(), window


@pytest.mark.usefixtures("twin")
class TestTheBitsDependOnTheInputAlone:
    CASES = (((5, 14, 14, 7), (4, 4)), ((6, 7, 7, 5), (3, 3)), ((7, 33, 9, 4), (5, 1)), ((3, 50, 30, 2), (3, 4)),
             ((4, 8, 8, 40), (16, 16)), ((2, 130, 1, 3), (2, 1)), ((2, 5, 300, 1), (1, 7)))  # fmt: skip
    RULES = ("mean", "max", "mean skip")

    def cases(self, name, rng):
        """Arrays of this number type, and how they are pooled: by all rules."""
        for (shape, size), words in product(self.CASES, self.RULES):
            reduce, *skip = words.split()
            rule = rule_for(name, reduce, skip_nan=bool(skip), missing=(3.0,) if skip else ())
            x = rng.integers(0, 99, shape)
            if name in FLOATS:
                x = rng.standard_normal(shape) * np.exp2(rng.integers(-9, 9, shape))
            yield store(x, name), size, rule

    @pytest.mark.parametrize("name", ["float16", "float64", "int32"])
    def test_not_on_the_batch(self, name, rng):
        for x, size, rule in self.cases(name, rng):
            whole, _ = pool(x, size, rule)
            for n in range(len(x)):
                assert same_bits(pool(x[n : n + 1], size, rule)[0][0], whole[n])
                assert same_bits(pool(x[n:], size, rule)[0], whole[n:])
            for c in range(x.shape[3]):
                channel = np.ascontiguousarray(x[..., c : c + 1])
                assert same_bits(pool(channel, size, rule)[0], whole[..., c : c + 1])

    @pytest.mark.parametrize("name", ["bool", "uint64", "bfloat16", "float64"])
    def test_not_on_the_layout(self, name, rng):
        for x, size, rule in self.cases(name, rng):
            whole, _ = pool(x, size, rule)
            for what, view in views(x):
                assert same_bits(pool(view, size, rule)[0], whole), what
            for what, place in places(whole):
                results, _ = pool(x, size, rule, out=place)
                assert results is place
                bits = f"u{whole.itemsize}"
                assert np.array_equal(results.view(bits), whole.view(bits)), what

    @pytest.mark.parametrize("name", ["float32", "float64"])
    def test_not_on_the_range_of_windows(self, name, rng):
        for x, size, rule in self.cases(name, rng):
            whole, _ = pool(x, size, rule)
            pooling = Pooling(make_grid(x.shape[1:3], size), rule)
            for _ in range(5):
                rows, cols = (tuple(sorted(rng.choice(n + 1, 2, replace=False).tolist())) for n in size)
                (top, bottom), (left, right) = pooling.grid.rows.cells(rows), pooling.grid.cols.cells(cols)
                out = np.empty((len(x), rows[1] - rows[0], cols[1] - cols[0], x.shape[3]), whole.dtype)
                pooling.means(x[:, top:bottom, left:right], out, rows, cols)
                assert same_bits(out, whole[:, rows[0] : rows[1], cols[0] : cols[1]])

    @pytest.mark.parametrize("name", ["float64", "int32"])
    def test_not_on_the_sizes_of_buffers(self, name, rng):
        for x, size, rule in self.cases(name, rng):
            whole, overflows = pool(x, size, rule)
            odd = x.astype(x.dtype.newbyteorder(">"))
            for cells, some in product((150, 3000), (x, odd)):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(means, "BLOCK_CELLS", cells)
                    patch.setattr(means, "COPIED_CELLS", cells)
                    patch.setattr(means, "REGION_COLUMNS", max(1, cells // 10))
                    patch.setattr(means, "REGION_CELLS", cells)
                    patch.setattr(sums, "FEW", cells)
                    results, count = pool(some, size, rule)
                assert same_bits(results, whole), (x.shape, size, rule)
                assert count == overflows

    @pytest.mark.parametrize("name", ["bfloat16", "float64", "uint8", "int64"])
    def test_not_on_regions_of_a_window(self, name, rng):
        """As windows larger than memory are read: rows in any cuts, columns in strips."""
        for x, size, rule in self.cases(name, rng):
            whole, overflows = pool(x, size, rule)
            pooling, count = Pooling(make_grid(x.shape[1:3], size), rule), 0
            results = np.empty_like(whole)
            for row in range(size[0]):
                total = Total(pooling, (row, row + 1), (0, size[1]))
                top, bottom = pooling.grid.rows.cells((row, row + 1))
                lefts = [0, *sorted(set(rng.integers(0, x.shape[2], 3).tolist()) - {0}), x.shape[2]]
                for left, right in pairwise(lefts):
                    tops = [top, *sorted(set(rng.integers(top, bottom, 3).tolist()) - {top}), bottom]
                    cuts = (x[:, a:b, left:right] for a, b in pairwise(tops))
                    total.add(sums_of_columns(cuts, rule), left)
                count += total.finish(results[:, row : row + 1])
            assert same_bits(results, whole), (x.shape, size, rule)
            assert count == overflows


def views(x):
    """The same (planes, height, width, inner) in many memory orders."""
    yield "fortran", np.asfortranarray(x)
    yield "inner outside", np.ascontiguousarray(x.transpose(3, 0, 1, 2)).transpose(1, 2, 3, 0)
    yield "transposed planes", np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2)
    yield "rows upside down", np.ascontiguousarray(x[:, ::-1])[:, ::-1]
    yield "planes backwards", np.ascontiguousarray(x[::-1])[::-1]
    yield "all backwards", np.ascontiguousarray(x[::-1, ::-1, ::-1, ::-1])[::-1, ::-1, ::-1, ::-1]
    yield "every second row and plane", np.repeat(np.repeat(x, 2, 0), 2, 1)[::2, ::2]
    yield "every second column", np.repeat(np.repeat(x, 2, 2), 2, 3)[:, :, ::2, ::2]
    yield "part of a wider array", np.pad(x, ((0, 0), (1, 2), (3, 1), (0, 0)))[:, 1:-2, 3:-1]
    yield "big-endian", x.astype(x.dtype.newbyteorder(">"))
    yield "unaligned", np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape)
    read_only = x.copy()
    read_only.flags.writeable = False
    yield "read-only", read_only


def places(results):
    """Where results may be wanted."""
    yield "fortran", np.empty_like(results, order="F")
    yield "every second", np.empty_like(np.repeat(results, 2, 2))[:, :, ::2]
    yield (
        "unaligned",
        np.frombuffer(bytearray(results.nbytes + 1), results.dtype, offset=1).reshape(results.shape),
    )


@pytest.mark.usefixtures("twin")
class TestZeroStrides:
    @pytest.mark.parametrize("name", ["float32", "uint8", "int64", "float64"])
    def test_broadcast_arrays(self, name, rng):
        shape = (3, 20, 17, 4)
        for axes in [(0,), (1,), (2,), (3,), (0, 1), (1, 2), (1, 2, 3), (0, 1, 2, 3)]:
            one = rng.integers(0, 99, [1 if axis in axes else n for axis, n in enumerate(shape)]).astype(name)
            x = np.broadcast_to(one, shape)
            for reduce in REDUCTIONS:
                rule = rule_for(name, reduce)
                assert same_bits(pool(x, (3, 4), rule)[0], pool(x.copy(), (3, 4), rule)[0]), (axes, reduce)


def by_both(grid, cells, rule, rows, cols, monkeypatch):
    """Results and counts of the compiled kernel, by as many as three threads, and of NumPy."""
    found = []
    for kernel, threads in ((KERNEL, 3), (None, 1)):
        monkeypatch.setattr(means, "kernel", kernel)
        out = np.empty(
            (len(cells), rows[1] - rows[0], cols[1] - cols[0], cells.shape[3]), storage(rule.result)
        )
        found.append((out, Pooling(grid, rule).means(cells, out, rows, cols, threads)))
    return found


@without_kernel
class TestTwins:
    """The compiled kernel and NumPy give the same bits."""

    def compare(self, grid, cells, rule, rows, cols, monkeypatch):
        (a, a_count), (b, b_count) = by_both(grid, cells, rule, rows, cols, monkeypatch)
        assert same_bits(a, b), (grid, cells.shape, rule, rows, cols)
        assert a_count == b_count

    def campaign(self, seed, count, monkeypatch, longest=40):
        rng = np.random.default_rng(seed)
        for _ in range(count):
            self.compare(*draw_case(rng, longest), monkeypatch)

    def test_random(self, monkeypatch):
        self.campaign(20240229, 300, monkeypatch)

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(3))
    def test_campaign(self, seed, monkeypatch):
        self.campaign(seed, 4000, monkeypatch)
        self.campaign(seed + 1000, 200, monkeypatch, longest=400)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", NAMES)
    def test_around_the_lengths_at_which_the_kernel_changes_its_loops(self, name, rng, monkeypatch):
        heights = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17)
        for width, height in product((1, 7, 8, 9, 31, 32, 33, 63, 64, 65), heights):
            x = draw(rng, name, (2, height, width, 1))
            for size in [(1, 1), (1, max(1, width // 3)), (2, 5)]:
                reduce = rng.choice(list(REDUCTIONS)).item()
                options = {"skip_nan": bool(rng.integers(2)), "missing": ((), (1,))[rng.integers(2)]}
                rule, grid = rule_for(name, reduce, **options), make_grid((height, width), size)
                self.compare(grid, x, rule, (0, size[0]), (0, size[1]), monkeypatch)

    @pytest.mark.parametrize(
        "name", ["float32", "float64", "int64", *slow(*sorted({*NAMES} - {"float32", "float64", "int64"}))]
    )
    def test_around_the_widths_of_regions(self, name, rng, monkeypatch):
        for plane, inner, sizes in [
            ((5, 2047), 1, [(1, 1), (2, 3), (1, 2047)]), ((5, 2048), 1, [(1, 1), (2, 1024)]),
            ((9, 2049), 1, [(1, 1), (2, 5), (1, 3000)]), ((3, 2080), 1, [(1, 1), (1, 7)]), ((3, 2081), 1, [(1, 1)]),
            ((3, 4200), 1, [(1, 2), (1, 600)]), ((4, 700), 3, [(1, 1), (2, 9)]), ((4, 683), 3, [(2, 2), (2, 683)]),
            ((3, 5), 2047, [(1, 2)]), ((3, 5), 2049, [(2, 2), (1, 1)]), ((9, 2), 5000, [(1, 1)]),
        ]:  # fmt: skip
            x = draw(rng, name, (2, *plane, inner))
            for size in sizes:
                reduce = rng.choice(list(REDUCTIONS)).item()
                rule = rule_for(name, reduce, missing=((), (1,))[rng.integers(2)])
                self.compare(make_grid(plane, size), x, rule, (0, size[0]), (0, size[1]), monkeypatch)

    @pytest.mark.parametrize("name", NAMES)
    def test_windows_of_one_length(self, name, rng, monkeypatch):
        for length in range(1, 10):
            x = draw(rng, name, (3, 2 * length, 9 * length, 1))
            self.compare(make_grid(x.shape[1:3], (2, 9)), x, rule_for(name), (0, 2), (0, 9), monkeypatch)

    def test_nan_that_comes_and_goes_between_planes(self, rng, monkeypatch):
        for name in FLOATS:
            x = store(rng.standard_normal((300, 6, 6, 1)), name)
            x[50:70, 2, 3] = x[200, 0, 0] = store(np.nan, name)
            x[250:] = store(np.nan, name)
            rule = rule_for(name, skip_nan=True)
            self.compare(make_grid((6, 6), (2, 2)), x, rule, (0, 2), (0, 2), monkeypatch)

    @pytest.mark.parametrize("name", ["float32", "int32"])
    def test_windows_larger_than_the_kernel_counts(self, name, rng, monkeypatch):
        x = draw(rng, name, (2, 40, 9, 1))
        rule = rule_for(name, missing=(3,))
        expected, _ = pool(x, (2, 3), rule)
        monkeypatch.setitem(means.MOST_CELLS, name, 20 * 3)
        assert same_bits(pool(x, (2, 3), rule)[0], expected)
        monkeypatch.setattr(means, "kernel", "not called")
        monkeypatch.setitem(means.MOST_CELLS, name, 20 * 3 - 1)
        assert same_bits(pool(x, (2, 3), rule)[0], expected)

    @pytest.mark.parametrize("name", ["int32", "uint32"])
    @pytest.mark.parametrize("wanted", [None, "keep"])
    def test_the_largest_windows_of_the_largest_integers(self, name, wanted, rng, monkeypatch):
        most = np.iinfo(name).max
        for offset in (0, 1, 2**19 - 1, 2**19, 2**19 + 1):
            x = np.full((1, 1 << 10, 1 << 10, 1), most, name)
            x.reshape(-1)[:offset] -= 1
            self.compare(
                make_grid(x.shape[1:3], (1, 1)),
                x,
                rule_for(name, "mean", wanted),
                (0, 1),
                (0, 1),
                monkeypatch,
            )

    def test_many_windows_across_many_regions(self, monkeypatch):
        x = np.arange(2 * 9000, dtype=np.float32).reshape(1, 2, 9000, 1)
        self.compare(make_grid((2, 9000), (1, 9000)), x, rule_for("float32"), (0, 1), (0, 9000), monkeypatch)


#: Arrays that end at a page that nobody may read, or begin behind one.
GUARDED = """
import ctypes, mmap, random
import numpy as np
from lucid.pooling.means import Pooling
from lucid.pooling.sums import Rule, result_of
from lucid.pooling.windows import make_grid

page, room = mmap.PAGESIZE, 1 << 21
memory = mmap.mmap(-1, room + 2 * page)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
for guard in (address, address + page + room):
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), page, 0) == 0
data, rng = np.frombuffer(memory, np.uint8)[page : page + room], random.Random(0)
for number in range(1500):
    name = rng.choice(["bool", "uint8", "int16", "int32", "float16", "float32", "float64"])
    shape = rng.randint(1, 3), rng.randint(1, 40), rng.randint(1, 70), rng.choice([1, 1, 2, 3, 17])
    nbytes = np.dtype(name).itemsize * int(np.prod(shape))
    cells = (data[:nbytes] if number % 3 == 0 else data[room - nbytes :]).view(name).reshape(shape)
    cells = cells[:: rng.choice([1, -1]), :: rng.choice([1, -1])]
    reduce, size = rng.choice(["mean", "sum", "max", "min"]), (rng.randint(1, shape[1]), rng.randint(1, shape[2]))
    rule = Rule(name, result_of(name, reduce), reduce, missing=rng.choice([(), (0.0,)]))
    out = np.empty((shape[0], *size, shape[3]), rule.result)
    Pooling(make_grid(shape[1:3], size), rule).means(cells, out, (0, size[0]), (0, size[1]), rng.choice([1, 2]))
"""


@without_kernel
def test_nothing_is_read_beyond_an_array():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", GUARDED], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@without_kernel
class TestKernelRefuses:
    """A mistake in the Python above it must not read or write beyond the arrays."""

    GOOD = ((4, 2, 0, 2), (6, 3, 0, 3), 7, 7, 0, False, False, 0.0, 0.0, 0, 1)

    def call(self, cells=(1, 4, 6, 1), out=(1, 2, 3, 1), **changes):
        arguments = [changes.get(f"_{i}", value) for i, value in enumerate(self.GOOD)]
        return KERNEL.pool(np.ones(cells, np.float32), np.ones(out, np.float32), *arguments)

    def test_what_is_right_is_not(self):
        assert self.call() == 0

    @pytest.mark.parametrize(
        "changes",
        [
            {"cells": (1, 3, 6, 1)}, {"cells": (1, 4, 5, 1)}, {"out": (1, 2, 2, 1)}, {"out": (2, 2, 3, 1)}, {"cells": (4, 6, 1)},
            {"_2": 99}, {"_2": -1}, {"_2": 8}, {"_3": 8}, {"_3": 13}, {"_4": 4}, {"_4": -1}, {"cells": (0, 4, 6, 1), "out": (0, 2, 3, 1)},
            {"_0": (4, 2, 0, -1)}, {"_0": (4, 2, 1, 1), "_1": (6, 3, 1, 6)}, {"_0": (4, 2, 0, -2), "_1": (6, 3, 0, -3)}, {"_0": (4, 0, 0, 2)}, {"_0": (4, 2, -1, 2)},
            {"_2": 11}, {"_10": 0},
        ],
        ids=str,
    )  # fmt: skip
    def test_what_does_not_fit(self, changes):
        with pytest.raises(ValueError, match=r"not of the types|beyond"):
            self.call(**changes)

    def test_columns_that_lie_apart_are_left_to_the_caller(self):
        cells = np.ones((1, 4, 12, 1), np.float32)[:, :, ::2]
        assert KERNEL.pool(cells, np.ones((1, 2, 3, 1), np.float32), *self.GOOD) == -1


# ---------------------------------------------------------------- others


class TestAgainstPyTorch:
    """Extremes are the same numbers, NaN included. Which zero is the greater of -0.0 and 0.0 nobody says."""

    @pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "float16"])
    def test_max(self, name, rng):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed; the extra bench has it")
        for _ in range(60):
            shape, size = tuple(rng.integers(1, [4, 40, 40])), tuple(map(int, rng.integers(1, 12, 2)))
            x = draw(rng, name, shape)
            tensor = torch.from_numpy(x.copy())
            tensor = tensor.view(torch.bfloat16) if name == "bfloat16" else tensor
            theirs = torch.nn.functional.adaptive_max_pool2d(tensor[None], size)[0].to(torch.float64).numpy()
            ours, _ = pool(x[..., None], size, rule_for(name, "max"))
            assert np.array_equal(numbers(ours[..., 0], name), theirs, equal_nan=True)


NARROW = st.sampled_from(["bfloat16", "float16", "float32"])
#: Some of these numbers lie half way between two of a narrow type.
NEAR = st.integers(0, 2**13).map(lambda n: (1 + n / 2**12) * 2.0**-8)


@given(NARROW, hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(-3.4e38, 3.4e38)))
def test_float64_is_rounded_once_to_even(name, values):
    out = np.empty(values.shape, storage(name))
    exceeded = narrow(values, name, out)
    expected = [make.rounded(Fraction(value), name) for value in values.tolist()]
    assert numbers(out, name).tolist() == expected
    assert exceeded == sum(map(math.isinf, expected))


@pytest.mark.usefixtures("twin")
class TestConversions:
    @pytest.mark.parametrize("name", ["bfloat16", "float16"])
    def test_all_numbers_of_16_bits_come_through(self, name):
        bits = np.arange(1 << 16, dtype=np.uint16)
        x = bits if name == "bfloat16" else bits.view(np.float16)
        results, overflows = pool(x.reshape(1, 256, 256, 1), (256, 256), rule_for(name))
        nan = np.isnan(widened(x, name))
        expected = np.where(nan, 0x7FC0 if name == "bfloat16" else 0x7E00, bits)
        assert np.array_equal(results.view(np.uint16).ravel(), expected)
        assert overflows == 0

    @given(NARROW, hnp.arrays(np.float64, (1, 9, 1), elements=st.floats(width=32) | NEAR))
    def test_results_are_rounded_once_to_even(self, name, x):
        check(x, (1, 9), rule_for("float64", wanted=name))
        check(x.astype(np.float32), (1, 3), rule_for("float32", wanted=name))


def test_the_table_has_the_kernels_codes():
    assert [element.code for element in ELEMENTS.values()] == list(range(len(ELEMENTS)))


def test_the_kernel_is_the_compiled_one_wherever_it_was_built():
    assert kernel_name() == ("NumPy" if KERNEL is None else "compiled")
    if KERNEL is None:
        pytest.skip(
            "installed without a C compiler, or from a checkout that was not built: NumPy does it all"
        )
    assert KERNEL.__file__.endswith((".so", ".pyd"))


class TestStacks:
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_every_order_of_axes_is_read_whole(self, axis, rng):
        """Whatever lies closer together than the columns is `inner`."""
        x = rng.integers(0, 99, (2, 3, 4, 5))
        for order in [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)]:
            view = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
            out = np.zeros(view.shape, view.dtype)
            for cells, results in stacks(view, out, axis):
                assert cells.shape == results.shape
                results[...] = cells
            assert np.array_equal(out, x)


class TestARowOfTheTable:
    """A further reduction is a row, for every type and with gaps."""

    CELLS = np.arange(1, 13).reshape(1, 3, 4, 1)

    def pool(self, monkeypatch, row, cells, name, **rule):
        monkeypatch.setitem(REDUCTIONS, "new", row)
        one = Rule(name, result_of(name, "new"), "new", **rule)
        out = np.empty((1, 1, 2, 1), storage(one.result))
        Pooling(make_grid((3, 4), (1, 2)), one).means(cells, out, (0, 1), (0, 2))
        return out.ravel()

    def test_one_that_picks_a_cell(self, monkeypatch):
        row = Reduction(lambda a, b: a, picks=True)
        cells = self.CELLS + (1 << 62)
        np.testing.assert_array_equal(self.pool(monkeypatch, row, cells, "int64"), cells[0, 0, ::2, 0])

    @pytest.mark.parametrize("name", ["uint8", "int32", "int64", "float16", "float32", "float64"])
    def test_one_that_does_not_add(self, name, monkeypatch):
        row = Reduction(np.multiply, neutral=1.0)
        cells = np.where(self.CELLS < 9, self.CELLS % 3 + 1, 7).astype(name)
        windows = [cells[0, :, :2], cells[0, :, 2:]]
        found = self.pool(monkeypatch, row, cells, name)
        np.testing.assert_array_equal(found, [np.prod(one.astype(np.float64)) for one in windows])
        found = self.pool(monkeypatch, row, cells, name, missing=(7.0,))
        np.testing.assert_array_equal(found, [np.prod(one[one != 7].astype(np.float64)) for one in windows])
