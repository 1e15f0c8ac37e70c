"""Whole commands on large files in the page cache: beside `cat`, and beside the script that a user would write."""

import sys
from collections.abc import Iterator
from pathlib import Path

import files
from bars import at_least, at_most
from timing import COMMAND, PEER, cat, in_turns, peak_bytes, process


def section(folder: Path, gigabytes: float, repeats: int) -> Iterator[str]:
    """All of it."""
    yield "56×56 → 4×4, float32, files in the page cache, processes from start to end.\n"
    yield from _whole(folder, gigabytes, repeats)
    yield from _slopes(folder, gigabytes, repeats)


def words(path: Path) -> tuple[object, ...]:
    """The command that pools a file, over the output that the last one left."""
    return COMMAND, path, "--size", "4", "-f", "-q", "-o", path.with_name(f"pooled{path.suffix}")


def _whole(folder: Path, gigabytes: float, repeats: int) -> Iterator[str]:
    with files.plain()[0].lying(folder, gigabytes) as (path, size):
        script = (sys.executable, PEER, path, folder / "peer.npy")
        ours, read, theirs = in_turns(process(*words(path)), cat(path), process(*script), repeats=repeats)
        peak = peak_bytes(*words(path)) / 2**20
    yield f"### A `.npy` file of {size:.1f} GB\n"
    yield "| | seconds | ratio | bar |\n|---|--:|--:|--:|"
    yield f"| `lucid-pool` | {ours:.2f} | | |"
    longer, faster = ours / read, theirs / ours
    yield f"| `cat FILE > /dev/null` | {read:.2f} | {longer:.2f} times as long | {at_most(longer, 1.6)} |"
    yield f"| `python benchmarks/peer.py`, with PyTorch | {theirs:.2f} | {faster:.2f} times as fast | {at_least(faster, 4)} |"
    yield f"\nPeak memory {peak:.0f} MiB. Slower than the script: {'no' if faster > 1 else 'yes'}.\n"


def _slopes(folder: Path, gigabytes: float, repeats: int) -> Iterator[str]:
    yield "### Each further gigabyte\n"
    yield f"The time for {2 * gigabytes:g} GB less that for {gigabytes / 2:g} GB, by the gigabyte.\n"
    yield "| file | lucid-pool, s/GB | `cat`, s/GB | ratio | bar |\n|---|--:|--:|--:|--:|"
    for kind in files.plain():
        with (
            kind.lying(folder, gigabytes / 2) as (small, few),
            kind.lying(folder, 2 * gigabytes) as (large, many),
        ):
            works = [work for path in (small, large) for work in (process(*words(path)), cat(path))]
            less, less_read, more, more_read = in_turns(*works, repeats=repeats)
        ours, read = (more - less) / (many - few), (more_read - less_read) / (many - few)
        yield f"| {kind.name} | {ours:.3f} | {read:.3f} | {ours / read:.2f} | {at_most(ours / read, 1.1)} |"
    yield ""
