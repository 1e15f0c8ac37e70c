"""safetensors files: what their library reads of ours, what is carried over, and headers that lie."""

import json

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lucid
from lucid.errors import ArgumentError, DatasetError, FormatError, LucidError
from lucid.formats.arrays import ResultSpec
from lucid.formats.contract import CarriedArrays
from lucid.formats.safetensors import header
from lucid.formats.safetensors.header import HEADER_LIMIT, parse_header
from lucid.formats.safetensors.sink import SafetensorsSink
from lucid.formats.safetensors.source import SafetensorsSource
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.options import Options

library = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed (extra test)")


@pytest.fixture
def array(rng):
    return rng.standard_normal((5, 3, 6, 7)).astype("f4")


def file_of(entries, data=b"", padding=b""):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    text += padding
    return len(text).to_bytes(8, "little") + text + data


def metadata_of(path):
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return file.metadata()


def test_what_is_not_pooled_is_carried_over(tmp_path, array):
    from safetensors import deserialize

    ml_dtypes = pytest.importorskip("ml_dtypes")
    others = {
        "labels": np.arange(5),
        "mask": np.array([True, False, True]),
        "scalar": np.array(2.5),
        "nothing": np.zeros((0, 3), "i2"),
        "eighths": np.arange(7).astype(ml_dtypes.float8_e5m2),
        "one of rank 4": np.zeros((1, 1, 2, 2), ml_dtypes.float8_e4m3fn),
    }
    library.save_file({"layer.x": array} | others, tmp_path / "x.safetensors", {"format": "pt", "epoch": "7"})
    target = lucid.pool_file(tmp_path / "x.safetensors", size=2).targets[0]
    before, after = (dict(deserialize(path.read_bytes())) for path in (tmp_path / "x.safetensors", target))
    assert before.pop("layer.x")["shape"] == [5, 3, 6, 7]
    assert after.pop("layer.x")["data"] == adaptive_avg_pool2d(array, 2).tobytes()
    assert after == before
    metadata = metadata_of(target)
    provenance = json.loads(metadata.pop("lucid_pool"))
    assert metadata == {"format": "pt", "epoch": "7"}
    assert provenance["layer.x"]["source_shape"] == [5, 3, 6, 7]
    with SafetensorsSource(tmp_path / "x.safetensors", Options()) as source:
        (spec,) = source.choose(())
        pooled = ResultSpec(spec, spec.name, (5, 3, 2, 2), spec.dtype, spec.numbers, "{}")
        with SafetensorsSink(tmp_path / "z.safetensors", Options()) as sink:
            sink.refuse(source, [pooled])
            assert sink.carried == CarriedArrays(len(others), sum(other.nbytes for other in others.values()))
    alone = lucid.pool_file(
        tmp_path / "x.safetensors", tmp_path / "y.safetensors", size=2, carry=False
    ).targets[0]
    assert library.load_file(alone).keys() == {"layer.x"}
    assert metadata_of(alone).keys() == {"lucid_pool"}


def test_the_bytes_are_those_that_the_library_would_write(tmp_path, array):
    tensors = {
        f"{dtype}.x": (array * 9).astype(dtype) for dtype in ("u1", "f8", "f2", "i4", "u8", "i8", "?", "f4")
    }
    library.save_file(tensors | {'a\n"é': np.arange(3, dtype="i1")}, tmp_path / "x.safetensors")
    target = lucid.pool_file(tmp_path / "x.safetensors", sizes=[1, (2, 3)]).targets[0]
    again = library.save(library.load_file(target), metadata_of(target))
    assert target.read_bytes() == again
    assert int.from_bytes(again[:8], "little") % 8 == 0


