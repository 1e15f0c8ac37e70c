"""`pool_file`: whole files, through every format and option."""

import hashlib
import itertools
import json
import shutil
import subprocess
from pathlib import Path
from time import sleep

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow import slow

import lucid
from lucid.errors import (
    ArgumentError,
    DatasetError,
    FileError,
    LucidError,
    MemoryLimitError,
    MissingExtraError,
    ShapeError,
)
from lucid.formats.npy import NpySource
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.pooling import means
from lucid.sizes import size_name

MIB = 1 << 20
#: A dimension of an output size; None keeps it.
SIZE = st.one_of(st.none(), st.integers(1, 9))


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def features(folder, rng):
    """A file as people have them: features in groups, and everything that lies beside."""
    with h5py.File(folder / "f.h5", "w") as file:
        file.attrs["model"] = "resnet"
        file.attrs["mean"] = np.array([0.1, 0.2])
        layers = file.create_group("layers")
        layers.attrs["depth"] = 2
        one = layers.create_dataset(
            "one", data=rng.standard_normal((30, 8, 20, 18)).astype("f4"), chunks=(7, 3, 20, 18),
            compression="gzip", compression_opts=3, shuffle=True, fletcher32=True, maxshape=(None, 8, 20, 18), fillvalue=-1,
        )  # fmt: skip
        one.attrs["stage"] = "one"
        layers.create_dataset("two", data=rng.standard_normal((30, 16, 7, 7)).astype(">f8"))
        file["labels"] = np.arange(30)
        file["names"] = np.array([f"näme {i}" for i in range(30)], h5py.string_dtype())
        file["table"] = np.zeros(3, [("a", "i4"), ("b", "S5")])
        file["mask"] = rng.integers(0, 3, (30, 1, 4, 4)).astype(
            h5py.enum_dtype({"no": 0, "yes": 1, "void": 2}, "u1")
        )
        file["same"] = layers["one"]
        file["soft"] = h5py.SoftLink("/layers/two")
        file["outside"] = h5py.ExternalLink("other.h5", "/x")
        file["void"] = h5py.Empty("f4")
    return folder / "f.h5"


def test_hdf5_pools_what_fits_and_carries_the_rest(features):
    before = digest(features)
    report = lucid.pool_file(features, size=(4, 3))
    assert digest(features) == before
    assert [d.name for d in report.datasets] == ["/layers/one", "/layers/two"]
    with h5py.File(features) as old, h5py.File(features.with_name("f.pooled.h5")) as new:
        assert sorted(new) == sorted(old)
        for name in ("layers/one", "layers/two"):
            assert np.array_equal(new[name][:], adaptive_avg_pool2d(old[name][:], (4, 3)))
            assert json.loads(new[name].attrs["lucid_pool"])["source_shape"] == list(old[name].shape)
        one = new["layers/one"]
        assert (one.compression, one.compression_opts, one.shuffle, one.fletcher32) == ("gzip", 3, True, True)
        assert (one.maxshape, one.fillvalue, one.attrs["stage"]) == ((None, 8, 4, 3), -1, "one")
        assert new["layers/two"].dtype == np.float64
        assert new["same"] == new["layers/one"]
        assert new.get("soft", getlink=True).path == "/layers/two"
        assert new.get("outside", getlink=True).filename == "other.h5"
        assert new.attrs["model"] == "resnet"
        assert new["layers"].attrs["depth"] == 2
        assert np.array_equal(new["mask"][:], old["mask"][:])


