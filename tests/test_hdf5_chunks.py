"""Chunks decoded here against the HDF5 library, and chunks that lie."""

import ctypes
import os
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from io import BytesIO

import h5py
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import lucid
from lucid.compression import parse_compression
from lucid.errors import FormatError, LucidError, MissingExtraError
from lucid.formats import chunks
from lucid.formats.hdf5 import chunks as hdf5_chunks
from lucid.formats.hdf5 import plugins
from lucid.formats.hdf5.chunks import BUILT_IN, can_undo, copies_of, decompress, unshuffle
from lucid.formats.hdf5.codec import SIZE_CHECK, Codec
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.hdf5.filters import (
    BITSHUFFLE,
    BLOSC,
    BZIP2,
    DEFLATE,
    FLETCHER32,
    LZ4,
    LZF,
    SHUFFLE,
    SZIP,
    ZSTD,
    Filter,
    filters_of_results,
)
from lucid.formats.hdf5.plugins import function_of
from lucid.formats.hdf5.sink import set_filters
from lucid.formats.hdf5.source import Hdf5Source
from lucid.options import Options

FILTERS = [
    {},
    {"compression": "gzip"},
    {"compression": "gzip", "shuffle": True},
    {"shuffle": True},
]


def read_all(path, region=None):
    with Hdf5Source(path, Options()) as source:
        (spec,) = source.choose(())
        region = region or tuple(slice(0, n) for n in spec.shape)
        return source.read(spec, region, np.empty(spec.nbytes, np.uint8)).copy()


@pytest.mark.parametrize(
    ("codes", "copies"),
    [
        ((), 0),
        ((SHUFFLE,), 2),
        ((SHUFFLE, DEFLATE), 2),
        ((SHUFFLE, BZIP2), 2),
        ((SHUFFLE, LZF), 2),
        ((FLETCHER32,), 5),
        ((SHUFFLE, DEFLATE, FLETCHER32), 5),
    ],
)
def test_copies_of_a_chunk(codes, copies, monkeypatch):
    """As it is before each filter and after it; the library holds more."""
    monkeypatch.setattr(hdf5_chunks, "function_of", lambda _: None)
    monkeypatch.setattr(hdf5_chunks, "BUILT_IN", {DEFLATE, BZIP2, SHUFFLE, LZF})
    assert copies_of(codes) == copies


@pytest.mark.slow
@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">f4", "<f8", "f2", "?"])
@pytest.mark.parametrize("chunks", [(3, 2, 5, 4), (7, 1, 6, 9), (1, 1, 1, 1), (7, 4, 6, 9)])
def test_every_region_is_what_the_library_reads(path, filters, dtype, chunks, rng):
    x = (rng.standard_normal((7, 4, 6, 9)) * 9).astype(dtype)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=x, chunks=chunks, **filters)
    with Hdf5Source(path, Options()) as source:
        # What is only shuffled may be stored without the filter at the edges, as far as can be seen.
        assert not source.is_locked(*source.choose(())) or filters == {"shuffle": True}
    assert np.array_equal(read_all(path), x)
    for _ in range(5):
        edges = [sorted(rng.choice(n + 1, 2, replace=False)) for n in x.shape]
        region = tuple(slice(int(a), int(b)) for a, b in edges)
        assert np.array_equal(read_all(path, region), x[region])


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_missing_chunks_are_the_fill_value_and_masked_filters_were_not_applied(path, compression, rng):
    x = rng.standard_normal((4, 2, 4, 4)).astype("f4")
    with h5py.File(path, "w") as file:
        made = file.create_dataset(
            "x", x.shape, "f4", chunks=(1, 2, 4, 4), compression=compression, shuffle=True, fillvalue=7
        )
        made[0] = x[0]
        made.id.write_direct_chunk((1, 0, 0, 0), x[1].tobytes(), filter_mask=0b11)
        shuffled = x[2].view("u1").reshape(-1, 4).T.tobytes()
        made.id.write_direct_chunk((2, 0, 0, 0), shuffled, filter_mask=0b10)
    x[3] = 7
    assert np.array_equal(read_all(path), x)


