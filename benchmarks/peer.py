"""The script that a user would write today: read in batches, pool with PyTorch, write.

    python benchmarks/peer.py INPUT OUTPUT

It prints the seconds of the loop alone, without Python's start and the imports.
"""

import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

BATCH, SIZE = 16, 4


def main() -> None:
    source, target = sys.argv[1:]
    if source.endswith(".npy"):
        start = time.perf_counter()
        np.save(target, np.concatenate(list(pooled(np.load(source, mmap_mode="r")))))
    elif source.endswith(".h5"):
        import h5py

        with suppress(ImportError):
            import hdf5plugin  # noqa: F401  (registers its filters)
        start = time.perf_counter()
        with h5py.File(source) as file, h5py.File(target, "w") as out:
            fill(file["x"], lambda shape: out.create_dataset("x", shape, np.float32))
    else:  # a folder or a URL
        import zarr

        start = time.perf_counter()
        out = zarr.open_group(target, mode="w")
        x = zarr.open_group(source, mode="r")["x"]
        fill(x, lambda shape: out.create_array("x", shape=shape, dtype="float32"))
    print(time.perf_counter() - start)


def pooled(x: Any) -> Iterable[np.ndarray]:
    """Means, batch by batch."""
    for i in range(0, x.shape[0], BATCH):
        batch = np.array(x[i : i + BATCH])  # of a mapped file, a copy: PyTorch wants to be able to write
        yield adaptive_avg_pool2d(torch.from_numpy(batch), SIZE).numpy()


def fill(x: Any, create: Any) -> None:
    """Write the means to a new array."""
    y = create((*x.shape[:2], SIZE, SIZE))
    for i, batch in enumerate(pooled(x)):
        y[i * BATCH : i * BATCH + len(batch)] = batch


if __name__ == "__main__":
    main()