@pytest.mark.skipif(
    shutil.which("h5diff") is None, reason="h5diff is not installed (Debian package hdf5-tools)"
)
def test_h5diff_finds_no_difference_in_what_is_carried(features):
    lucid.pool_file(features, "out.h5", size=2)
    for name in ("labels", "names", "table", "mask"):
        done = subprocess.run(
            ["h5diff", features, "out.h5", name], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert subprocess.run(["h5dump", "-H", "out.h5"], capture_output=True, check=False).returncode == 0


def test_references_and_dimension_scales_point_into_the_output(features):
    with h5py.File(features, "r+") as file:
        file["labels"].make_scale("sample")
        file["layers/one"].dims[0].attach_scale(file["labels"])
        file.attrs["best"] = file["layers/two"].ref
        file.attrs["none"] = np.array([h5py.Reference()], h5py.ref_dtype)
    lucid.pool_file(features, "out.h5", size=2)
    with h5py.File("out.h5") as file:
        assert file[file.attrs["best"]] == file["layers/two"]
        assert file["layers/one"].dims[0][0] == file["labels"]


def test_names_that_are_not_utf8_are_kept(folder):
    with h5py.File("x.h5", "w") as file:
        file[b"caf\xe9"] = np.ones((1, 1, 2, 2))
        file[b"\xff"] = np.arange(3)
        file["z"] = np.arange(3)
    lucid.pool_file("x.h5", "y.h5", size=1)
    with h5py.File("y.h5") as file:
        assert file[b"caf\xe9"].shape == (1, 1, 1, 1)
        assert file[b"\xff"].shape == (3,)


def test_bytes_do_not_depend_on_memory_and_threads(features, rng):
    np.save("c.npy", rng.standard_normal((9, 5, 60, 50)).astype("f4"))
    np.save("big.npy", rng.standard_normal((1, 2, 1500, 900)).astype("f4"))
    np.save("f.npy", np.asfortranarray(np.load("c.npy")))
    for source, size in [(features, (3, 4)), ("c.npy", 7), ("big.npy", (2, 1)), ("f.npy", 7)]:
        seen = set()
        for memory, threads in itertools.product([MIB, 1024 * MIB], [1, 2]):
            target = f"out{Path(source).suffix}"
            lucid.pool_file(source, target, size=size, max_memory=memory, threads=threads, overwrite=True)
            seen.add(digest(target))
        assert len(seen) == 1, source
    lucid.pool_file("c.npy", "from_c.npy", size=7)
    lucid.pool_file("f.npy", "from_f.npy", size=7)
    assert digest("from_c.npy") == digest("from_f.npy")


@pytest.mark.parametrize(
    ("layout", "reduce"),
    [
        ("NCHW", "mean"),
        *slow(("NHWC", "max"), ("NCHW", "max"), ("NHWC", "mean"), ("NCHW", "sum"), ("NHWC", "sum")),
    ],
)
def test_bytes_do_not_depend_on_the_kernel(folder, rng, monkeypatch, layout, reduce):
    """NumPy's core and the compiled one, and windows that are read at once or by columns."""
    np.save("x.npy", rng.standard_normal((4, 10, 50, 30)).astype("f4"))
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("x", data=np.load("x.npy"), chunks=(3, 6, 14, 20), compression="gzip")
    for suffix in (".npy", ".h5"):
        seen = set()
        for kernel in {means.kernel, None}:
            monkeypatch.setattr(means, "kernel", kernel)
            for memory in (MIB // 16, 64 * MIB):
                options = {"layout": layout, "max_memory": memory, "overwrite": True, "reduce": reduce}
                target = f"y{suffix}" if suffix == ".h5" else "y-{size}.npy"
                lucid.pool_file(f"x{suffix}", target, sizes=[(4, 4), (2, 1)], **options)
                seen.add(tuple(digest(path) for path in sorted(Path().glob(f"y*{suffix}"))))
        assert len(seen) == 1


@pytest.mark.parametrize(
    ("reduce", "expected", "dtype"),
    [("mean", 27.5, "f4"), ("max", 55, "i2"), ("min", 0, "i2"), ("sum", 56 * 27.5, "i8")],
)
def test_reductions(folder, reduce, expected, dtype):
    np.save("x.npy", np.arange(56, dtype="i2").reshape(1, 1, 7, 8))
    lucid.pool_file("x.npy", "y.h5", size=1, reduce=reduce)
    with h5py.File("y.h5") as file:
        assert file["data"].dtype == dtype
        assert file["data"][0, 0, 0, 0] == expected
        assert json.loads(file["data"].attrs["lucid_pool"])["operation"] == reduce


def test_finite_means_that_become_infinite_are_told(folder):
    np.save("x.npy", np.full((1, 2, 8, 8), 1e6, "f4"))
    report = lucid.pool_file("x.npy", "y.npy", size=2, dtype="float16")
    assert report.notes == (
        "8 finite results of the array exceed float16 and became infinite; `dtype` float32 or float64 holds more",
    )
    assert lucid.pool_file("x.npy", "z.npy", size=2, dtype="float32").notes == ()


def test_sums_beyond_a_type_of_integers_are_told_as_its_limit(folder):
    np.save("x.npy", np.full((1, 1, 4, 4), 100, "u1"))
    report = lucid.pool_file("x.npy", "y.npy", size=2, reduce="sum", dtype="keep")
    assert np.load("y.npy").max() == 255
    assert report.notes == (
        "4 finite results of the array exceed uint8 and became its limit; `dtype` float32 or float64 holds more",
    )


def test_from_hdf5_and_npy_the_same_bits_come(features):
    with h5py.File(features) as file:
        np.save("one.npy", file["layers/one"][:])
    lucid.pool_file("one.npy", "a.npy", size=4)
    lucid.pool_file(features, "b.npy", size=4, datasets=["layers/one"])
    assert digest("a.npy") == digest("b.npy")
    lucid.pool_file("one.npy", "c.h5", size=4)
    with h5py.File("c.h5") as file:
        assert np.array_equal(file["data"][:], np.load("a.npy"))


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
@pytest.mark.parametrize(
    ("layout", "shape", "axes"),
    [
        ("NHWC", (3, 20, 17, 4), (0, 3, 1, 2)),
        ("CHW", (3, 20, 17), (0, 1, 2)),
        ("HW", (20, 17), (0, 1)),
        ("NTHWC", (2, 3, 9, 8, 4), (0, 1, 4, 2, 3)),
    ],
)
def test_layouts(folder, suffix, layout, shape, axes, rng):
    x = rng.standard_normal(shape).astype("f4")
    if suffix == ".npy":
        np.save("x.npy", x)
    else:
        with h5py.File("x.h5", "w") as file:
            file["data"] = x
    lucid.pool_file(f"x{suffix}", "y.npy", size=(3, 2), layout=layout, max_memory=MIB)
    first = x.transpose(axes)
    means = adaptive_avg_pool2d(first.reshape(1, -1, *first.shape[-2:]), (3, 2)).reshape(
        *first.shape[:-2], 3, 2
    )
    assert np.array_equal(np.load("y.npy").transpose(axes), means)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_output_dtypes(folder, dtype, rng):
    x = rng.standard_normal((2, 3, 9, 9)).astype("f4")
    np.save("x.npy", x)
    lucid.pool_file("x.npy", "y.npy", size=2, dtype=dtype)
    y = np.load("y.npy")
    exact = adaptive_avg_pool2d(x.astype("f8"), 2)
    if dtype == "bfloat16":
        assert y.dtype == "V2"
        y = (y.view("u2").astype("u4") << 16).view("f4")
        lucid.pool_file("y.npy", "z.npy", size=1, input_dtype="bfloat16")
        assert np.load("z.npy").dtype == "V2"
    else:
        assert y.dtype == dtype
    assert np.allclose(y, exact, rtol={"float16": 1e-3, "bfloat16": 1e-2}.get(dtype, 1e-6))


def test_skip(folder):
    np.save("x.npy", np.array([[[[1, np.nan], [3, 5]]]]))
    lucid.pool_file("x.npy", "y.npy", size=1, nan="skip")
    assert np.load("y.npy") == 3


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (3, 0, 4, 4)])
def test_empty_arrays(folder, shape):
    np.save("x.npy", np.zeros(shape, "f4"))
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("data", data=np.zeros(shape, "f4"), maxshape=(None, None, 4, 4))
    for name in ("x.npy", "x.h5"):
        lucid.pool_file(name, "y.npy", size=2, overwrite=True)
        assert np.load("y.npy").shape == (*shape[:2], 2, 2)
        lucid.pool_file(name, "y.h5", size=2, overwrite=True)


