"""Small commands beside the imports that they cannot do without, and a file of very many small arrays."""

import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from timing import in_turns, peak_bytes, process

COMMAND = Path(sys.executable).parent / "lucid-pool"
DATASETS, FEWER = 20_000, 2_000


def section(folder: Path, repeats: int) -> Iterator[str]:
    """All of it."""
    small, out = folder / "small.npy", folder / "out.npy"
    np.save(small, np.zeros((1, 3, 8, 8), np.float32))
    yield "| command | seconds | beside | seconds | ratio | bar |\n|---|--:|---|--:|--:|--:|"
    slower = []
    for words, imports, bar in (
        (("--version",), "import click", 1.3),
        ((small, "--size", "1", "-f", "-o", out), "import click, numpy, rich.table", 1.5),
    ):
        name = " ".join(["lucid-pool", *(Path(word).name for word in words if word not in ("-f", "-o", out))])
        ours, theirs = in_turns(
            process(COMMAND, *words), process(sys.executable, "-c", imports), repeats=5 * repeats
        )
        if ours > theirs:
            slower.append(f"`{name}`")
        yield f'| `{name}` | {ours:.3f} | `python -c "{imports}"` | {theirs:.3f} | **{ours / theirs:.2f}** | {bar} |'
    yield f"\nSlower than the imports alone, as it has to be: {', '.join(slower) or 'none'}.\n"
    yield from _many_datasets(folder, max(1, repeats // 3))


def _many_datasets(folder: Path, repeats: int) -> Iterator[str]:
    yield f"### {DATASETS:,} datasets of (1, 4, 3, 3) in one HDF5 file\n"
    many, fewer = (_file(folder, count) for count in (DATASETS, FEWER))
    words = ("--size", "1", "-f", "-q", "-o", folder / "out.h5")
    seconds = in_turns(
        process(COMMAND, many, *words),
        process(COMMAND, many, "-d", "d7", "--no-carry", *words),
        repeats=repeats,
    )
    peaks = [peak_bytes(COMMAND, path, *words) / 2**20 for path in (many, fewer)]
    yield "| | measured | bar |\n|---|--:|--:|"
    yield f"| all of them | {seconds[0] / DATASETS * 1e3:.2f} ms each | 0.5 ms |"
    yield f"| one of them, by `-d` | {seconds[1]:.2f} s | 1 s |"
    yield f"| peak memory; of a file of {FEWER:,} | {peaks[0]:.0f} MiB; {peaks[1]:.0f} MiB | flat |"
    yield ""


def _file(folder: Path, count: int) -> Path:
    path = folder / f"{count}.h5"
    with h5py.File(path, "w") as file:
        for i in range(count):
            file[f"d{i}"] = np.ones((1, 4, 3, 3), np.float32)
    return path
