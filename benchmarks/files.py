"""The files that the whole command is measured on: responses of a rectifier, as features are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

SAMPLE = (256, 56, 56)


def features() -> np.ndarray:
    """Sixteen samples: half zeros, the rest with the leading bits that a half-precision network leaves."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((16, *SAMPLE), dtype=np.float32), 0)
    return x.astype(np.float16).astype(np.float32)


def layouts() -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Name, share of the full size, and options of h5py."""
    yield "HDF5 contiguous", 1, {}
    yield "HDF5 chunks (1, 256, 56, 56)", 1, {"chunks": (1, *SAMPLE)}
    yield "HDF5 gzip-4 + shuffle", 0.25, {"chunks": (1, *SAMPLE), "compression": "gzip", "shuffle": True}
    yield "HDF5 lzf", 0.25, {"chunks": (1, *SAMPLE), "compression": "lzf"}
    yield "HDF5 automatic chunks", 0.25, {"chunks": True}
    try:
        import hdf5plugin
    except ImportError:
        return
    yield "HDF5 Blosc-zstd", 0.25, {"chunks": (1, *SAMPLE), **hdf5plugin.Blosc(cname="zstd")}


def make_all(folder: Path, gigabytes: float) -> Iterator[tuple[str, Path]]:
    """Make one file after the other; the caller removes it."""
    x = features()
    count = max(1, round(gigabytes * 1e9 / x.nbytes)) * len(x)
    path = folder / "x.npy"
    made = np.lib.format.open_memmap(path, "w+", np.float32, (count, *SAMPLE))
    for i in range(0, count, len(x)):
        made[i : i + len(x)] = x
    del made
    yield ".npy", path
    for name, share, options in layouts():
        path, samples = folder / "x.h5", max(len(x), int(count * share) // len(x) * len(x))
        with h5py.File(path, "w") as file:
            y = file.create_dataset("x", (samples, *SAMPLE), np.float32, **options)
            for i in range(0, samples, len(x)):
                y[i : i + len(x)] = x
        yield name if share == 1 else f"{name}, {share:.0%} of the size", path
