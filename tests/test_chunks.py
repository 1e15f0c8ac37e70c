"""Streams in chunks: what they become, and how much memory that takes."""

import bz2
import gzip
import lzma
import tracemalloc
import zlib
from functools import partial

import numpy as np
import pytest

from lucid.errors import FormatError
from lucid.formats import chunks
from lucid.formats.chunks import decode_streams

STREAMS = {
    "zlib": (zlib.compress, zlib.decompressobj),
    "gzip": (gzip.compress, partial(zlib.decompressobj, 16 + zlib.MAX_WBITS)),
    "bz2": (bz2.compress, bz2.BZ2Decompressor),
    "lzma": (partial(lzma.compress, preset=0), lzma.LZMADecompressor),
}


def encoded(name, data):
    return np.frombuffer(STREAMS[name][0](bytes(data)), np.uint8)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("kind", ["zeros", "noise", "both"])
def test_what_is_decoded_takes_its_own_memory_and_a_little(name, kind, rng):
    data = rng.integers(0, 256, 1 << 22, np.uint8)
    data[: {"zeros": 1 << 22, "noise": 0, "both": 1 << 21}[kind]] = 0
    raw = encoded(name, data)
    tracemalloc.start()
    decoded = decode_streams(STREAMS[name][1], raw, data.size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * data.size
    assert np.array_equal(decoded, data)


@pytest.mark.parametrize("name", STREAMS)
def test_wherever_blocks_end(name, monkeypatch, rng):
    monkeypatch.setattr(chunks, "STREAM_BYTES", 7)
    monkeypatch.setattr(chunks, "DECODED_BYTES", 5)
    for count in range(80):
        data = rng.integers(0, 256, count, np.uint8)
        assert np.array_equal(decode_streams(STREAMS[name][1], encoded(name, data), count), data)


@pytest.mark.parametrize("name", ["gzip", "bz2", "lzma"])
def test_streams_behind_one_another(name, rng):
    pieces = [rng.integers(0, 9, n, np.uint8) for n in (70_000, 0, 5)]
    raw = np.concatenate([encoded(name, one) for one in pieces])
    data = np.concatenate(pieces)
    assert np.array_equal(decode_streams(STREAMS[name][1], raw, data.size), data)
    assert np.array_equal(decode_streams(STREAMS[name][1], raw, data.size, are_several=False), pieces[0])
    for limit in (data.size - 1, data.size - 5):
        with pytest.raises(FormatError, match="another size"):
            decode_streams(STREAMS[name][1], raw, limit)
    with pytest.raises(FormatError, match="has a chunk that"):
        decode_streams(STREAMS[name][1], raw[:-1], data.size)