def test_bfloat16(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.arange(48).reshape(1, 3, 4, 4).astype(ml_dtypes.bfloat16)
    library.save_file({"x": x}, tmp_path / "x.safetensors")
    target = lucid.pool_file(tmp_path / "x.safetensors", size=2).targets[0]
    pooled = library.load_file(target)["x"]
    assert pooled.dtype == ml_dtypes.bfloat16
    assert np.array_equal(pooled, adaptive_avg_pool2d(x, 2))


def test_what_many_tensors_have_in_common_stands_once(tmp_path, array):
    """Else the header of a million would be longer than the format allows."""
    source, target, second = (tmp_path / f"{name}.safetensors" for name in "abc")
    library.save_file({f"tensor{i:06}": array for i in range(200)}, source)
    lucid.pool_file(source, target, size=2)
    assert json.loads(metadata_of(target)["lucid_pool"])["output_size"] == [2, 2]
    assert int.from_bytes(target.read_bytes()[:8], "little") < 200 * 90 + 1000
    lucid.pool_file(target, second, size=1, datasets="tensor000007")
    provenance = json.loads(metadata_of(second)["lucid_pool"])
    assert {name: facts["output_size"] for name, facts in provenance.items()} == {
        f"tensor{i:06}": [1, 1] if i == 7 else [2, 2] for i in range(200)
    }
    assert lucid.pool_file(source, target, size=2, resume=True).skipped


def test_provenance_of_what_is_carried_stays(tmp_path, array):
    library.save_file({"x": array, "y": array[0]}, tmp_path / "x.safetensors")
    first = lucid.pool_file(tmp_path / "x.safetensors", size=3).targets[0]
    second = lucid.pool_file(first, tmp_path / "y.safetensors", size=1, layout="CHW").targets[0]
    provenance = json.loads(metadata_of(second)["lucid_pool"])
    assert provenance["x"]["output_size"] == [3, 3]
    assert provenance["y"]["output_size"] == [1, 1]
    library.save_file({"x": array}, tmp_path / "z.safetensors", {"lucid_pool": "[of somebody else"})
    target = lucid.pool_file(tmp_path / "z.safetensors", size=1).targets[0]
    assert json.loads(metadata_of(target)["lucid_pool"]).keys() == {"x"}


def test_compression_is_refused(tmp_path, array):
    library.save_file({"x": array}, tmp_path / "x.safetensors")
    with pytest.raises(ArgumentError, match="`compression` is 'gzip'; safetensors files have none"):
        lucid.pool_file(tmp_path / "x.safetensors", size=1, compression="gzip")


@pytest.mark.slow
def test_the_same_bytes_however_it_is_done(tmp_path, rng):
    path = tmp_path / "x.safetensors"
    library.save_file({"x": rng.standard_normal((40, 8, 24, 24)), "y": np.arange(3)}, path, {"a": "b"})
    made = [
        lucid.pool_file(
            path, tmp_path / f"{i}.safetensors", sizes=[3, 24], max_memory=memory, threads=threads
        )
        for i, (memory, threads) in enumerate([(1 << 28, 1), (1 << 17, 2), (5000, 3)])
    ]
    made.append(lucid.pool_file(path, str(tmp_path / "resumed.safetensors"), sizes=[3, 24], resume=True))
    shards = [
        lucid.pool_file(
            path, tmp_path / f"shard{start}.safetensors", sizes=[3, 24], slice=slice(start, stop)
        ).targets[0]
        for start, stop in [(0, 7), (7, None)]
    ]
    made.append(lucid.merge_files(shards, tmp_path / "merged.safetensors"))
    assert len({report.targets[0].read_bytes() for report in made}) == 1


def test_from_npz_and_to_hdf5(tmp_path, array):
    expected = adaptive_avg_pool2d(array, 2)
    np.savez(tmp_path / "x.npz", **{"layer.x": array})
    lucid.pool_file(tmp_path / "x.npz", tmp_path / "y.safetensors", size=2)
    assert np.array_equal(library.load_file(tmp_path / "y.safetensors")["layer.x"], expected)
    library.save_file({"layer.x": array}, tmp_path / "x.safetensors")
    lucid.pool_file(tmp_path / "x.safetensors", tmp_path / "y.h5", size=2)
    with h5py.File(tmp_path / "y.h5") as file:
        assert np.array_equal(file["layer.x"], expected)


def test_a_command_reads_standard_input(tmp_path, array, command):
    library.save_file({"x": array}, tmp_path / "x.safetensors")
    with (tmp_path / "x.safetensors").open("rb") as file:
        assert command("-", "-s", "2", "-o", "y.npy", stdin=file).returncode == 0
    assert np.array_equal(np.load(tmp_path / "y.npy"), adaptive_avg_pool2d(array, 2))


def tensor(start=0, stop=4, dtype="F32", shape=(1, 1, 1, 1)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


X = json.dumps(tensor()).encode()


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"x": tensor(0, 8)}, "tensor 'x' has 8 bytes, its shape needs 4"),
        ({"x": tensor(4, 8)}, "tensor 'x' lies behind a hole: it begins at byte 4, not 0"),
        ({"x": tensor(), "y": tensor(2, 6)}, "tensor 'y' overlaps another: it begins at byte 2, not 4"),
        ({"x": tensor(), "y": tensor()}, "tensor 'y' overlaps another"),
        ({"x": tensor(), "y": tensor(4, 8), "z": tensor(8, 12)}, "is cut off: it has 8 bytes of data"),
        ({"x": tensor()}, "has 4 bytes after its tensors"),
        ({"x": tensor(4, 0)}, "has data_offsets [4, 0]; expected start and end"),
        ({"x": tensor(-4, 0)}, "has data_offsets [-4, 0]"),
        (b'{"x": {"dtype": "U8", "shape": [0], "data_offsets": [-0, 0]}}', "has data_offsets [-1, 0]"),
        ({"x": tensor(0, 4.0)}, "has data_offsets [0, 4.0]"),
        ({"x": tensor(0, True)}, "has data_offsets [0, True]"),
        ({"x": tensor(0, 2**64)}, "has data_offsets [0, 18446744073709551616]"),
        ({"x": tensor(shape=(1, -1))}, "has shape [1, -1]; expected lengths"),
        ({"x": tensor(shape=("1",))}, "has shape ['1']"),
        ({"x": tensor(shape=(2**62, 2**62, 2**62))}, "its shape needs"),
        ({"x": tensor(dtype=3)}, "has dtype '3'; expected a name"),
        ({"x": tensor(dtype="F\n32")}, "has dtype 'F\\n32'"),
        ({"x": {"dtype": "F32", "shape": []}}, "needs exactly dtype, shape and data_offsets"),
        ({"x": tensor() | {"more": 1}}, "needs exactly dtype, shape and data_offsets"),
        ({"x": 3}, "is no JSON object of tensors, at byte 1"),
        ({"x": tensor(dtype="F" * 5000)}, "bytes; expected at most 4096"),
        ({"x": {"dtype": {}}}, "is no JSON object of tensors"),
        ({"__metadata__": {"a": 1}}, "is no JSON object of tensors, at byte 1"),
        ({"x": "tensor"}, "needs exactly dtype, shape and data_offsets"),
        ({"__metadata__": "a"}, "is no JSON object of tensors, at byte 1"),
        ({"__metadata__": {"a": {}}}, "is no JSON object of tensors"),
        ([], "does not begin with {"),
        (b'{"x": %b, "x": %b}' % (X, X), "has 'x' twice"),
        (b'{"x": %b, "\\u0078": %b}' % (X, X), "has 'x' twice"),
        (b'{"__metadata__": {}, "__metadata__": {}}', "has '__metadata__' twice"),
        (b'{"__metadata__": {"a": "b", "a": "c"}}', "has 'a' twice"),
        (b'{"x": {"dtype": "F32", "dtype": "F32", "shape": [], "data_offsets": [0, 4]}}', "is no JSON at"),
        (b'{"x": %b} {}' % X, "goes on behind its end"),
        (b'{"x": %b' % X, "is no JSON object of tensors"),
        (b'{"x": %b,}' % X, "is no JSON object of tensors"),
        (b'{x: %b}' % X, "is no JSON object of tensors"),
        (b' {"x": %b}' % X, "does not begin with {"),
        (b'{"\\ud800": %b}' % X, "expected a text"),
        (b'{"__metadata__": {"a": "\\ud800"}}', "expected a text"),
        (b'{"\xff": %b}' % X, "is no JSON"),
        (b'{"a\nb": %b}' % X, "is no JSON"),
        (b'{"x": {"shape": [%b]}}' % (b"[" * 4000), "is no JSON"),
        (b'{"x": {"shape": [%b]}}' % (b"0," * 4000), "is described in 8013 bytes; expected at most 4096"),
        (b"{" + b"[" * 100_000, "is no JSON object of tensors"),
        (b"{}", "has 8 bytes after its tensors"),
        (b"", "does not begin with {"),
    ],
)  # fmt: skip
def test_headers_that_lie(tmp_path, entries, text):
    path = tmp_path / "x.safetensors"
    path.write_bytes(file_of(entries, bytes(8)))
    with pytest.raises(FormatError) as raised:
        parse_header(path.read_bytes()[8:-8], 8)
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)
    with pytest.raises(Exception, match=r".") as refused:
        library.load_file(path)
    assert "Safetensor" in type(refused.value).__name__ or "more" in str(entries)
    if path.read_bytes()[8:9] == b"{":
        with pytest.raises(FormatError):
            lucid.pool_file(path, size=1)


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (HEADER_LIMIT + 1, "claims 100000001 bytes; expected at most 100000000"),
        (999, "is cut off: it has 16 bytes"),
    ],
)
def test_lengths_that_lie(length, text):
    with pytest.raises(FormatError, match=text):
        header.header_length(length.to_bytes(8, "little"), 16)


