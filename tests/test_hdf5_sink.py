"""HDF5 outputs: what is carried over, references, scales, compression, several sizes."""

import errno
import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

import lucid
from lucid.compression import LEVELS
from lucid.errors import ArgumentError, FileError, FormatError, MissingExtraError
from lucid.nn.functional import adaptive_avg_pool2d


@pytest.fixture
def x(rng):
    return rng.standard_normal((12, 3, 10, 8)).astype("f4")


def test_references_in_carried_datasets_point_into_the_output(path, out, x):
    with h5py.File(path, "w") as file:
        file["x"], file["labels"] = x, np.arange(12)
        file["gone"] = np.arange(3)
        refs = [file["labels"].ref, file["x"].ref, file["gone"].ref, h5py.h5r.Reference()]
        file.create_dataset("refs", data=np.array(refs, h5py.ref_dtype))
        file["scalar"] = np.array(file["labels"].ref, h5py.ref_dtype)
        table = np.empty(2, [("name", "S4"), ("ref", h5py.ref_dtype)])
        table[0], table[1] = (b"a", file["labels"].ref), (b"b", file["x"].ref)
        file["table"] = table
        file["labels"].attrs["of"] = file["x"].ref
        regions = [file["labels"].regionref[2:5], file["x"].regionref[0]]
        file.create_dataset("regions", data=np.array(regions, h5py.regionref_dtype))
        del file["gone"]
    lucid.pool_file(path, out, size=2)
    with h5py.File(out) as file:
        assert [file[r].name if r else None for r in file["refs"][:]] == ["/labels", "/x", None, None]
        assert file[file["scalar"][()]].name == "/labels"
        assert [(n, file[r].name) for n, r in file["table"][:].tolist()] == [(b"a", "/labels"), (b"b", "/x")]
        assert file[file["labels"].attrs["of"]].shape == (12, 3, 2, 2)
        carried, pooled = file["regions"][:]
        assert file[carried].name == "/labels"
        assert list(file["labels"][carried]) == [2, 3, 4]
        assert not pooled


class TestScales:
    @pytest.fixture(autouse=True)
    def make(self, path, x):
        with h5py.File(path, "w") as file:
            made = file.create_dataset("x", data=x)
            file["other"] = np.zeros((10, 8))
            for axis, (name, length) in enumerate(zip("nchw", x.shape, strict=True)):
                file[name] = np.arange(float(length))
                file[name].attrs["units"] = "m"
                file[name].make_scale(name)
                made.dims[axis].attach_scale(file[name])
            file["other"].dims[0].attach_scale(file["h"])

    def test_pooled_axes_get_scales_of_their_own(self, path, out):
        lucid.pool_file(path, out, sizes=[(2, 4), (2, 2)])
        with h5py.File(out) as file:
            for name, w in (("x_2x4", "w_4"), ("x_2x2", "w_2")):
                assert [dim[0].name for dim in file[name].dims] == ["/n", "/c", "/h_2", f"/{w}"]
            assert list(file["h_2"]) == [2, 7]
            assert list(file["w_4"]) == [0.5, 2.5, 4.5, 6.5]
            assert file["w_4"].attrs["units"] == "m"
            assert file["other"].dims[0][0].name == "/h"
            users = [file[ref].name for ref, _ in file["n"].attrs["REFERENCE_LIST"]]
            assert users == ["/x_2x4", "/x_2x2"]
            assert [(file[r].name, int(a)) for r, a in file["h"].attrs["REFERENCE_LIST"]] == [("/other", 0)]
            assert "REFERENCE_LIST" not in file["w"].attrs

    def test_flattened_they_have_two_and_alone_none(self, path, out):
        lucid.pool_file(path, out, size=2, flatten=True)
        with h5py.File(out) as file:
            assert file["x"].shape == (12, 12)
            assert [dim[0].name for dim in file["x"].dims] == ["/n", "/x_features"]
        lucid.pool_file(path, out, size=2, carry=False, overwrite=True)
        with h5py.File(out) as file:
            assert set(file) == {"x"}
            assert set(file["x"].attrs) == {"lucid_pool"}

    @pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
    def test_xarray_reads_netcdf(self, tmp_path, x, engine):
        xarray = pytest.importorskip("xarray", reason="xarray is in the extra `dev`")
        pytest.importorskip(engine.replace("netcdf4", "netCDF4"), reason="in the extra `dev`")
        coords = {"y": np.arange(10.0), "t": np.arange(12)}
        data = {"f": (("t", "c", "y", "x"), x), "mask": (("y", "x"), np.ones((10, 8)))}
        xarray.Dataset(data, coords).to_netcdf(tmp_path / "a.nc", engine=engine)
        lucid.pool_file(tmp_path / "a.nc", tmp_path / "b.nc", size=2)
        with xarray.open_dataset(tmp_path / "b.nc", engine=engine) as read:
            assert dict(read["f"].sizes) == {"t": 12, "c": 3, "y_2": 2, "x_2": 2}
            assert list(read["y_2"].values) == [2, 7]
            assert np.array_equal(read["f"], adaptive_avg_pool2d(x, 2))
            assert read["mask"].shape == (10, 8)


