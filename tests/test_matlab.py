"""What software that reads MATLAB's files makes of results: mat73, and hdf5storage, which notes Python's types, too."""

import numpy as np
import pytest

import lucid

mat73 = pytest.importorskip("mat73", reason="mat73 is in the extra `dev`")
hdf5storage = pytest.importorskip("hdf5storage", reason="hdf5storage is in the extra `dev`")


@pytest.mark.parametrize("notes_python", [False, True])
@pytest.mark.parametrize("dtype", [None, "keep"])
@pytest.mark.parametrize("kind", ["f4", "f8", "u1", "i2", "i8", "?"])
def test_readers_find_the_means_and_all_else(tmp_path, rng, kind, dtype, notes_python):
    maps = (rng.random((6, 8, 3, 2)) * 100).astype(kind)
    others = {"name": "kitchen", "parts": {"a": np.arange(3.0), "b": "text"}, "empty": np.zeros((0, 3))}
    path, target = tmp_path / "in.mat", tmp_path / "out.mat"
    hdf5storage.savemat(path, {"maps": maps} | others, format="7.3", store_python_metadata=notes_python)
    # MATLAB's axes are the file's, read backwards: rows and columns are the first two here.
    lucid.pool_file(path, target, size=2, dtype=dtype)
    right = maps.astype("f8").reshape(2, 3, 2, 4, 3, 2).mean((1, 3))
    for read in (mat73.loadmat, hdf5storage.loadmat):
        result, before = read(str(target)), read(str(path))
        expected = np.dtype(kind) if dtype == "keep" else np.dtype("f8" if kind in ("f8", "i8") else "f4")
        assert result["maps"].dtype == expected
        wanted = np.rint(right) if dtype == "keep" and expected.kind != "f" else right
        assert np.allclose(result["maps"], wanted, rtol=1e-6)
        assert str(result["name"]) == str(before["name"])
        assert str(result["parts"]) == str(before["parts"])
