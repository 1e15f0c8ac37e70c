"""Names of outputs follow from the input, the sizes and the template."""

from pathlib import Path

import numpy as np
import pytest

import lucid
from lucid.errors import ArgumentError, DatasetError, ExistsError, FileError
from lucid.formats.registry import FORMATS
from lucid.options import Options
from lucid.outputs import Naming, Target
from lucid.sizes import size_name

NPY, HDF5, ZARR, *_ = FORMATS
ONE, TWO = (1, 1), (4, None)


@pytest.mark.parametrize(
    ("source", "format_", "output", "sizes", "expected"),
    [
        ("d/x.npy", NPY, None, [ONE], {"d/x.pooled.npy": (0,)}),
        ("d/x.npy", NPY, None, [ONE, TWO], {"d/x.pooled.1x1.npy": (0,), "d/x.pooled.4xkeep.npy": (1,)}),
        ("d/x.h5", HDF5, None, [ONE, TWO], {"d/x.pooled.h5": (0, 1)}),
        ("d/x.features", HDF5, None, [ONE], {"d/x.pooled.features": (0,)}),
        ("d/x", NPY, None, [ONE], {"d/x.pooled.npy": (0,)}),
        ("d/x.npy", NPY, "{stem}_{size}.h5", [ONE, TWO], {"x_1x1.h5": (0,), "x_4xkeep.h5": (1,)}),
        ("d/x.npy", NPY, "all.h5", [ONE, TWO], {"all.h5": (0, 1)}),
        ("d/x.zarr", ZARR, None, [ONE, TWO], {"d/x.pooled.zarr": (0, 1)}),
        ("d/x.zarr.zip", ZARR, None, [ONE], {"d/x.pooled.zarr.zip": (0,)}),
        ("x.zarr.zip", ZARR, "{stem}.h5", [ONE], {"x.h5": (0,)}),
        ("-", NPY, "{stem}.npy", [ONE], {"stdin.npy": (0,)}),
        ("d/x.npy", NPY, "{parent}/y/{stem}.npy", [ONE], {"d/y/x.npy": (0,)}),
    ],
)
def test_targets(source, format_, output, sizes, expected):
    found = Naming.of(output).targets(Path(source), format_, Options(sizes=sizes))
    assert {str(target.path): target.sizes for target in found} == expected


def test_what_cannot_be_named():
    with pytest.raises(ArgumentError, match=r"holds one array; put \{size\} in its name for 2 sizes"):
        Naming.of("y.npy").targets(Path("x.npy"), NPY, Options(sizes=[ONE, TWO]))
    with pytest.raises(ArgumentError, match=r"output \S+\.png: its suffix names no format"):
        Naming.of("y.png").targets(Path("x.npy"), NPY, Options(sizes=[ONE]))


@pytest.mark.parametrize("name", ["y.npy", "y.h5", "y.zarr", "y"])
def test_a_folder_of_any_name_is_taken_as_the_error_says(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.ones((1, 1, 2, 2), "f4"))
    Path(name).mkdir()
    remedy = name
    try:
        lucid.pool_file("x.npy", name, size=1)
    except FileError as error:
        if name == "y.zarr":  # which may be a store itself
            assert str(error) == "x.npy: output y.zarr is a folder of other files, which is not replaced"
            return
        remedy = f"{name}/"
        assert str(error).endswith(f"is a folder; expected a file name, or {remedy} for files in it")
        lucid.pool_file("x.npy", remedy, size=1)
    assert [path.name for path in Path(name).iterdir()] == ["x.pooled.npy"]


def test_datasets():
    one, two = (Target(Path("y.h5"), HDF5, sizes) for sizes in ((0,), (0, 1)))
    assert size_name(TWO) == "4xkeep"
    assert two.name_of("/a/b", TWO) == "/a/b_4xkeep"
    assert one.name_of("/a/b", TWO) == "/a/b"
    assert two.name_of("", ONE) == "/data_1x1"


def test_a_name_is_that_name_before_it_is_a_glob(tmp_path):
    x = np.ones((1, 1, 2, 2))
    np.savez(tmp_path / "x.npz", **{"ch[0]": x, "ch0": x, "a/b": x, "a/c": x, "z": x[0]})

    def names(*patterns):
        options = {"size": 1, "datasets": patterns, "dry_run": True}
        return {one.name for one in lucid.pool_file(tmp_path / "x.npz", **options).datasets}

    assert names("ch[0]") == {"/ch[0]"}
    assert names("a/*", "/ch0") == {"/ch0", "/a/b", "/a/c"}
    with pytest.raises(DatasetError, match="has no dataset 'a/d' that can be pooled; did you mean '/a/c'"):
        names("a/d")
    with pytest.raises(DatasetError, match=r"dataset /z has shape \(1, 2, 2\); expected 4 axes"):
        names("z")
    assert "/z has 3 axes" in lucid.pool_file(tmp_path / "x.npz", size=1, dry_run=True).notes[0]


def test_a_circle_of_links_is_a_name_like_others(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((1, 1, 2, 2)))
    target = tmp_path / "y.npy"
    target.symlink_to("y.npy")
    with pytest.raises(ExistsError, match=r"y\.npy exists already"):
        lucid.pool_file(tmp_path / "x.npy", target, size=1)
    lucid.pool_file(tmp_path / "x.npy", target, size=1, overwrite=True)
    assert np.load(target).tolist() == [[[[1]]]]