def test_a_user_block_is_kept(path, out, x):
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"] = x
        file.create_dataset("z", data=x, compression="gzip")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    lucid.pool_file(path, out, size=2)
    assert out.read_bytes().startswith(b"MATLAB 7.3 MAT-file\0")
    with h5py.File(out) as file:
        assert file.userblock_size == 512
        assert np.array_equal(file["x"], adaptive_avg_pool2d(x, 2))
        assert np.array_equal(file["z"], adaptive_avg_pool2d(x, 2))


def test_a_dataset_with_two_names_is_pooled_once(path, out, x):
    with h5py.File(path, "w") as file:
        file["x"] = x
        file["alias"] = file["x"]
    lucid.pool_file(path, out, size=2)
    with h5py.File(out) as file:
        assert file["x"] == file["alias"]
    lucid.pool_file(path, out, sizes=[1, 2], overwrite=True)
    with h5py.File(out) as file:
        assert set(file) == {"alias_1x1", "alias_2x2", "x_1x1", "x_2x2"}
        assert file["x_2x2"] == file["alias_2x2"]


def test_a_result_of_a_result_says_what_it_is_itself(path, out, x):
    with h5py.File(path, "w") as file:
        file["x"] = x
        file["x"].attrs["unit"] = "K"
    lucid.pool_file(path, out, size=4)
    lucid.pool_file(out, path, size=2, overwrite=True)
    with h5py.File(path) as file:
        assert json.loads(file["x"].attrs["lucid_pool"])["output_size"] == [2, 2]
        assert file["x"].attrs["unit"] == "K"
    # A run that goes on knows it by what it says.
    assert lucid.pool_file(out, path, size=2, resume=True).skipped


@pytest.mark.parametrize("options", [{}, {"drop": "/g"}, {"carry": False}], ids=str)
def test_an_earlier_name_of_a_pooled_dataset(path, out, x, options):
    with h5py.File(path, "w") as file:
        file["g/x"] = x
        file["a"], file["h"] = file["g/x"], file["g"]
        file["g"].attrs["of"] = file["g/x"].attrs["itself"] = file["g/x"].ref
    lucid.pool_file(path, out, size=2, datasets="g/x", **options)
    with h5py.File(out) as file:
        assert set(file) == ({"g"} if "carry" in options else {"a", "g", "h"})
        for name in set(file) - {"a"}:
            assert file[name]["x"] == file["g/x"]
            assert "drop" in options or "carry" in options or file[file[name].attrs["of"]] == file["g/x"]
        assert file.get("a", file["g/x"]) == file["g/x"]
        assert file[file["g/x"].attrs["itself"]].shape == (12, 3, 2, 2)


