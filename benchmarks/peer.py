"""The script that a user would write today: read in batches, pool with PyTorch, write.

python benchmarks/peer.py INPUT OUTPUT
"""

import sys
from contextlib import suppress

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

BATCH = 16


def main() -> None:
    source, target = sys.argv[1:]
    if source.endswith(".npy"):
        x = np.load(source, mmap_mode="r")
        batches = (x[i : i + BATCH] for i in range(0, len(x), BATCH))
        np.save(target, np.concatenate([pool(b.copy()) for b in batches]))
        return
    import h5py

    with suppress(ImportError):
        import hdf5plugin  # noqa: F401  (registers Blosc)
    with h5py.File(source) as file, h5py.File(f"{target}.peer.h5", "w") as made:
        x = file["x"]
        y = made.create_dataset("x", (*x.shape[:2], 4, 4), x.dtype)
        for i in range(0, len(x), BATCH):
            y[i : i + BATCH] = pool(x[i : i + BATCH])


def pool(batch: np.ndarray) -> np.ndarray:
    return adaptive_avg_pool2d(torch.from_numpy(batch), 4).numpy()


if __name__ == "__main__":
    main()
