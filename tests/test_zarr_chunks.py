"""Chunks of Zarr stores, read and written without zarr: the same cells, the same bytes, and what hostile ones do."""

import bz2
import gzip
import http.server
import json
import lzma
import shutil
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zipfile
import zlib
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from slow import slow

import lucid
from lucid.errors import FormatError, LucidError, MemoryLimitError
from lucid.options import Options

zarr = pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")
numcodecs = pytest.importorskip("numcodecs")

from lucid.formats.zarr import chunks  # noqa: E402
from lucid.formats.zarr import codecs as codecs_of_chunks  # noqa: E402
from lucid.formats.zarr.chunks import StoredArray  # noqa: E402
from lucid.formats.zarr.codecs import Chain  # noqa: E402
from lucid.formats.zarr.documents import array_document  # noqa: E402
from lucid.formats.zarr.errors import translate_all  # noqa: E402
from lucid.formats.zarr.files import ArrayFiles  # noqa: E402
from lucid.formats.zarr.nodes import Node  # noqa: E402
from lucid.formats.zarr.source import ZarrSource  # noqa: E402
from lucid.formats.zarr.store import FolderStore  # noqa: E402

SHAPE, CHUNKS, SHARDS = (5, 4, 7), (2, 2, 3), (4, 4, 6)
CODECS_3 = {
    "none": lambda c, n: None,
    "zstd": lambda c, n: c.ZstdCodec(level=3, checksum=True),
    "gzip": lambda c, n: c.GzipCodec(level=1),
    "blosc": lambda c, n: c.BloscCodec(cname="zstd", shuffle="bitshuffle"),
    "crc32c": lambda c, n: [c.ZstdCodec(), c.Crc32cCodec()],
    "within": lambda c, n: [c.Crc32cCodec(), c.ZstdCodec()],
    "lz4": lambda c, n: [n.Shuffle(elementsize=4), n.LZ4()],
    "zlib": lambda c, n: [n.Zlib(level=2), n.CRC32(), n.Adler32(), n.Fletcher32()],
    "bz2": lambda c, n: n.BZ2(),
    "lzma": lambda c, n: n.LZMA(),
}
CODECS_2 = {
    "none": ([], None),
    "blosc": ([], numcodecs.Blosc()),
    "zstd": ([], numcodecs.Zstd(level=1)),
    "gzip": ([], numcodecs.GZip()),
    "lz4": ([numcodecs.Shuffle(elementsize=4)], numcodecs.LZ4()),
    "zlib": ([numcodecs.Delta(dtype="<f4")], numcodecs.Zlib()),
    "lzma": ([], numcodecs.LZMA()),
    "packed": ([numcodecs.FixedScaleOffset(offset=1, scale=2, dtype="<f4", astype="i1")], numcodecs.Blosc()),
    "other type": ([numcodecs.AsType(encode_dtype="<i2", decode_dtype="<f4")], numcodecs.Zstd()),
}


def made(path, x, version=3, codecs="zstd", **options):
    """A store of zarr's."""
    with warnings.catch_warnings(action="ignore"):
        if version == 3:
            import zarr.codecs.numcodecs as three

            options["compressors"] = CODECS_3[codecs](zarr.codecs, three)
        else:
            filters, options["compressors"] = CODECS_2[codecs]
            options["filters"] = filters or None
        options = {"chunks": CHUNKS, "config": {"write_empty_chunks": False}} | options
        array = zarr.create_array(path, shape=x.shape, dtype=x.dtype, zarr_format=version, **options)
        array[...] = x
    return path


def cells(shape=SHAPE, dtype="f4"):
    x = np.random.default_rng(0).integers(-3, 3, shape).astype(dtype)
    x[:2] = 0
    return x


def read(path, region=None, **options):
    """Cells of the only array of a store."""
    with ZarrSource(path, Options(layout="CHW", **options)) as source:
        (spec,) = source.choose(())
        region = region or tuple(slice(0, n) for n in spec.shape)
        size = spec.dtype.itemsize * int(np.prod([s.stop - s.start for s in region]))
        return source.read(spec, region, np.empty(size, np.uint8)).copy()


@pytest.fixture
def without_zarr(monkeypatch):
    monkeypatch.setattr(StoredArray, "_zarr_array", property(lambda _: pytest.fail("zarr reads it")))


EVERY = [
    *((3, name, shards) for name, shards in product(CODECS_3, (None, SHARDS))),
    *((2, name, None) for name in CODECS_2),
]
QUICK = ("zstd", "gzip", "blosc", "within", "packed")
EVERY = [one if one[1] in QUICK else slow(one)[0] for one in EVERY]


