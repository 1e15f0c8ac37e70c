"""A short version of every campaign in `tests/faults/run.py`."""

import pytest
from faults import run

from lucid import forks
from lucid.run import process


@pytest.mark.slow
@pytest.mark.parametrize("name", run.CAMPAIGNS)
def test_campaign(name, monkeypatch):
    monkeypatch.setattr(process, "HANG_SECONDS", process.HANG_SECONDS)  # a campaign shortens it
    monkeypatch.setattr(forks, "WORTH_BYTES", forks.WORTH_BYTES)
    if name in run.NEEDS_STRACE and not run.can_trace():
        pytest.skip("strace is not there, or may not trace")
    figures = run.CAMPAIGNS[name](long=False)
    assert max(figures.values()) > 0
