"""Measure lucid-pool beside its peers and write `docs/benchmarks.md`.

    pip install '.[bench]' && python benchmarks/run.py

Pairs are interleaved in one run, so that a busy machine slows both; each figure is the
minimum over the repeats, and a ratio is the median of the ratios of the pairs. `--quick` takes
small files and few repeats, to see that it runs.
"""

import argparse
import compileall
import datetime
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# Before NumPy loads: the pooling splits its work over threads itself.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import files
import numpy as np
import torch
from lucid.pooling.jit import Kernels

import lucid
import lucid_cli
from lucid.nn import functional
from lucid.nn.functional import adaptive_avg_pool2d

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
COMMAND = Path(sys.executable).parent / "lucid-pool"
SCRIPT = Path(__file__).with_name("peer.py")

#: The least that a command built on these packages could do.
ONLY_READS = """
import os, sys, threading
import click, numpy, rich.table

def read(worker):
    buffer = bytearray(SIZE)
    for offset in range(worker * SIZE, end, 2 * SIZE):
        os.preadv(file, [buffer], offset)

SIZE, file = 1 << 18, os.open(sys.argv[1], os.O_RDONLY)
end = os.fstat(file).st_size
threads = [threading.Thread(target=read, args=(worker,)) for worker in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""

SHAPES = [
    ((64, 512, 14, 14), [4, 1, 7]),
    ((64, 256, 56, 56), [7, 4]),
    ((256, 2048, 7, 7), [1, 3]),
    ((16, 64, 224, 224), [7, 100]),
    ((64, 256, 28, 28), [14, 9]),
    ((64, 256, 13, 17), [(5, 6)]),
    ((4, 16, 1024, 1024), [4, 256]),
    ((64, 256, 8, 8), [16]),
]
#: Where the arrays lie, one after the other: a virtual machine gives memory that is freed back to its host, and
#: whoever is given it next waits for the host: results of 32 MiB, which the C library frees at once, took
#: five times as long, whichever call came after.
ROOM = torch.empty(max(math.prod(shape) for shape, _ in SHAPES) * 8, dtype=torch.uint8)
VARIANTS = [
    ("float32", 1, False),
    ("float32", 2, False),
    ("float32", 2, True),
    ("float64", 2, False),
    ("float16", 2, False),
    ("bfloat16", 2, False),
    ("uint8", 2, False),
]


def pair(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int
) -> tuple[float, float, float]:
    """Seconds of each at best, and the median of theirs / ours."""
    times = [(seconds(ours), seconds(theirs)) for _ in range(repeats + 1)][1:]
    return min(t[0] for t in times), min(t[1] for t in times), statistics.median(b / a for a, b in times)


def seconds(work: Callable[[], object]) -> float:
    time.sleep(0.02)  # PyTorch's threads spin for a while after their work, on the cores that are timed next
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def geometric_mean(ratios: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, ratios)))


def kernels(repeats: int, shrink: int) -> Iterator[str]:
    """Pooling in memory beside PyTorch on the same layout and threads, and beside reading the array once."""
    yield "## In memory\n"
    yield "Milliseconds, with the kernels that Numba compiles (extra `fast`); `read` is `torch.sum` over the same array, the"
    yield "limit that memory sets. The first call for a number type, which compiles or loads them, is not timed.\n"
    for dtype, threads, channels_last in VARIANTS:
        torch.set_num_threads(threads)
        yield f"### {variant_name(dtype, threads, channels_last)}\n"
        yield "| input | output | lucid | PyTorch | ratio | read |\n|---|---|--:|--:|--:|--:|"
        ratios = []
        for x, tensor, size in cases(dtype, channels_last, shrink):
            ours, theirs, ratio = pair(*pooled_by_both(x, tensor, size, threads), repeats)
            read = min(seconds(tensor.sum) for _ in range(repeats))
            ratios.append(ratio)
            name = "×".join(map(str, x.shape))
            yield f"| {name} | {size} | {ours * 1e3:.2f} | {theirs * 1e3:.2f} | {ratio:.2f} | {read * 1e3:.2f} |"
        yield f"\nGeometric mean **{geometric_mean(ratios):.2f}**, lowest {min(ratios):.2f}.\n"


def without_numba(repeats: int, shrink: int) -> Iterator[str]:
    """The same ratios for NumPy's kernels: what is pooled with without the extra `fast`."""
    chosen, functional.for_array = functional.for_array, lambda _: Kernels.NUMPYS
    yield "## In memory, without Numba\n"
    yield "PyTorch / lucid with NumPy's kernels, which are all that there is without the extra `fast`; the bits are the same.\n"
    yield "| elements | geometric mean | lowest |\n|---|--:|--:|"
    for dtype, threads, channels_last in VARIANTS:
        torch.set_num_threads(threads)
        ratios = [
            pair(*pooled_by_both(x, tensor, size, threads), repeats)[2]
            for x, tensor, size in cases(dtype, channels_last, shrink)
        ]
        yield f"| {variant_name(dtype, threads, channels_last)} | {geometric_mean(ratios):.2f} | {min(ratios):.2f} |"
    functional.for_array = chosen
    yield ""


