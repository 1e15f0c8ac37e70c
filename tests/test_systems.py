"""Other systems than Linux: what their calls and file systems do otherwise, and what is done without the calls they lack."""

import fcntl
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from slow import slow

import lucid
from lucid.batches import Batch
from lucid.errors import FileError
from lucid.formats.disk import files, replacement
from lucid.formats.paths import folds_case
from lucid.options import Options
from lucid.outputs import Naming

#: Has a process know no more than macOS does.
LACKS = """
import ctypes, os, resource, sys
for name in ("sched_getaffinity", "posix_fallocate"):
    if hasattr(os, name):
        delattr(os, name)

class Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name in ("renameat2", "mallopt", "prctl"):
            raise AttributeError(name)
        return super().__getattr__(name)

ctypes.CDLL = Library
import h5py, numpy, pathlib, lucid.workers, lucid.run.process
sys.platform = "darwin"
read_text = pathlib.Path.read_text

def none_in_proc(path, *args, **keywords):
    return read_text(pathlib.Path("/nowhere") if path.parts[1:2] == ("proc",) else path, *args, **keywords)

pathlib.Path.read_text = none_in_proc
"""


@pytest.mark.parametrize("suffix", [".npy", *slow(".h5")])
def test_a_system_that_knows_only_what_macos_does_gives_the_same_bytes(tmp_path, suffix):
    x = np.random.default_rng(1).normal(size=(5, 4, 9, 9)).astype("f4")
    if suffix == ".npy":
        np.save(tmp_path / "x.npy", x)
    else:
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.create_dataset("x", data=x, chunks=(1, 4, 9, 9), compression="gzip")
    lucid.pool_file(tmp_path / f"x{suffix}", tmp_path / f"right{suffix}", size=2)
    # Two of them in a batch: HDF5 goes to a process that is spawned, not forked.
    (tmp_path / f"y{suffix}").write_bytes((tmp_path / f"x{suffix}").read_bytes())
    arguments = ["lucid-pool", f"x{suffix}", f"y{suffix}", "--size", "2", "--output-dir", "out", "-f"]
    code = f"{LACKS}\nsys.argv = {arguments}\nfrom lucid_cli.main import main\nmain()"
    (tmp_path / "command.py").write_text(
        f"if __name__ == '__main__':\n    {code.replace(chr(10), chr(10) + '    ')}"
    )
    for _ in range(2):  # the second time, outputs are replaced
        done = subprocess.run(
            [sys.executable, "command.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
    right = (tmp_path / f"right{suffix}").read_bytes()
    for name in "xy":
        assert (tmp_path / "out" / f"{name}.pooled{suffix}").read_bytes() == right
    assert len([*(tmp_path / "out").iterdir()]) == 2


def test_no_call_asks_for_more_bytes_than_macos_takes_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CALL_BYTES", 100)
    most = []
    for name in ("preadv", "pwrite"):
        real = getattr(os, name)

        def call(descriptor, data, offset, real=real):
            most.append(len(data[0] if isinstance(data, list) else data))
            return real(descriptor, data, offset)

        monkeypatch.setattr(os, name, call)
    x = np.random.default_rng(1).normal(size=(5, 4, 9, 9))
    np.save(tmp_path / "x.npy", x)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = x
    for suffix in (".npy", ".h5"):
        lucid.pool_file(tmp_path / f"x{suffix}", tmp_path / f"y{suffix}", size="keep")
    assert max(most) == 100
    assert np.array_equal(np.load(tmp_path / "y.npy"), x)
    with h5py.File(tmp_path / "y.h5") as file:
        assert np.array_equal(file["x"], x)


@pytest.mark.parametrize("knows_it", [True, False])
def test_an_output_is_on_disk_not_in_the_drive_s_memory(tmp_path, monkeypatch, knows_it):
    seen = []

    def control(descriptor, command):
        seen.append("full" if command == 51 else "?")
        if not knows_it:
            raise OSError(45, "Operation not supported")

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", lambda _: seen.append("plain"))
    replacement.sync(tmp_path)
    assert seen == ["full"] + ["plain"] * (not knows_it)


class TestNamesThatDifferInCaseAlone:
    """Where the file system knows no case, they are one name: of two arrays or outputs, one would be lost."""

    @pytest.fixture(autouse=True)
    def no_case(self, monkeypatch):
        for module in ("batches", "formats.zarr.sink"):
            monkeypatch.setattr(f"lucid.{module}.folds_case", lambda _: True)

    @pytest.mark.parametrize("dry_run", [True, False])
    @pytest.mark.parametrize("target", ["y.zarr", "y.zarr.zip"])
    def test_arrays_of_a_store(self, tmp_path, target, dry_run):
        np.savez(tmp_path / "x.npz", T=np.ones((1, 2, 4, 4)), t=np.zeros((1, 2, 4, 4)))
        with pytest.raises(
            FileError, match="takes the names 'T' and 't' for one; choose one of these arrays"
        ):
            lucid.pool_file(tmp_path / "x.npz", tmp_path / target, size=2, dry_run=dry_run)
        assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
        lucid.pool_file(tmp_path / "x.npz", tmp_path / target, datasets="T", size=2)

    def test_carried_arrays_of_a_store(self, tmp_path):
        zarr = pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")
        group = zarr.open_group(tmp_path / "x.zarr", mode="w")
        for name in ("X", "a", "A"):
            group.create_array(name, data=np.ones((1, 2, 4, 4)[: 4 if name == "X" else 1]))
        with pytest.raises(FileError, match="for one"):
            lucid.pool_file(tmp_path / "x.zarr", tmp_path / "y.zarr", size=2)
        lucid.pool_file(tmp_path / "x.zarr", tmp_path / "y.zarr", size=2, drop="a")

    def test_outputs_of_a_batch(self, tmp_path):
        for name in ("p/A.npy", "q/a.npy"):
            (tmp_path / name).parent.mkdir()
            np.save(tmp_path / name, np.ones((1, 2, 4, 4)))
        names = [str(tmp_path / name) for name in ("p/A.npy", "q/a.npy")]
        tasks = [*Batch(names, Naming.of(f"{tmp_path}/o/"), Options(size=1, overwrite=True))]
        assert all("would be written to" in str(task.error) for task in tasks)
        tasks = [*Batch(names, Naming.of(None), Options(size=1))]
        assert [task.error for task in tasks] == [None, None]


def test_a_folder_tells_whether_its_file_system_knows_case(tmp_path):
    (tmp_path / "17").mkdir()
    assert (
        folds_case(tmp_path / "17")
        == folds_case(tmp_path / "17" / "none")
        == (tmp_path.parent / tmp_path.name.upper()).exists()
    )
    (tmp_path / "17" / "a").write_text("")
    (tmp_path / "17" / "A").write_text("")
    assert folds_case(tmp_path / "17") == (len([*(tmp_path / "17").iterdir()]) == 1)
