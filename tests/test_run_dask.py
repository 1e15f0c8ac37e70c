"""Runs on a real Dask cluster of processes: the bytes of a single run, whatever happens to workers.

Clusters are slow, so all of this is left out of the quick suite.
"""

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
from lucid.errors import ArgumentError, ExistsError, FileError, LucidError
from lucid.shards import folder, spans

distributed = pytest.importorskip("distributed", reason="distributed is not installed (extra dask)")
from lucid.run.dask import Dask, connect  # noqa: E402  (needs it)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client():
    with connect("local", workers=2) as cluster, cluster.client() as connected:
        yield connected


@pytest.fixture(autouse=True)
def small_spans(monkeypatch):
    """So that small inputs have many."""
    monkeypatch.setattr(spans, "SPAN_BYTES", 1 << 16)


def pool_on(client, source, target=None, **options):
    return lucid.pool_file(source, target, executor=Dask(client), **options)


@pytest.fixture
def source(tmp_path, rng):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset(
            "features",
            data=rng.standard_normal((600, 8, 12, 12)).astype("f4"),
            chunks=(16, 8, 12, 12),
            compression="gzip",
        )
        file["labels"] = np.arange(600)
    return tmp_path / "x.h5"


@pytest.fixture
def done(monkeypatch):
    """The spans that were sent to the cluster, run by run."""
    sent = []
    run = Dask.run

    def watched(self, task, items, wait):
        sent.append([])
        for item, result in zip(items, run(self, task, items, wait), strict=True):
            sent[-1].append(item)
            yield result

    monkeypatch.setattr(Dask, "run", watched)
    return sent


def shards_beside(path):
    return {shard: shard.stat().st_ino for folder in left_beside(path) for shard in folder.glob("*.h5")}


def left_beside(path):
    return [p for p in path.parent.iterdir() if p.name.endswith(".shards")]


@pytest.mark.parametrize(
    "options",
    [{"size": 3}, {"sizes": [1, (2, 3)], "flatten": True}],
    ids=["one", "flat"],
)
def test_hdf5(client, source, tmp_path, options, done):
    one = lucid.pool_file(source, tmp_path / "one.h5", **options)
    two = pool_on(client, source, tmp_path / "two.h5", **options)
    assert one.targets[0].read_bytes() == two.targets[0].read_bytes()
    assert [d.output_shape for d in two.datasets] == [d.output_shape for d in one.datasets]
    assert two.input_bytes == one.input_bytes
    assert len(done[0]) > 10
    assert two.threads == 2
    assert not left_beside(source)


def test_npy_of_several_sizes(client, tmp_path, rng):
    np.save(tmp_path / "x.npy", np.asfortranarray(rng.standard_normal((90, 4, 9, 9))))
    one = lucid.pool_file(tmp_path / "x.npy", tmp_path / "one-{size}.npy", sizes=[1, 2])
    two = pool_on(client, tmp_path / "x.npy", tmp_path / "two-{size}.npy", sizes=[1, 2])
    assert [p.read_bytes() for p in one.targets] == [p.read_bytes() for p in two.targets]


@pytest.mark.parametrize("suffix", [".zarr", ".zarr.zip"])
def test_zarr(client, tmp_path, rng, suffix):
    zarr = pytest.importorskip("zarr")
    root = zarr.create_group(tmp_path / "x.zarr")
    root.create_array("a", shape=(300, 4, 9, 9), chunks=(16, 4, 9, 9), shards=(64, 4, 9, 9), dtype="f4")[
        :
    ] = 2
    root["a"][7:80] = rng.standard_normal((73, 4, 9, 9))
    root.create_array("labels", data=np.arange(300))
    one = lucid.pool_file(tmp_path / "x.zarr", tmp_path / f"one{suffix}", size=2).targets[0]
    two = tmp_path / f"two{suffix}"
    pool_on(client, tmp_path / "x.zarr", two, size=2)
    assert files_of(one) == files_of(two)


def test_an_input_behind_a_url(client, tmp_path, rng):
    zarr = pytest.importorskip("zarr")
    zarr.save_array(tmp_path / "x.zarr", rng.standard_normal((300, 4, 9, 9)))
    url = (tmp_path / "x.zarr").as_uri()
    one = lucid.pool_file(url, tmp_path / "one.npy", size=2).targets[0]
    (tmp_path / ".two.npy.x.shards").mkdir()  # of another output, which stays
    two = pool_on(client, url, tmp_path / "two.npy", size=2).targets[0]
    assert one.read_bytes() == two.read_bytes()
    assert len(left_beside(two)) == 1


def files_of(path):
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_a_worker_killed_in_the_middle(client, source, tmp_path, done, monkeypatch):
    one = lucid.pool_file(source, tmp_path / "one.h5", size=3).targets[0]
    killed, before, after = [], {}, {}

    def kill(progress):
        if not killed and progress.done_bytes > progress.total_bytes / 4:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)
            before.update(shards_beside(source))

    join = folder.join

    def watched(*args):
        after.update(shards_beside(source))
        return join(*args)

    monkeypatch.setattr(folder, "join", watched)
    two = tmp_path / "two.h5"
    pool_on(client, source, two, size=3, on_progress=kill)
    assert killed
    assert one.read_bytes() == two.read_bytes()
    assert len(before) > 2
    # Results that the worker had not told yet are asked for again, but their shards are not made again.
    assert all(after[shard] == inode for shard, inode in before.items())
    assert not left_beside(source)


