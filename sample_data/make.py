"""Rebuild the sample files: responses of fixed filters to a photograph and to handwritten digits.

Run it from anywhere: `python sample_data/make.py`. It needs scikit-image and scikit-learn,
whose packages hold the pictures; nothing is downloaded and nothing is random.
"""

from pathlib import Path

import h5py
import numpy as np
from skimage.data import astronaut
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
DIGITS = 120


def gabor(size: int, angle: float, wavelength: float) -> np.ndarray:
    """An edge detector: a wave under a bell, with zero mean and unit length."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    along = x * np.cos(angle) + y * np.sin(angle)
    bell = np.exp(-(x**2 + y**2) / (2 * (size / 4) ** 2))
    kernel = bell * np.sin(2 * np.pi * along / wavelength)
    kernel -= kernel.mean()
    return kernel / np.linalg.norm(kernel)


def respond(images: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """(N, H, W) and (C, k, k) to rectified responses (N, C, H - k + 1, W - k + 1)."""
    size = kernels.shape[-1]
    patches = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    return np.maximum(np.einsum("nhwij,cij->nchw", patches, kernels), 0).astype(np.float32)


def bank(count: int, size: int) -> np.ndarray:
    """Filters of `count` directions."""
    return np.stack([gabor(size, np.pi * i / count * 2, size * 0.8) for i in range(count)])


def photograph() -> np.ndarray:
    """Nine crops of the photograph under sixteen filters: (9, 16, 64, 64)."""
    grey = astronaut().mean(axis=2) / 255
    crops = [grey[r : r + 134, c : c + 134] for r in (0, 150, 300) for c in (0, 150, 300)]
    return respond(np.stack(crops), bank(16, 7))[:, :, ::2, ::2]


def main() -> None:
    np.save(HERE / "photograph.npy", photograph())
    digits = load_digits()
    images = np.pad(digits.images[:DIGITS] / 16, ((0, 0), (3, 3), (3, 3))).repeat(2, 1).repeat(2, 2)
    first = respond(images, bank(8, 5))
    second = respond(first.mean(axis=1)[:, ::2, ::2], bank(16, 3))
    with h5py.File(HERE / "digits.h5", "w") as file:
        file.attrs["source"] = "Optical Recognition of Handwritten Digits, UCI, as in scikit-learn"
        layers = file.create_group("layers")
        one = layers.create_dataset(
            "first",
            data=first,
            chunks=(16, 8, 24, 24),
            compression="gzip",
            shuffle=True,
            maxshape=(None, 8, 24, 24),
        )
        one.attrs["kernel_size"] = 5
        two = layers.create_dataset("second", data=second)
        two.attrs["kernel_size"] = 3
        file["labels"] = digits.target[:DIGITS].astype(np.int64)
        file["names"] = np.array([f"digit-{i:03}" for i in range(DIGITS)], h5py.string_dtype())
        file["latest"] = h5py.SoftLink("/layers/second")


if __name__ == "__main__":
    main()