@pytest.mark.parametrize(("version", "codecs", "shards"), EVERY)
def test_cells_and_bytes_are_those_of_zarr(tmp_path, without_zarr, version, codecs, shards):
    x = cells()
    options = {"shards": shards} if shards else {}
    path = made(tmp_path / "x.zarr", x, version, codecs, **options)
    assert np.array_equal(read(path), x)
    region = (slice(1, 4), slice(1, 3), slice(2, 7))
    assert np.array_equal(read(path, region), x[region])
    again = tmp_path / "y.zarr"
    shutil.copytree(path, again, ignore=lambda folder, names: [n for n in names if n[0] in "c0123456789"])
    with ZarrSource(path, Options()) as source:
        node = source.nodes[""]
    files = ArrayFiles(again, node)
    for index in np.ndindex(*(-(-n // f) for n, f in zip(SHAPE, files.layout.files, strict=True))):
        files.write_file(index, x.__getitem__)
    if "gzip" in codecs:
        # zarr writes the time of day into it.
        assert np.array_equal(read(again), x)
    else:
        assert contents(again) == contents(path)


@pytest.mark.parametrize(("limit", "workers"), [(64, 4), (63, 3), (33, 2), (10, 1)])
def test_workers_have_room_to_encode_chunks_of_means(tmp_path, monkeypatch, limit, workers):
    """With chunks of 4 MiB: cells as they are read, filled up and in order, encoded, and as bytes."""
    facts = {"shards": None, "codecs": [], "fill": 0, "keys": None, "dims": []}
    document = array_document(3, shape=(9, 1024, 1024), numbers="float32", chunks=(1, 1024, 1024), **facts)
    calls = []
    monkeypatch.setattr("lucid.formats.zarr.files.for_each", lambda *_, workers: calls.append(workers))
    options = Options(max_memory=limit << 20, threads=4)
    ArrayFiles(tmp_path, Node("", document, {})).write_all(lambda region: None, options)
    assert calls == [workers]


def contents(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("dtype", ["bool", "i1", "u2", "i8", "f2", "f8"])
@pytest.mark.parametrize("fill", [0, 1])
def test_types_and_fill_values(tmp_path, without_zarr, dtype, fill):
    x = cells(dtype=dtype)
    for version in (2, 3):
        path = made(tmp_path / f"{version}.zarr", x, version, fill_value=np.dtype(dtype).type(fill))
        assert np.array_equal(read(path), x)
        shutil.rmtree(path / "c" if version == 3 else path / "0.0.0", ignore_errors=True)
        (path / "0.0.0").unlink(missing_ok=True)
        assert (read(path)[:2, :2, :3] == np.dtype(dtype).type(fill)).all()


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, -0.0, 0.1])
def test_fill_values_are_left_out_as_zarr_does(tmp_path, fill):
    x = np.full(SHAPE, fill, "f4")
    x[3:] = 0.0
    for version, shards in ((2, None), (3, None), (3, SHARDS)):
        options = {"shards": shards} if shards else {}
        path = made(tmp_path / f"{version}{shards is None}.zarr", x, version, fill_value=fill, **options)
        assert np.array_equal(read(path), x, equal_nan=True)
        with ZarrSource(path, Options()) as source:
            node = source.nodes[""]
        files = ArrayFiles(tmp_path / "again", node)
        for index in np.ndindex(*(-(-n // f) for n, f in zip(SHAPE, shards or CHUNKS, strict=True))):
            files.write_file(index, x.__getitem__)
        names = {p for p in contents(path) if p.name[0] not in "z."}
        assert contents(tmp_path / "again").keys() == names
        assert all(any(p.iterdir()) for p in (tmp_path / "again").rglob("*") if p.is_dir())
        shutil.rmtree(tmp_path / "again")


@pytest.mark.parametrize("order", [(2, 0, 1), (0, 1, 2)])
@pytest.mark.parametrize("endian", ["big", "little"])
def test_transposed_and_big_endian(tmp_path, without_zarr, order, endian):
    x = cells()
    options = {
        "filters": zarr.codecs.TransposeCodec(order=order),
        "serializer": zarr.codecs.BytesCodec(endian=endian),
    }
    assert np.array_equal(read(made(tmp_path / "a.zarr", x, **options)), x)
    assert np.array_equal(read(made(tmp_path / "s.zarr", x, shards=SHARDS, **options)), x)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["<i4", ">i4"])
def test_version_2_in_any_order(tmp_path, without_zarr, order, dtype):
    x = cells(dtype=dtype)
    path = made(tmp_path / "a.zarr", x, 2, order=order)
    assert json.loads((path / ".zarray").read_text())["order"] == order
    assert np.array_equal(read(path), x)


def test_an_index_at_the_start_and_uncompressed_shards(tmp_path, without_zarr):
    x = cells()
    for codecs in ("none", "blosc"):
        sharding = zarr.codecs.ShardingCodec(
            chunk_shape=CHUNKS,
            codecs=[zarr.codecs.BytesCodec(), *([zarr.codecs.BloscCodec()] if codecs == "blosc" else [])],
            index_location="start",
        )
        path = tmp_path / f"{codecs}.zarr"
        array = zarr.create_array(
            path, shape=SHAPE, dtype="f4", chunks=SHARDS, serializer=sharding, compressors=None
        )
        array[...] = x
        assert np.array_equal(read(path), x)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("shards", [None, SHARDS])
def test_archives(tmp_path, without_zarr, compression, shards):
    x = cells()
    path = made(tmp_path / "x.zarr", x, **({"shards": shards} if shards else {}))
    archive = tmp_path / "x.zarr.zip"
    with zipfile.ZipFile(archive, "w", compression) as file:
        for one in contents(path):
            file.write(path / one, f"x.zarr/{one}")
    assert np.array_equal(read(archive), x)
    if compression == zipfile.ZIP_STORED and not shards:
        chunk = max(contents(path / "c").values(), key=len)
        data = archive.read_bytes()
        archive.write_bytes(data.replace(chunk, chunk[:-1] + bytes([chunk[-1] ^ 1])))
        with pytest.raises(FormatError, match="does not fit its checksum"):
            read(archive)


@pytest.mark.parametrize(
    ("codecs", "copies"), [("none", 2), ("zstd", 2), ("blosc", 2), ("gzip", 2), ("bz2", 2), ("lz4", 3)]
)
def test_copies_of_a_chunk(tmp_path, codecs, copies):
    """Encoded, and as each codec leaves it."""
    with ZarrSource(made(tmp_path / "x.zarr", cells(), codecs=codecs), Options(layout="CHW")) as source:
        (spec,) = source.choose(())
    assert spec.chunk_copies == copies


FILTERS_3 = {
    "scaled": lambda n: n.FixedScaleOffset(offset=0, scale=1, dtype="<f4", astype="<i2"),
    "scaled to bytes": lambda n: n.FixedScaleOffset(offset=1, scale=2, dtype="<f4", astype="|i1"),
    "other type": lambda n: n.AsType(encode_dtype="<f8", decode_dtype="<f4"),
    "differences": lambda n: n.Delta(dtype="<f4"),
    "rounded": lambda n: n.BitRound(keepbits=9),
}


@pytest.mark.parametrize("name", FILTERS_3)
@pytest.mark.parametrize("order", [None, (2, 0, 1)])
def test_filters_of_numcodecs_in_version_3(tmp_path, without_zarr, name, order):
    x = cells()
    with warnings.catch_warnings(action="ignore"):
        import zarr.codecs.numcodecs as three

        filters = [FILTERS_3[name](three)]
        filters = [zarr.codecs.TransposeCodec(order=order), *filters] if order else filters
        path = made(tmp_path / "a.zarr", x, filters=filters)
    assert np.array_equal(read(path), x)
    assert np.array_equal(read(path, (slice(1, 4), slice(1, 3), slice(2, 7))), x[1:4, 1:3, 2:7])


def test_what_is_not_known_goes_through_zarr_whose_warnings_are_the_users(tmp_path, monkeypatch):
    """A filter of ours would be one for all threads, of which two leave it behind for good."""
    x = cells()
    twice = [zarr.codecs.TransposeCodec(order=order) for order in ((2, 0, 1), (0, 2, 1))]
    path = made(tmp_path / "a.zarr", x, filters=twice)
    filters, calls, open_array = warnings.filters, [], zarr.open_array
    monkeypatch.setattr(
        zarr, "open_array", lambda *a, **k: calls.append(warnings.filters is filters) or open_array(*a, **k)
    )
    assert np.array_equal(read(path), x)
    assert np.array_equal(read(path, (slice(1, 4), slice(1, 3), slice(2, 7))), x[1:4, 1:3, 2:7])
    assert calls == [True, True]


@pytest.mark.parametrize("setting", [None, True, False])
def test_whether_blosc_has_threads_elsewhere_is_the_users(setting):
    code = f"import numcodecs.blosc as b; b.use_threads = {setting}; import lucid.formats.zarr.codecs; print(b.use_threads)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"{setting}\n", done.stderr


def test_blosc_without_its_functions_of_c(monkeypatch, rng):
    """As where numcodecs hides them."""
    monkeypatch.setattr(codecs_of_chunks, "_BLOSC", None)
    x = rng.standard_normal(1 << 12)
    chain = Chain(x.dtype, (numcodecs.Blosc(),))
    assert np.array_equal(chain.decode(np.frombuffer(chain.encode(x), "u1"), x.shape), x)


@pytest.mark.parametrize("setting", [None, True, False])
@pytest.mark.parametrize("shuffle", [-1, 0, 1, 2])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_blosc_has_one_thread_here_whatever_the_user_set(monkeypatch, setting, shuffle, dtype, rng):
    """Several would write blocks in the order in which they end, so chunks would have other bytes each time."""
    x = rng.standard_normal(1 << 20).astype(dtype)
    codec = numcodecs.Blosc(cname="zstd", clevel=1, shuffle=shuffle, blocksize=1 << 14)
    for codecs in (codec,), (numcodecs.LZ4(), codec), (codec, codec):
        monkeypatch.setattr(numcodecs.blosc, "use_threads", False)
        right = x
        for one in codecs:
            right = one.encode(right)
        monkeypatch.setattr(numcodecs.blosc, "use_threads", setting)
        chain = Chain(x.dtype, codecs)
        assert chain.encode(x) == right
        assert np.array_equal(chain.decode(np.frombuffer(right, "u1"), x.shape), x)


def test_zarr_can_read_results_of_bfloat16_of_a_store_of_shards(tmp_path):
    path = made(tmp_path / "a.zarr", np.full((4, 4, 6), 1.5, "f4"), shards=(4, 4, 6))
    target = lucid.pool_file(path, tmp_path / "o.zarr", size=2, layout="CHW", dtype="bfloat16").targets[0]
    with warnings.catch_warnings(action="ignore"):
        assert (zarr.open_array(target, mode="r")[...].view("u2") == 0x3FC0).all()


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("shape", [(0, 4, 6), (3, 0, 6, 6), (0, 3, 6, 6)])
def test_arrays_without_samples_or_channels_keep_their_shards(tmp_path, shape, flatten):
    chunks, layout = (1,) * (len(shape) - 2) + (3, 3), "NCHW"[4 - len(shape) :]
    shards = tuple(2 * n for n in chunks)
    zarr.create_array(tmp_path / "a.zarr", shape=shape, dtype="f4", chunks=chunks, shards=shards)
    lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", size=2, layout=layout, flatten=flatten)
    result = zarr.open_array(tmp_path / "o.zarr", mode="r")
    assert result[...].shape == (
        (shape[0], 4 * np.prod(shape[1:-2], dtype=int)) if flatten else (*shape[:-2], 2, 2)
    )
    assert result.shards is not None


def test_zarr_is_not_loaded_for_what_is_known(tmp_path):
    made(tmp_path / "a.zarr", cells())
    code = "import sys, lucid; lucid.pool_file('a.zarr', size=2, layout='CHW'); print('zarr' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_documents_are_those_that_zarr_writes(tmp_path):
    np.save(tmp_path / "x.npy", cells((2, 4, 6)))
    target = lucid.pool_file(tmp_path / "x.npy", tmp_path / "o.zarr", size=2, layout="CHW").targets[0]
    document = json.loads((target / "zarr.json").read_text())
    own = zarr.create_array(
        tmp_path / "own.zarr",
        shape=(2, 2, 2),
        chunks=(2, 2, 2),
        dtype="f4",
        attributes=document["attributes"],
    )
    assert own.metadata.zarr_format == 3
    assert (target / "zarr.json").read_text() == (tmp_path / "own.zarr" / "zarr.json").read_text()


@pytest.mark.parametrize(("version", "codecs", "shards"), EVERY)
def test_a_document_that_is_read_by_zarr_is_written_again_as_it_is(tmp_path, version, codecs, shards):
    path = made(tmp_path / "x.zarr", cells(), version, codecs, **({"shards": shards} if shards else {}))
    target = lucid.pool_file(path, tmp_path / "o.zarr", size=2, layout="CHW").targets[0]
    name = "zarr.json" if version == 3 else ".zarray"
    with warnings.catch_warnings(action="ignore"):
        metadata = zarr.open_array(target, mode="r").metadata.to_dict()
    document = json.loads((target / name).read_text())
    for key in ("codecs", "chunk_grid", "data_type", "chunk_key_encoding", "order", "shape"):
        if key in document:
            said = json.loads(json.dumps(metadata[key], default=lambda value: value.to_dict()))
            assert said == document[key], key


@pytest.mark.parametrize("threads", [2, 4])
def test_the_same_bytes_with_any_threads_and_memory(tmp_path, threads):
    x = np.random.default_rng(1).standard_normal((64, 8, 24, 24)).astype("f4")
    options = {"chunks": (2, 8, 24, 24), "shards": (32, 8, 24, 24)}
    path = made(tmp_path / "x.zarr", x, 3, "blosc", **options)
    one = lucid.pool_file(path, tmp_path / "1.zarr", size=6, threads=1).targets[0]
    # Less than a shard, and no more than a few chunks.
    more = lucid.pool_file(
        path, tmp_path / "n.zarr", size=6, threads=threads, max_memory=threads * 140_000
    ).targets[0]
    assert contents(one) == contents(more)
    right = lucid.nn.functional.adaptive_avg_pool2d(x, 6)
    assert np.array_equal(zarr.open_array(more, mode="r")[...], right)


@pytest.mark.parametrize("codecs", ["none", "zstd", "gzip"])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 3, 2, 0)])
def test_a_chunk_that_leaves_room_for_a_few_rows_is_decoded_once(tmp_path, monkeypatch, rng, order, codecs):
    """It took minutes: windows are read some rows at a time, and each time their chunk was decoded anew."""
    x = rng.integers(-1000, 1000, (6, 2, 64, 64))
    x[4] = 0
    filters = zarr.codecs.TransposeCodec(order=order)
    options = {"chunks": (1, 2, 64, 64), "shards": (3, 2, 64, 64), "filters": filters}
    path = made(tmp_path / "x.zarr", x, 3, codecs, **options)
    decoded, decode = [], Chain.decode
    monkeypatch.setattr(Chain, "decode", lambda *args: decoded.append(args[2]) or decode(*args))
    target = lucid.pool_file(path, tmp_path / "o.zarr", size=2, threads=1, max_memory=150_000).targets[0]
    assert decoded.count((1, 2, 64, 64)) == 5
    assert np.array_equal(
        zarr.open_array(target, mode="r")[...], lucid.nn.functional.adaptive_avg_pool2d(x, 2)
    )


def test_indices_of_shards_of_all_arrays_stay_within_a_fraction_of_the_memory(tmp_path):
    root = zarr.create_group(tmp_path / "x.zarr")
    for name in "abcd":
        shape = {"shape": (16380, 1, 1), "chunks": (1, 1, 1), "shards": (4095, 1, 1)}
        root.create_array(name, dtype="i1", **shape)[::4095] = 1
    with ZarrSource(tmp_path / "x.zarr", Options(layout="CHW", max_memory=1 << 20)) as source:
        specs = source.choose(())
        tracemalloc.start()
        for spec, shard in product(specs, range(4)):
            cell = (slice(shard * 4095, shard * 4095 + 1), slice(0, 1), slice(0, 1))
            assert source.read(spec, cell, np.empty(1, "u1"))[0, 0, 0] == 1
        assert tracemalloc.get_traced_memory()[0] < (1 << 20) // 4
        tracemalloc.stop()


# ---- hostile chunks


NBYTES = int(np.prod(CHUNKS)) * 4
GROWN = bytes(1 << 26)
BOMBS = {
    "zstd": lambda: numcodecs.Zstd().encode(GROWN),
    "zstd without its size": lambda: unsized(numcodecs.Zstd().encode(GROWN)),
    "gzip": lambda: gzip.compress(GROWN, 1),
    "zlib": lambda: zlib.compress(GROWN, 1),
    "bz2": lambda: bz2.compress(GROWN, 1),
    "lzma": lambda: lzma.compress(GROWN, lzma.FORMAT_XZ, preset=0),
    "blosc": lambda: numcodecs.Blosc().encode(np.frombuffer(GROWN, "u1")),
    "lz4": lambda: numcodecs.LZ4().encode(GROWN),
}


def unsized(frame):
    """The same frame of zstd without the size of its contents: RFC 8878 has its place behind the window."""
    flags = frame[4]
    width = (0, 2, 4, 8)[flags >> 6] or flags >> 5 & 1
    start = 5 + (not flags & 32)
    # Without a single segment there is a byte of the window's size: 8 MB here.
    window = b"" if not flags & 32 else b"\x68"
    return frame[:4] + bytes([flags & 0b00011111]) + window + frame[5:start] + frame[start + width :]


@pytest.mark.parametrize(
    "kind", ["zstd", "zstd without its size", "blosc", *slow("gzip", "zlib", "bz2", "lzma", "lz4")]
)
def test_a_bomb_is_one_line_and_takes_no_memory(tmp_path, without_zarr, kind):
    name, bomb = kind.partition(" ")[0], BOMBS[kind]()
    path = tmp_path / "x.zarr"
    made(path, cells(), 2 if name in ("zlib", "bz2", "lzma", "lz4") else 3)
    if (path / ".zarray").exists():
        document = json.loads((path / ".zarray").read_text())
        document |= {"compressor": {"id": name}, "filters": None}
        (path / ".zarray").write_text(json.dumps(document))
    else:
        document = json.loads((path / "zarr.json").read_text())
        codecs = {"gzip": {"level": 1}, "zstd": {"level": 0, "checksum": False}}
        blosc = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0, "typesize": 4}
        document["codecs"][1] = {"name": name, "configuration": codecs.get(name, blosc)}
        (path / "zarr.json").write_text(json.dumps(document))
    chunk = path / ("c/0/0/0" if (path / "zarr.json").exists() else "0.0.0")
    chunk.parent.mkdir(parents=True, exist_ok=True)
    # A file that is too long is refused for that; of this one as much is given as a file may have.
    chunk.write_bytes(bomb[: 2 * NBYTES + 4000])
    tracemalloc.start()
    try:
        with pytest.raises(FormatError) as raised:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("most", [None, 1])