def test_a_dataset_made_smaller_has_chunks_left_over(path, rng):
    x = rng.standard_normal((9, 2, 4, 4)).astype("f4")
    with h5py.File(path, "w") as file:
        made = file.create_dataset("x", data=x, chunks=(2, 2, 4, 4), maxshape=(None, 2, 4, 4))
        made.resize((3, 2, 4, 4))
    assert np.array_equal(read_all(path), x[:3])


def test_places_are_counted_from_before_a_user_block(path, rng):
    x = rng.standard_normal((3, 2, 4, 4))
    for options in {}, {"chunks": (2, 2, 4, 4)}, {"chunks": (2, 2, 4, 4), "compression": "gzip"}:
        with h5py.File(path, "w", userblock_size=512) as file:
            file.create_dataset("x", data=x, **options)
        with Hdf5Source(path, Options()) as source:
            assert not source.is_locked(*source.choose(()))
        assert np.array_equal(read_all(path), x)


@pytest.mark.parametrize("compression", [{"compression": "gzip"}, {"compression": "lzf"}])
def test_chunks_over_the_edge_that_are_stored_without_filters(path, compression, rng):
    x = rng.integers(0, 9, (6, 2, 8, 8)).astype("f4")
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((4, 2, 8, 8))
    set_filters(creation, parse_compression(compression["compression"]))
    library = ctypes.CDLL(h5py.h5p.__file__)  # h5py has no name for it
    library.H5Pset_chunk_opts.argtypes = [ctypes.c_int64, ctypes.c_uint]
    assert library.H5Pset_chunk_opts(creation.id, 2) >= 0
    with h5py.File(path, "w", libver="latest") as file:
        space = h5py.h5s.create_simple(x.shape)
        h5py.Dataset(h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, creation))[...] = x
    assert np.array_equal(read_all(path), x)


@pytest.mark.parametrize("size", [60, 68, 2_000_000])
def test_a_chunk_that_decodes_to_another_size_is_an_error(path, size):
    with h5py.File(path, "w") as file:
        made = file.create_dataset("x", (1, 1, 4, 4), "f4", chunks=(1, 1, 4, 4), compression="gzip")
        made.id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(size)))
    with pytest.raises(FormatError, match="dataset /x: has a chunk"):
        read_all(path)


PIPELINES = ["lzf", "zstd", "blosc", "bitshuffle", "lz4", "blosc2", "gzip", "none"]


def pipeline(name, chunks, *, checksum=False):
    """Creation properties of a dataset of chunks with the filters of a compression."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk(chunks)
    try:
        set_filters(creation, parse_compression(name))
    except MissingExtraError:
        pytest.skip("the extra `filters` is not installed")
    if checksum:
        creation.set_fletcher32()
    return creation


def with_pipeline(file, name, data, chunks, compression, *, checksum):
    """A dataset of float32 with the filters of a compression, and its data."""
    creation = pipeline(compression, chunks, checksum=checksum)
    space = h5py.h5s.create_simple(data.shape)
    made = h5py.Dataset(h5py.h5d.create(file.id, name, h5py.h5t.IEEE_F32LE, space, creation))
    made[...] = data
    return made


@pytest.fixture(params=["plugin", "library"])
def way(request, monkeypatch):
    """Filters are undone by their plugins' functions, or, as where a plugin is not known here, by the library."""
    if request.param == "library":
        monkeypatch.setattr(hdf5_chunks, "function_of", lambda _: None)
    return request.param


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("compression", PIPELINES)
@pytest.mark.parametrize(("checksum", "block"), [(False, 0), (True, 512)])
def test_chunks_that_decode_to_fewer_bytes_are_no_memory_of_other_data(
    path, compression, checksum, block, rng
):
    if compression == "none" and not checksum:
        return  # without filters, a chunk cannot be shorter
    x = rng.integers(0, 9, (3, 2, 32, 32)).astype("f4")
    with h5py.File(path, "w", userblock_size=block) as file:
        short = with_pipeline(file, b"short", x.ravel()[:300], (300,), compression, checksum=checksum)
        with_pipeline(file, b"x", x, (1, 2, 32, 32), compression, checksum=checksum)
        mask, raw = short.id.read_direct_chunk((0,))
    lucid.pool_file(path, path.with_name("y.h5"), size=(None, None))
    with h5py.File(path.with_name("y.h5")) as file:
        assert np.array_equal(file["x"], x)
    with h5py.File(path, "a") as file:
        file["x"].id.write_direct_chunk((1, 0, 0, 0), raw, mask)
    with pytest.raises(LucidError, match="dataset /x: "):
        lucid.pool_file(path, path.with_name("z.h5"), size=4)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("compression", ["zstd", "lzf", "szip"])
