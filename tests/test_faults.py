"""A short version of every campaign in `tests/faults/run.py`; a campaign that shows nothing fails."""

import broken_runs
import hostile_files
import pytest
import run
from promises import ViolationError

from lucid import forks
from lucid.errors import FormatError
from lucid.run import process


@pytest.mark.slow
@pytest.mark.parametrize("name", run.CAMPAIGNS)
def test_campaign(name, monkeypatch):
    monkeypatch.setattr(process, "HANG_SECONDS", process.HANG_SECONDS)
    monkeypatch.setattr(forks, "WORTH_BYTES", forks.WORTH_BYTES)  # a campaign shortens it
    if name in run.NEEDS_STRACE and not broken_runs.can_trace():
        pytest.skip("strace is not there, or may not trace")
    run.CAMPAIGNS[name](long=False)


def refuse(*args, **options):
    raise FormatError("is not for us")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parser"),
    [
        ("headers", "read_header"),
        ("tensor headers", "parse_header"),
        ("archive directories", "read_members"),
        ("mutations", "Job"),
    ],
)
def test_a_campaign_whose_files_are_all_refused_fails(name, parser, monkeypatch):
    monkeypatch.setattr(process, "HANG_SECONDS", process.HANG_SECONDS)
    monkeypatch.setattr(forks, "WORTH_BYTES", forks.WORTH_BYTES)
    monkeypatch.setattr(hostile_files, parser, refuse)
    with pytest.raises(ViolationError, match=r"only one of the outcomes|is not for us"):
        run.CAMPAIGNS[name](long=False)


@pytest.mark.slow
def test_a_campaign_in_which_nothing_fails_fails(monkeypatch):
    monkeypatch.setattr(broken_runs, "chosen", lambda count, most: [1 << 30])
    monkeypatch.setattr(broken_runs, "KINDS", {".npy": broken_runs.KINDS[".npy"]})
    with pytest.raises(ViolationError, match=r"only one of the outcomes was seen: \{'a line': 0, 'fitted': "):
        run.CAMPAIGNS["full disks"](long=False)


def test_figures_take_the_place_of_older_ones():
    page = f"a\n{run.MARK}Linux\n\n| campaign | | figures | took |\n|---|---|---|--:|\n| races | old |\n{run.MARK}z\n"
    page = run.with_figures(page, "headers", {"headers": 1000}, 2.4)
    page = run.with_figures(page, "races", {"races": 8}, 1)
    lines = page.splitlines()
    assert (lines[0], lines[-1]) == ("a", "z")
    assert lines[6].startswith("| races | Eight processes on one output. | races: 8 | 1 s, ")
    assert lines[7].startswith(
        "| headers | The parser of .npy headers on changed ones. | headers: 1,000 | 2 s, "
    )
    assert len(lines) == 10