@pytest.mark.parametrize("suffix", ["h5", "nc", "zarr"])
@pytest.mark.parametrize(
    ("options", "fill"), [({"dtype": "keep"}, -9), ({"reduce": "sum"}, np.iinfo("i8").min), ({}, None)]
)
def test_a_value_that_an_option_names_is_written_where_the_source_has_no_attributes(
    tmp_path, suffix, options, fill
):
    np.save(tmp_path / "a.npy", np.full((1, 1, 4, 4), -9, "i2"))
    target = tmp_path / f"o.{suffix}"
    lucid.pool_file(tmp_path / "a.npy", target, size=2, missing=[-9], **options)
    if suffix == "zarr":
        attributes = dict(pytest.importorskip("zarr").open_array(target).attrs)
    else:
        with h5py.File(target) as file:
            attributes = dict(file["data"].attrs)
    assert attributes.get("_FillValue") == fill


def test_a_dry_run_writes_nothing(features):
    report = lucid.pool_file(features, size=2, dry_run=True)
    assert report.dry_run
    assert report.datasets[0].output_shape == (30, 8, 2, 2)
    assert [p.name for p in features.parent.iterdir()] == ["f.h5"]


def test_progress_reaches_the_end(features):
    seen = []
    lucid.pool_file(features, size=2, on_progress=seen.append)
    assert seen[-1].done_bytes == seen[-1].total_bytes
    assert [p.done_bytes for p in seen] == sorted(p.done_bytes for p in seen)