def test_damage_is_an_error_that_says_so(path, compression, rng):
    x = rng.integers(0, 99, (2, 2, 16, 16)).astype("f4")
    options = {"compression": compression}
    if compression == "zstd":
        options = pytest.importorskip("hdf5plugin", reason="the extra `filters` is not installed").Zstd()
    elif compression == "szip" and not h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP):
        pytest.skip("this HDF5 has no szip")
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "x", data=x, chunks=(1, 2, 16, 16), fletcher32=compression == "szip", **options
        )
        _, raw = data.id.read_direct_chunk((1, 0, 0, 0))
        data.id.write_direct_chunk((1, 0, 0, 0), raw[: len(raw) // 2] + b"\xff" * (len(raw) - len(raw) // 2))
    with pytest.raises(LucidError, match="dataset /x: has a damaged chunk"):
        lucid.pool_file(path, path.with_name("y.h5"), size=4)


@pytest.mark.parametrize("name", ["", "gzip", "szip", "Zfp"])
def test_a_chunk_of_no_bytes_is_an_error_whatever_reads_it(path, name, rng):
    """The library hands nothing to the plugin of ZFP, which makes numbers of what lay in memory."""
    filters = {"compression": name or None}
    if name == "Zfp":
        filters = pytest.importorskip("hdf5plugin", reason="the extra `filters` is not installed").Zfp()
    elif name == "szip" and not h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP):
        pytest.skip("this HDF5 has no szip")
    with h5py.File(path, "w") as file:
        x = rng.integers(0, 99, (3, 2, 8, 8)).astype("f4")
        chunk = file.create_dataset("x", data=x, chunks=(1, 2, 8, 8), **filters).id.get_chunk_info(1)
    # In the index, a chunk's size and mask stand before its place.
    key = struct.pack("<II5Q", chunk.size, chunk.filter_mask, *chunk.chunk_offset, 0)
    data = path.read_bytes()
    assert data.count(key) == 1
    path.write_bytes(data.replace(key, bytes(4) + key[4:]))
    with pytest.raises(FormatError, match="has a chunk of 0 bytes; expected about 512"):
        read_all(path)


@pytest.mark.parametrize("name", ["Blosc", "LZ4", "Bitshuffle", "BZip2", "Zstd"])
@pytest.mark.parametrize("more", [{}, {"fletcher32": True, "shuffle": True}], ids=str)
def test_chunks_cut_off_are_errors_without_what_lies_behind_them(path, name, more, rng):
    """Their plugins believe what a chunk says of its size, and that of bzip2 waits for the rest."""
    filters = getattr(pytest.importorskip("hdf5plugin", reason="the extra `filters` is not installed"), name)
    x = rng.integers(0, 99, (2, 2, 33, 31)).astype("f4")
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", data=x, chunks=(1, 2, 33, 31), **more, **filters())
        mask, raw = data.id.read_direct_chunk((1, 0, 0, 0))
    assert np.array_equal(read_all(path), x)
    for size in (1, 8, 13, 40, len(raw) // 2, len(raw) - 5):
        for left_out in (0, 4) if more else (0,):  # the checksum's bit
            with h5py.File(path, "a") as file:
                file["x"].id.write_direct_chunk((1, 0, 0, 0), raw[:size], mask | left_out)
            with pytest.raises(FormatError, match="chunk"):
                read_all(path)


def test_what_a_plugin_reads_behind_the_end_of_a_chunk_is_zeros(path, rng, monkeypatch):
    module = pytest.importorskip("hdf5plugin", reason="the extra `filters` is not installed")
    with h5py.File(path, "w") as file:
        x = rng.standard_normal((1, 1, 32, 32)).astype("f4")
        data = file.create_dataset("x", data=x, chunks=x.shape, **module.Zfp(reversible=True))
        _, raw = data.id.read_direct_chunk((0, 0, 0, 0))
        data.id.write_direct_chunk((0, 0, 0, 0), raw[: len(raw) // 2])
    malloc, read = plugins._malloc, []
    for byte in (0x11, 0xEE):
        monkeypatch.setattr(
            plugins, "_malloc", lambda n, byte=byte: ctypes.memset(malloc(n + 9999), byte, n + 9999)
        )
        read.append(read_all(path))
    assert np.array_equal(*read)


@pytest.mark.skipif(not h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP), reason="this HDF5 has no szip")
def test_chunks_of_szip_that_say_another_size_or_nothing_else_are_errors(path, rng):
    x = rng.integers(0, 99, (1, 2, 16, 16)).astype("f4")
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=x, chunks=x.shape, compression="szip")
        _, raw = file["x"].id.read_direct_chunk((0, 0, 0, 0))
    for damaged in (raw[:1], raw[:4], b"\xff" * 4 + raw[4:], raw[:-30]):
        with h5py.File(path, "a") as file:
            file["x"].id.write_direct_chunk((0, 0, 0, 0), damaged)
        with pytest.raises(FormatError, match="damaged chunk"):
            read_all(path)


def test_szip_without_its_parameters_is_no_filter_that_results_keep():
    assert Filter(SZIP, 0, ()).for_chunks((1, 1, 8, 8)).values == (0, 0)
    assert Filter(SZIP, 0, (4,)).for_chunks((1, 1, 8, 8)).values == (4, 0)


def test_plugins_are_found_by_the_numbers_of_their_filters():
    assert function_of(LZF)
    assert function_of(SIZE_CHECK) is None
    pytest.importorskip("hdf5plugin", reason="the extra `filters` is not installed")
    assert all(map(function_of, (BLOSC, LZ4, ZSTD, BITSHUFFLE)))


def test_plugins_that_are_imported_later_are_found():
    pytest.importorskip("hdf5plugin", reason="the extra `filters` is not installed")
    code = (
        "from lucid.formats.hdf5.plugins import function_of; before = function_of(32001)\n"
        "import hdf5plugin; print(before, function_of(32001) is not None)"
    )
    # As hdf5plugin leaves it when it is imported, it would find the plugins without telling where.
    environment = {name: value for name, value in os.environ.items() if name != "HDF5_PLUGIN_PATH"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "None True\n", done.stderr


def lzf(cells):
    """The bytes that the library makes of some cells; None where it leaves them as they are."""
    with h5py.File(BytesIO(), "w") as file:
        data = file.create_dataset("x", data=cells, chunks=cells.shape, compression="lzf")
        mask, raw = data.id.read_direct_chunk((0,) * cells.ndim)
    return None if mask else np.frombuffer(raw, np.uint8)


@pytest.mark.skipif(LZF not in BUILT_IN, reason="installed without what is compiled")
class TestLzf:
    """What is compiled undoes LZF as the library does, and nothing makes it read or write beyond its arrays."""

    @given(
        hnp.arrays(st.sampled_from(["u1", "u2", "f8"]), st.integers(1, 900), elements=st.integers(0, 3)),
        st.integers(1, 300),
    )
    def test_the_library_and_this_agree(self, cells, times):
        cells = np.repeat(cells, times)
        raw = lzf(cells)
        if raw is not None:
            assert np.array_equal(decompress(raw, cells.nbytes, LZF), cells.view("u1"))
            with pytest.raises(FormatError, match="has a damaged chunk"):
                decompress(raw, cells.nbytes - 1, LZF)

    @given(st.binary(max_size=60), st.integers(0, 300))
    @example(b"\x20\x00", 100)  # a distance back to before the beginning
    @example(b"\x00a\xe0", 100)  # a length without its second byte
    @example(b"\x00a\x20", 100)  # no distance
    @example(b"\x1fabc", 100)  # fewer bytes than it says
    def test_any_bytes_end_in_numbers_or_an_error(self, raw, limit):
        with suppress(FormatError):
            assert len(decompress(np.frombuffer(raw, np.uint8), limit, LZF)) <= limit

    def test_overlapping_copies_repeat_what_they_have_just_written(self):
        for distance in range(1, 40):
            literal = bytes(range(distance))
            head = b"".join(bytes([len(p) - 1]) + p for p in (literal[:32], literal[32:]) if p)
            raw = head + bytes([7 << 5, 91, distance - 1])
            data = decompress(np.frombuffer(raw, np.uint8), 1000, LZF)
            assert data.tobytes() == (literal * 101)[: distance + 100]


@pytest.fixture(params=["libdeflate", "zlib"])
def decoder(request, monkeypatch):
    """libdeflate, if it is installed, and zlib."""
    if request.param == "zlib":
        monkeypatch.setattr(chunks, "_deflate", None)
    elif chunks._deflate is None:
        pytest.skip("not installed: the extra `fast`")


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("size", [1, 60, 64, 68])
def test_streams_of_the_size_declared_or_less_are_decoded(size, rng):
    cells = rng.integers(0, 9, size).astype(np.uint8)
    for tail in (b"", b"left over"):
        raw = np.frombuffer(zlib.compress(cells.tobytes()) + tail, np.uint8)
        assert np.array_equal(decompress(raw, 68, DEFLATE), cells)


@pytest.mark.usefixtures("decoder")
def test_chunks_that_are_no_streams():
    for raw in (b"", b"\0" * 30, zlib.compress(bytes(64))[:-6]):
        with pytest.raises(FormatError, match="has a chunk that"):
            decompress(np.frombuffer(raw, np.uint8), 64, DEFLATE)


@pytest.mark.slow
@pytest.mark.usefixtures("decoder")
def test_a_bomb_is_not_unpacked():
    bomb = np.frombuffer(zlib.compress(bytes(1 << 28)), np.uint8)
    with pytest.raises(FormatError, match="decompresses to another size"):
        decompress(bomb, 4096, DEFLATE)


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
def test_unshuffle(itemsize, rng):
    cells = rng.integers(0, 256, (50, itemsize), "u1")
    assert unshuffle(np.frombuffer(cells.T.tobytes(), np.uint8), itemsize).tobytes() == cells.tobytes()


def test_what_is_left_to_the_library():
    assert can_undo([2, 1])
    for filters in ([3], [2, 1, 3], [1, 1], [32001]):
        assert not can_undo(filters)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("kind", ["zeros", "noise", "ones"])
def test_chunks_encoded_apart_are_the_librarys(path, name, kind, rng):
    x = {
        "zeros": np.zeros((9, 301)),
        "noise": rng.integers(0, 200, (9, 301)),
        "ones": np.full((9, 301), 255),
    }[kind].astype("f4")
    with h5py.File(path, "w") as file:
        made = with_pipeline(file, b"x", x, (3, 301), name, checksum=True)
        own = Dataset(made.id)
        codec = Codec(own, filters_of_results(own.creation, made.chunks))
        for region in made.iter_chunks():
            mask, raw = made.id.read_direct_chunk((region[0].start, 0))
            assert codec.encode(x[region]) == (raw, mask)


@pytest.mark.parametrize(
    "filters", [{"compression": "gzip", "shuffle": True}, {"compression": "lzf"}], ids=str
)
def test_a_chunk_that_leaves_room_for_a_few_rows_is_decoded_once(tmp_path, monkeypatch, rng, filters):
    """It took minutes: windows are read some rows at a time, and each time their chunk was decoded anew."""
    if "lzf" in filters.values() and LZF not in BUILT_IN:
        pytest.skip("lzf is undone by the library where there was no compiler")
    x = rng.integers(-1000, 1000, (4, 2, 64, 64))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(1, 2, 64, 64), **filters)
    decoded, decode = [], hdf5_chunks.decompress
    monkeypatch.setattr(hdf5_chunks, "decompress", lambda *args: decoded.append(args[2]) or decode(*args))
    lucid.pool_file(tmp_path / "x.h5", tmp_path / "y.h5", size=2, threads=1, max_memory=150_000)
    assert len(decoded) == 4
    with h5py.File(tmp_path / "y.h5") as file:
        assert np.array_equal(file["x"], lucid.nn.functional.adaptive_avg_pool2d(x, 2))