def test_external_storage_keeps_its_fill_value_in_another_folder(path, tmp_path, x):
    (tmp_path / "b").mkdir()
    (tmp_path / "raw").write_bytes(bytes(8))
    with h5py.File(path, "w") as file:
        file["x"] = x
        file.create_dataset("outside", (4,), "f8", external=[("raw", 0, 32)], fillvalue=7)
    lucid.pool_file(path, tmp_path / "b" / "y.h5", size=2)
    with h5py.File(tmp_path / "b" / "y.h5") as file:
        assert file["outside"].fillvalue == 7


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("none", []),
        ("gzip", [2, 1]),
        ("gzip:9", [2, 1]),
        ("lzf", [2, 32000]),
        ("zstd:5", [2, 32015]),
        ("lz4", [2, 32004]),
        ("bitshuffle", [32008]),
        ("blosc", [32001]),
        ("blosc-zstd:7", [32001]),
        ("blosc2", [32026]),
    ],
)
@pytest.mark.parametrize("source", ["x.h5", "x.npy"])
def test_compression(source, text, filters, tmp_path, out, x):
    if filters and filters[-1] >= 32001:
        pytest.importorskip("hdf5plugin", reason="the extra `filters` is not installed")
    np.save(tmp_path / "x.npy", x)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("data", data=x, compression="gzip", fletcher32=True, chunks=(5, 2, 10, 8))
    lucid.pool_file(tmp_path / source, out, size=2, compression=text)
    with h5py.File(out) as file:
        creation = file["data"].id.get_create_plist()
        used = [creation.get_filter(i) for i in range(creation.get_nfilters())]
        assert [f[0] for f in used] == filters
        assert np.array_equal(file["data"], adaptive_avg_pool2d(x, 2))
        if text == "gzip:9":
            assert used[1][2] == (9,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zip", "`compression` is 'zip'; expected keep, none, gzip"),
        ("gzip:0", "gzip takes levels 1 to 9"),
        ("gzip:10", "gzip takes levels 1 to 9"),
        ("lzf:1", "lzf takes no level"),
        ("gzip-zstd", "expected keep"),
        ("blosc-gzip", "expected keep"),
        ("", "expected keep"),
    ],
)
def test_compressions_that_there_are_not(text, message, path, out, x):
    with h5py.File(path, "w") as file:
        file["x"] = x
    with pytest.raises(ArgumentError, match=message):
        lucid.pool_file(path, out, size=2, compression=text)
    assert not out.exists()


def test_a_missing_extra_is_named(path, out, x, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with h5py.File(path, "w") as file:
        file["x"] = x
    with pytest.raises(MissingExtraError, match=r"pip install 'lucid-pool\[filters\]'"):
        lucid.pool_file(path, out, size=2, compression="zstd")
    assert [p.name for p in out.parent.iterdir()] == ["x.h5"]
    assert "zstd" in LEVELS


@pytest.mark.parametrize("threads", [1, 4])
def test_chunks_compressed_here_are_the_librarys(threads, path, tmp_path, rng):
    data = rng.integers(0, 9, (40, 3, 33, 20)).astype("f4")
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "x", data=data, chunks=(7, 2, 33, 20), compression="gzip", shuffle=True, fletcher32=True
        )
    lucid.pool_file(path, tmp_path / "y.h5", size=(None, None), threads=threads)
    with h5py.File(tmp_path / "y.h5") as file:
        assert np.array_equal(file["x"], data)
        with h5py.File(tmp_path / "z.h5", "w") as other:
            made = other.create_dataset(
                "x", data=data, chunks=file["x"].chunks, compression="gzip", shuffle=True, fletcher32=True
            )
            for chunk in made.iter_chunks():
                at = tuple(s.start for s in chunk)
                assert made.id.read_direct_chunk(at) == file["x"].id.read_direct_chunk(at)


