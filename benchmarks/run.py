"""Measure lucid-pool beside its peers: `python benchmarks/run.py`, after `pip install '.[bench]'`.

All of it takes about half an hour and 11 GB of disk, `--quick` a few minutes, in which Python's start weighs more than it
should; a part by itself is named with `--part`. On a machine that does other things, two threads mean little.
With `--write`, the parts that were measured take their places in docs/benchmarks.md and docs/scale.md.
"""

import argparse
import compileall
import datetime
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

# Before NumPy loads: the pooling divides its work over threads itself.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

from timing import gain_of_cpus

import lucid
import lucid_cli
from lucid.pooling import kernel_name

DOCS = Path(__file__).parents[1] / "docs"
PACKAGES = ("numpy", "h5py", "torch", "hdf5plugin", "zarr", "deflate")


class Part(NamedTuple):
    """A section of a page, its module here, the options that its figures depend on, and the arguments made of them."""

    title: str
    module: str
    depends: tuple[str, ...]
    arguments: Callable[[argparse.Namespace, Path], tuple[object, ...]]
    page: str = "benchmarks.md"


PARTS = {
    "start": Part("Start", "start", ("many", "repeats"), lambda o, folder: (folder, o.many, o.repeats)),
    "files": Part(
        "Files", "commands", ("gigabytes", "repeats"), lambda o, folder: (folder, o.gigabytes, o.repeats)
    ),
    "stores": Part(
        "Compressed files and stores",
        "stores",
        ("gigabytes", "repeats"),
        lambda o, folder: (folder, o.gigabytes / 4, max(1, o.repeats // 3)),
    ),
    "memory": Part(
        "In memory", "memory", ("shapes", "seed", "repeats"), lambda o, _: (o.seed, o.shapes, o.repeats)
    ),
    "scale": Part(
        "Measured",
        "scale",
        ("gigabytes", "repeats"),
        lambda o, folder: (folder, o.gigabytes / 2, o.repeats),
        "scale.md",
    ),
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    today = int(f"{datetime.date.today():%Y%m%d}")
    parser.add_argument("--part", choices=PARTS, action="append", help="repeatable; all by default")
    parser.add_argument("--seed", type=int, default=today, help="draws the shapes; today's date by default")
    parser.add_argument("--shapes", type=int, default=4, help="shapes of each of four ranges (%(default)s)")
    parser.add_argument(
        "--gigabytes",
        type=float,
        default=4.0,
        help="size of plain files (%(default)g), which are also made half and twice as large; compressed ones are a quarter or half",
    )
    parser.add_argument("--many", type=int, default=20_000, help="small datasets in a file (%(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=7, help="rounds for each figure (%(default)s), fewer for slow ones"
    )
    parser.add_argument("--folder", type=Path, help="where the files are made and removed again")
    parser.add_argument("--write", action="store_true", help="into the pages")
    smaller = {"shapes": 1, "gigabytes": 0.5, "many": 2000, "repeats": 2}
    words = " ".join(f"--{name} {value}" for name, value in smaller.items())
    parser.add_argument("--quick", action="store_true", help=f"the same as {words}")
    if parser.parse_known_args()[0].quick:
        parser.set_defaults(**smaller)
    return parser.parse_args()


def main() -> None:
    chosen = options()
    for package in (lucid, lucid_cli):
        # As pip leaves what it installs; a checkout may have none, and Python may be told to keep none.
        compileall.compile_dir(Path(package.__file__).parent, quiet=1)
    for name in chosen.part or PARTS:
        lines = []
        for line in section(name, chosen):
            print(line, flush=True)
            lines.append(line)
        if chosen.write:
            page = DOCS / PARTS[name].page
            page.write_text(with_section(page.read_text(), name, "\n".join(lines)))


def section(name: str, chosen: argparse.Namespace) -> Iterator[str]:
    """The text of one part: what it was measured with, then the tables."""
    part = PARTS[name]
    values = "".join(f" --{option} {getattr(chosen, option)}" for option in part.depends)
    yield f"## {part.title}\n"
    yield f"`python benchmarks/run.py --part {name}{values}`, {circumstances()}\n"
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        # Loaded only here: PyTorch, which one of the parts needs in this process, makes forks of it slow.
        yield from import_module(part.module).section(*part.arguments(chosen, Path(folder)))


def with_section(page: str, part: str, text: str) -> str:
    """The page with one section in place of what stands between the marks of its part."""
    mark = f"<!-- {part} -->\n"
    before, _, after = page.split(mark)
    return f"{before}{mark}{text.strip()}\n{mark}{after}"


def circumstances() -> str:
    """When, where and with what."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    packages = []
    for name in PACKAGES:
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            packages.append(f"no {name}")
    return (
        f"{datetime.date.today()}, {models[0] if models else platform.processor()}, {os.cpu_count()} CPUs, {platform.system()}, "
        f"Python {platform.python_version()}, {', '.join(packages)}; lucid-pool {lucid.__version__}, pooling {kernel_name()}; "
        f"the least of several rounds; at the beginning the CPUs together did {gain_of_cpus():.1f} times the work of one."
    )


if __name__ == "__main__":
    main()
