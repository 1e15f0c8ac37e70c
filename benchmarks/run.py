"""Measure lucid-pool beside its peers: `python benchmarks/run.py`, after `pip install '.[bench]'`.

All of it takes an hour and 12 GB of disk; `--gigabytes 0.5 --shapes 1 --repeats 2` three minutes, in which Python's start
weighs more than it should. On a machine that does other things, two threads mean little. With `--write`, the parts that were measured take their places in docs/benchmarks.md.
"""

import argparse
import compileall
import datetime
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Before NumPy loads: the pooling divides its work over threads itself.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import commands
import memory
import start

import lucid
import lucid_cli
from lucid.pooling import kernel_name

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PARTS = {"start": "Start", "files": "Files", "memory": "In memory"}
PACKAGES = ("numpy", "h5py", "torch", "hdf5plugin", "zarr", "deflate", "isal")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    today = int(f"{datetime.date.today():%Y%m%d}")
    parser.add_argument("--part", choices=PARTS, action="append", help="repeatable; all by default")
    parser.add_argument("--seed", type=int, default=today, help="draws the shapes; today's date by default")
    parser.add_argument("--shapes", type=int, default=6, help="shapes of each of four ranges (6)")
    parser.add_argument(
        "--gigabytes",
        type=float,
        default=4.0,
        help="size of the files (4), which are also made half and twice as large",
    )
    parser.add_argument("--repeats", type=int, default=7, help="rounds for each figure (7)")
    parser.add_argument("--folder", type=Path, help="where the files are made and removed again")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    for package in (lucid, lucid_cli):
        # As pip leaves what it installs; a checkout may have none, and Python may be told to keep none.
        compileall.compile_dir(Path(package.__file__).parent, quiet=1)
    for part in chosen.part or PARTS:
        lines = []
        for line in section(part, chosen):
            print(line, flush=True)
            lines.append(line)
        if chosen.write:
            PAGE.write_text(with_section(PAGE.read_text(), part, "\n".join(lines)))


def section(part: str, chosen: argparse.Namespace) -> Iterator[str]:
    """The text of one part: what it was measured with, then the tables."""
    yield f"## {PARTS[part]}\n"
    yield f"`{command_line(part, chosen)}`, {circumstances(chosen)}\n"
    if part == "memory":
        yield from memory.section(chosen.seed, chosen.shapes, chosen.repeats)
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        if part == "start":
            yield from start.section(Path(folder), chosen.repeats)
        else:
            yield from commands.section(Path(folder), chosen.gigabytes, chosen.repeats)


def with_section(page: str, part: str, text: str) -> str:
    """The page with one section in place of what stands between the marks of its part."""
    mark = f"<!-- {part} -->\n"
    before, _, after = page.split(mark)
    return f"{before}{mark}{text.strip()}\n{mark}{after}"


def command_line(part: str, chosen: argparse.Namespace) -> str:
    """The command that makes the figures of one part again, on the same shapes."""
    values = {
        "memory": f" --shapes {chosen.shapes} --seed {chosen.seed}",
        "files": f" --gigabytes {chosen.gigabytes:g}",
        "start": "",
    }
    return f"python benchmarks/run.py --part {part}{values[part]} --repeats {chosen.repeats}"


def circumstances(chosen: argparse.Namespace) -> str:
    """When, where and with what."""
    models = (
        re.findall(r"model name\s*: (.*)", cpuinfo.read_text())
        if (cpuinfo := Path("/proc/cpuinfo")).exists()
        else []
    )
    packages = []
    for name in PACKAGES:
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            packages.append(f"no {name}")
    return (
        f"{datetime.date.today()}, {models[0] if models else platform.processor()}, {os.cpu_count()} CPUs, {platform.system()}, "
        f"Python {platform.python_version()}, {', '.join(packages)}; lucid-pool {lucid.__version__}, pooling {kernel_name()}; "
        f"the least of {chosen.repeats} rounds; {os.getloadavg()[0]:.1f} processes wanted a CPU at the beginning."
    )


if __name__ == "__main__":
    main()
