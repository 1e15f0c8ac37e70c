import numpy as np
import oracle
import pytest

import lucid
import lucid.nn as nn
from lucid.errors import ArgumentError, DTypeError, LucidError, ShapeError, SizeTypeError
from lucid.nn.functional import adaptive_avg_pool2d


def test_the_module_is_the_function():
    pool = nn.AdaptiveAvgPool2d(output_size=(4, 4))
    assert repr(pool) == "AdaptiveAvgPool2d(output_size=(4, 4))"
    means = pool(lucid.ones((2, 256, 14, 14)))
    assert means.shape == (2, 256, 4, 4)
    assert means.dtype == np.float32
    assert repr(nn.AdaptiveAvgPool2d(4, nan="skip")) == "AdaptiveAvgPool2d(output_size=4, nan='skip')"
    assert nn.AdaptiveAvgPool2d((None, 7)).output_size == (None, 7)


def test_module_without_forward_says_so():
    class Nothing(nn.Module):
        pass

    assert repr(Nothing()) == "Nothing()"
    with pytest.raises(NotImplementedError, match="Nothing has no `forward`"):
        Nothing()(lucid.ones((1, 1, 1)))


def test_tensor_is_ndarray():
    assert isinstance(lucid.tensor([1]), np.ndarray)
    for made in (lucid.ones(3), lucid.zeros((2, 2)), lucid.full((1,), 7), lucid.tensor([[1, 2]])):
        assert made.dtype == np.float32


@pytest.mark.parametrize("size", [1, 3, (2, 5), (None, 2), None, np.int64(3), (np.uint8(2), None)])
@pytest.mark.parametrize("shape", [(2, 3, 6, 9), (3, 6, 9)])
def test_sizes(size, shape, rng):
    x = rng.integers(0, 99, shape).astype(np.float64)
    both = size if isinstance(size, tuple) else (size, size)
    resolved = tuple(n if s is None else int(s) for s, n in zip(both, (6, 9), strict=True))
    expected = oracle.adaptive_avg_pool2d(x, resolved).astype(float)
    assert np.array_equal(adaptive_avg_pool2d(x, size), expected)


@pytest.mark.parametrize(
    ("size", "error", "text"),
    [
        (0, ArgumentError, "`output_size` holds 0; expected an integer of at least 1, or None"),
        ((2, -1), ArgumentError, "`output_size` holds -1; expected an integer of at least 1, or None"),
        (True, SizeTypeError, "`output_size` holds True; expected an integer of at least 1, or None"),
        (2.0, SizeTypeError, "`output_size` holds 2.0; expected an integer of at least 1, or None"),
        ("4", SizeTypeError, "`output_size` holds '4'; expected an integer of at least 1, or None"),
        ((1, 2, 3), ArgumentError, "`output_size` is (1, 2, 3); expected one or two dimensions"),
    ],
)
def test_bad_sizes(size, error, text):
    with pytest.raises(error) as raised:
        adaptive_avg_pool2d(np.ones((1, 2, 2)), size)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (np.ones((2, 2)), ShapeError, "`x` has shape (2, 2); expected (N, C, H, W) or (C, H, W)"),
        (np.ones((1, 1, 0, 2)), ShapeError, "planes of 0x2 have no cells to average"),
        (np.ones((1, 2, 2), complex), DTypeError, None),
        (np.ones((1, 2, 2), np.longdouble), DTypeError, None),
        (np.ones((1, 2, 2), "S3"), DTypeError, None),
        (np.ones((1, 2, 2), object), DTypeError, None),
        (np.ones((1, 2, 2), "M8[s]"), DTypeError, None),
        (np.ones((1, 2, 2), [("a", "f4")]), DTypeError, None),
        (np.ma.masked_array(np.ones((1, 2, 2))), DTypeError, None),
    ],
)
def test_bad_arrays(x, error, text):
    with pytest.raises(error) as raised:
        adaptive_avg_pool2d(x, 1)
    assert isinstance(raised.value, LucidError)
    assert text is None or str(raised.value) == text