@pytest.mark.parametrize(
    ("version", "separator", "shards"),
    [(2, ".", None), (2, "/", None), *product((3,), "./", (None, SHARDS))],
)
def test_chunks_that_are_missing_are_seen_in_a_look(
    tmp_path, without_zarr, monkeypatch, version, separator, shards, most
):
    x = np.full((20, 4, 7), 5, "f4")
    x[5], x[17, 3] = 1, 2
    keys = {"name": "default" if version == 3 else "v2", "separator": separator}
    options = {"chunk_key_encoding": keys, "fill_value": 5} | ({"shards": shards} if shards else {})
    path = made(tmp_path / "x.zarr", x, version, **options)
    opened = []

    def read(self, key, *place):
        opened.append(key)
        return FolderStore.read(self, key, *place)

    with ZarrSource(path, Options(layout="CHW")) as source:
        (spec,) = source.choose(())
        source.store.read = partial(read, source.store)
        if most:
            monkeypatch.setattr(chunks, "_MOST_LISTED", most)
        for region in [(slice(0, 4), *[slice(0, 4)] * 2), tuple(slice(0, n) for n in x.shape)]:
            cells = source.read(spec, region, np.empty(x.nbytes, np.uint8))
            assert np.array_equal(cells, x[region])
    depth = 2 if (version, separator) == (3, "/") else 1
    if most is None:
        assert all(path.joinpath(*Path(key).parts[:depth]).exists() for key in opened)