@pytest.mark.parametrize("options", [{}, {"libver": "latest", "track_order": True}])
def test_h5diff_finds_nothing_in_what_is_carried(path, out, x, options):
    with h5py.File(path, "w", **options) as file:
        file["x"] = x
        if options:
            for item in (file, file["x"], file.create_group("g", track_order=True)):
                item.attrs["big"] = np.arange(20_000)
        file["labels"] = np.arange(12)
        file["g/b"], file["g/a"] = 1, 2
        file["refs"] = np.array([file["labels"].ref], h5py.ref_dtype)
        file["texts"] = np.array(["a", "bc"], h5py.string_dtype())
    lucid.pool_file(path, out, size=2)
    try:
        done = subprocess.run(["h5diff", "--exclude-path", "/x", path, out], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("h5diff is not installed")
    assert done.returncode == 0, done.stdout
    with h5py.File(out) as file:
        assert list(file["g"]) == (["b", "a"] if options else ["a", "b"])
        assert list(file) == (["x", "g", "labels", "refs", "texts"] if options else sorted(file))


class TestFailingWrites:
    """HDF5 writes when its objects are let go of, where h5py can raise no error."""

    @pytest.fixture(autouse=True)
    def make(self, path, x):
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=x, chunks=(5, 2, 10, 8), compression="gzip")
            file["y"], file["labels"] = x, np.arange(12)
            file["g/refs"] = np.array([file["labels"].ref], h5py.ref_dtype)

    def test_any_one_that_fails_is_told_and_leaves_nothing(self, path, out, monkeypatch):
        lucid.pool_file(path, out, size=2, threads=1)
        golden, pwrite = out.read_bytes(), os.pwrite
        out.unlink()
        for failing in range(1, 200):
            calls = 0

            def write(descriptor, data, offset, failing=failing):
                nonlocal calls
                calls += 1
                if calls == failing:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return pwrite(descriptor, data, offset)

            monkeypatch.setattr(os, "pwrite", write)
            try:
                lucid.pool_file(path, out, size=2, threads=1)
            except FileError as error:
                assert str(error) == f"{path}: output {out} cannot be written: No space left on device"
                assert [p.name for p in out.parent.iterdir()] == ["x.h5"]
            else:
                break
        assert failing > 10
        assert calls == failing - 1
        assert out.read_bytes() == golden

    def test_short_writes_are_carried_on(self, path, out, monkeypatch):
        lucid.pool_file(path, out, size=2)
        golden, pwrite = out.read_bytes(), os.pwrite
        monkeypatch.setattr(
            os, "pwrite", lambda fd, data, offset: pwrite(fd, data[: max(1, len(data) // 3)], offset)
        )
        lucid.pool_file(path, out, size=2, overwrite=True)
        assert out.read_bytes() == golden


def test_datasets_that_claim_more_than_the_file_can_hold(path, out):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (1 << 20, 1, 1 << 20, 1 << 20), "f4", chunks=(1, 1, 64, 64))
    with pytest.raises(FormatError, match="dataset /x claims 4611686018427387904 bytes"):
        lucid.pool_file(path, out, size=1)


def test_a_filter_that_can_only_be_read_is_left_out(path, out, x, monkeypatch):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=x, compression="gzip")
    monkeypatch.setattr(h5py.h5z, "get_filter_info", lambda code: h5py.h5z.FILTER_CONFIG_DECODE_ENABLED)
    report = lucid.pool_file(path, out, size=2)
    assert report.notes == ("gzip of /x is left out: it can only be read here",)
    with h5py.File(out) as file:
        assert file["x"].compression is None
        assert np.array_equal(file["x"], adaptive_avg_pool2d(x, 2))


@pytest.mark.parametrize("name", ["g/x", "soft/x", "hard/x", "round/soft/x", "round/g/x", "a/x"])
def test_a_path_through_other_names_of_groups_means_the_dataset_itself(tmp_path, name):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/x"] = np.ones((1, 2, 4, 4), "f4")
        file["g/y"] = np.ones((1, 2, 4, 4), "f4")
        file["a"] = h5py.SoftLink("g")
        file["soft"] = h5py.SoftLink("/hard")
        file["hard"] = file["g"]
        file["round"] = file["/"]
    report = lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2, datasets=name)
    assert report.datasets[0].name == "/g/x"
    with h5py.File(tmp_path / "b.h5") as file:
        assert file[name].shape == (1, 2, 2, 2)
        assert file["g/y"].shape == (1, 2, 4, 4)


def test_chunks_of_results_have_a_megabyte_at_most(path, out):
    """So that compressing them needs little memory, and the same bytes come out whatever there is of it."""
    with h5py.File(path, "w") as file:
        data = np.arange(6 << 16, dtype="f8").reshape(6, 1, 256, 256)
        file.create_dataset("x", data=data, chunks=(5, 1, 256, 256), compression="gzip")
    files = set()
    for limit in (16 << 20, 256 << 20):
        (row,) = lucid.pool_file(path, out, size=(None, None), max_memory=limit, overwrite=True).datasets
        files.add(out.read_bytes())
    with h5py.File(out) as file:
        assert file["x"].chunks == (2, 1, 256, 256)
        assert row.output_chunk == 2
        assert np.array_equal(file["x"][()], data)
    assert len(files) == 1