def test_bad_options():
    with pytest.raises(ArgumentError, match="`nan` is 'drop'; expected 'propagate' or 'skip'"):
        adaptive_avg_pool2d(np.ones((1, 2, 2)), 1, nan="drop")
    with pytest.raises(ArgumentError, match="`threads` is 0; expected at least 1"):
        adaptive_avg_pool2d(np.ones((1, 2, 2)), 1, threads=0)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (0, 4, 4)])
def test_empty_batches_give_empty_results(shape):
    assert adaptive_avg_pool2d(np.ones(shape, np.float32), 2).shape == (*shape[:-2], 2, 2)


def views(x):
    """The same (N, C, H, W) in many memory orders."""
    yield "fortran", np.asfortranarray(x)
    yield "channels last", np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    yield "transposed planes", np.ascontiguousarray(x.swapaxes(2, 3)).swapaxes(2, 3)
    yield "batch inside", np.ascontiguousarray(x.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    yield "reversed", np.ascontiguousarray(x[::-1, :, ::-1, ::-1])[::-1, :, ::-1, ::-1]
    yield "every second", np.repeat(np.repeat(x, 2, axis=1), 2, axis=3)[:, ::2, :, ::2]
    yield "big-endian", x.astype(x.dtype.newbyteorder(">"))
    yield "unaligned", np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape)
    read_only = x.copy()
    read_only.flags.writeable = False
    yield "read-only", read_only


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", "bool"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((3, 5, 20, 17), (4, 6)), ((2, 6, 7, 7), (3, 3)), ((4, 3, 30, 9), (2, 1)), ((1, 1, 8, 1), 2)],
)
def test_memory_order_leaves_no_trace(dtype, shape, size, rng):
    x = (rng.standard_normal(shape) * 100).astype(dtype)
    expected = adaptive_avg_pool2d(x, size)
    for name, view in views(x):
        means = adaptive_avg_pool2d(view, size)
        assert np.array_equal(means, expected), name
        assert means.flags.c_contiguous
        assert means.dtype.isnative


@pytest.mark.parametrize("shape", [(100, 64, 28, 28), (3, 1, 1600, 1200), (2, 40, 60, 60, 16)])
def test_threads_leave_no_trace(shape, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    if len(shape) == 5:
        x = x[..., 0]
    one = adaptive_avg_pool2d(x, (3, 2), threads=1)
    for threads in (2, 3, 7):
        assert np.array_equal(adaptive_avg_pool2d(x, (3, 2), threads=threads), one)


def test_bfloat16_as_ml_dtypes_has_it(rng):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs the extra bfloat16")
    x = rng.standard_normal((2, 3, 9, 9)).astype(ml_dtypes.bfloat16)
    means = adaptive_avg_pool2d(x, 2)
    assert means.dtype == x.dtype
    exact = adaptive_avg_pool2d(x.astype(np.float64), 2)
    assert np.array_equal(means, exact.astype(np.float32).astype(ml_dtypes.bfloat16))


def test_pytorch_tensors_and_values(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; the extra bench has it")
    x = rng.standard_normal((4, 6, 23, 31))
    for size in [1, 4, (5, 7), (None, 3), 40]:
        expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x), size).numpy()
        assert np.allclose(adaptive_avg_pool2d(torch.from_numpy(x), size), expected, rtol=0, atol=1e-14)
    assert adaptive_avg_pool2d(torch.ones((1, 2, 2), requires_grad=True), 1).tolist() == [[[1]]]


def test_never_worse_than_pytorch(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; the extra bench has it")
    for shape, size in [((4, 64, 56, 56), 4), ((4, 64, 224, 224), 7), ((2, 64, 28, 28), 9)]:
        x = (rng.standard_normal(shape) + 3).astype(np.float32)
        exact = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x.astype(np.float64)), size).numpy()
        theirs = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x), size).numpy()
        ours = adaptive_avg_pool2d(x, size)
        assert np.abs(ours - exact).max() <= np.abs(theirs - exact).max()