def test_a_frame_without_its_size_is_read(tmp_path, without_zarr):
    x = cells()
    path = made(tmp_path / "x.zarr", x)
    for file in (path / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(unsized(file.read_bytes()))
    assert np.array_equal(read(path), x)


@pytest.mark.parametrize("by", [-1, 8, *slow(-8, 1)])
@pytest.mark.parametrize("codecs", ["none", "zstd", "gzip", "blosc", "crc32c", "lz4"])
def test_a_chunk_of_another_size_is_an_error(tmp_path, by, codecs):
    x = cells()
    x[:] = 1
    path = made(tmp_path / "x.zarr", x, 3, codecs)
    with ZarrSource(path, Options()) as source:
        chain = source.array("").layout.codecs
    wrong = np.ones(NBYTES + by * (4 if codecs == "lz4" else 1), np.uint8)  # whole elements are shuffled
    for codec in chain.codecs:
        wrong = codec.encode(wrong)
    (path / "c" / "0" / "0" / "0").write_bytes(bytes(wrong))
    with pytest.raises(FormatError, match=r"array: (has a chunk|cannot be read)") as raised:
        read(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ((1 << 40, 60), "ends before the chunks"),
        ((1 << 63, 60), "ends before the chunks"),
        (((1 << 64) - 2, 60), "ends before the chunks"),
        ((0, 1 << 63), "has a chunk of [0-9]+ bytes or more"),
        ((0, (1 << 64) - 1), "has a chunk of [0-9]+ bytes or more"),
        (((1 << 64) - 1, 0), "no frame of zstd"),
        ((0, 0), "no frame of zstd"),
    ],
)
@pytest.mark.parametrize("checked", [True, False])
def test_an_index_that_lies(tmp_path, without_zarr, place, said, checked):
    x = cells()
    path = made(tmp_path / "x.zarr", x, shards=SHARDS)
    shard = path / "c" / "0" / "0" / "0"
    data = shard.read_bytes()
    entries = int(np.prod([s // c for s, c in zip(SHARDS, CHUNKS, strict=True)]))
    index = bytearray(data[-16 * entries - 4 : -4])
    index[:16] = struct.pack("<QQ", *place)
    crc = numcodecs.get_codec({"id": "crc32c", "location": "end"}).encode(bytes(index))[-4:].tobytes()
    shard.write_bytes(data[: -16 * entries - 4] + index + (crc if checked else b"1234"))
    with pytest.raises(FormatError, match=said if checked else "checksum") as raised:
        read(path)
    assert "\n" not in str(raised.value)


def test_chunks_that_share_their_bytes_are_read(tmp_path, without_zarr):
    x = np.ones(SHAPE, "f4")
    path = made(tmp_path / "x.zarr", x, shards=SHARDS)
    shard = path / "c" / "0" / "0" / "0"
    data = shard.read_bytes()
    index = np.frombuffer(data[-132:-4], "<u8").reshape(-1, 2).copy()
    index[:] = index[0]
    crc = numcodecs.get_codec({"id": "crc32c", "location": "end"}).encode(index.tobytes())[-4:].tobytes()
    shard.write_bytes(data[: index[0, 1]] + index.tobytes() + crc)
    assert np.array_equal(read(path), x)


def test_an_index_beyond_all_memory_names_the_limit(tmp_path, without_zarr):
    path = made(tmp_path / "x.zarr", cells(), shards=SHARDS)
    document = json.loads((path / "zarr.json").read_text())
    document["chunk_grid"]["configuration"]["chunk_shape"] = [1 << 20, 1 << 10, 3]
    (path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(MemoryLimitError, match="whose index needs `max_memory` of 68719476800 bytes"):
        read(path)


@pytest.mark.slow
@pytest.mark.parametrize(("version", "codecs", "shards"), EVERY)
def test_damage_is_one_line_or_other_cells(tmp_path, version, codecs, shards):
    path = made(tmp_path / "x.zarr", cells(), version, codecs, **({"shards": shards} if shards else {}))
    files = [file for file in path.rglob("*") if file.is_file()]
    rng = np.random.default_rng(version)
    for _ in range(300):
        file = files[rng.integers(len(files))]
        whole = file.read_bytes()
        wrong = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            wrong[rng.integers(len(wrong))] = rng.integers(256)
        file.write_bytes(wrong[: rng.integers(len(wrong))] if rng.random() < 0.2 else wrong)
        try:
            with warnings.catch_warnings(action="ignore"):
                read(path)
        except lucid.errors.LucidError as error:
            assert "\n" not in str(error)
        file.write_bytes(whole)


# ---- what memory held before never shows

ENCODERS = {
    "blosc": numcodecs.Blosc(cname="lz4"),
    "blosc, stored": numcodecs.Blosc(cname="lz4", clevel=0),
    "blosc, zstd": numcodecs.Blosc(cname="zstd", shuffle=2, blocksize=32),
    "zstd": numcodecs.Zstd(),
    "zstd, checked": numcodecs.Zstd(checksum=True),
    "gzip": numcodecs.GZip(),
    "zlib": numcodecs.Zlib(),
    "lz4": numcodecs.LZ4(),
    "shuffle": numcodecs.Shuffle(elementsize=4),
    "crc32c": numcodecs.CRC32C(location="end"),
    "adler32": numcodecs.Adler32(),
    "fletcher32": numcodecs.Fletcher32(),
    "bz2": numcodecs.BZ2(),
    "lzma": numcodecs.LZMA(),
    "fixedscaleoffset": numcodecs.FixedScaleOffset(offset=1, scale=2, dtype="<f4", astype="i1"),
    "astype": numcodecs.AsType(encode_dtype="<f8", decode_dtype="<f4"),
    "quantize": numcodecs.Quantize(digits=3, dtype="<f4"),
}
WHOLE = np.arange(NBYTES // 4, dtype="<f4")


def decoded_after(before, chain, raw, monkeypatch, **target):
    """What bytes decode to where all memory that is not theirs held one number; None for an error of one line."""
    held = np.frombuffer(bytes(raw) + bytes([before]) * 256, "u1")
    with monkeypatch.context() as patch:
        patch.setattr(
            np, "empty", lambda shape, dtype=float: np.frombuffer(bytes([before]) * shape, dtype).copy()
        )
        cells = np.frombuffer(bytes([before]) * NBYTES, "<f4").reshape(CHUNKS).copy()
        try:
            with translate_all("cannot be read"):
                return chain.decode(held[: len(raw)], CHUNKS, cells if target["straight"] else None).tobytes()
        except FormatError as error:
            assert "\n" not in str(error)
            return None


@pytest.mark.parametrize("straight", [True, False])
@pytest.mark.parametrize("name", ENCODERS)
def test_chunks_of_another_size_or_cut_off_are_errors(monkeypatch, name, straight):
    codec = ENCODERS[name]
    encode = lambda x: bytes(codec.encode(x))  # noqa: E731
    whole = encode(WHOLE)
    wrong = {
        "short": encode(WHOLE[:-2]),
        "long": encode(np.append(WHOLE, WHOLE[:2])),
        "empty": b"",
        "one byte": whole[:1],
        "cut off": whole[:-5],
        "cut in half": whole[: len(whole) // 2],
    }
    chain = Chain(WHOLE.dtype, (codec,))
    assert decoded_after(7, chain, whole, monkeypatch, straight=straight) == WHOLE.tobytes()
    for kind, raw in wrong.items():
        assert decoded_after(7, chain, raw, monkeypatch, straight=straight) is None, kind


def test_what_stands_behind_a_chunk_of_blosc_is_passed_over_as_by_zarr(monkeypatch):
    raw = bytes(ENCODERS["blosc"].encode(WHOLE)) + b"behind"
    assert (
        decoded_after(7, Chain(WHOLE.dtype, (ENCODERS["blosc"],)), raw, monkeypatch, straight=True)
        == WHOLE.tobytes()
    )


@pytest.mark.parametrize("rounds", [40, *slow(4000)])
@pytest.mark.parametrize("name", ENCODERS)
def test_damaged_chunks_show_nothing_that_memory_held(monkeypatch, name, rounds):
    rng = np.random.default_rng(len(name))
    codecs = (ENCODERS[name], ENCODERS["zstd"])[: rng.integers(1, 3)]
    data = WHOLE
    for codec in codecs:
        data = codec.encode(data)
    for _ in range(rounds):
        raw = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            raw[rng.integers(min(len(raw), rng.choice([20, len(raw)])))] = rng.integers(256)
        for straight in (True, False):
            first, second = (
                decoded_after(before, Chain(WHOLE.dtype, codecs), raw, monkeypatch, straight=straight)
                for before in (0, 255)
            )
            assert first == second, bytes(raw)


def test_frames_that_may_be_skipped_are_no_chunk(monkeypatch):
    # Where the size of a frame would be, another one says what is wanted, and the frame behind it has less.
    skipped = struct.pack("<I", 0x184D2A50) + struct.pack("<I", 0x20 | NBYTES << 8)
    skipped += bytes(0x20 | NBYTES << 8)
    raw = skipped + ENCODERS["zstd"].encode(WHOLE[:3])
    assert decoded_after(7, Chain(WHOLE.dtype, (ENCODERS["zstd"],)), raw, monkeypatch, straight=True) is None


def test_a_chunk_that_is_compressed_twice_and_once_to_its_own_size(rng):
    inner, outer = ENCODERS["lz4"], ENCODERS["zstd"]
    numbers = rng.integers(0, 256, 256, "u1")
    sparse = (np.where(np.arange(256) < n, numbers, 0).astype("u1") for n in range(256))
    x = next(x for x in sparse if len(inner.encode(x)) == 256)
    raw = np.frombuffer(outer.encode(inner.encode(x)), "u1")
    assert np.array_equal(Chain(x.dtype, (inner, outer)).decode(raw, x.shape, np.zeros_like(x)), x)


@pytest.mark.parametrize("damage", ["cut off", "one bit", "not checked"])
def test_damaged_indices_of_shards_are_one_line(tmp_path, damage):
    path = made(tmp_path / "x.zarr", cells(), shards=SHARDS)
    shard = path / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    if damage == "cut off":
        shard.write_bytes(data[-100:])
    else:
        data[-20 if damage == "one bit" else -2] ^= 1
        shard.write_bytes(data)
    with pytest.raises(FormatError, match=r"shorter than its index|checksum do not match") as raised:
        read(path)
    assert "\n" not in str(raised.value)


def edited(path, **changes):
    """A store whose document says something else."""
    place = path / ("zarr.json" if (path / "zarr.json").exists() else ".zarray")
    place.write_text(json.dumps(json.loads(place.read_text()) | changes))
    return path


def keys_3(separator):
    return {"name": "default", "configuration": {"separator": separator}}


def grid_3(chunks):
    return {"name": "regular", "configuration": {"chunk_shape": chunks}}


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        (2, {"zarr_format": 4}),
        (2, {"chunks": [2.5, 2, 3]}),
        (2, {"chunks": "223"}),
        (2, {"order": "X"}),
        (2, {"dimension_separator": "-"}),
        (2, {"dimension_separator": None}),
        (3, {"zarr_format": 4}),
        (3, {"chunk_grid": grid_3([2.5, 2, 3])}),
        (3, {"chunk_key_encoding": keys_3("/../")}),
        (3, {"chunk_key_encoding": keys_3(3)}),
    ],
)
def test_a_document_that_is_wrong_is_not_read_as_if_it_were_right(tmp_path, version, changes):
    path = edited(made(tmp_path / "a.zarr", cells(), version), **changes)
    with pytest.raises(LucidError):
        read(path)


@pytest.mark.parametrize("version", [2, 3])
def test_a_separator_leads_out_of_no_store(tmp_path, version):
    path = made(tmp_path / "s" / "a.zarr", cells(), version)
    chunks = [
        file
        for file in path.rglob("*")
        if file.is_file() and file.name not in ("zarr.json", ".zarray", ".zattrs")
    ]
    # All that says where chunks are is gone, so only the separator can be what is wrong.
    for file in chunks:
        file.unlink()
    separator = "/../../x/"
    says = {"dimension_separator": separator} if version == 2 else {"chunk_key_encoding": keys_3(separator)}
    with pytest.raises(LucidError, match="separator"):
        read(edited(path, **says))


@pytest.mark.parametrize("kind", ["folder", "archive"])
@pytest.mark.parametrize("version", [2, 3])
def test_a_shape_that_no_store_can_hold_is_an_error(tmp_path, version, kind):
    path = edited(made(tmp_path / "a.zarr", cells(), version), shape=[10**12, 4, 7])
    if kind == "archive":
        path = shutil.make_archive(str(path), "zip", path)
    with pytest.raises(
        FormatError, match=r"claims 112000000000000 bytes, of which a store of \d+ can hold few"
    ):
        lucid.pool_file(path, tmp_path / "o.zarr", size=2, layout="CHW")
    assert not (tmp_path / "o.zarr").exists()


@pytest.mark.parametrize("keys", ["default", "v2"])
@pytest.mark.parametrize("separator", ["/", "."])
@pytest.mark.parametrize("version", [2, 3])
def test_an_array_without_axes(tmp_path, version, separator, keys):
    keys = keys if version == 3 else "v2"
    array = zarr.create_array(
        tmp_path / "a.zarr",
        name="s",
        shape=(),
        dtype="f4",
        zarr_format=version,
        chunk_key_encoding={"name": keys, "separator": separator},
    )
    array[...] = 2.5
    with ZarrSource(tmp_path / "a.zarr", Options()) as source:
        assert source.values("s") == 2.5


def test_the_fill_value_of_a_document_that_only_zarr_understands_is_kept(tmp_path):
    path = edited(made(tmp_path / "a.zarr", cells(), fill_value=5), more={"must_understand": False})
    lucid.pool_file(path, tmp_path / "o.zarr", size=2, layout="CHW")
    assert zarr.open_array(tmp_path / "o.zarr").fill_value == 5


@pytest.mark.parametrize("place", ["start", "end"])
def test_a_server_that_knows_no_ranges(tmp_path, place):
    pytest.importorskip("aiohttp", reason="fsspec reads HTTP by aiohttp")
    x = cells()
    made(tmp_path / "a.zarr", x, shards={"shape": SHARDS, "index_location": place})

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert np.array_equal(read(f"http://127.0.0.1:{server.server_port}/a.zarr"), x)
        server.shutdown()


def test_an_archive_that_is_refused_leaves_nothing_open(tmp_path):
    path = tmp_path / "x.zarr.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zarr.json", "{}")
        archive.writestr("../escaped", "x")
    before = len([*Path("/dev/fd").iterdir()])
    with pytest.raises(LucidError):
        ZarrSource(path, Options())
    assert len([*Path("/dev/fd").iterdir()]) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("index_location", "index_lgcation"),
        ('"end"', '"emd"'),
        ('"zstd", "configuration"', '"zstd", "confi"'),
    ],
)
def test_shards_described_in_words_that_zarr_does_not_know_are_refused(tmp_path, old, new):
    zarr.create_array(
        tmp_path / "a.zarr", shape=(2, 2, 4, 4), dtype="f4", chunks=(1, 2, 4, 4), shards=(2, 2, 4, 4)
    )[...] = 1
    document = tmp_path / "a.zarr" / "zarr.json"
    text = json.dumps(json.loads(document.read_text()))
    assert old in text
    document.write_text(text.replace(old, new))
    with pytest.raises(LucidError):
        lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", size=2)


def test_attributes_that_were_cut_off_are_damage(tmp_path):
    """They may have named missing cells."""
    made(tmp_path / "a.zarr", cells(), version=2)
    (tmp_path / "a.zarr" / ".zattrs").write_bytes(b"")
    with pytest.raises(LucidError):
        lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", size=2, layout="CHW")


@pytest.mark.parametrize("version", [2, 3])
def test_chunks_without_cells_are_refused_whatever_zarr_makes_of_them(tmp_path, monkeypatch, version):
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(4, 4), chunks=(2, 2), dtype="f4", zarr_format=version
    )
    document = tmp_path / "a.zarr" / ("zarr.json" if version == 3 else ".zarray")
    said = json.loads(document.read_text())
    (said["chunk_grid"]["configuration"] if version == 3 else said)[
        "chunks" if version == 2 else "chunk_shape"
    ] = [0, 2]
    document.write_text(json.dumps(said))
    monkeypatch.setattr(zarr, "open_array", lambda *_, **__: array)
    with pytest.raises(FormatError, match=r"has chunks of \(0, 2\), which hold no cells"):
        lucid.pool_file(tmp_path / "a.zarr", tmp_path / "b.zarr", size=2, layout="HW")
