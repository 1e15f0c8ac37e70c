"""Processes over items: all are done, in order, to the same bytes, and whatever happens none is left."""

import errno
import faulthandler
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from slow import slow

import lucid
from lucid import forks
from lucid.errors import FileError, FormatError, LucidError
from lucid.formats.hdf5.chunks import BUILT_IN
from lucid.formats.hdf5.filters import LZF
from lucid.formats.hdf5.source import Hdf5Source
from lucid.options import Options

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork") or os.uname().sysname != "Linux", reason="Linux's"),
    # Other tests may have left threads that wait for ever, zarr's and dask's.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def in_order(work, items, workers=3, in_flight=7):
    return forks.in_order(work, items, workers=workers, in_flight=in_flight)


def children():
    """The processes that this one has begun and not yet waited for."""
    return {
        pid for one in Path("/proc/self/task").iterdir() for pid in (one / "children").read_text().split()
    }


@pytest.fixture(autouse=True)
def _no_child_is_left():
    before = children()
    yield
    assert children() == before


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("in_flight", [1, 3, 12])
def test_results_come_in_order_and_no_more_is_begun_than_said(workers, in_flight):
    begun = []

    def items():
        for i in range(50):
            begun.append(i)
            yield i

    def work(i):
        time.sleep(0.002 * (i % 3 == 0))
        return i, os.getpid()

    pids = set()
    for number, (i, pid) in enumerate(in_order(work, items(), workers, in_flight)):
        assert number == i
        assert len(begun) <= i + in_flight
        pids.add(pid)
    assert number == 49
    assert os.getpid() not in pids
    assert len(pids) <= workers


def test_large_results_arrive_while_items_are_sent():
    results = list(in_order(lambda i: bytes(3_000_000 + i), range(20), in_flight=20))
    assert [len(r) - 3_000_000 for r in results] == list(range(20))


def test_no_items():
    assert list(in_order(abs, [])) == []


def raising(error):
    raise error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FormatError("said"), "^said$"),
        (KeyError("two\nlines"), "KeyError 'two.nlines'; nobody foresaw this"),
        (OSError(errno.ENOMEM, "no room"), "cannot be read or written: no room$"),
    ],
)
def test_an_error_of_the_work_is_the_callers(error, text):
    with pytest.raises(LucidError, match=text):
        list(in_order(lambda i: raising(error) if i == 5 else i, range(1000)))


@pytest.mark.parametrize(("number", "word"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "killed, as")])
def test_a_crash_is_an_error(number, word):
    def work(i):
        if i == 5:
            faulthandler.disable()
            os.kill(os.getpid(), number)
        time.sleep(0.001)

    with pytest.raises(FileError, match=f"crashed the process that read it: {word}"):
        list(in_order(work, range(1000)))


def test_a_daemon_may_have_them():
    """As the workers of a user's pool are, which multiprocessing lets begin no process."""
    own = multiprocessing.current_process()
    own._config["daemon"] = True
    try:
        assert list(in_order(abs, [-1, -2])) == [1, 2]
        assert own.daemon
    finally:
        own._config["daemon"] = False


def test_what_is_left_alone_ends():
    # The caller does items, too, and only then sees that the first one is done.
    results = in_order(lambda i: time.sleep((0, 0.3, 0.3, *[60] * 6)[i]), range(9))
    assert next(results) is None
    results.close()


def test_signals_of_the_terminal_are_the_callers():
    def work(i):
        for one in forks.IGNORED_SIGNALS:
            os.kill(os.getpid(), one)
        return i

    assert list(in_order(work, range(9))) == list(range(9))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_when_processes_are_worth_it(monkeypatch):
    large = forks.WORTH_BYTES
    monkeypatch.setattr(forks, "may_fork", lambda: True)
    assert forks.pay_off(large, 2)
    assert not forks.pay_off(large - 1, 2)
    assert not forks.pay_off(large, 1)
    monkeypatch.setattr(forks, "may_fork", lambda: False)
    assert not forks.pay_off(large, 2)


