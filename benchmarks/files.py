"""The files that whole commands are measured on: responses of a rectifier, as features are, in every format."""

import json
from collections.abc import Callable
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
    bar: float = 2.5

    def make(self, folder: Path, gigabytes: float) -> tuple[Path, float]:
        """A file of about so many gigabytes of numbers, and how many there are."""
        block = features()
        count = max(1, round(gigabytes * 1e9 / block.nbytes)) * BLOCK
        path = folder / f"x{count}{self.suffix}"
        self.write(path, count)
        return path, count * block[0].nbytes / 1e9


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


def _zarr(options: dict[str, Any], path: Path, samples: int) -> None:
    import zarr

    group = zarr.open_group(path, mode="w")
    y = group.create_array("x", shape=(samples, *SAMPLE), dtype="float32", chunks=(1, *SAMPLE), **options)
    for i in range(0, samples, BLOCK):
        y[i : i + BLOCK] = features()


_CHUNKS = {"chunks": (1, *SAMPLE)}


def plain() -> list[Format]:
    """What can be read as fast as it lies."""
    return [
        Format(".npy", ".npy", _npy),
        Format("safetensors", ".safetensors", _safetensors),
        Format("HDF5, contiguous", ".h5", partial(_hdf5, {})),
        Format("HDF5, chunks (1, 256, 56, 56)", ".h5", partial(_hdf5, _CHUNKS)),
    ]


def compressed() -> list[Format]:
    """What has to be decoded first, as far as the packages for it are here; what `pip install .` can read comes first."""
    return [
        Format(
            "HDF5, gzip-4 + shuffle",
            ".h5",
            partial(_hdf5, {**_CHUNKS, "compression": "gzip", "shuffle": True}),
            1.8,
        ),
        Format("HDF5, lzf", ".h5", partial(_hdf5, {**_CHUNKS, "compression": "lzf"})),
        *(_by_hdf5plugin() if find_spec("hdf5plugin") else []),
        *(_by_zarr() if find_spec("zarr") else []),
    ]


def _by_hdf5plugin() -> list[Format]:
    import hdf5plugin

    kinds = {
        "Blosc-zstd": hdf5plugin.Blosc(cname="zstd"),
        "zstd": hdf5plugin.Zstd(),
        "LZ4": hdf5plugin.LZ4(),
        "bitshuffle": hdf5plugin.Bitshuffle(),
    }
    return [
        Format(f"HDF5, {name}", ".h5", partial(_hdf5, {**_CHUNKS, **kind})) for name, kind in kinds.items()
    ]


def _by_zarr() -> list[Format]:
    from zarr.codecs import ZstdCodec

    zstd = {"compressors": ZstdCodec(level=3)}
    return [
        Format("Zarr 3, zstd", ".zarr", partial(_zarr, zstd), 2.0),
        Format("Zarr 3, zstd, sharded", ".zarr", partial(_zarr, {**zstd, "shards": (BLOCK, *SAMPLE)}), 2.0),
    ]
