"""Compressed files and stores beside the loop that a user would write, over the CPUs; Zarr stores also over HTTP."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import files
from bars import at_least
from commands import words
from timing import COMMAND, PEER, cat, cpu_counts, in_turns, process, told_seconds

SERVER = Path(__file__).with_name("server.py")
#: Packages of the extra `fast`, which `pip install .` does not bring.
FAST = ("deflate",)
#: The CPUs that SPEC's bars are for, and the ratio wanted with the extra `fast`.
BAR_CPUS, FAST_BAR = 2, 3.2
LATENCY_MS = 20


def section(folder: Path, gigabytes: float, repeats: int) -> Iterator[str]:
    """All of it."""
    yield f"Files of {gigabytes:g} GB of numbers and more, 56×56 → 4×4, float32. The whole command beside the loop of `benchmarks/peer.py` (read a"
    yield "batch by h5py or zarr-python, pool it with PyTorch, write), of which neither Python's start nor the imports are counted, and beside"
    yield "that script from start to end; the bar is held against the loop. Both may"
    yield "use so many CPUs; bars are for two. `gain` is what the command gains over one CPU, `read` the time that `cat` takes for as many bytes"
    yield "as the numbers have, over ours: the memory's limit is 1.\n"
    yield "| file | GB | CPUs | lucid-pool, s | loop, s | ratio | bar | script, s | ratio | gain | read |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    slower: list[str] = []
    for kind in files.compressed():
        yield from _rows(kind, folder, gigabytes, repeats, slower)
    yield f"\nSlower than the loop: {'; '.join(slower) or 'none of these'}.\n"
    if find_spec("zarr") and find_spec("aiohttp"):
        yield from _remote(folder, gigabytes / 4, repeats)
    else:
        yield f"Not measured here, for want of zarr and aiohttp: stores over HTTP with {LATENCY_MS} ms of latency.\n"


def _rows(
    kind: files.Format, folder: Path, gigabytes: float, repeats: int, slower: list[str]
) -> Iterator[str]:
    plain = {"PYTHONPATH": os.pathsep.join(filter(None, [_hiding(folder), os.environ.get("PYTHONPATH")]))}
    variants: dict[str, tuple[dict[str, str], float | None]] = {kind.name: (plain, kind.bar)}
    if "gzip" in kind.name and any(find_spec(name) for name in FAST):
        variants[f"{kind.name}, with the extra `fast`"] = ({}, FAST_BAR)
    alone: dict[str, float] = {}
    with kind.lying(folder, gigabytes * kind.times) as (path, size):
        stored = sum(p.stat().st_size for p in (path, *path.rglob("*")) if p.is_file()) / 1e9
        for cpus in cpu_counts():
            commands = [
                process(*words(path), environment=environment, cpus=cpus)
                for environment, _ in variants.values()
            ]
            told = told_seconds(sys.executable, PEER, path, folder / f"peer{path.suffix}", cpus=cpus)
            scripts: list[float] = []

            def loop() -> float:
                start = time.perf_counter()
                seconds = told()
                scripts.append(time.perf_counter() - start)
                return seconds

            *seconds, theirs, read = in_turns(*commands, loop, cat(path), repeats=repeats)
            script = min(scripts[1:])
            for (name, (_, bar)), ours in zip(variants.items(), seconds, strict=True):
                ratio = theirs / ours
                gain = alone.setdefault(name, ours) / ours
                yield (
                    f"| {name} | {size:.1f} | {cpus} | {ours:.2f} | {theirs:.2f} | {ratio:.2f} "
                    f"| {at_least(ratio, bar) if cpus == BAR_CPUS else ''} | {script:.2f} | {script / ours:.2f} "
                    f"| {gain:.2f} | {read / stored * size / ours:.2f} |"
                )
                if ratio < 1:
                    slower.append(f"{name} ({cpus} CPU{'s' * (cpus > 1)}: {ratio:.2f})")


def _remote(folder: Path, gigabytes: float, repeats: int) -> Iterator[str]:
    yield f"### Stores over HTTP, {LATENCY_MS} ms from each request to its answer\n"
    yield f"{gigabytes:g} GB of numbers, a server in a process of its own on this machine, all CPUs.\n"
    yield "| store | lucid-pool, s | loop, s | ratio | bar |\n|---|--:|--:|--:|--:|"
    slower = []
    for kind in files.zarr_stores():
        with kind.lying(folder, gigabytes) as (path, _), _served(folder) as address:
            url = f"{address}/{path.name}"
            ours, theirs = in_turns(
                process(COMMAND, url, "--size", "4", "-f", "-q", "-o", folder / "pooled.zarr"),
                told_seconds(sys.executable, PEER, url, folder / "peer.zarr"),
                repeats=repeats,
            )
        yield f"| {kind.name} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.2f} | none is set |"
        if ours > theirs:
            slower.append(kind.name)
    yield f"\nSlower than the loop: {'; '.join(slower) or 'none of these'}.\n"


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The address of a folder behind HTTP."""
    server = subprocess.Popen(
        [sys.executable, SERVER, folder, str(LATENCY_MS)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.wait()


def _hiding(folder: Path) -> str:
    """A folder for PYTHONPATH in which the packages of `fast` cannot be imported, as if they were not installed."""
    hiding = folder / "hiding"
    hiding.mkdir(exist_ok=True)
    for name in FAST:
        (hiding / f"{name}.py").write_text(f"raise ImportError({name!r})\n")
    return str(hiding)