def test_an_error_of_the_callers_leaves_nobody_at_work(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.ones((500, 2, 32, 32), np.float32))
    reads, read = [], NpySource.read

    def slow_read(*args):
        sleep(0.001)
        reads.append(1)
        return read(*args)

    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(NpySource, "read", slow_read)
    with pytest.raises(KeyboardInterrupt):
        lucid.pool_file(tmp_path / "x.npy", size=2, max_memory=1 << 17, threads=3, on_progress=stop)
    count = len(reads)
    assert count < 20
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]
    sleep(0.02)
    assert len(reads) == count


@pytest.mark.parametrize("suffix", ["npy", "h5", "npz", "safetensors"])
@pytest.mark.parametrize("size", [10**12, 10**200])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_size_of_more_bytes_than_there_are_is_one_line(tmp_path, suffix, size, dry_run):
    np.save(tmp_path / "x.npy", np.ones((1, 2, 3, 4), "f4"))
    with pytest.raises(FileError, match=rf"x\.npy: `size` {size}x{size} gives more than a file can hold$"):
        lucid.pool_file(tmp_path / "x.npy", tmp_path / f"y.{suffix}", size=size, dry_run=dry_run)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_the_input_is_safe_whatever_the_names(features):
    before = features.read_bytes()
    features.with_name("hard.h5").hardlink_to(features)
    features.with_name("soft.h5").symlink_to(features)
    for name, overwrite in itertools.product(("f.h5", "hard.h5", "soft.h5"), (False, True)):
        with pytest.raises(FileError, match="is an input, which is never changed; name another `target`"):
            lucid.pool_file(features, name, size=2, overwrite=overwrite)
        with features.open("rb") as stream, pytest.raises(FileError, match="is an input"):
            lucid.pool_file(stream, name, size=2, overwrite=overwrite)
    assert features.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"datasets": ["feature"]}, DatasetError, "has no dataset 'feature' that can be pooled; it has /layers/one, /layers/two"),
        ({"layout": "NCWH"}, ArgumentError, "`layout` is 'NCWH'; expected different letters with HW or YX in them, such as NCHW"),
        ({"layout": "NCHWT"}, DatasetError, "has no array of numbers with 5 axes"),
        ({"dtype": "int8"}, ArgumentError, "`dtype` is 'int8'; expected float16, bfloat16, float32, float64 or keep"),
        ({"nan": "drop"}, ArgumentError, "`nan` is 'drop'; expected propagate or skip"),
        ({"max_memory": 0}, ArgumentError, "`max_memory` is 0; expected a number of bytes"),
        ({"max_memory": 1000}, MemoryLimitError, "dataset /layers/one: needs `max_memory` of at least"),
        ({"target": "x.npy"}, DatasetError, "a .npy file holds one array, the input has 2; choose with `datasets`: /layers/one, /layers/two"),
        ({"target": "x.jpg"}, ArgumentError, "output x.jpg: its suffix names no format"),
        ({"target": "no/x.h5"}, LucidError, "output no/x.h5 cannot be written: there is no folder"),
    ],
)  # fmt: skip
def test_errors_leave_nothing(features, options, error, text):
    with pytest.raises(error) as raised:
        lucid.pool_file(features, **{"size": 2, **options})
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)
    assert [p.name for p in features.parent.iterdir()] == ["f.h5"]


def test_planes_without_cells_are_refused(folder):
    np.save("x.npy", np.zeros((1, 1, 0, 4)))
    with pytest.raises(ShapeError, match="planes of 0x4 have no cells"):
        lucid.pool_file("x.npy", size=1)


