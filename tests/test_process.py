"""One input's native crash, hang or failure costs that input only."""

import errno
import gzip
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from slow import slow

import lucid
from lucid.batches import Batch
from lucid.errors import DatasetError, FileError, FormatError, LucidError
from lucid.job import Job
from lucid.options import Options
from lucid.outputs import Naming
from lucid.report import Report
from lucid.run import process
from lucid.run.process import Process
from lucid.workers import workers_for

COMMAND = Path(sys.executable).parent / "lucid-pool"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        with h5py.File(f"{name}.h5", "w") as file:
            file["x"] = np.ones((2, 2, 4, 4))
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="forks there only")
@pytest.mark.parametrize("count", [1, 20], ids=["one by one", "in groups"])
def test_without_processes_what_needs_none_is_done(folder, monkeypatch, count):
    def fork():
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    names = [f"{i}.npy" for i in range(count)]
    for name in names:
        np.save(name, np.ones((1, 1, 2, 2)))
    options = Options(size=1)
    batch = Batch(["a.h5", *names], Naming(None, None), options)
    with workers_for(batch, options, None) as workers:
        (_, failure), *done = workers.pool_all(batch, None)
    text = "needs a process of its own, which cannot begin: Resource temporarily unavailable"
    assert str(failure) == text
    assert [task.source for task, outcome in done if isinstance(outcome, Report)] == names


def make_big(path, samples=6000):
    """A sparse file that takes seconds to pool."""
    with h5py.File(path, "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((samples, 1, 512, 512))
        h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, creation)


def make_locked(path, samples=3000):
    """A file that takes seconds to decode, a chunk after the other behind the library's lock."""
    with h5py.File(path, "w") as file:
        made = file.create_dataset(
            "x", (samples, 1, 512, 512), "f4", chunks=(1, 1, 512, 512), fletcher32=True, compression="gzip"
        )
        made[0] = np.ones((1, 512, 512))
        mask, raw = made.id.read_direct_chunk((0, 0, 0, 0))
        for i in range(1, samples):
            made.id.write_direct_chunk((i, 0, 0, 0), raw, mask)


def pool(process, source, target, on_progress=None, **options):
    checked = Options(size=2, **options)
    return process.call(Job(source, Naming.of(target), checked).run, options=checked, on_progress=on_progress)


def workers_of(process):
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in listed.stdout.split()]


def descendants_of(pid):
    """All processes below one, each before its own."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [one for child in map(int, children) for one in (child, *descendants_of(child))]


def is_running(pid):
    """Whether it is there, and not only waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(folder, pattern, process):
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def test_calls_events_and_errors(folder):
    seen = []
    with Process() as one:
        report = pool(one, "a.h5", "y.h5", on_progress=seen.append)
        assert report.datasets[0].output_shape == (2, 2, 2, 2)
        assert seen[-1].done_bytes == seen[-1].total_bytes == 2 * 2 * 16 * 8
        with pytest.raises(DatasetError, match="has no dataset 'z'"):
            pool(one, "a.h5", "z.h5", datasets=["z"])
        first = one._child.pid
        pool(one, "b.h5", "z.h5")
        assert one._child.pid == first
        ended = one.stop()
    assert not one.has_crashed, ended


def raising(kind):
    raise kind("two\nlines")


def test_what_nobody_foresaw_is_one_line(folder, capfd):
    with Process() as one:
        first = one.start() and one._child.pid
        with pytest.raises(LucidError, match=r"^KeyError 'two.nlines'; nobody foresaw this"):
            one.call(raising, KeyError, options=Options())
        with pytest.raises(BrokenPipeError):  # of a function's own, such as standard output's
            one.call(raising, BrokenPipeError, options=Options())
        assert one._child.pid == first
        assert one.call(abs, -2, options=Options()) == 2
    assert capfd.readouterr() == ("", "")


def test_a_process_that_nobody_listens_to_any_more_ends_without_a_word(folder, capfd):
    """As when a signal ends the command just before the result is sent."""
    one = Process()
    child = one.start()
    child.pipe.send((time.sleep, (0.3,), {}, Options(), False))
    time.sleep(0.1)
    assert child.stop(5) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_hang_is_given_up(folder, monkeypatch):
    monkeypatch.setattr(process, "HANG_SECONDS", 0.5)
    with Process() as one:
        one.start()
        os.kill(one._child.pid, signal.SIGSTOP)
        with pytest.raises(FileError, match="neither read nor wrote"):
            pool(one, "a.h5", "y.h5")
        assert pool(one, "a.h5", "y.h5")


