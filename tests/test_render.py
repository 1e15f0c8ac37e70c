"""The summary and the progress line, at widths and with signs that terminals have."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from lucid.report import DatasetReport, Progress, Report
from lucid_cli.outcomes import Outcomes
from lucid_cli.render import progress_bar, show, size

MIB = 1 << 20


def report(datasets, targets=("y.h5",), **facts):
    rows = [
        DatasetReport(
            name, (4, 3, 8, 8), "float32", Path(target), output, (4, 3, 2, 2), "float32", 3072, 192, 9000, 1
        )
        for name, target, output in datasets
    ]
    times = dict.fromkeys(("read_seconds", "pool_seconds", "write_seconds", "total_seconds"), 0.0)
    return Report(
        source=Path("d/x.h5"),
        targets=tuple(map(Path, targets)),
        datasets=tuple(rows),
        threads=1,
        max_memory=256 * MIB,
        peak_memory_bytes=MIB,
        dry_run=False,
        **times,
        **facts,
    )


def shown(reports, *, every=False):
    to, outcomes = Console(file=io.StringIO(), width=1000), Outcomes(keeps_all=every)
    for one in reports:
        outcomes.add(str(one.source), one)
    show(outcomes, to, every=every)
    return [line.split("  ")[0].strip() for line in to.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("datasets", "targets", "labels"),
    [
        ([("/a", "y.h5", "/a"), ("/b", "y.h5", "/b")], ["y.h5"], ["/a", "/b"]),
        ([("/a", "y.h5", "/a_1x1"), ("/a", "y.h5", "/a_2x2")], ["y.h5"], ["/a_1x1", "/a_2x2"]),
        ([("", "y.npy", "/data")], ["y.npy"], ["x.h5"]),
        (
            [("", "y.1x1.npy", "/data"), ("", "y.2x2.npy", "/data")],
            ["y.1x1.npy", "y.2x2.npy"],
            ["y.1x1.npy", "y.2x2.npy"],
        ),
        ([("", "y.h5", "/data_1x1"), ("", "y.h5", "/data_2x2")], ["y.h5"], ["/data_1x1", "/data_2x2"]),
        ([("", "-", "/data"), ("[1]", "-", "/data")], ["-"], ["x.h5", "[1]"]),
    ],
)
def test_rows_are_called_what_they_are_called_in_the_output(datasets, targets, labels):
    assert shown([report(datasets, targets)])[2:-1] == labels


def test_many_rows_are_counted_and_verbose_lists_all():
    many = report([(f"/{i}", "y.h5", f"/{i}") for i in range(2_000)])
    assert shown([many])[-2] == "… and 1,980 more (-v lists all)"
    assert len(shown([report([(f"/{i}", "y.h5", f"/{i}") for i in range(50)])], every=True)) == 53


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_progress_is_one_line_at_any_width(width):
    to = Console(file=io.StringIO(), width=width, force_terminal=True)
    name = "features_of_a_backbone_" * 5 + ".npy"
    with progress_bar(to, 1200, 1200 * 900 * MIB) as progress_of:
        on_progress = progress_of(name, 900 * MIB)
        for done in range(0, 900, 100):
            on_progress(Progress(Path(name), done * MIB, 900 * MIB))
    frames = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", to.file.getvalue())
    assert max(map(len, re.split(r"[\r\n]", frames))) <= width
    assert "\x1b[1A\x1b[2K\x1b[1A" not in to.file.getvalue()[:-30]  # a second line would be gone up over
    assert "of 1.0 TiB" in frames


def test_bytes_for_a_person():
    assert [size(n) for n in (0, 1023, 1024, 1536, 200 << 10, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "200 KiB",
        "3.0 TiB",
    ]
