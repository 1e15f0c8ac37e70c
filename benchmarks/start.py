"""Small commands beside the imports that they cannot do without; very many small arrays, in one file and in a folder."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from bars import at_least, at_most
from timing import COMMAND, in_turns, peak_bytes, process


def section(folder: Path, many: int, repeats: int) -> Iterator[str]:
    """All of it; so many datasets, and a fifth of them as files."""
    small, out = folder / "small.npy", folder / "out.npy"
    np.save(small, np.zeros((1, 3, 8, 8), np.float32))
    yield "| command | seconds | beside | seconds | ratio | bar |\n|---|--:|---|--:|--:|--:|"
    for words, imports, bar in (
        (("--version",), "import click", 1.3),
        ((small, "--size", "1", "-f", "-o", out), "import click, numpy, rich.table", 1.5),
    ):
        name = " ".join(["lucid-pool", *(Path(word).name for word in words if word not in ("-f", "-o", out))])
        ours, theirs = in_turns(
            process(COMMAND, *words), process(sys.executable, "-c", imports), repeats=5 * repeats
        )
        ratio = ours / theirs
        yield f'| `{name}` | {ours:.3f} | `python -c "{imports}"` | {theirs:.3f} | {ratio:.2f} | {at_most(ratio, bar)} |'
    yield "\nBoth are slower than the imports alone, as they have to be.\n"
    yield from _many_datasets(folder, many, max(1, repeats // 3))
    yield from _many_files(folder, many // 5, max(1, repeats // 3))


def _many_datasets(folder: Path, count: int, repeats: int) -> Iterator[str]:
    yield f"### {count:,} datasets of (1, 4, 3, 3) in one HDF5 file\n"
    many, fewer = (_file(folder, n) for n in (count, count // 10))
    words = ("--size", "1", "-f", "-q", "-o", folder / "out.h5")
    all_of_them, one, alone = in_turns(
        process(COMMAND, many, *words),
        process(COMMAND, many, "-d", "d7", *words),
        process(COMMAND, many, "-d", "d7", "--no-carry", *words),
        repeats=repeats,
    )
    peak, less = (peak_bytes(COMMAND, path, *words) / 2**20 for path in (many, fewer))
    each = all_of_them / count * 1e3
    yield "| | measured | bar |\n|---|--:|--:|"
    yield f"| all of them | {each:.2f} ms each | {at_most(each, 0.5, ' ms')} |"
    yield f"| one of them, by `-d`, the others carried over | {one:.2f} s | {at_most(one, 1, ' s')} |"
    yield f"| the same with `--no-carry` | {alone:.2f} s | |"
    yield f"| peak memory; of a file of {count // 10:,} | {peak:.0f} MiB; {less:.0f} MiB | flat: {at_most(peak / less, 1.1, ' times')} |"
    yield ""


def _many_files(folder: Path, count: int, repeats: int) -> Iterator[str]:
    yield f"### {count:,} files of 64 KiB in one folder\n"
    source, target = folder / "many", folder / "pooled"
    source.mkdir()
    x = np.random.default_rng(0).standard_normal((1, 64, 16, 16), np.float32)
    for i in range(count):
        np.save(source / f"{i:06}.npy", x)

    def set_aside() -> None:
        # Removed instead, they would slow the next run down: ext4 looks at each inode that was freed lately.
        if target.exists():
            target.rename(target.with_name(f"old{time.monotonic_ns()}"))

    words = (COMMAND, source, "--size", "1", "-q", "--output-dir", target)
    (seconds,) = in_turns(process(*words), before=set_aside, repeats=repeats)
    set_aside()
    rate, peak = count / seconds, peak_bytes(*words) / 2**20
    yield "| | measured | bar |\n|---|--:|--:|"
    yield f"| one command with the folder as its input | {rate:,.0f} files a second | {at_least(rate, 1000)} |"
    yield f"| peak memory | {peak:.0f} MiB | |"
    yield ""


def _file(folder: Path, count: int) -> Path:
    path = folder / f"{count}.h5"
    with h5py.File(path, "w") as file:
        for i in range(count):
            file[f"d{i}"] = np.ones((1, 4, 3, 3), np.float32)
    return path
