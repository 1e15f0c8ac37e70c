"""Many processes on one file, as a cluster's are: slices beside each other, and what each of their steps costs."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import files
import h5py
import numpy as np
from timing import COMMAND, in_turns, process

import lucid
from lucid.run.dask import connect
from lucid.shards import spans

#: Processes side by side, of one thread each.
PROCESSES = (1, 2, 4)


def section(folder: Path, gigabytes: float, repeats: int) -> Iterator[str]:
    """All of it; compressed files are half as large."""
    yield "Files in the page cache, 56×56 → 4×4, float32; so many processes of one thread, each with a slice of equal length (`--slice A:B -j1`).\n"
    yield "| file | numbers, GB | processes | seconds | GB/s | gain |\n|---|--:|--:|--:|--:|--:|"
    for kind, size in ((files.plain()[2], gigabytes), (files.gzip(), gigabytes / 2)):
        with kind.lying(folder, size) as (path, actual):
            samples = _samples(path)
            works = [lambda n=n: _side_by_side(path, samples, n) for n in PROCESSES]
            seconds = in_turns(*works, repeats=repeats)
        for n, taken in zip(PROCESSES, seconds, strict=True):
            yield f"| {kind.name} | {actual:.1f} | {n} | {taken:.2f} | {actual / taken:.2f} | {seconds[0] / taken:.2f} |"
    yield "\n| one step | measured |\n|---|--:|"
    yield f"| a process from start to end that pools one small sample of an HDF5 file | {_start_seconds(folder, repeats):.2f} s |"
    yield f"| a task of the scheduler (`--dask local`) with next to nothing to pool | {_task_seconds(folder) * 1e3:.1f} ms |"
    yield f"| the index of a chunked HDF5 dataset, which each slice reads | {_chunk_seconds(folder) * 1e6:.1f} µs a chunk |"
    yield f"| `--merge`, of uncompressed chunks, one process | {_merge_rate(folder, repeats) / 1e9:.2f} GB/s |"


def _samples(path: Path) -> int:
    with h5py.File(path) as file:
        return len(file["x"])


def _slice(path: Path, start: int, stop: int, folder: Path) -> tuple[object, ...]:
    return COMMAND, path, "-s", "4", "-q", "-j1", "--slice", f"{start}:{stop}", "--output-dir", folder


def _side_by_side(path: Path, samples: int, processes: int) -> float:
    """Seconds that so many processes take for all samples."""
    bounds = [samples * i // processes for i in range(processes + 1)]
    with tempfile.TemporaryDirectory(dir=path.parent) as made:
        start = time.perf_counter()
        running = [subprocess.Popen([*map(str, _slice(path, a, b, Path(made)))]) for a, b in pairwise(bounds)]
        assert [process.wait() for process in running] == [0] * processes
        return time.perf_counter() - start


def _start_seconds(folder: Path, repeats: int) -> float:
    path = folder / "one.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.ones((1, 3, 8, 8), np.float32)
    return in_turns(process(*_slice(path, 0, 1, folder), "-f"), repeats=repeats)[0]


def _task_seconds(folder: Path) -> float:
    """By two runs over the same samples, one of which has four times as many tasks."""
    path, samples = folder / "small.npy", 2000
    x = np.ones((samples, 1, 8, 8), np.float32)
    np.save(path, x)
    before = spans.SPAN_BYTES
    seconds = []
    try:
        with connect("local") as cluster:
            for tasks in (samples // 4, samples):
                spans.SPAN_BYTES = x.nbytes // tasks
                start = time.perf_counter()
                lucid.pool_file(path, folder / f"{tasks}.npy", size=1, executor=cluster)
                seconds.append(time.perf_counter() - start)
    finally:
        spans.SPAN_BYTES = before
    return (seconds[1] - seconds[0]) / (samples - samples // 4)


def _chunk_seconds(folder: Path) -> float:
    """By one sample of files of few and of many chunks."""
    few, many = 1_000, 101_000
    works = []
    for count in (few, many):
        path = folder / f"{count}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=np.ones((count, 1, 2, 2), np.uint8), chunks=(1, 1, 2, 2))
        works.append(
            lambda path=path: lucid.pool_file(
                path, folder / "c.h5", size=1, slice=slice(0, 1), overwrite=True
            )
        )
    less, more = in_turns(*works, repeats=1)
    return (more - less) / (many - few)


def _merge_rate(folder: Path, repeats: int) -> float:
    """Bytes a second."""
    path, target, samples, shards = folder / "wide.h5", folder / "merged.h5", 65_536, 8
    with h5py.File(path, "w") as file:
        x = file.create_dataset("x", (samples, 64, 8, 8), "f4", chunks=(64, 64, 8, 8))
        for start in range(0, samples, 4096):
            x[start : start + 4096] = np.random.default_rng(start).standard_normal((4096, 64, 8, 8))
    for start in range(0, samples, samples // shards):
        part = f"{start}:{start + samples // shards}"
        subprocess.run([COMMAND, path, "-s", "7", "-q", "--slice", part, "--output-dir", folder], check=True)
    merge = process(COMMAND, "--merge", *sorted(folder.glob("wide.pooled.*")), "-o", target, "-q", "-f")
    (seconds,) = in_turns(merge, repeats=repeats)
    return target.stat().st_size / seconds
