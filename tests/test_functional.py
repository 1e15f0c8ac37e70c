import subprocess
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest

import lucid
import lucid.nn as nn
from lucid.errors import ArgumentError, DTypeError, LucidError, ShapeError, SizeTypeError
from lucid.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d


@pytest.mark.parametrize("size", [10**12, 10**30])
def test_a_size_too_big_for_an_array(size):
    with pytest.raises(ShapeError, match=rf"^`output_size` is {size}, too big for an array$"):
        adaptive_avg_pool2d(np.ones((1, 1, 2, 2)), size)


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


def test_layers_without_parameters_are_used_like_any(rng):
    x = rng.standard_normal((2, 3, 9, 9)).astype(np.float32)
    for module in (nn.AdaptiveAvgPool2d(2), nn.Sequential(nn.AdaptiveMaxPool2d(4), nn.AdaptiveAvgPool2d(2))):
        before = module(x)
        assert module.training
        assert module.eval() is module
        assert not module.training
        assert module.train() is module
        assert module.training
        assert module.to("cpu") is module
        assert module.to(device="cpu", dtype=np.float16) is module
        assert module.state_dict() == {}
        assert np.array_equal(module(x), before)


def test_max_pooling(rng):
    x = rng.standard_normal((2, 3, 9, 7)).astype(np.float32)
    x[0, 0, 0, 0] = np.nan
    pool = nn.AdaptiveMaxPool2d((4, None))
    assert repr(pool) == "AdaptiveMaxPool2d(output_size=(4, None))"
    largest = pool(x)
    assert largest.dtype == np.float32
    assert np.array_equal(largest, oracle.pool(x, (4, 7), "max").astype(np.float32), equal_nan=True)
    skipping = nn.AdaptiveMaxPool2d((4, None), nan="skip")
    assert repr(skipping) == "AdaptiveMaxPool2d(output_size=(4, None), nan='skip')"
    assert skipping(x)[0, 0, 0, 0] == np.nanmax(x[0, 0, :3, 0])
    for dtype in ("bool", "uint8", "int64", "float16"):
        y = x[1:].astype(dtype)
        assert adaptive_max_pool2d(y, 3).dtype == dtype
        assert np.array_equal(adaptive_max_pool2d(y, 3), oracle.pool(y, (3, 3), "max").astype(dtype))
    with pytest.raises(ArgumentError, match="`output_size` is 0; expected one or two dimensions"):
        nn.AdaptiveMaxPool2d(0)
    with pytest.raises(ArgumentError, match="`nan` is 'drop'; expected propagate or skip"):
        nn.AdaptiveMaxPool2d(1, nan="drop")


def test_a_sequence_is_its_modules_one_after_the_other(rng):
    x = rng.standard_normal((2, 3, 12, 12)).astype(np.float32)
    first, second = nn.AdaptiveMaxPool2d(6), nn.AdaptiveAvgPool2d((2, 1))
    both = nn.Sequential(first, second)
    assert np.array_equal(both(x), second(first(x)))
    assert list(both) == [first, second]
    assert len(both) == 2
    assert both[-1] is second
    both.eval()
    assert not first.training
    assert not second.training
    assert nn.Sequential()(x) is x
    assert repr(nn.Sequential()) == "Sequential()"


def test_a_sequence_in_a_sequence_is_shown_as_pytorch_does():
    inner = "Sequential(\n    (0): AdaptiveMaxPool2d(output_size=2)\n  )"
    nested = nn.Sequential(nn.Sequential(nn.AdaptiveMaxPool2d(2)), nn.AdaptiveAvgPool2d(1))
    assert repr(nested) == f"Sequential(\n  (0): {inner}\n  (1): AdaptiveAvgPool2d(output_size=1)\n)"


def test_tensor_is_ndarray():
    assert lucid.Tensor is np.ndarray
    for made in (lucid.ones(3), lucid.zeros((2, 2)), lucid.full((1,), 7), lucid.tensor([[1, 2]])):
        assert type(made) is lucid.Tensor
        assert made.dtype == np.float32
    data = np.zeros(3, np.float32)
    assert not np.shares_memory(lucid.tensor(data), data)


