"""`resume`: what a run had done survives it, and only the same work is continued."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import lucid
from lucid.errors import ArgumentError, FileError, FormatError
from lucid.formats.disk import journal
from lucid.formats.disk.journal import Journal, paths
from lucid.nn.functional import adaptive_avg_pool2d

COMMAND = Path(sys.executable).parent / "lucid-pool"


class StopError(Exception):
    """What stands for a kill, here where it can be caught."""


@pytest.fixture
def x(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(journal, "SYNC_SECONDS", 0)
    array = rng.standard_normal((40, 4, 12, 12)).astype("f4")
    np.save("x.npy", array)
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("x", data=array, chunks=(1, 4, 12, 12), compression="gzip")
        file["y"] = array[:9] + 1
        file["labels"] = np.arange(40)
    return array


OPTIONS = {"size": [(2, 3), (1, 1)], "max_memory": 40_000, "threads": 1, "resume": True}


def interrupted(source, target, after, **options):
    """Run until so many blocks are done; how many were."""
    seen = []

    def stop(progress):
        seen.append(progress.done_bytes)
        if len(seen) == after:
            raise StopError

    with pytest.raises(StopError):
        lucid.pool_file(source, target, **{**OPTIONS, **options}, on_progress=stop)
    return len(seen)


@pytest.mark.parametrize(
    ("source", "target"), [("x.npy", "y-{size}.npy"), ("x.h5", "y.h5"), ("x.npy", "y.h5")]
)
@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_run_is_continued(source, target, after, x, tmp_path):
    lucid.pool_file(source, f"golden-{target}", **{**OPTIONS, "resume": False})
    before = set(tmp_path.iterdir())
    interrupted(source, target, after)
    left = {p.name for p in set(tmp_path.iterdir()) - before}
    assert {name.rpartition(".")[2] for name in left} == {"journal", "spool"}
    steps = []
    report = lucid.pool_file(source, target, **OPTIONS, on_progress=lambda p: steps.append(p.done_bytes))
    every = []
    lucid.pool_file(source, f"all-{target}", **OPTIONS, on_progress=lambda p: every.append(p.done_bytes))
    assert len(steps) == len(every) - after
    assert steps[-1] == every[-1]
    for made in report.targets:
        assert made.read_bytes() == Path(f"golden-{made}").read_bytes()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_what_is_there_is_complete_and_skipped(x, tmp_path):
    lucid.pool_file("x.npy", "y.h5", **OPTIONS)
    stamp = Path("y.h5").stat().st_mtime_ns
    report = lucid.pool_file("x.npy", "y.h5", **OPTIONS)
    assert report.skipped
    assert Path("y.h5").stat().st_mtime_ns == stamp
    assert not lucid.pool_file("x.npy", "y.h5", **OPTIONS, overwrite=True).skipped


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda: os.utime("x.npy"), "input"),
        (lambda: np.save("x.npy", np.zeros((40, 4, 12, 12), "f8")), "input"),
        ({"size": 2}, "options"),
        ({"nan": "skip"}, "options"),
        ({"dtype": "float64"}, "options"),
        ({"flatten": True}, "options"),
        ({"max_memory": 20_000}, "memory limit or threads"),
        ("version", "version"),
    ],
)
def test_only_the_same_work_is_continued(change, word, x, tmp_path, monkeypatch):
    interrupted("x.npy", "y.h5", 2)
    options = dict(OPTIONS)
    if callable(change):
        change()
    elif change == "version":
        monkeypatch.setattr(lucid, "__version__", "9.9")
    else:
        options |= change
    with pytest.raises(FileError, match=f"cannot be resumed: .*{word}.* changed since"):
        lucid.pool_file("x.npy", "y.h5", **options)
    assert not Path("y.h5").exists()
    lucid.pool_file("x.npy", "y.h5", **options, overwrite=True)
    assert Path("y.h5").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_another_process_at_work_is_told(x):
    facts = {"a": 1}
    with Journal(Path("y.npy"), facts, 10, restart=False) as first:
        first.note(0, 0)
        with pytest.raises(FileError, match="another process is at work on this output"):
            Journal(Path("y.npy"), facts, 10, restart=False)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_journal_cut_off_anywhere_is_a_shorter_one(cut, x, tmp_path):
    with Journal(Path("y"), {"a": "b"}, 10, restart=False) as first:
        for block in range(3):
            first.note(0, block)
            first.sync()
    path = paths(Path("y"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    lines = whole[:-cut].count(b"\n") - 1
    with Journal(Path("y"), {"a": "b"}, 10, restart=False) as second:
        assert second.done.get(0, set()) == set(range(max(lines, 0)))
        second.note(0, 7)
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_run_that_did_nothing_leaves_nothing(x, tmp_path):
    Path("x.npy").write_bytes(Path("x.npy").read_bytes()[:-5000])
    before = set(tmp_path.iterdir())
    with pytest.raises(FormatError):
        lucid.pool_file("x.npy", "y.npy", **{**OPTIONS, "size": 1})
    assert set(tmp_path.iterdir()) == before


def test_streams_cannot_be_resumed(x):
    with Path("x.npy").open("rb") as file, pytest.raises(ArgumentError, match="`resume` needs files"):
        lucid.pool_file(file, "y.npy", size=1, resume=True)


def test_killed_and_continued(tmp_path):
    shape = (3000, 1, 512, 512)
    with (tmp_path / "big.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + (3000 << 20))
        file.seek(2000 << 20)
        file.write(np.ones(9999, "f4").tobytes())
    command = [COMMAND, "big.npy", "-s", "7", "--resume", "-q"]
    process = subprocess.Popen(command, cwd=tmp_path)
    spoken = tmp_path / ".big.pooled.npy.lucid-pool.journal"
    while not (spoken.exists() and spoken.read_bytes().count(b"\n") > 1):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert spoken.exists()
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    x = np.load(tmp_path / "big.npy", mmap_mode="r")
    read = np.load(tmp_path / "big.pooled.npy")
    assert np.array_equal(read[1995:2005], adaptive_avg_pool2d(x[1995:2005], 7))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.npy", "big.pooled.npy"]
