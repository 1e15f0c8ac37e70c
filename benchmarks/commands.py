"""Whole commands on large files in the page cache: beside `cat`, and beside the script that a user would write."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import files
from start import COMMAND
from timing import cat, in_turns, peak_bytes, process, told_seconds

SCRIPT = Path(__file__).with_name("peer.py")
#: Packages of the extra `fast`, which `pip install .` does not bring.
FAST = ("deflate", "isal")


def section(folder: Path, gigabytes: float, repeats: int) -> Iterator[str]:
    """All of it; compressed files are a quarter as large."""
    yield "56×56 → 4×4, float32, files in the page cache, processes from start to end.\n"
    yield from _whole(folder, gigabytes, repeats)
    yield from _slopes(folder, gigabytes, repeats)
    yield from _compressed(folder, gigabytes / 4, max(1, repeats // 2))


@contextmanager
def _made(kind: files.Format, folder: Path, gigabytes: float) -> Iterator[tuple[Path, float]]:
    """A file for a while. The system has written it to disk before it is read, else both are done at once."""
    path, size = kind.make(folder, gigabytes)
    os.sync()
    try:
        yield path, size
    finally:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _words(path: Path) -> tuple[object, ...]:
    return COMMAND, path, "--size", "4", "-f", "-q", "-o", path.with_name(f"pooled{path.suffix}")


def _whole(folder: Path, gigabytes: float, repeats: int) -> Iterator[str]:
    npy = files.plain()[0]
    with _made(npy, folder, gigabytes) as (path, size):
        words, script = _words(path), (sys.executable, SCRIPT, path, folder / "peer.npy")
        ours, read, theirs = in_turns(process(*words), cat(path), process(*script), repeats=repeats)
        peak = peak_bytes(*words) / 2**20
    yield f"### A `.npy` file of {size:.1f} GB\n"
    yield "| | seconds | ratio | bar |\n|---|--:|--:|--:|"
    yield f"| `lucid-pool` | {ours:.2f} | | |"
    yield f"| `cat FILE > /dev/null` | {read:.2f} | {ours / read:.2f} times as long | ≤ 1.6 |"
    yield f"| `python benchmarks/peer.py`, with PyTorch | {theirs:.2f} | {theirs / ours:.2f} times as fast | ≥ 4 |"
    yield f"\nPeak memory {peak:.0f} MiB.\n"


def _slopes(folder: Path, gigabytes: float, repeats: int) -> Iterator[str]:
    yield "### Each further gigabyte\n"
    yield f"The time for {2 * gigabytes:g} GB less that for {gigabytes / 2:g} GB, by the gigabyte.\n"
    yield "| file | lucid-pool, s/GB | `cat`, s/GB | ratio | bar |\n|---|--:|--:|--:|--:|"
    for kind in files.plain():
        with (
            _made(kind, folder, gigabytes / 2) as (small, few),
            _made(kind, folder, 2 * gigabytes) as (large, many),
        ):
            works = [work for path in (small, large) for work in (process(*_words(path)), cat(path))]
            less, less_read, more, more_read = in_turns(*works, repeats=repeats)
        ours, read = (more - less) / (many - few), (more_read - less_read) / (many - few)
        yield f"| {kind.name} | {ours:.3f} | {read:.3f} | **{ours / read:.2f}** | 1.1 |"
    yield ""


def _compressed(folder: Path, gigabytes: float, repeats: int) -> Iterator[str]:
    plain = {"PYTHONPATH": os.pathsep.join(filter(None, [_hiding(folder), os.environ.get("PYTHONPATH")]))}
    has_fast = any(find_spec(name) for name in FAST)
    yield f"### Compressed files of {gigabytes:g} GB of numbers\n"
    yield "The whole command beside the loop of `benchmarks/peer.py` (read a batch by h5py or zarr-python, pool it with PyTorch, write),"
    yield "of which neither Python's start nor the imports are counted.\n"
    yield "| file | lucid-pool | loop | ratio | bar |\n|---|--:|--:|--:|--:|"
    slower = []
    for kind in files.compressed():
        with _made(kind, folder, gigabytes) as (path, _):
            works = {kind.name: process(*_words(path), environment=plain)}
            bars = [kind.bar]
            if "gzip" in kind.name and has_fast:
                works[f"{kind.name}, with the extra `fast`"] = process(*_words(path))
                bars.append(3.2)
            loop = told_seconds(sys.executable, SCRIPT, path, folder / f"peer{path.suffix}")
            *seconds, theirs = in_turns(*works.values(), loop, repeats=repeats)
        for name, ours, bar in zip(works, seconds, bars, strict=True):
            yield f"| {name} | {ours:.2f} | {theirs:.2f} | **{theirs / ours:.2f}** | {bar} |"
            if ours > theirs:
                slower.append(name)
    yield f"\nSlower than the loop: {'; '.join(slower) or 'none of these'}.\n"


def _hiding(folder: Path) -> str:
    """A folder for PYTHONPATH in which the packages of `fast` cannot be imported, as if they were not installed."""
    hiding = folder / "hiding"
    hiding.mkdir()
    for name in FAST:
        (hiding / f"{name}.py").write_text(f"raise ImportError({name!r})\n")
    return str(hiding)