def test_entries_that_are_fine(tmp_path):
    spaces = b'{ "x"\t:\n{"shape":[ ],"data_offsets":[0,4], "dtype":"F32"} , "__metadata__" : { "a\\"}" : "{" } }  \n'
    parsed = parse_header(spaces, 4)
    assert parsed.metadata == {'a"}': "{"}
    assert parsed.tensors[0].shape == ()
    empty = parse_header(b"{}   ", 0)
    assert (empty.metadata, [*empty.tensors]) == ({}, [])


@pytest.mark.parametrize(
    "text",
    [
        b'{"' + b"a" * 1000,
        b'{"' + b"\\" * 1000,
        b"{" + b" " * 1000,
        b'{"x":{' + b" " * 1000,
        b'{"__metadata__":{' + b'"a":"b",' * 1000,
        b'{"__metadata__":' + b'{"a":' * 1000,
        b"{" + b'"":{},' * 1000,
        b'{"a' + b'\\"' * 1000,
    ],
)
def test_a_header_that_goes_on_and_on_is_an_error(text):
    """Such headers are scanned once: in time that grew with the square of their length, this would take hours."""
    start = text[:20]
    text = start + (text[20:] * 400)
    with pytest.raises(FormatError):
        parse_header(text, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "entry",
    [
        '"%d":{"dtype":"F32","shape":[],"data_offsets":[0,0]}',
        '"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}',
    ],
)
def test_a_header_of_100_megabytes(tmp_path, entry, command):
    text = "{" + ",".join(entry % i for i in range(1_700_000))
    (tmp_path / "x.safetensors").write_bytes(file_of(text[: HEADER_LIMIT - 1].encode() + b"}"))
    done = command("x.safetensors", "-s", "1")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_a_header_that_grows_too_long_is_refused(monkeypatch):
    tensors = [header.Tensor("x" * 10_000 + str(i), "F32", (0,), 0, 0) for i in range(20)]
    monkeypatch.setattr(header, "HEADER_LIMIT", 1000)
    with pytest.raises(DatasetError, match=r"a header of \d+ bytes; expected at most 1000"):
        b"".join(header.header_of({}, tensors))
    with pytest.raises(DatasetError, match="names tensors in UTF-8"):
        b"".join(header.header_of({}, [header.Tensor("\ud800", "F32", (0,), 0, 0)]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
TENSORS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "BOOL", "U8", "F8_E4M3", "what"]) | JSON,
        "shape": st.lists(st.integers(0, 3), max_size=3) | JSON,
        "data_offsets": st.tuples(st.integers(0, 12), st.integers(0, 12)) | JSON,
    }
)


@given(
    st.dictionaries(st.text(max_size=3) | st.just("__metadata__"), TENSORS | JSON, max_size=3),
    st.integers(0, 12),
)
def test_any_header_is_read_or_refused_in_one_line(entries, data_bytes):
    check_against_the_library(
        json.dumps(entries, ensure_ascii=False).encode("utf-8", "surrogatepass"), data_bytes
    )


def check_against_the_library(text, data_bytes):
    """What is accepted here, their library accepts, with the same tensors; but for types that it does not know."""
    from safetensors import deserialize

    try:
        parsed = parse_header(text, data_bytes)
    except LucidError as error:
        assert "\n" not in str(error)
        return
    if all(t.dtype in header.NUMBERS for t in parsed.tensors):
        theirs = {
            name: (t["dtype"], tuple(t["shape"])) for name, t in deserialize(file_of(text, bytes(data_bytes)))
        }
        assert theirs == {t.name: (t.dtype, t.shape) for t in parsed.tensors}
