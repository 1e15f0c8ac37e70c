"""Faults on purpose: kills, failing system calls, full disks, races, hostile files.

    python tests/faults/run.py                  a short version of every campaign, as the tests run it
    python tests/faults/run.py --long --write   all of it, with the figures in docs/reliability.md

Every campaign returns figures and raises on the first violation: an output that is neither the old one
nor complete, an input that changed, litter after the next run, a traceback, a status that is not
documented, a crash; and if what it tried always ended in the same way.
"""

import argparse
import datetime
import os
import platform
import signal
import sys
import time
from pathlib import Path

import broken_runs
import h5py
import hostile_files
import numpy as np
from promises import Campaign, Figures

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
#: Around the table of figures in the page.
MARK = "<!-- figures -->\n"
CAMPAIGNS: dict[str, Campaign] = {
    "system calls": broken_runs.system_calls,
    "order of syncs": broken_runs.order_of_syncs,
    "random kills": broken_runs.random_kills,
    "full disks": broken_runs.full_disks,
    "little memory": broken_runs.little_memory,
    "races": broken_runs.races,
    "headers": hostile_files.headers,
    "tensor headers": hostile_files.tensor_headers,
    "archive directories": hostile_files.archive_directories,
    "mutations": hostile_files.mutations,
}
NEEDS_STRACE = ("system calls", "order of syncs")


def with_figures(page: str, name: str, figures: Figures, seconds: float) -> str:
    """The page with the figures of one campaign in place of its last ones."""
    before, table, after = page.split(MARK)
    *head, line, rule = table.splitlines()[:4]
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in table.splitlines()[4:]}
    text = "; ".join(f"{key}: {value:,}" for key, value in figures.items())
    rows[name] = f"| {name} | {CAMPAIGNS[name].__doc__} | {text} | {seconds:.0f} s, {datetime.date.today()} |"
    head[0] = (
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"h5py {h5py.__version__} with HDF5 {h5py.version.hdf5_version}, numpy {np.__version__}:"
    )
    ordered = [rows[campaign] for campaign in CAMPAIGNS if campaign in rows]
    return MARK.join([before, "\n".join([*head, line, rule, *ordered]) + "\n", after])


def main() -> None:
    """Run campaigns by name, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[[], *CAMPAIGNS], default=[])
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--write", action="store_true", help="write docs/reliability.md")
    args = parser.parse_args()
    for name in args.names or CAMPAIGNS:
        if name in NEEDS_STRACE and not broken_runs.can_trace():
            print(f"{name}: left out, strace is not there")
            continue
        start = time.monotonic()
        figures = CAMPAIGNS[name](long=args.long)
        seconds = time.monotonic() - start
        print(f"{name}: {figures} in {seconds:.0f} s", flush=True)
        if args.write:
            PAGE.write_text(with_figures(PAGE.read_text(), name, figures, seconds))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    main()
