"""The files that whole commands are measured on: responses of a rectifier, as features are, in every format."""

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]

SAMPLE = (256, 56, 56)
#: Samples that are made; a file holds them again and again.
BLOCK = 16


class Format(NamedTuple):
    """A format's name, the suffix of its files, what writes one of so many samples, and the ratio wanted over the peer's loop."""

    name: str
    suffix: str
    write: Callable[[Path, int], None]
    bar: float | None = None
    #: How many times as much of it is read as of others: the faster, the less the start should count.
    times: float = 1

    @contextmanager
    def lying(self, folder: Path, gigabytes: float) -> Iterator[tuple[Path, float]]:
        """A file of about so many gigabytes of numbers, for a while, and how many there are.

        The system has written it to disk before it is read, else both are done at once.
        """
        block = features()
        count = max(1, round(gigabytes * 1e9 / block.nbytes)) * BLOCK
        path = folder / f"x{count}{self.suffix}"
        self.write(path, count)
        os.sync()
        try:
            yield path, count * block[0].nbytes / 1e9
        finally:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@cache
def features() -> Array:
    """Half zeros, the rest with the leading bits that a half-precision network leaves."""
    x = np.random.default_rng(0).standard_normal((BLOCK, *SAMPLE), np.float32)
    return np.maximum(x, 0).astype(np.float16).astype(np.float32)


def _repeat(file: BinaryIO, samples: int) -> None:
    for _ in range(samples // BLOCK):
        features().tofile(file)


def _npy(path: Path, samples: int) -> None:
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (samples, *SAMPLE)}
        np.lib.format.write_array_header_1_0(file, header)
        _repeat(file, samples)


def _safetensors(path: Path, samples: int) -> None:
    shape = [samples, *SAMPLE]
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, int(np.prod(shape)) * 4]}
    header = json.dumps({"x": entry}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        _repeat(file, samples)


def _hdf5(options: dict[str, Any], path: Path, samples: int) -> None:
    x = features()
    with h5py.File(path, "w") as file:
        y = file.create_dataset("x", (samples, *SAMPLE), np.float32, **options)
        y[:BLOCK] = x
        for i in range(BLOCK, samples, BLOCK):
            if y.chunks is None:
                y[i : i + BLOCK] = x
                continue
            for k in range(BLOCK):  # a compressed chunk is copied, not compressed again
                mask, raw = y.id.read_direct_chunk((k, 0, 0, 0))
                y.id.write_direct_chunk((i + k, 0, 0, 0), raw, mask)


def _zarr(version: int, options: dict[str, Any], path: Path, samples: int) -> None:
    import zarr

    group = zarr.open_group(path, mode="w", zarr_format=version)
    y = group.create_array("x", shape=(samples, *SAMPLE), dtype="float32", chunks=(1, *SAMPLE), **options)
    for i in range(0, samples, BLOCK):
        y[i : i + BLOCK] = features()
    with warnings.catch_warnings(action="ignore"):  # of version 3, whose specification knows no summary
        zarr.consolidate_metadata(path)  # over HTTP there is no list of what a group holds


_CHUNKS = {"chunks": (1, *SAMPLE)}


def _h5(name: str, bar: float | None = None, times: float = 1, **options: Any) -> Format:
    return Format(f"HDF5, {name}", ".h5", partial(_hdf5, options), bar, times)


def plain() -> list[Format]:
    """What can be read as fast as it lies."""
    return [
        Format(".npy", ".npy", _npy),
        Format("safetensors", ".safetensors", _safetensors),
        _h5("contiguous"),
        _h5("chunks (1, 256, 56, 56)", **_CHUNKS),
    ]


def gzip() -> Format:
    """What most compressed HDF5 files are."""
    return _h5("gzip-4 + shuffle", 1.8, **_CHUNKS, compression="gzip", shuffle=True)


def compressed() -> list[Format]:
    """What has to be decoded first, as far as the packages for it are here; what `pip install .` can read comes first."""
    has_szip = h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP)
    return [
        gzip(),
        _h5("lzf", 2.5, **_CHUNKS, compression="lzf"),
        *([_h5("szip", **_CHUNKS, compression="szip")] if has_szip else []),
        *(_by_hdf5plugin() if find_spec("hdf5plugin") else []),
        *zarr_stores(),
    ]


def _by_hdf5plugin() -> list[Format]:
    import hdf5plugin

    return [
        _h5("Blosc-zstd", 2.5, 2, **_CHUNKS, **hdf5plugin.Blosc(cname="zstd")),
        _h5("zstd", 2.5, 2, **_CHUNKS, **hdf5plugin.Zstd()),
        _h5("LZ4", 2.5, 2, **_CHUNKS, **hdf5plugin.LZ4()),
        _h5("bitshuffle", 2.5, 2, **_CHUNKS, **hdf5plugin.Bitshuffle()),
    ]


def zarr_stores() -> list[Format]:
    """Stores of version 2, which knows no shards, and of version 3, sharded and not."""
    if not find_spec("zarr"):
        return []
    import numcodecs
    from zarr.codecs import ZstdCodec

    blosc, zstd = {"compressors": numcodecs.Blosc("lz4")}, {"compressors": ZstdCodec(level=3)}
    sharded = {**zstd, "shards": (BLOCK, *SAMPLE)}
    return [
        Format("Zarr 2, Blosc-LZ4", ".zarr", partial(_zarr, 2, blosc)),
        Format("Zarr 3, zstd", ".zarr", partial(_zarr, 3, zstd), 2.0),
        Format("Zarr 3, zstd, sharded", ".zarr", partial(_zarr, 3, sharded), 2.0),
    ]