def test_datasets_kept_in_other_files_are_refused(folder):
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("x", (1, 1, 4, 4), "f4", external=[("/etc/passwd", 0, 64)])
    with pytest.raises(DatasetError, match="dataset /x keeps its elements in other files"):
        lucid.pool_file("x.h5", size=1)
    layout = h5py.VirtualLayout((1, 1, 4, 4), "f4")
    layout[0] = h5py.VirtualSource("x.h5", "x", (1, 4, 4))
    with h5py.File("v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    with pytest.raises(DatasetError, match="dataset /v keeps its elements in other files"):
        lucid.pool_file("v.h5", size=1)


def test_a_missing_filter_is_named(folder, monkeypatch):
    hdf5plugin = pytest.importorskip("hdf5plugin", reason="needs the extra filters")
    x = np.arange(64.0).reshape(1, 4, 4, 4)
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("x", data=x, **hdf5plugin.Zstd())
    lucid.pool_file("x.h5", "y.h5", size=2)
    with h5py.File("y.h5") as file:
        assert np.array_equal(file["x"][:], adaptive_avg_pool2d(x, 2))
    monkeypatch.setattr("lucid.formats.hdf5.source.load_filter", lambda code: False)
    with pytest.raises(
        MissingExtraError,
        match=r"dataset /x needs HDF5 filter 32015 \(.*\): pip install 'lucid-pool\[filters\]'",
    ):
        lucid.pool_file("x.h5", "z.h5", size=2)


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
@given(data=st.data())
def test_every_combination_of_options_is_the_functions_result(suffix, data, tmp_path_factory):
    layout = data.draw(st.sampled_from(["NCHW", "NHWC", "CHW", "NTCHW", "NHW"]))
    shape = tuple(data.draw(st.integers(1, 7)) for _ in layout)
    nan, dtype = (
        data.draw(st.sampled_from(["propagate", "skip"])),
        data.draw(st.sampled_from([None, "float64"])),
    )
    flatten, order = data.draw(st.booleans()), data.draw(st.sampled_from("CF"))
    sizes = data.draw(st.lists(st.tuples(SIZE, SIZE), min_size=1, max_size=3, unique=True))
    memory, threads = data.draw(st.sampled_from([1 << 15, 1 << 20])), data.draw(st.integers(1, 3))
    values = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-9, 9, shape).astype("f4")
    values[values == 7] = np.nan
    x = np.asarray(values, order=order)
    folder = tmp_path_factory.mktemp("combination")
    if suffix == ".npy":
        np.save(folder / "x.npy", x)
    else:
        with h5py.File(folder / "x.h5", "w") as file:
            file.create_dataset(
                "x", data=x, chunks=True, compression=data.draw(st.sampled_from([None, "gzip"]))
            )
    target = folder / f"{{size}}{suffix}"
    lucid.pool_file(
        folder / f"x{suffix}", target, sizes=sizes, layout=layout, nan=nan, dtype=dtype, flatten=flatten,
        max_memory=memory, threads=threads,
    )  # fmt: skip
    h = layout.index("H")
    planes = np.moveaxis(x, (h, h + 1), (-2, -1)).reshape(1, -1, *x.shape[h : h + 2])
    for size in sizes:
        path = folder / f"{size_name(size)}{suffix}"
        if suffix == ".npy":
            read = np.load(path)
        else:
            with h5py.File(path) as file:
                read = file["x"][()]
        means = adaptive_avg_pool2d(planes.astype(dtype or "f4"), size, nan=nan)
        others = [n for axis, n in enumerate(shape) if axis not in (h, h + 1)]
        expected = np.moveaxis(means.reshape(*others, *means.shape[2:]), (-2, -1), (h, h + 1))
        if flatten:
            expected = expected.reshape(shape[0], -1)
        assert read.dtype == (dtype or "f4")
        assert np.array_equal(read, expected, equal_nan=True)


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
def test_the_report_says_what_was_carried_over(folder, suffix):
    arrays = {"labels": np.arange(1000, dtype="i8"), "weights": np.ones((3, 5), "f4")}
    if suffix == ".h5":
        with h5py.File("x.h5", "w") as file:
            file["x"] = np.ones((2, 3, 4, 4), "f4")
            for name, array in arrays.items():
                file[name] = array
    else:
        zarr = pytest.importorskip("zarr")
        root = zarr.open_group("x.zarr", mode="w")
        for name, array in {"x": np.ones((2, 3, 4, 4), "f4"), **arrays}.items():
            root.create_array(name, data=array, compressors=None)
    report = lucid.pool_file(f"x{suffix}", f"y{suffix}", size=1)
    assert report.carried == 2
    least = sum(array.nbytes for array in arrays.values())
    assert least <= report.carried_bytes <= least + (0 if suffix == ".h5" else 4000)
    if suffix == ".h5":
        planned = lucid.pool_file("x.h5", "z.h5", size=1, dry_run=True)
        assert (planned.carried, planned.carried_bytes) == (report.carried, report.carried_bytes)
    for options, count in [({"carry": False}, 0), ({"drop": ["labels"]}, 1)]:
        report = lucid.pool_file(f"x{suffix}", f"y{suffix}", size=1, overwrite=True, **options)
        assert report.carried == count