@pytest.mark.parametrize(
    ("beginning", "expected"),
    [
        ("pass", True),
        ("import threading; threading.Thread(target=input, daemon=True).start()", False),
        # Python knows nothing of it, as of the threads of a BLAS.
        (
            "import ctypes; c = ctypes.CDLL(None); c.pthread_create(ctypes.byref(ctypes.c_ulong()), None, c.pause, None)",
            False,
        ),
    ],
    ids=["alone", "a thread of Python", "a thread of a library"],
)
def test_processes_are_forked_where_there_is_no_other_thread(beginning, expected):
    script = (
        f"from lucid import forks\n{beginning}\nprint(forks.may_fork(), flush=True)\nimport os; os._exit(0)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.read() == f"{expected}\n"


def test_without_proc_nothing_is_forked(monkeypatch):
    monkeypatch.setattr(forks, "TASKS", Path("/nowhere"))
    assert not forks.may_fork()


@pytest.fixture
def calls(monkeypatch):
    """Processes however small the file is; how often they were used."""
    seen, real = [], forks.in_order
    monkeypatch.setattr(forks, "WORTH_BYTES", 0)
    monkeypatch.setattr(forks, "may_fork", lambda: True)
    monkeypatch.setattr(
        forks, "in_order", lambda *args, **kw: seen.append(kw["workers"]) or real(*args, **kw)
    )
    return seen


without_lzf = pytest.mark.skipif(LZF not in BUILT_IN, reason="installed without what is compiled")


def plugin(name, **options):
    hdf5plugin = pytest.importorskip("hdf5plugin", reason="the extra `filters` is not installed")
    return {**getattr(hdf5plugin, name)(**options)}


#: What the library undoes, one thread at a time.
LOCKED = {"compression": "gzip", "fletcher32": True}
FILTERS = {
    "fletcher32": lambda: LOCKED,
    "fletcher32 and lzf": lambda: {"compression": "lzf", "shuffle": True, "fletcher32": True},
    "Blosc-zstd": lambda: plugin("Blosc", cname="zstd"),
    "zstd": lambda: plugin("Zstd"),
    "LZ4": lambda: plugin("LZ4"),
    "bitshuffle": lambda: plugin("Bitshuffle"),
}


def make(path, x, filters, **options):
    with h5py.File(path, "w", **options) as file:
        file.create_dataset("g/x", data=x, chunks=(2, 3, 20, 18), **filters)
        file["labels"] = np.arange(len(x))


@pytest.mark.parametrize(
    "name", ["fletcher32 and lzf", "zstd", *slow("fletcher32", "Blosc-zstd", "LZ4", "bitshuffle")]
)
def test_the_bytes_are_those_of_one_thread(name, calls, tmp_path, rng):
    x = np.round(rng.standard_normal((24, 8, 20, 18)) * 9).astype("f4")
    make(tmp_path / "x.h5", x, FILTERS[name]())
    for threads in (1, 2, 3):
        lucid.pool_file(tmp_path / "x.h5", tmp_path / f"{threads}.h5", sizes=[2, 13], threads=threads)
    one, two, three = ((tmp_path / f"{n}.h5").read_bytes() for n in (1, 2, 3))
    assert one == two == three
    # Once to read and once to write, each size.
    assert calls == [2, 2, 2, 3, 3, 3]
    with h5py.File(tmp_path / "3.h5") as file:
        assert np.array_equal(file["g/x_13x13"], lucid.nn.functional.adaptive_avg_pool2d(x, 13))


@pytest.mark.parametrize("target", ["y.h5", "y.npz", *slow("y.npy", "y.safetensors", "y.zarr.zip")])
@pytest.mark.parametrize("max_memory", [1 << 28, *slow(40 << 10)])
def test_every_format_takes_what_processes_pool(target, max_memory, calls, tmp_path, rng):
    x = rng.standard_normal((5, 2, 60, 50)).astype("f4")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(1, 1, 16, 16), **LOCKED)
    made = []
    for threads in (1, 3):
        out = tmp_path / str(threads) / target
        out.parent.mkdir()
        lucid.pool_file(tmp_path / "x.h5", out, size=4, threads=threads, max_memory=max_memory)
        made.append(out.read_bytes())
    assert made[0] == made[1]
    # Processes that encode need some memory of their own.
    assert calls == ([3, 3] if target == "y.h5" and max_memory == 1 << 28 else [3])


def test_results_for_a_stream_are_handed_back(calls, tmp_path, rng):
    x = rng.standard_normal((40, 2, 20, 18)).astype("f4")
    make(tmp_path / "x.h5", x[:, [0, 1, 1]], LOCKED)
    target = io.BytesIO()
    lucid.pool_file(tmp_path / "x.h5", target, size=3, threads=3, max_memory=800_000)
    target.seek(0)
    assert np.array_equal(np.load(target), lucid.nn.functional.adaptive_avg_pool2d(x, 3)[:, [0, 1, 1]])
    assert calls == [3]


def test_a_user_block_and_resume(calls, tmp_path, rng):
    x = rng.standard_normal((24, 3, 20, 18))
    make(tmp_path / "x.h5", x, LOCKED, userblock_size=512)
    report = lucid.pool_file(tmp_path / "x.h5", tmp_path / "y.npy", size=3, threads=2, resume=True)
    assert calls == [2]
    assert report.input_bytes == x.nbytes
    assert min(report.read_seconds, report.pool_seconds, report.write_seconds) > 0
    assert np.array_equal(np.load(tmp_path / "y.npy"), lucid.nn.functional.adaptive_avg_pool2d(x, 3))


@pytest.mark.parametrize("compression", ["gzip", pytest.param("lzf", marks=without_lzf)])
def test_what_threads_decode_needs_no_process(compression, calls, tmp_path, rng):
    x = rng.standard_normal((8, 3, 20, 18))
    make(tmp_path / "x.h5", x, {"compression": compression, "shuffle": True})
    lucid.pool_file(tmp_path / "x.h5", tmp_path / "y.h5", size=3, threads=2, compression="none")
    assert calls == []
    with Hdf5Source(tmp_path / "x.h5", Options()) as source:
        (spec,) = source.choose(())
        assert not source.is_locked(spec)


def test_a_hostile_chunk_is_one_line_and_leaves_nothing(calls, tmp_path):
    make(tmp_path / "x.h5", np.ones((24, 3, 20, 18)), LOCKED)
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["g/x"].id.write_direct_chunk((12, 0, 0, 0), b"\xff" * 40)
    with pytest.raises(FormatError, match="dataset /g/x: "):
        lucid.pool_file(tmp_path / "x.h5", tmp_path / "y.h5", size=2, threads=2)
    assert calls == [2]
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]