def variant_name(dtype: str, threads: int, channels_last: bool) -> str:
    return f"{dtype}, {threads} thread{'s' * (threads > 1)}{', channels-last' * channels_last}"


def cases(dtype: str, channels_last: bool, shrink: int) -> Iterator[tuple[np.ndarray, torch.Tensor, Any]]:
    """Arrays, and the sizes that each is pooled to."""
    for shape, sizes in SHAPES:
        x, tensor = arrays(shape, dtype, channels_last, shrink)
        yield from ((x, tensor, size) for size in sizes)


def pooled_by_both(
    x: np.ndarray, tensor: torch.Tensor, size: Any, threads: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """A call of lucid and a call of PyTorch for the same means."""
    return (
        lambda: adaptive_avg_pool2d(x, size, threads=threads),
        lambda: torch.nn.functional.adaptive_avg_pool2d(cast(tensor), size),
    )


def cast(tensor: torch.Tensor) -> torch.Tensor:
    """PyTorch pools no integers: its users cast first."""
    return tensor if tensor.is_floating_point() else tensor.float()


def arrays(
    shape: tuple[int, ...], dtype: str, channels_last: bool, shrink: int
) -> tuple[np.ndarray, torch.Tensor]:
    """The same numbers for both, in the same memory layout."""
    n, c, h, w = (max(1, shape[0] // shrink), *shape[1:])
    kind = getattr(torch, dtype)
    numbers = ROOM[: n * c * h * w * kind.itemsize].view(kind)
    tensor = numbers.view(n, h, w, c).permute(0, 3, 1, 2) if channels_last else numbers.view(n, c, h, w)
    generator = torch.Generator().manual_seed(0)
    if dtype == "uint8":
        tensor.random_(256, generator=generator)
    else:
        tensor.normal_(generator=generator)
    if dtype == "bfloat16":
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16), tensor
    return tensor.numpy(), tensor


def commands(repeats: int, folder: Path, gigabytes: float) -> Iterator[str]:
    """The whole command beside `cat` and beside the script that a user would write."""
    yield "## The whole command\n"
    yield f"56×56 → 4×4, {gigabytes:g} GB of float32 in the page cache, processes from start to end, in seconds; the kernel"
    yield "was compiled before (extra `fast`).\n"
    yield "| file | lucid-pool | `cat` | lucid / cat | script | script / lucid | peak memory |\n|---|--:|--:|--:|--:|--:|--:|"
    for name, path in files.make_all(folder, gigabytes):
        os.sync()  # else the system writes the file to disk while it is read, on the cores that are timed
        out = folder / "out"
        ours = [COMMAND, path, "--size", "4", "-f", "-q", "-o", out.with_suffix(path.suffix)]
        cat = ["sh", "-c", f"cat {path} > /dev/null"]
        quick, catted, over_cat = pair(run(ours), run(cat), repeats)
        _, scripted, faster = pair(run(ours), run([sys.executable, SCRIPT, path, out]), max(1, repeats // 2))
        peak = peak_bytes(ours) / 2**20
        yield (
            f"| {name} | {quick:.2f} | {catted:.2f} | {1 / over_cat:.2f} | {scripted:.2f} | {faster:.2f} | {peak:.0f} MiB |"
        )
        if path.suffix == ".npy":
            reading = [sys.executable, "-c", ONLY_READS, path]
            _, _, over_cat = pair(run(reading), run(cat), repeats)
            floor = (
                f"\nA Python process that imports click, NumPy and rich's table, which the command is made of, and then only "
                f"reads the `.npy` file, two threads with a quarter of a megabyte each, takes {1 / over_cat:.2f} times as "
                "long as `cat`: nothing built on these can be faster."
            )
        path.unlink()
    yield floor
    yield ""


def start_up(repeats: int, folder: Path) -> Iterator[str]:
    """Small commands beside the imports that they cannot do without."""
    yield "## Start\n"
    yield "| command | seconds | beside | seconds | ratio |\n|---|--:|---|--:|--:|"
    np.save(folder / "small.npy", np.zeros((1, 3, 8, 8), np.float32))
    small = [COMMAND, folder / "small.npy", "--size", "1", "-f"]
    for name, ours, peer in [
        ("lucid-pool --version", [COMMAND, "--version"], "import click"),
        ("lucid-pool --help", [COMMAND, "--help"], "import click"),
        ("lucid-pool small.npy --size 1", small, "import click, numpy, rich.table"),
    ]:
        a, b, ratio = pair(run(ours), run([sys.executable, "-c", peer]), 5 * repeats)
        yield f"| `{name}` | {a:.3f} | `{peer}` | {b:.3f} | {1 / ratio:.2f} |"
    yield ""


#: Work that stays in the level-2 cache, timed inside the process: products as the kernels have them, sums
#: of rows as they have them, and additions one after the other, as PyTorch's kernel does them.
CPU_WORK = """
import os, sys, time
import numpy as np
x = np.ones((4, 192, 56), "f4"); m = np.ones((56, 8), "f4"); o = np.empty((4, 192, 8), "f4"); s = np.empty((4, 56), "f4")
kinds = {
    "products": (lambda: np.matmul(x, m, out=o), 6000),
    "sums of rows": (lambda: np.einsum("pkw->pw", x, out=s), 20000),
    "a chain of additions": (lambda: sum(range(1000)), 20000),
}
work, count = kinds[sys.argv[1]]
work(); sys.stdin.read(1); begun = time.perf_counter()
for _ in range(count): work()
print(time.perf_counter() - begun)
"""


def second_cpu(repeats: int) -> Iterator[str]:
    """What two processes at once do in the time of one: the most that a second thread can bring."""
    yield "\n## The second CPU\n"
    yield "Work done by two processes at once, over that of one in the same time: 2 on two cores of their own, about 1"
    yield "where the CPUs share one core. Pooling on two threads can gain no more than this.\n"
    yield "| work | two processes / one |\n|---|--:|"
    for kind in ("products", "sums of rows", "a chain of additions"):
        found = []
        for _ in range(repeats):
            alone, both = (max(together(kind, count)) for count in (1, 2))
            found.append(2 * alone / both)
        yield f"| {kind} | {statistics.median(found):.2f} |"


def together(kind: str, count: int) -> list[float]:
    """Seconds that each of so many processes takes, begun at once."""
    command = [sys.executable, "-c", CPU_WORK, kind]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(count)]
    time.sleep(0.5)
    for process in processes:
        process.stdin.write("x")
        process.stdin.flush()
    return [float(process.communicate()[0]) for process in processes]


def run(command: list[object]) -> Callable[[], object]:
    return lambda: subprocess.run(list(map(str, command)), check=True, capture_output=True)


def peak_bytes(command: list[object]) -> int:
    """Largest resident memory of a command; a small process in between keeps ours out of the figure."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script, *map(str, command)], check=True, capture_output=True, text=True
    )
    return int(done.stdout) * 1024


def about(repeats: int) -> Iterator[str]:
    """Where and when, and with what."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    packages = []
    for name in ("numpy", "h5py", "torch", "numba", "deflate", "isal", "hdf5plugin"):
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            packages.append(f"no {name}")
    yield "# Benchmarks\n"
    yield f"Written by `python benchmarks/run.py` ({repeats} pairs a figure); run it again for the figures of another machine.\n"
    yield f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {model}, {os.cpu_count()} CPUs, {platform.system()}, "
    yield f"Python {platform.python_version()}, {', '.join(packages)}. Ratios above 1 are in favour of lucid-pool"
    yield "except beside `cat` and imports, which are limits to come near.\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small and few, to see that it runs")
    parser.add_argument("--repeats", type=int, default=7, help="pairs for each figure")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page to write")
    parser.add_argument("--folder", type=Path, default=None, help="where to make the files: room for 5 GB")
    options = parser.parse_args()
    repeats, shrink, gigabytes = (1, 16, 0.05) if options.quick else (options.repeats, 1, 4.0)
    lines = list(about(repeats))
    for package in (lucid, lucid_cli):
        # As pip leaves what it installs; a checkout may have none, and Python may be told to keep none.
        compileall.compile_dir(Path(package.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for part in (
            second_cpu(repeats),
            start_up(repeats, Path(folder)),
            commands(repeats, Path(folder), gigabytes),
            kernels(repeats, shrink),
            without_numba(max(1, repeats // 2), shrink),
        ):
            for line in part:
                print(line, flush=True)
                lines.append(line)
    options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
