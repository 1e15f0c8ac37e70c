"""Files of very many objects: what is kept of each is little, and right."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

import lucid
from lucid.backlog import Backlog
from lucid.formats.arrays import ResultSpec
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.means import Means
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.hdf5.tree import address_of
from lucid.options import Options

POOL = """
import sys, lucid
options = dict(size=1, threads=1, overwrite=True, **({"datasets": sys.argv[3:]} if sys.argv[3:] else {}))
print(lucid.pool_file(sys.argv[1], sys.argv[2], **options).peak_memory_bytes)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Files of few and of many datasets."""
    files = {}
    for count in (1000, 12_000):
        files[count] = tmp_path_factory.mktemp("many") / f"{count}.h5"
        with h5py.File(files[count], "w") as file:
            for i in range(count):
                file[f"x{i:05}"] = np.full((1, 4, 3, 3), i, "f4")
    return files


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "most_bytes_each"),
    [
        # What is known of each waits in a file, and the library's cache holds a few names and addresses.
        ([], 250),
        # Of those that are carried over there is no record but a name.
        (["x00500"], 250),
    ],
)
def test_memory_hardly_grows_with_the_number_of_datasets(many, tmp_path, names, most_bytes_each):
    peaks = []
    for count, path in many.items():
        command = [sys.executable, "-c", POOL, path, tmp_path / "out.h5", *names]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True).stdout))
        with h5py.File(tmp_path / "out.h5") as file:
            assert all(file[f"x{i:05}"][()].flat[-1] == i for i in range(0, count, 97))
            assert [file[name].shape for name in names or ["x00000"]] == [(1, 4, 1, 1)]
    assert peaks[1] - peaks[0] < (max(many) - min(many)) * most_bytes_each


def test_datasets_that_differ_in_more_than_their_names_are_told_apart(tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for i in range(3):
            file[f"plain{i}"] = np.full((1, 2, 4, 4), i, "f4")
            file[f"integers{i}"] = np.full((1, 2, 4, 4), i, "i2")
            file[f"missing{i}"] = np.full((1, 2, 4, 4), i, "i2")
            file[f"missing{i}"].attrs["_FillValue"] = np.int16(2)
            file[f"other{i}"] = np.full((1, 2, 6, 4), i, "f4")
            file.create_dataset(f"filled{i}", data=np.full((1, 2, 4, 4), i, "f4"), fillvalue=7)
        file["also"] = file["plain1"]
        file["reference"] = file["plain2"].ref
    lucid.pool_file(tmp_path / "in.h5", tmp_path / "out.h5", size=2)
    with h5py.File(tmp_path / "out.h5") as file:
        for i in range(3):
            assert np.all(file[f"plain{i}"][()] == i)
            assert np.all(file[f"integers{i}"][()] == i)
            assert (
                np.all(np.isnan(file[f"missing{i}"][()])) if i == 2 else np.all(file[f"missing{i}"][()] == i)
            )
            assert file[f"other{i}"].shape == (1, 2, 2, 2)
            assert file[f"filled{i}"].fillvalue == 7
            assert '"source_shape": [1, 2, 6, 4]' in file[f"other{i}"].attrs["lucid_pool"]
        assert file["also"] == file["plain1"]
        assert file[file["reference"][()]] == file["plain2"]


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"track_order": True}])
def test_an_object_of_very_many_attributes_keeps_them(tmp_path, options):
    with h5py.File(tmp_path / "in.h5", "w", **options) as file:
        file["x"] = np.ones((1, 2, 4, 4), "f4")
        for i in reversed(range(100)):
            file.attrs[f"a{i}"] = i
            file["x"].attrs[f"a{i}"] = str(i)
    lucid.pool_file(tmp_path / "in.h5", tmp_path / "out.h5", size=2)
    with h5py.File(tmp_path / "in.h5") as old, h5py.File(tmp_path / "out.h5") as new:
        assert list(new.attrs.items()) == list(old.attrs.items())
        names = [name for name in new["x"].attrs if name != "lucid_pool"]
        assert names == list(old["x"].attrs)
        assert new["x"].attrs["a7"] == "7"


def test_each_result_is_found_by_the_address_of_what_it_is_made_of(tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for i in (7, 3, 1000, *range(8, 800)):
            file[f"g/x{i}"] = np.zeros((1, 1, 2, 2), "f4")
        file["other"] = 1
    with Hdf5Source(tmp_path / "in.h5", Options(sizes=[1, 2])) as source:
        specs = source.choose(())
        results = [
            ResultSpec(spec, f"{spec.name}_{n}", (1, 1, n, n), spec.dtype, spec.numbers, "{}")
            for spec in specs
            for n in (1, 2)
        ]
        means = Means(source.file, Backlog(results))
        assert [one for several in means.values() for one in several] == results
        for i in (7, 3, 1000, 799):
            address = address_of(source.file[f"g/x{i}"])
            assert address in means
            assert [one.name for one in means[address]] == [f"/g/x{i}_1", f"/g/x{i}_2"]
        assert address_of(source.file["other"]) not in means
        assert means.get(-1, ()) == means.get(1 << 62, ()) == ()


def test_the_library_looks_for_the_path_of_a_scale_once(tmp_path, monkeypatch):
    """It looks in all of the file, so of 400 datasets on four scales it took five seconds."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for name, length in zip("tzyx", (1, 4, 4, 4), strict=True):
            file[name] = np.arange(float(length))
            file[name].make_scale(name)
        for i in range(20):
            file[f"v{i}"] = np.ones((1, 4, 4, 4))
            for axis, name in enumerate("tzyx"):
                file[f"v{i}"].dims[axis].attach_scale(file[name])
    paths, path_of = [], tree.path_of
    monkeypatch.setattr(tree, "path_of", lambda obj: paths.append(path_of(obj)) or paths[-1])
    lucid.pool_file(tmp_path / "in.h5", tmp_path / "out.h5", size=2)
    # Where arrays are chosen, and where results get their scales.
    assert [paths.count(f"/{name}") for name in "tzyx"] == [2, 2, 2, 2]
    with h5py.File(tmp_path / "out.h5") as file:
        assert [axis[0].name for axis in file["v19"].dims] == ["/t", "/z", "/y_2", "/x_2"]