@pytest.mark.parametrize("make", [lucid.ones, lucid.zeros])
def test_a_shape_is_one_tuple_or_several_integers(make):
    for shape in [(2, 3), ((2, 3),), ([2, 3],), (np.int64(2), np.uint8(3)), (np.array([2, 3]),)]:
        assert make(*shape).shape == (2, 3)
    assert make().shape == make(()).shape == ()
    assert make(2).shape == make(np.int64(2)).shape == make((2,)).shape == (2,)
    assert make(2, 3, dtype="int8").dtype == np.int8
    for wrong in [(2.0,), ((2, 2.5),), ("2",), (2, None), ((1, 2), 3)]:
        with pytest.raises(SizeTypeError, match="expected integers, or one tuple of them"):
            make(*wrong)


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
        (0, ArgumentError, "0"),
        ((2, -1), ArgumentError, "(2, -1)"),
        (True, SizeTypeError, "True"),
        (2.0, SizeTypeError, "2.0"),
        ("4", SizeTypeError, "'4'"),
        ((1, 2, 3), ArgumentError, "(1, 2, 3)"),
    ],
)
def test_bad_sizes(size, error, text):
    with pytest.raises(error) as raised:
        adaptive_avg_pool2d(np.ones((1, 2, 2)), size)
    expected = "one or two dimensions, each an integer of at least 1 or None"
    assert str(raised.value) == f"`output_size` is {text}; expected {expected}"


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
    with pytest.raises(ArgumentError, match="`nan` is 'drop'; expected propagate or skip"):
        adaptive_avg_pool2d(np.ones((1, 2, 2)), 1, nan="drop")
    with pytest.raises(ArgumentError, match="`threads` is 0; expected an integer of at least 1"):
        adaptive_avg_pool2d(np.ones((1, 2, 2)), 1, threads=0)
    for threads in (2.5, "2"):
        with pytest.raises(SizeTypeError, match=f"`threads` is {threads!r}; expected an integer"):
            adaptive_avg_pool2d(np.ones((1, 2, 2)), 1, threads=threads)


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
    yield "part of a wider array", np.pad(x, ((0, 0), (0, 0), (1, 2), (3, 1)))[:, :, 1:-2, 3:-1]
    yield "batch and channels inside", np.ascontiguousarray(x.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1)
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


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (3,), (0, 1), (1, 3), (2, 3), (0, 1, 2, 3)])
def test_broadcast_arrays_are_read_as_they_are(axes, rng):
    shape = (3, 4, 9, 8)
    one = rng.standard_normal([1 if axis in axes else n for axis, n in enumerate(shape)])
    x = np.broadcast_to(one, shape)
    assert np.array_equal(adaptive_avg_pool2d(x, (2, 3)), adaptive_avg_pool2d(x.copy(), (2, 3)))


@pytest.mark.parametrize("shape", [(100, 64, 28, 28), (3, 1, 1600, 1200), (2, 40, 60, 60, 16)])
def test_threads_leave_no_trace(shape, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    if len(shape) == 5:
        x = x[..., 0]
    one = adaptive_avg_pool2d(x, (3, 2), threads=1)
    for threads in (2, 3, 7):
        assert np.array_equal(adaptive_avg_pool2d(x, (3, 2), threads=threads), one)


def test_threads_that_the_system_refuses_are_done_without():
    program = """
import resource
import numpy as np
from lucid.nn.functional import adaptive_avg_pool2d
x = np.arange(64.0 * 28 * 28 * 40, dtype=np.float32).reshape(40, 64, 28, 28)
expected = adaptive_avg_pool2d(x, 7, threads=1)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (4 << 20),) * 2)
print(np.array_equal(adaptive_avg_pool2d(x, 7, threads=8), expected))
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("/proc says how much memory the limit has to leave")
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        == "True\n"
    )


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
    for tensor in (torch.ones((1, 2, 2), requires_grad=True), torch.nn.Parameter(torch.ones(1, 2, 2))):
        assert adaptive_avg_pool2d(tensor, 1).tolist() == [[[1]]]
        assert lucid.tensor(tensor).tolist() == [[[1, 1], [1, 1]]]
        assert tensor.requires_grad
    with pytest.raises(DTypeError, match="cannot be seen as an array"):
        adaptive_avg_pool2d(torch.ones((1, 2, 2)).to_sparse(), 1)


def test_pytorch_tensors_of_bfloat16(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; the extra bench has it")
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs the extra bfloat16")
    x = rng.standard_normal((2, 3, 9, 9)).astype(ml_dtypes.bfloat16)
    tensor = torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    for given in (
        tensor,
        tensor.clone().requires_grad_(),
        tensor.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    ):
        means = adaptive_avg_pool2d(given, 2)
        assert means.dtype == ml_dtypes.bfloat16
        assert means.tobytes() == adaptive_avg_pool2d(x, 2).tobytes()
    assert np.array_equal(lucid.tensor(tensor.clone().requires_grad_()), x.astype("f4"))
    assert adaptive_max_pool2d(tensor, 2).tobytes() == adaptive_max_pool2d(x, 2).tobytes()


def test_a_tensor_of_bfloat16_without_ml_dtypes_says_what_is_missing(monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; the extra bench has it")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(DTypeError, match="needs the extra 'bfloat16': pip install ml_dtypes"):
        adaptive_avg_pool2d(torch.ones((1, 2, 2), dtype=torch.bfloat16), 1)


def test_never_worse_than_pytorch(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; the extra bench has it")
    for shape, size in [((4, 64, 56, 56), 4), ((4, 64, 224, 224), 7), ((2, 64, 28, 28), 9)]:
        x = (rng.standard_normal(shape) + 3).astype(np.float32)
        exact = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x.astype(np.float64)), size).numpy()
        theirs = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x), size).numpy()
        ours = adaptive_avg_pool2d(x, size)
        assert np.abs(ours - exact).max() <= np.abs(theirs - exact).max()
