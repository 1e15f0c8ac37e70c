"""Outputs that the system refuses to write, in every format: the error names them, and nothing is left."""

import resource
import tempfile
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
from slow import slow

import lucid
from lucid import backlog
from lucid.backlog import HELD
from lucid.errors import FileError

X = np.random.default_rng(0).random((2, 16, 64, 64), "f4")
LIMIT = 1 << 18


@contextmanager
def largest_file(size):
    """No file of this process may grow beyond a size meanwhile; each of these arrays would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def source(tmp_path):
    """An array in one chunk, so that Zarr makes one file of it, and what is carried over."""
    folder = tmp_path / "in"
    folder.mkdir()
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("x", data=X, chunks=X.shape)
        file["labels"] = np.arange(3)
    return folder / "x.h5"


@pytest.mark.parametrize("name", ["y.npy", "y.npz", "y.safetensors", "y.h5", "y.zarr", "y.zarr.zip"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_an_output_that_is_refused_is_named(tmp_path, source, name, compression):
    if "zarr" in name:
        pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")
    if compression != "none" and name in ("y.npy", "y.safetensors"):
        pytest.skip("the format has no compression")
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / name
    with largest_file(LIMIT), pytest.raises(FileError) as raised:
        lucid.pool_file(source, target, size="keep", compression=compression)
    assert str(raised.value).startswith(f"{source}: output {target} cannot be written: File too large")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("suffix", [".npz", *slow(".safetensors")])
def test_no_room_to_note_what_is_in_a_file_is_no_fault_of_it(tmp_path, monkeypatch, suffix):
    np.savez(tmp_path / "x.npz", **{f"a{number}": X[:1, :1, :2, :2] for number in range(HELD + 1)})
    source = tmp_path / f"y{suffix}"
    lucid.pool_file(tmp_path / "x.npz", source, size="keep")
    monkeypatch.setattr(backlog, "FILE_BYTES", 1)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "wb+"))  # noqa: SIM115
    with pytest.raises(FileError) as raised:
        lucid.pool_file(source, tmp_path / "out.npy", size=1, datasets="a0")
    assert (
        str(raised.value) == f"{source}: a temporary file (TMPDIR) cannot be written: No space left on device"
    )


def test_what_is_carried_over_names_the_output_that_has_no_room(tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    group.create_array("x", data=X[:1, :1])
    group.create_array("others", data=X[0], chunks=X[0].shape, compressors=None)
    np.savez(tmp_path / "x.npz", x=X[:1, :1], others=X[0, :, :, None])
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"], file["others"] = X[:1, :1], X[0]
    for suffix in (".zarr", ".npz", ".h5"):
        target = tmp_path / f"y{suffix}"
        with largest_file(1 << 17), pytest.raises(FileError) as raised:
            lucid.pool_file(tmp_path / f"x{suffix}", target, size=1, datasets="x")
        assert f": output {target} cannot be written: File too large" in str(raised.value)