@pytest.mark.skipif(sys.platform != "linux", reason="ps --ppid is Linux's")
@pytest.mark.parametrize(("number", "word"), [(signal.SIGSEGV, "SIGSEGV"), *slow((signal.SIGKILL, "killed"))])
def test_a_crash_costs_one_input(number, word, folder):
    make_big("big.h5")
    process = subprocess.Popen(
        [COMMAND, "a.h5", "big.h5", "b.h5", "-s", "1", "-q"], stderr=subprocess.PIPE, text=True
    )
    wait_for(folder, ".big.pooled.h5.*", process)
    (pid,) = workers_of(process)
    os.kill(pid, number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.startswith("lucid-pool: big.h5: crashed the process that read it")
    assert word in said
    assert said.count("\n") == 1
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["a.h5", "a.pooled.h5", "b.h5", "b.pooled.h5", "big.h5", "c.h5"]


@pytest.mark.skipif(sys.platform != "linux", reason="forks there only")
def test_a_crash_on_what_a_stream_brings_costs_one_input(folder):
    script = (
        "import os, signal; from lucid.formats.hdf5.source import Hdf5Source\n"
        "Hdf5Source.choose = lambda *_: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "from lucid_cli.main import main; main()"
    )
    lucid.pool_file("a.h5", "a.npy", size=4)
    words = [sys.executable, "-c", script, "-", "a.npy", "-s1", "-o", "{stem}.y.npy", "-q"]
    with Path("a.h5").open("rb") as stream:
        done = subprocess.run(words, stdin=stream, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "lucid-pool: standard input: crashed the process that read it: SIGSEGV\n"
    assert sorted(p.name for p in folder.iterdir()) == ["a.h5", "a.npy", "a.y.npy", "b.h5", "c.h5"]


@pytest.mark.skipif(sys.platform != "linux", reason="forks there only")
def test_processes_that_wait_end_by_themselves(folder):
    """Each holds the pipes of those before it, so the last one has to end first."""
    with workers_for(Batch([], Naming(None, None), Options(size=1)), Options(size=1), None) as workers:
        workers.start(3)
        children = [one._child for one in workers.processes]
    assert [child._process.exitcode for child in children] == [0, 0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="forks there only")
@pytest.mark.parametrize(
    "words",
    [
        ["--merge"],
        *slow(["--merge", "-o", "{parent}/{stem}.y.h5"], ["--pack", "in/y.h5"]),
    ],
)
def test_a_crash_leaves_no_temporary_file_of_an_output_of_many(folder, words):
    Path("in").mkdir()
    Path("a.h5").rename("in/a.h5")
    if words[0] == "--merge":
        inputs = [
            str(lucid.pool_file("in/a.h5", f"{i}.h5", size=1, slice=f"{i}:{i + 1}").targets[0])
            for i in (0, 1)
        ]
    else:
        inputs = ["b.h5", "c.h5", "-s1"]
    script = (
        "import os, signal; from lucid.formats.hdf5.sink import Hdf5Sink\n"
        "Hdf5Sink.commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from lucid_cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script, *inputs, *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert "crashed the process" in done.stderr
    assert [p.name for p in Path("in").iterdir()] == ["a.h5"]


@pytest.mark.skipif(sys.platform != "linux", reason="ps --ppid is Linux's")
def test_an_interrupt_ends_the_worker_too(folder):
    make_big("big.h5")
    process = subprocess.Popen(
        [COMMAND, "a.h5", "big.h5", "-s", "1", "-q"], stderr=subprocess.PIPE, text=True
    )
    wait_for(folder, ".big.pooled.h5.*", process)
    (pid,) = workers_of(process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "lucid-pool: stopped by SIGINT\n")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not list(folder.glob(".*"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks well")
@pytest.mark.parametrize(
    ("victim", "number", "status", "said"),
    [
        ("worker", signal.SIGSEGV, 1, "lucid-pool: big.h5: crashed the process that read it: SIGSEGV\n"),
        ("command", signal.SIGINT, 130, "lucid-pool: stopped by SIGINT\n"),
        *slow(
            ("worker", signal.SIGKILL, 1, "lucid-pool: big.h5: crashed the process that read it: killed"),
            ("reader", signal.SIGKILL, 1, "lucid-pool: big.h5: crashed the process that read it: killed"),
            ("command", signal.SIGTERM, 143, "lucid-pool: stopped by SIGTERM\n"),
            ("command", signal.SIGKILL, -9, ""),
            ("group", signal.SIGINT, 130, "lucid-pool: stopped by SIGINT\n"),
        ),
    ],
)
def test_whatever_ends_one_of_several_processes_ends_all(victim, number, status, said, folder):
    make_locked("big.h5")
    process = subprocess.Popen(
        [COMMAND, "big.h5", "-s", "1", "-q", "-j", "3"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(all_of := descendants_of(process.pid)) < 4:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    reader, worker = all_of[0], all_of[2]
    if victim == "group":
        os.killpg(process.pid, number)
    else:
        os.kill({"worker": worker, "reader": reader, "command": process.pid}[victim], number)
    _, words = process.communicate(timeout=30)
    assert process.returncode == status
    assert words.startswith(said)
    deadline = time.monotonic() + 20
    while any(map(is_running, all_of)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_running, all_of))
    assert sorted(p.name for p in folder.iterdir()) == ["a.h5", "b.h5", "big.h5", "c.h5"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the memory of a process")
def test_a_chunk_that_grows_beyond_memory(folder, monkeypatch):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")
    from zarr.codecs.numcodecs import BitRound

    with warnings.catch_warnings(action="ignore"):
        # Before other bytes than those of the processor, only zarr undoes it, with all that is around it.
        swapped = zarr.codecs.BytesCodec(endian="big")
        options = {
            "filters": [BitRound(keepbits=9)],
            "serializer": swapped,
            "compressors": zarr.codecs.GzipCodec(),
        }
        zarr.create_array("x.zarr", shape=(2, 2, 4, 4), dtype="f4", **options)[:] = 1
    part = gzip.compress(bytes(1 << 26))
    next(p for p in Path("x.zarr", "c").rglob("*") if p.is_file()).write_bytes(
        part * 64
    )  # 4 GiB of zeros in 4 MB
    monkeypatch.setattr(process, "MARGIN_BYTES", 1 << 28)
    with Process() as one:
        with pytest.raises(FormatError, match="a chunk grows beyond all memory when it is decoded"):
            pool(one, "x.zarr", "y.zarr")
        # The same process does the next one.
        assert pool(one, "a.h5", "z.h5").targets[0].exists()
