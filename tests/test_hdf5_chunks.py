"""Chunks decoded here against the HDF5 library, and chunks that lie."""

import struct
import zlib

import h5py
import numpy as np
import pytest

from lucid.errors import FormatError
from lucid.formats.hdf5 import filters as hdf5_filters
from lucid.formats.hdf5.chunks import ChunkedArray
from lucid.formats.hdf5.filters import do, inflate, unlzf, unshuffle, verify_fletcher32
from lucid.formats.hdf5.source import Hdf5Source, place_of
from lucid.formats.hdf5.tree import opened
from lucid.options import Options

FILTERS = [
    {},
    {"compression": "gzip"},
    {"compression": "gzip", "shuffle": True},
    {"shuffle": True},
    {"fletcher32": True},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"compression": "lzf"},
    {"compression": "lzf", "shuffle": True, "fletcher32": True},
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.h5"


def read_all(path, region=None):
    with Hdf5Source(path, Options()) as source:
        (spec,) = source.arrays(4)
        region = region or tuple(slice(0, n) for n in spec.shape)
        return source.read(spec, region, np.empty(spec.nbytes, np.uint8)).copy()


@pytest.mark.slow
@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">f4", "<f8", "f2", "?"])
@pytest.mark.parametrize("chunks", [(3, 2, 5, 4), (7, 1, 6, 9), (1, 1, 1, 1), (7, 4, 6, 9)])
def test_every_region_is_what_the_library_reads(path, filters, dtype, chunks, rng):
    x = (rng.standard_normal((7, 4, 6, 9)) * 9).astype(dtype)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=x, chunks=chunks, **filters)
    with h5py.File(path) as file:
        assert isinstance(place_of(file, opened(file, b"x"), file["x"].dtype), ChunkedArray)
    assert np.array_equal(read_all(path), x)
    for _ in range(5):
        edges = [sorted(rng.choice(n + 1, 2, replace=False)) for n in x.shape]
        region = tuple(slice(int(a), int(b)) for a, b in edges)
        assert np.array_equal(read_all(path, region), x[region])


def test_missing_chunks_are_the_fill_value_and_masked_filters_were_not_applied(path, rng):
    x = rng.standard_normal((4, 2, 4, 4)).astype("f4")
    with h5py.File(path, "w") as file:
        made = file.create_dataset(
            "x", x.shape, "f4", chunks=(1, 2, 4, 4), compression="gzip", shuffle=True, fillvalue=7
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


def test_behind_a_user_block_the_library_reads(path, rng):
    x = rng.standard_normal((3, 2, 4, 4))
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"] = x
    with h5py.File(path) as file:
        assert place_of(file, opened(file, b"x"), file["x"].dtype) is None
    assert np.array_equal(read_all(path), x)


@pytest.mark.parametrize("size", [60, 68, 2_000_000])
def test_a_chunk_that_decodes_to_another_size_is_an_error(path, size):
    with h5py.File(path, "w") as file:
        made = file.create_dataset("x", (1, 1, 4, 4), "f4", chunks=(1, 1, 4, 4), compression="gzip")
        made.id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(size)))
    with pytest.raises(FormatError, match="dataset /x: has a chunk"):
        read_all(path)


@pytest.fixture(params=["_deflate", "_zlib", None])
def decoder(request, monkeypatch):
    """libdeflate, isal, and zlib, as far as they are installed."""
    if request.param is not None and getattr(hdf5_filters, request.param) in (None, zlib):
        pytest.skip("not installed: the extra `fast`")
    if request.param != "_deflate":
        monkeypatch.setattr(hdf5_filters, "_deflate", None)
    if request.param is None:
        monkeypatch.setattr(hdf5_filters, "_zlib", zlib)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("size", [1, 60, 64, 68])
def test_streams_of_the_size_declared_or_less_are_decoded(size, rng):
    cells = rng.integers(0, 9, size).astype(np.uint8)
    for tail in (b"", b"left over"):
        raw = np.frombuffer(zlib.compress(cells.tobytes()) + tail, np.uint8)
        assert np.array_equal(inflate(raw, 68), cells)


@pytest.mark.usefixtures("decoder")
def test_chunks_that_are_no_streams():
    for raw in (b"", b"\0" * 30, zlib.compress(bytes(64))[:-6]):
        with pytest.raises(FormatError, match="has a chunk that"):
            inflate(np.frombuffer(raw, np.uint8), 64)


@pytest.mark.slow
@pytest.mark.usefixtures("decoder")
def test_a_bomb_is_not_unpacked():
    bomb = np.frombuffer(zlib.compress(bytes(1 << 28)), np.uint8)
    with pytest.raises(FormatError, match="decompresses to another size"):
        inflate(bomb, 4096)


@pytest.mark.parametrize("itemsize", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("extra", [0, 1])
def test_unshuffle(itemsize, extra, rng):
    cells = rng.integers(0, 256, (50, itemsize), "u1")
    tail = bytes(range(extra))
    shuffled = np.frombuffer(cells.T.tobytes() + tail, np.uint8)
    assert unshuffle(shuffled, itemsize).tobytes() == cells.tobytes() + tail


def test_fletcher32_is_checked():
    body = b"\x01\x02\x03\x04"
    good = np.frombuffer(body + struct.pack("<HH", 0x0406, 0x0102 * 2 + 0x0304), np.uint8)
    assert verify_fletcher32(good).tobytes() == body
    for bad in (good[:-1], good[:2], np.r_[np.uint8(9), good[1:]]):
        with pytest.raises(FormatError, match="checksum"):
            verify_fletcher32(bad)


def test_lzf_chunks_that_lie():
    for raw in (b"", b"\x00", b"\x1f" + bytes(8), b"\xff" * 40, b"\x00a" * 40):
        with pytest.raises(FormatError, match="cannot be decompressed"):
            unlzf(np.frombuffer(raw, np.uint8), 16)


@pytest.mark.parametrize("filters", [f for f in FILTERS if f.get("compression") != "lzf" and f], ids=str)
@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["zeros", "noise", "ones"])
def test_chunks_encoded_here_are_the_librarys(path, filters, itemsize, kind, rng):
    x = {"zeros": np.zeros(301), "noise": rng.integers(0, 200, 301), "ones": np.full(301, 255)}[kind]
    x = x.astype(f"u{itemsize}")
    with h5py.File(path, "w") as file:
        made = file.create_dataset("x", data=x, chunks=x.shape, **filters)
        plist = made.id.get_create_plist()
        used = [plist.get_filter(i) for i in range(plist.get_nfilters())]
        encoded = do([(f[0], f[2]) for f in used], x.view(np.uint8), itemsize)
        mask, raw = made.id.read_direct_chunk((0,))
        assert (mask, encoded) == (0, raw)