def test_what_was_done_is_not_done_again(client, source, tmp_path, done):
    one = lucid.pool_file(source, tmp_path / "one.h5", size=3).targets[0]
    two = tmp_path / "two.h5"

    def interrupt(progress):
        if progress.done_bytes > progress.total_bytes / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool_on(client, source, two, size=3, on_progress=interrupt)
    assert not two.exists()
    (folder,) = left_beside(source)
    before = len(list(folder.glob("[0-9]*")))
    with pytest.raises(FileError, match=r"cannot be resumed: .* is of other `size`"):
        pool_on(client, source, two, size=2)
    # Here or on a cluster, it is the same work.
    with pytest.raises(KeyboardInterrupt):
        lucid.pool_file(source, two, size=3, resume=True, on_progress=interrupt)
    assert len(list(folder.glob("[0-9]*"))) >= before
    pool_on(client, source, two, size=3)
    assert before > 5
    assert len(done[-1]) < 30
    assert one.read_bytes() == two.read_bytes()
    assert not left_beside(source)


def test_outputs_that_are_there(client, source, tmp_path, done):
    target = tmp_path / "y.h5"
    target.write_bytes(b"mine")
    with pytest.raises(ExistsError):
        pool_on(client, source, target, size=3)
    with pytest.raises(ExistsError, match="it is not this run's"):
        pool_on(client, source, target, size=3, resume=True)
    assert target.read_bytes() == b"mine"
    pool_on(client, source, target, size=3, overwrite=True)
    assert h5py.is_hdf5(target)
    assert pool_on(client, source, target, size=3, resume=True).skipped
    assert len(done) == 1


def test_a_failure_is_one_error_and_keeps_the_shards(client, source, tmp_path):
    with h5py.File(source) as file:
        chunk = file["features"].id.get_chunk_info(30)
    with source.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * 64)
    with pytest.raises(LucidError) as raised:
        pool_on(client, source, tmp_path / "y.h5", size=3)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "y.h5").exists()
    assert left_beside(source)


def test_what_cannot_be_done(client, tmp_path):
    pytest.importorskip("zarr")
    import zarr

    zarr.save_array(f"memory://{tmp_path.name}/x.zarr", np.ones((2, 1, 2, 2)))
    with pytest.raises(ArgumentError, match="is a URL"):
        pool_on(client, f"memory://{tmp_path.name}/x.zarr", size=1)


class TestCommand:
    def test_a_cluster_of_its_own(self, command, source, tmp_path):
        assert command("x.h5", "-s", "3", "-o", "one.h5").returncode == 0
        done = command("x.h5", "-s", "3", "-o", "two.h5", "--dask", "local", "-j", "2")
        assert done.returncode == 0, done.stderr
        assert "2 threads" in done.stderr
        assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()

    @pytest.mark.parametrize(
        ("args", "text"),
        [
            (["-", "--dask", "local"], "--dask needs files"),
            (["x.h5", "--dask", "local", "-o", "-"], "--dask needs files"),
            (["x.h5", "--dask", "local", "--slice", "0:9"], "--dask divides the work itself"),
        ],
    )
    def test_mistakes(self, command, source, args, text):
        done = command(*args, "-s", "3")
        assert done.returncode == 2
        assert text in done.stderr

    @pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "foo://x:1"])
    def test_no_cluster_there(self, command, source, address):
        done = command("x.h5", "-s", "3", "--dask", address, timeout=60)
        assert done.returncode == 1
        assert done.stderr == (
            f"lucid-pool: x.h5: no Dask scheduler answers at {address}; "
            "expected an address such as tcp://HOST:8786\n"
        )

    def test_ctrl_c_leaves_shards_and_no_process(self, tmp_path):
        np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype="f4", shape=(40_000, 64, 28, 28))
        executable = Path(sys.executable).parent / "lucid-pool"
        process = subprocess.Popen(
            [executable, "x.npy", "-s", "4", "--dask", "local", "-q"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        while not list(tmp_path.glob(".*.shards/*.npy")):
            assert process.poll() is None
            time.sleep(0.02)
        # As a terminal does: to every process of the group.
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=30)
        assert process.returncode == 130
        kept = "shards that are done are kept, and the same command goes on with them"
        assert told == f"lucid-pool: stopped by SIGINT; {kept}\n"
        assert len(list(tmp_path.glob(".*.shards/*.npy"))) > 0
        assert not (tmp_path / "x.pooled.npy").exists()
        with pytest.raises(ProcessLookupError):
            for _ in range(100):
                os.killpg(process.pid, 0)
                time.sleep(0.1)


def test_ctrl_c_while_a_cluster_begins_is_heard_afterwards_and_not_by_its_processes():
    script = """
import os, signal, subprocess, sys, threading
from multiprocessing import resource_tracker
from lucid.run.dask import _ignore_interrupts

heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append("heard"))
end = threading.Event()
interrupt = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
with _ignore_interrupts():
    threading.Thread(target=lambda: (resource_tracker.ensure_running(), end.wait())).start()
    status = subprocess.run([sys.executable, "-c", interrupt]).returncode
    exec(interrupt)
    print(status, heard)
print(heard)
end.set()
"""
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "0 []\n['heard']\n"
