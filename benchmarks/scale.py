"""Measure how slices scale over processes, and write `docs/scale.md` with a prediction from the figures.

pip install -e '.[bench,dask]' && python benchmarks/scale.py
"""

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

DOCS = Path(__file__).parents[1] / "docs"
COMMAND = Path(sys.executable).parent / "lucid-pool"
SHAPE = (256, 56, 56)
#: Assumed of the large system: processes, bytes a second read, written, and for one client.
PROCESSES, READS, WRITES, ONE = 2048, 100e9, 50e9, 3e9


def make(folder: Path, gigabytes: float) -> Iterator[tuple[str, Path, int]]:
    """Files of the same numbers, once plain and once compressed; name, path, samples."""
    count = max(16, int(gigabytes * 1e9 / 4 / np.prod(SHAPE)) // 16 * 16)
    rng = np.random.default_rng(0)
    # Rectified and rounded, as features are that compress.
    block = np.maximum(rng.standard_normal((16, *SHAPE), dtype=np.float32), 0).round(2)
    for name, options in (
        ("HDF5, contiguous", {}),
        ("HDF5, gzip + shuffle", {"chunks": (1, *SHAPE), "compression": "gzip", "shuffle": True}),
    ):
        path = folder / f"{len(options)}.h5"
        with h5py.File(path, "w") as file:
            made = file.create_dataset("x", (count, *SHAPE), "f4", **options)
            for start in range(0, count, 16):
                made[start : start + 16] = block
        yield name, path, count


def together(path: Path, samples: int, processes: int) -> float:
    """Seconds that so many processes take for a slice each, of one thread each."""
    cuts = [samples * i // processes for i in range(processes + 1)]
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        start = time.perf_counter()
        running = [
            subprocess.Popen(
                [COMMAND, path, "-s", "4", "-q", "-j1", "--slice", f"{a}:{b}", "--output-dir", folder]
            )
            for a, b in pairwise(cuts)
        ]
        assert not any(process.wait() for process in running)
        return time.perf_counter() - start


def merge_rate(folder: Path) -> float:
    """Bytes a second that a merge moves, of outputs in compressed chunks."""
    path = folder / "wide.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("x", (65_536, 64, 8, 8), "f4", chunks=(64, 64, 8, 8))
        for start in range(0, len(made), 4096):
            made[start : start + 4096] = np.random.default_rng(start).standard_normal((4096, 64, 8, 8))
    for start in range(0, 65_536, 8192):
        part = f"{start}:{start + 8192}"
        subprocess.run([COMMAND, path, "-s", "7", "-q", "--slice", part, "--output-dir", folder], check=True)
    shards = sorted(folder.glob("wide.pooled.*"))
    seconds = []
    for i in range(8):
        target = folder / f"merged{i}.h5"
        (folder / f"merged{i - 1}.h5").unlink(missing_ok=True)
        start = time.perf_counter()
        subprocess.run([COMMAND, "--merge", *shards, "-o", target, "-q"], check=True)
        seconds.append(time.perf_counter() - start)
    return target.stat().st_size / min(seconds)


def task_seconds(folder: Path) -> float:
    """What a task of the scheduler costs beyond its pooling, by many that have next to nothing to do."""
    import lucid
    from lucid.run.dask import connect
    from lucid.shards import spans

    path = folder / "small.npy"
    np.save(path, np.ones((2000, 1, 8, 8), np.float32))
    with connect("local") as cluster:
        spans.SPAN_BYTES = 256 * 4
        begun = time.perf_counter()
        lucid.pool_file(path, folder / "a.npy", size=1, executor=cluster)
        few = time.perf_counter() - begun
        spans.SPAN_BYTES = 256
        begun = time.perf_counter()
        lucid.pool_file(path, folder / "b.npy", size=1, executor=cluster)
        return (time.perf_counter() - begun - few) / 1500


def chunk_seconds(folder: Path) -> float:
    """What each chunk of a dataset costs a task in its index."""
    import lucid

    seconds = []
    for count in (1000, 101_000):
        path = folder / f"{count}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=np.ones((count, 1, 2, 2), np.uint8), chunks=(1, 1, 2, 2))
        begun = time.perf_counter()
        lucid.pool_file(path, folder / "c.h5", size=1, slice=slice(0, 1), overwrite=True)
        seconds.append(time.perf_counter() - begun)
    return (seconds[1] - seconds[0]) / 100_000


def duration(seconds: float) -> str:
    """Seconds for a person."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def prediction(rates: dict[str, float], ratio: float, merge: float, task: float) -> str:
    """The model for 100 TB, case by case."""
    rows = ["| case | pooling | bound by | tasks | joining | in all |", "|---|---|---|---|---|---|"]
    total, tasks = 100e12, 16_384
    for case, name, q, share in (
        ("56×56 → 4×4, uncompressed", "HDF5, contiguous", 1.0, 1 / 196),
        ("56×56 → 4×4, gzip", "HDF5, gzip + shuffle", ratio, 1 / 196),
        ("14×14 → 7×7, uncompressed", "HDF5, contiguous", 1.0, 1 / 4),
    ):
        bounds = {
            "processes": total / (PROCESSES * rates[name]),
            "reading": total / q / READS,
            "writing": total * share / WRITES,
        }
        bound = max(bounds, key=lambda name: bounds[name])
        joining = total * share / min(merge, ONE)
        in_all = bounds[bound] + tasks * task + joining
        rows.append(
            f"| {case} | {duration(bounds[bound])} | {bound} | {duration(tasks * task)} | {duration(joining)} "
            f"| {duration(in_all)} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, help="where the files are made and removed again")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=chosen.folder))
    try:
        table = ["| file | processes | seconds | GB/s | gain |", "|---|---|---|---|---|"]
        rates, ratio, start_ups = {}, 1.0, []
        for name, path, samples in make(folder, chosen.gigabytes):
            nbytes = samples * int(np.prod(SHAPE)) * 4
            ratio = nbytes / path.stat().st_size
            together(path, samples, 1)
            taken = {1: [], 2: [], 4: []}
            for _ in range(chosen.repeats):
                for processes, seconds in taken.items():
                    seconds.append(together(path, samples, processes))
            least = {processes: min(seconds) for processes, seconds in taken.items()}
            rates[name] = nbytes / least[1]
            table += [
                f"| {name} | {processes} | {seconds:.2f} | {nbytes / seconds / 1e9:.2f} | {least[1] / seconds:.2f} |"
                for processes, seconds in least.items()
            ]
            start_ups += [together(path, 1, 1) for _ in range(chosen.repeats)]
        merge, task, chunk = merge_rate(folder), task_seconds(folder), chunk_seconds(folder)
    finally:
        shutil.rmtree(folder)
    costs = "\n".join(
        [
            "| | |",
            "|---|---|",
            f"| a process from start to end, with next to nothing to pool | {min(start_ups):.2f} s |",
            f"| a task of the scheduler (`--dask local`), with next to nothing to pool | {task * 1e3:.1f} ms |",
            f"| index of a chunked HDF5 dataset | {chunk * 1e6:.1f} µs a chunk |",
            f"| a merge, of uncompressed chunks | {merge / 1e9:.2f} GB/s |",
        ]
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "h5py", "distributed"))
    where = f"{os.cpu_count()} CPUs of a {platform.machine()} machine with {platform.system()}, Python"
    demand = PROCESSES * rates["HDF5, contiguous"]
    texts = {
        "@WHERE@": f"{where} {platform.python_version()}, {versions}, {datetime.date.today()}",
        "@SIZE@": f"{chosen.gigabytes:g} GB",
        "@REPEATS@": str(chosen.repeats),
        "@SCALING@": "\n".join(table),
        "@COSTS@": costs,
        "@BASE@": "about 45 MiB",
        "@PREDICTION@": prediction(rates, ratio, merge, task),
        "@DEMAND@": f"{demand / 1e12:.1f} TB/s",
        "@FED@": f"{READS / rates['HDF5, contiguous']:.0f}",
    }
    page = (DOCS / "scale.md.in").read_text()
    for mark, text in texts.items():
        page = page.replace(mark, text)
    (DOCS / "scale.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
