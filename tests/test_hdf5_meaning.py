"""What the numbers of HDF5, netCDF and MATLAB files mean, from file to file."""

import ctypes
import itertools
import json
import shutil
import subprocess
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from slow import slow

import lucid
from lucid.errors import DatasetError, FileError

INTEGERS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]
LAYOUTS = {
    "contiguous": {},
    "chunked": {"chunks": (1, 2, 3)},
    "gzip": {"chunks": (1, 2, 3), "compression": "gzip"},
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, data, attributes, path="v", **options):
    with h5py.File(name, "a") as file:
        file.create_dataset(path, data=data, **options).attrs.update(attributes)


def pool(*args, **options):
    return lucid.pool_file(*args, **({"layout": "CHW", "overwrite": True} | options))


def read(name, path="v"):
    with h5py.File(name) as file:
        return file[path][()], dict(file[path].attrs)


class TestMissingCells:
    @pytest.mark.parametrize(
        ("layout", "order", "key"),
        [
            ("contiguous", ">", "missing_value"),
            ("chunked", "<", "missing_value"),
            ("gzip", "<", "_FillValue"),
            ("gzip", ">", "_FillValue"),
            *slow(
                ("contiguous", ">", "_FillValue"),
                ("chunked", ">", "_FillValue"),
                ("gzip", "<", "missing_value"),
            ),
        ],
    )
    @pytest.mark.parametrize(
        "kind", ["i2", "u1", "u8", "f2", "f4", *slow("i1", "u2", "i4", "u4", "i8", "f8")]
    )
    def test_they_count_as_nothing(self, layout, kind, order, key):
        gap = 99
        x = np.array([[[1, 2, gap, gap], [gap, 3, gap, gap]], [[4, 4, 5, 7], [gap, 4, 6, 6]]], order + kind)
        write("a.h5", x, {key: np.array([gap], order + kind)}, **LAYOUTS[layout])
        pool("a.h5", "b.h5", size=(1, 2))
        means, attributes = read("b.h5")
        assert np.array_equal(means, [[[2, np.nan]], [[4, 6]]], equal_nan=True)
        assert attributes[key].dtype == means.dtype
        assert np.isnan(attributes[key]).all()

    @pytest.mark.parametrize("kind", INTEGERS)
    def test_a_kept_type_keeps_the_fill_value(self, kind):
        write("a.h5", np.array([[[1, 2, 99, 99]]], kind), {"_FillValue": np.array(99, kind)})
        pool("a.h5", "b.h5", size=(1, 2), dtype="keep")
        means, attributes = read("b.h5")
        assert means.dtype == kind
        assert means.tolist() == [[[2, 99]]]
        assert attributes["_FillValue"].dtype == kind

    def test_least_fraction(self):
        write("a.h5", np.array([[[1, 2, 3, -9], [3, -9, -9, -9]]], "f4"), {"_FillValue": np.float32(-9)})
        pool("a.h5", "b.h5", size=(1, 2), min_valid=0.5)
        assert np.array_equal(read("b.h5")[0], [[[2, np.nan]]], equal_nan=True)

    @pytest.mark.parametrize("unsigned", ["true", np.bytes_("true")])
    @pytest.mark.parametrize("reduce", ["mean", "max"])
    def test_unsigned(self, unsigned, reduce):
        cells = np.array([[[1, 255], [101, 200]]], "u1").view("i1")
        write(
            "a.nc",
            cells,
            {"_Unsigned": unsigned, "_FillValue": np.int8(-1), "valid_max": np.int8(-2)},
            chunks=(1, 1, 2),
        )
        pool("a.nc", "b.nc", size=1, reduce=reduce)
        means, attributes = read("b.nc")
        if reduce == "max":  # of the input's type, and so is its mark
            assert means.dtype == "i1"
            assert means.view("u1").item() == 200
            assert attributes["_Unsigned"] == unsigned
            assert attributes["_FillValue"] == -1
        else:
            assert means.item() == np.float32(302 / 3)
            assert "_Unsigned" not in attributes
            assert attributes["valid_max"] == 254

    def test_provenance_says_what_was_missing(self):
        write("a.h5", np.ones((1, 2, 2), "i2"), {"_FillValue": np.int16(-9)})
        pool("a.h5", "b.h5", size=1, missing=["5"])
        assert json.loads(read("b.h5")[1]["lucid_pool"])["missing"] == [-9, 5]

    def test_of_virtual_and_netcdf_scalars_and_shards(self):
        x = np.array([[[1, -9, 3, 5]], [[-9, -9, 7, 9]]], "i2")
        write("a.h5", x, {"_FillValue": np.int16(-9)})
        pool("a.h5", "whole.h5", size=(1, 2))
        for name, some in ("0.h5", slice(0, 1)), ("1.h5", slice(1, 2)):
            pool("a.h5", name, size=(1, 2), slice=some)
        lucid.merge_files(["0.h5", "1.h5"], "joined.h5")
        assert Path("whole.h5").read_bytes() == Path("joined.h5").read_bytes()


class TestPacking:
    def test_means_decode_to_means(self):
        xarray = pytest.importorskip("xarray", reason="xarray is not installed (extra dev)")
        pytest.importorskip("netCDF4", reason="in the extra `dev`")
        cells = np.array([[[251.0, 252, np.nan, 254], [253, 255, 256, np.nan]]])
        packing = {"dtype": "i2", "scale_factor": -0.01, "add_offset": 250.0, "_FillValue": -32768}
        xarray.Dataset({"v": (("t", "y", "x"), cells)}).to_netcdf("a.nc", encoding={"v": packing})
        for reduce, right in ("mean", [252.75, 255]), ("max", [255, 256]), ("min", [251, 254]):
            pool("a.nc", "b.nc", size=(1, 2), reduce=reduce)
            with xarray.open_dataset("b.nc") as read:
                assert np.allclose(read["v"].values, [[right]])

    def test_offsets_of_sums(self):
        write("a.nc", np.arange(8, dtype="i2").reshape(1, 2, 4), {"scale_factor": 2.0, "add_offset": 10.0})
        pool("a.nc", "b.nc", size=(1, 2), reduce="sum")
        sums, attributes = read("b.nc")
        assert (sums * attributes["scale_factor"] + attributes["add_offset"]).tolist() == [[[60, 76]]]
        with pytest.raises(DatasetError, match="dataset /v: sums of numbers with an add_offset"):
            pool("a.nc", "c.nc", size=(1, 3), reduce="sum")
        write("a.nc", np.ones((1, 2, 4), "f4"), {}, path="w")
        (note,) = pool("a.nc", "c.nc", size=(1, 3), reduce="sum").notes
        assert note.startswith("dataset /v: sums of numbers with an add_offset of 10.0 need")
        assert note.endswith("so it was left out")
        assert read("c.nc", "w")[0].tolist() == [[[4, 4, 4]]]
        with pytest.raises(DatasetError, match="sums of numbers"):
            pool("a.nc", "d.nc", size=(1, 3), reduce="sum", datasets="v")


class TestAttributes:
    def test_types_are_kept_to_the_bit(self):
        text = h5py.h5t.C_S1.copy()
        text.set_size(7)
        kinds = {b"bits": h5py.h5t.STD_B16BE, b"time": h5py.h5t.UNIX_D32LE}
        for pad in (h5py.h5t.STR_NULLTERM, h5py.h5t.STR_NULLPAD, h5py.h5t.STR_SPACEPAD):
            kinds[f"text{pad}".encode()] = text.copy()
            kinds[f"text{pad}".encode()].set_strpad(pad)
        with h5py.File("a.h5", "w") as file:
            file["v"] = np.ones((1, 4, 4))
            file["group/carried"] = np.arange(3)
            for owner, (name, kind) in itertools.product((file, file["v"], file["group"]), kinds.items()):
                h5py.h5a.create(owner.id, name, kind, h5py.h5s.create_simple((2,)))
            committed = h5py.h5t.STD_I16BE.copy()
            committed.commit(file.id, b"named")
            h5py.h5a.create(file["v"].id, b"of_named", committed, h5py.h5s.create(h5py.h5s.SCALAR))
        pool("a.h5", "b.h5", size=2)
        with h5py.File("a.h5") as before, h5py.File("b.h5") as after:
            for path, name in itertools.product(("/", "v", "group"), kinds):
                both = [h5py.h5a.open(file[path].id, name).get_type() for file in (before, after)]
                assert both[0].equal(both[1]), (path, name)
            assert h5py.h5a.open(after["v"].id, b"of_named").get_type().committed()

    @pytest.mark.parametrize("version", ["earliest", "latest"])
    def test_larger_than_an_object_header(self, version):
        names = np.array([f"channel {i:07}" for i in range(9000)], "S16")
        with h5py.File("a.h5", "w"):
            pass
        with h5py.File("a.h5", "a", libver="latest") as file:
            file["v"] = np.ones((1, 4, 4))
            for owner in file["v"], file.create_group("g"):
                owner.attrs["names"] = names
        pool("a.h5", "b.h5", size=2)
        assert np.array_equal(read("b.h5")[1]["names"], names)

    @pytest.mark.parametrize(
        ("kind", "said", "dtype", "right"),
        [("u1", "uint8", None, "single"), ("i4", "int32", None, "double"), ("u1", "logical", None, "single"),
         ("f8", "double", None, "double"), ("f8", "double", "float32", "single"), ("u1", "uint8", "keep", "uint8"),
         ("u1", "logical", "keep", "logical"), ("f4", "single", "float16", "single")],
    )  # fmt: skip
    def test_matlab_classes(self, kind, said, dtype, right):
        attributes = {"MATLAB_class": np.bytes_(said)} | (
            {"MATLAB_int_decode": np.int32(1)} if said == "logical" else {}
        )
        write("a.mat", np.ones((1, 4, 4), kind), attributes)
        pool("a.mat", "b.mat", size=2, dtype=dtype)
        means, attributes = read("b.mat")
        assert attributes["MATLAB_class"] == right.encode()
        assert means.dtype == {"single": "f4", "double": "f8", "uint8": "u1", "logical": "u1"}[right]
        assert ("MATLAB_int_decode" in attributes) == (right == "logical")

    def test_text_and_objects_of_matlab_are_carried(self):
        letters = np.frombuffer("kitchen".encode("utf-16-le"), "u2").reshape(1, 7)
        write("a.mat", letters, {"MATLAB_class": np.bytes_("char")}, "text")
        write("a.mat", np.ones((1, 6), "u4"), {"MATLAB_class": np.bytes_("string")}, "object")
        write("a.mat", np.ones((4, 4)), {"MATLAB_class": np.bytes_("double")})
        pool("a.mat", "b.mat", size=1, layout="HW")
        assert read("b.mat", "text")[0].shape == (1, 7)
        assert read("b.mat", "object")[0].shape == (1, 6)
        assert read("b.mat")[0].shape == (1, 1)
        with pytest.raises(DatasetError, match="dataset /text is text of MATLAB, which has no mean"):
            pool("a.mat", "c.mat", size=1, layout="HW", datasets=["text"])

    def test_what_cells_and_objects_of_matlab_hold_is_carried(self):
        write("a.mat", np.ones((4, 4)), {"MATLAB_class": np.bytes_("double")})
        write("a.mat", np.arange(5, dtype="u8")[:, None], {"MATLAB_class": np.bytes_("uint64")}, "#refs#/a")
        pool("a.mat", "b.mat", size=1, layout="HW")
        assert read("b.mat")[0] == 1
        assert read("b.mat", "#refs#/a")[0].tolist() == [[0], [1], [2], [3], [4]]
        assert (
            pool("a.mat", "b.mat", size=1, layout="HW", datasets="#refs#/*").datasets[0].name == "/#refs#/a"
        )

    @pytest.mark.parametrize("own", [-9, 7])
    def test_own_fill_values(self, own):
        write("a.h5", np.ones((1, 4, 4), "i2"), {"_FillValue": np.int16(-9)}, fillvalue=own, chunks=(1, 2, 2))
        pool("a.h5", "b.h5", size=4)
        with h5py.File("b.h5") as file:
            assert np.array_equal(file["v"].fillvalue, np.nan if own == -9 else own, equal_nan=True)


class TestChoosing:
    def test_reasons(self):
        with h5py.File("a.h5", "w") as file:
            file["stack"], file["g/x"] = np.ones((2, 4, 4)), np.ones(3)
            file["complex"], file["flat"] = np.ones((2, 4, 4), "c8"), np.ones((4, 4))
            file["empty"], file["away"] = np.ones((2, 0, 4)), h5py.ExternalLink("b.h5", "/x")
            file["soft"], file["dangling"] = h5py.SoftLink("/stack"), h5py.SoftLink("/nothing")
            file.create_dataset("text", data=np.full((2, 4, 4), "a", object), dtype=h5py.string_dtype())
            file.create_dataset("land", (2, 4, 4), h5py.enum_dtype({"SEA": 0, "LAND": 1}, "u1"))
            file.create_dataset("lists", (2, 4, 4), h5py.vlen_dtype("i4"))
        for name, why in {
            "g": r"/g is a group; name a dataset in it, or /g/\*",
            "complex": "is complex64, which has no mean here",
            "flat": r"has shape \(4, 4\); expected 3 axes",
            "empty": "has planes of 0x4, which have no cells",
            "away": "is a link to /x in b.h5, which is not followed",
            "dangling": "leads to nothing",
            "text": "is text, which has no mean here",
            "land": "is enum of uint8, which has no mean here",
            "lists": "is of lists, which has no mean here",
            "stak": "did you mean '/stack'",
            "comp*": "/complex is complex64",
        }.items():
            with pytest.raises(DatasetError, match=why):
                pool("a.h5", "c.h5", size=2, datasets=[name])
        assert [d.name for d in pool("a.h5", "c.h5", size=2, datasets=["soft"]).datasets] == ["/stack"]
        assert [d.name for d in pool("a.h5", "c.h5", size=2).datasets] == ["/stack"]

    @pytest.mark.parametrize("name", ["ch[0]", "a*b", "what?", "[x] y.jpg", "ü", "a b"])
    def test_names_before_patterns(self, name):
        write("a.h5", np.full((1, 2, 2), 5.0), {}, name)
        for other in ("ch0", "axb", "whatx", "x y.jpg"):
            write("a.h5", np.ones((1, 2, 2)), {}, other)
        assert [d.name for d in pool("a.h5", "b.h5", size=1, datasets=[name]).datasets] == [f"/{name}"]

    def test_long_lists_are_cut(self):
        for i in range(30):
            write("a.h5", np.ones((1, 2, 2)), {}, f"x{i:02}")
        with pytest.raises(DatasetError, match="/x09 and 20 more"):
            pool("a.h5", "b.h5", size=1, datasets=["y"])

    def test_what_is_left_out_for_its_rank_is_told(self):
        write("a.h5", np.ones((2, 4, 6)), {})
        write("a.h5", np.ones((4, 6)), {}, "mask")
        write("a.h5", np.ones((3, 5)), {}, "other")
        (note,) = pool("a.h5", "b.h5", size=2).notes
        assert note.startswith("/mask has 2 axes, (4, 6), and was left out")

    def test_drop(self):
        write("a.h5", np.ones((1, 4, 4)), {}, "g/v")
        for path in ("g/labels", "h/big", "keep"):
            write("a.h5", np.ones(3), {}, path)
        options = {"size": 2, "layout": "CHW", "drop": ["/h", "g/l*"]}
        planned = lucid.pool_file("a.h5", "b.h5", dry_run=True, **options)
        report = lucid.pool_file("a.h5", "b.h5", **options)
        assert (planned.carried, planned.carried_bytes) == (report.carried, report.carried_bytes) == (1, 24)
        with h5py.File("b.h5") as file:
            names = []
            file.visit(names.append)
        assert names == ["g", "g/v", "keep"]


class TestGeography:
    @pytest.fixture
    def ocean(self):
        xarray = pytest.importorskip("xarray", reason="xarray is not installed (extra dev)")
        pytest.importorskip("netCDF4", reason="in the extra `dev`")
        y, x = np.mgrid[0:4, 0:6].astype("f8")
        corners = np.stack([y - 0.5, y - 0.5, y + 0.5, y + 0.5], -1)
        fields = {
            "u": (("t", "lev", "y", "x"), np.ones((2, 3, 4, 6))),
            "v": (("t", "y", "x"), np.arange(48.0).reshape(2, 4, 6)),
            "lat_bnds": (("y", "x", "corner"), corners),
        }
        coordinates = {
            "lat": (("y", "x"), y, {"bounds": "lat_bnds", "units": "degrees_north"}),
            "lon": (("y", "x"), x),
            "name": ("y", list("abcd")),
            "y": ("y", np.arange(4.0), {"units": "m"}),
            "t": [0.0, 1.0],
        }
        xarray.Dataset(fields, coordinates).to_netcdf("a.nc")
        return xarray

    def test_what_lies_along_pooled_axes_goes_with_them(self, ocean):
        (note,) = pool("a.nc", "b.nc", size=(2, 3)).notes  # lat and lon are not left out
        assert note.startswith("/u has 4 axes")
        with ocean.open_dataset("b.nc") as read:
            assert read["v"].dims == ("t", "y_2", "x_3")
            assert read["y_2"].values.tolist() == [0.5, 2.5]
            assert read["y_2"].units == "m"
            assert read["lat_2x3"].values.tolist() == [[0.5] * 3, [2.5] * 3]
            assert read["lon_2x3"].dims == ("y_2", "x_3")
            assert {"lat_2x3", "lon_2x3"} <= {*read["v"].coords}
            edges = read[read["lat_2x3"].bounds]
            assert edges.dims == ("y_2", "x_3", "corner")
            assert edges[0, 0].values.tolist() == [-0.5, -0.5, 1.5, 1.5]

    def test_bounds_without_dimensions_get_none(self):
        xarray = pytest.importorskip("xarray", reason="xarray is not installed (extra dev)")
        pytest.importorskip("h5netcdf", reason="in the extra `dev`")
        with h5py.File("a.nc", "w") as file:
            field = file.create_dataset("v", data=np.arange(16.0).reshape(1, 4, 4))
            for axis, name in enumerate("tyx"):
                file[name] = np.arange(float(field.shape[axis]))
                file[name].make_scale(name)
                field.dims[axis].attach_scale(file[name])
            file["y"].attrs["bounds"] = "edges"
            file["edges"] = np.array([np.arange(4.0), np.arange(1.0, 5)]).T
        pool("a.nc", "b.nc", size=2)
        with xarray.open_dataset("b.nc", engine="h5netcdf", phony_dims="access") as read:
            assert read[read["y_2"].bounds].values.tolist() == [[0, 2], [2, 4]]

    def test_by_names_of_dimensions_in_any_rank(self, ocean):
        report = lucid.pool_file("a.nc", "b.nc", size=(2, 3), dims="y,x", datasets=["u", "v"])
        assert [(d.name, d.output_shape) for d in report.datasets] == [
            ("/u", (2, 3, 2, 3)),
            ("/v", (2, 2, 3)),
        ]
        with ocean.open_dataset("b.nc") as read:
            assert read["u"].dims[2:] == read["v"].dims[1:] == ("y_2", "x_3")
        with pytest.raises(DatasetError, match="t and x are not side by side"):
            lucid.pool_file("a.nc", "c.nc", size=2, dims="t,x", datasets=["u"])
        planned, report = (
            lucid.pool_file("a.nc", "d.nc", size=2, dims="t,y", dry_run=dry) for dry in (True, False)
        )
        assert [d.name for d in report.datasets] == ["/v"]
        assert planned.notes == report.notes
        note = "dataset /u: has axes t, lev, y, x; t and y are not side by side, so it was left out"
        assert note in report.notes
        with pytest.raises(DatasetError, match="dimensions y and z"):
            lucid.pool_file("a.nc", "c.nc", size=2, dims="y,z")

    def test_datasets_without_a_shape_have_no_dimensions(self, ocean):
        with h5py.File("a.nc", "a") as file:
            file["empty"] = h5py.Empty("f4")
        report = lucid.pool_file("a.nc", "b.nc", size=2, dims="y,x")
        assert {"/u", "/v"} <= {d.name for d in report.datasets}

    def test_sizes_follow_the_names(self, ocean):
        lucid.pool_file("a.nc", "b.nc", size=(3, 2), dims="x,y", datasets=["v"])
        assert read("b.nc")[0].shape == (2, 2, 3)

    def test_a_scale_of_two_axes_is_carried_and_what_lies_along_it_opens(self):
        netcdf = pytest.importorskip("netCDF4", reason="netCDF4 writes such scales")
        with netcdf.Dataset("a.nc", "w") as file:
            file.createDimension("lat", 4), file.createDimension("lon", 6)
            for name, dims in {"v": ("lat", "lon"), "lat": ("lat", "lon"), "w": ("lat",)}.items():
                file.createVariable(name, "f8", dims)[...] = 1
        assert pool("a.nc", "b.nc", size=2, layout="HW").datasets[0].name == "/v"
        with netcdf.Dataset("b.nc") as file:
            assert file["v"].dimensions == ("lat_2", "lon_2")
            assert (file["lat"].shape, file["w"].shape) == ((4, 6), (4,))

    def test_one_grid_over_several_runs_and_sizes(self, ocean):
        lucid.pool_file("a.nc", "b.nc", size=(2, 3), datasets=["u"])
        pool("b.nc", "c.nc", size=(2, 3), datasets=["v"])
        pool("c.nc", "d.nc", size=(4, 1), datasets=["lat_bnds"])
        with ocean.open_dataset("c.nc") as read:
            assert read["u"].dims[2:] == read["v"].dims[1:] == ("y_2", "x_3")
            assert set(read.sizes) == {"t", "lev", "y", "x", "corner", "y_2", "x_3"}

    def test_kept_axes_keep_their_dimension(self, ocean):
        pool("a.nc", "b.nc", size=(None, 1), datasets=["v"])
        with ocean.open_dataset("b.nc") as read:
            assert read["v"].dims == ("t", "y", "x_1")
            assert read["y"].values.tolist() == [0, 1, 2, 3]

    @pytest.mark.parametrize("format_", ["NETCDF4", "NETCDF4_CLASSIC"])
    def test_other_software_opens_it(self, ocean, format_):
        import netCDF4

        with ocean.open_dataset("a.nc") as read:
            read.drop_vars("name").to_netcdf("a4.nc", format=format_)
        for options in ({"size": (2, 3)}, {"size": [(2, 3), (1, 1)]}, {"size": 2, "reduce": "max"}):
            size = options.pop("size")
            several = {"sizes": size} if isinstance(size, list) else {"size": size}
            pool("a4.nc", "b4.nc", **several, **options)
            with netCDF4.Dataset("b4.nc") as data:
                for variable in data.variables.values():
                    assert variable[:].shape == tuple(len(data.dimensions[d]) for d in variable.dimensions)
            if shutil.which("nccopy"):
                done = subprocess.run(["nccopy", "b4.nc", "c4.nc"], capture_output=True, check=False)
                assert done.returncode == 0, done.stderr

    def test_there_are_no_halves_in_netcdf(self, ocean):
        report = pool("a.nc", "b.nc", size=2, dtype="float16")
        assert "means are float32, since netCDF has no float16" in report.notes
        assert read("b.nc")[0].dtype == "f4"


class TestCarrying:
    @pytest.mark.parametrize("drop", [(), ("/t",)])
    def test_a_type_keeps_its_name_where_filters_may_be_lossy(self, drop):
        write("a.h5", np.ones((1, 2, 2), "f4"), {})
        with h5py.File("a.h5", "a") as file:
            file["other"], file["t"] = np.dtype("f8"), np.dtype("f4")
            file.create_dataset("d", data=np.arange(4.0), dtype=file["t"], chunks=(4,), scaleoffset=2)
            file["d"].attrs["a"] = 1
        planned = pool("a.h5", "b.h5", size=1, drop=drop, dry_run=True)
        notes = pool("a.h5", "b.h5", size=1, drop=drop).notes
        assert planned.notes == notes
        said = "types with a name have none, or that of an equal one, where filters may not be lossless: /d"
        assert notes == (said,) * len(drop)
        with h5py.File("b.h5") as file:
            name = h5py.h5i.get_name(file["d"].id.get_type())
            assert name == (None if drop else b"/t")
            assert file["d"][()].tolist() == [0, 1, 2, 3]
            assert file["d"].attrs["a"] == 1

    def test_what_is_of_a_dropped_type_is_of_the_same_without_a_name(self):
        write("a.h5", np.ones((1, 2, 2), "f4"), {})
        with h5py.File("a.h5", "a") as file:
            file["t"] = np.dtype(">f4")
            file.create_dataset("d", data=np.arange(4.0), dtype=file["t"])
        assert pool("a.h5", "b.h5", size=1, drop="t").notes == ()
        with h5py.File("b.h5") as file:
            assert not file["d"].id.get_type().committed()
            assert file["d"].dtype == ">f4"
            assert file["d"][()].tolist() == [0, 1, 2, 3]

    def test_a_type_that_is_equal_to_another_one_may_lose_its_name_to_it(self):
        write("a.h5", np.ones((1, 2, 2), "f4"), {})
        with h5py.File("a.h5", "a") as file:
            for name in "tu":
                file[name] = np.dtype("f4")
                data = {"data": np.arange(4.0), "dtype": file[name]}
                file.create_dataset(f"d{name}", **data, chunks=(4,), scaleoffset=2)
        (note,) = pool("a.h5", "b.h5", size=1).notes
        with h5py.File("b.h5") as file:
            names = {name: h5py.h5i.get_name(file[f"d{name}"].id.get_type()) for name in "tu"}
            assert note.split(": ")[1].split(", ") == [
                f"/d{n}" for n, other in names.items() if other != b"/" + n.encode()
            ]
            assert {*names.values()} <= {b"/t", b"/u"}

    @pytest.mark.parametrize(("options", "has_list"), [({"size": 1}, 1), ({"sizes": [1, 2]}, 0)])
    def test_fields_of_a_struct_are_listed_while_they_are_the_same(self, options, has_list):
        write("a.mat", np.ones((1, 2, 2)), {}, "s/f")
        fields = np.empty(1, h5py.vlen_dtype(np.dtype("S1")))
        fields[0] = np.array([b"f"], "S1")
        with h5py.File("a.mat", "a") as file:
            file["s"].attrs.update({"MATLAB_class": np.bytes_("struct"), "MATLAB_fields": fields})
        pool("a.mat", "b.mat", **options)
        with h5py.File("b.mat") as file:
            assert {*file["s"].attrs} == {"MATLAB_class", *["MATLAB_fields"] * has_list}

    def test_links_into_other_files_are_named_where_nothing_else_is_pooled(self):
        write("a.h5", np.ones((2, 2)), {}, "mask")
        with h5py.File("a.h5", "a") as file:
            file["d"] = h5py.ExternalLink("frames.h5", "/data")
        with pytest.raises(
            DatasetError, match=r"/d that is a link to /data in frames\.h5, which is not followed"
        ):
            pool("a.h5", "b.h5", size=1)
        with pytest.raises(DatasetError, match=r"/d is a link to /data in frames\.h5, which is not followed"):
            pool("a.h5", "b.h5", size=1, datasets="d*")
        assert len(pool("a.h5", "b.h5", size=1, layout="HW").datasets) == 1

    def test_no_other_file_is_opened_to_doubt(self):
        Path("other.h5").write_bytes(b"no HDF5")
        write("a.h5", np.ones((1, 2, 2), "u1"), {}, "d/data")
        with h5py.File("a.h5", "a") as file:
            file["d/what"] = h5py.ExternalLink("other.h5", "/what")
        assert pool("a.h5", "b.h5", size=1).notes == ()

    def test_scales_that_went_and_classes_of_other_conventions(self):
        with h5py.File("a.h5", "w") as file:
            file["v"], file["image"], file["s"] = np.ones((1, 4, 4)), np.ones((2, 2)), np.arange(4.0)
            file["s"].make_scale("s")
            file["v"].dims[1].attach_scale(file["s"])
            file["image"].attrs["CLASS"] = np.bytes_("IMAGE")
            file["image"].attrs["REFERENCE_LIST"] = np.array([file["v"].ref], h5py.ref_dtype)
            del file["s"]
        for options in ({}, {"carry": False}):
            pool("a.h5", "b.h5", size=2, **options)
            assert read("b.h5")[0].shape == (1, 2, 2)

    def test_types_without_a_name(self):
        quad = h5py.h5t.IEEE_F64LE.copy()
        quad.set_size(16)
        kinds = {"time": h5py.h5t.UNIX_D64BE, "quad": quad, "bits": h5py.h5t.STD_B64LE}
        with h5py.File("a.h5", "w") as file:
            file["v"] = np.ones((1, 4, 4))
            for name, kind in kinds.items():
                h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple((1, 4, 4)))
        assert [d.name for d in pool("a.h5", "b.h5", size=2).datasets] == ["/v"]
        with h5py.File("b.h5") as file:
            for name, kind in kinds.items():
                assert h5py.h5d.open(file.id, name.encode()).get_type().equal(kind)
        with pytest.raises(DatasetError, match="dataset /time is of times, which has no mean here"):
            pool("a.h5", "c.h5", size=2, datasets=["time"])

    @pytest.mark.parametrize("kind", [h5py.h5t.STD_I8BE, h5py.h5t.STD_U8BE])
    def test_bytes_of_any_order(self, kind):
        with h5py.File("a.h5", "w") as file:
            made = h5py.Dataset(h5py.h5d.create(file.id, b"v", kind, h5py.h5s.create_simple((1, 2, 2))))
            made[...] = [[[1, 2], [3, 4]]]
        pool("a.h5", "b.h5", size=1)
        assert read("b.h5")[0].item() == 2.5

    def test_references_of_any_nesting(self):
        pair = np.dtype([("name", "S2"), ("to", h5py.ref_dtype)])
        with h5py.File("a.h5", "w") as file:
            file["v"], file["g/labels"] = np.ones((1, 4, 4)), np.arange(3)
            refs = np.array([file["v"].ref, file["g/labels"].ref], h5py.ref_dtype)
            lists = file.create_dataset("lists", (2,), h5py.vlen_dtype(h5py.ref_dtype))
            lists[0], lists[1] = refs, refs[:1]
            file["arrays"] = np.array([(b"a", refs[0]), (b"b", refs[1])], pair)
            file["g"].attrs.create("list", lists[:], (2,), h5py.vlen_dtype(h5py.ref_dtype))
        pool("a.h5", "b.h5", size=2)
        with h5py.File("b.h5") as file:
            assert [[file[r].name for r in refs] for refs in file["lists"]] == [["/v", "/g/labels"], ["/v"]]
            assert [file[r].name for _, r in file["arrays"]] == ["/v", "/g/labels"]
            assert [[file[r].shape for r in refs] for refs in file["g"].attrs["list"]] == [
                [(1, 2, 2), (3,)],
                [(1, 2, 2)],
            ]

    @pytest.mark.parametrize(("holder", "carry"), [("g", True), ("v", True), ("v", False)])
    def test_attributes_of_such_references_fail_a_dry_run_too(self, holder, carry):
        write("a.h5", np.ones((1, 4, 4)), {})
        library, number = ctypes.CDLL(h5py.h5p.__file__), ctypes.c_int64
        with h5py.File("a.h5", "a") as file:
            library.H5Acreate2.restype = number
            space, nothing = h5py.h5s.create(h5py.h5s.SCALAR), number(0)
            kind = number.in_dll(library, "H5T_STD_REF_g")
            file.create_group("g")
            held = file[holder]
            place = number(held.id.id), b"new", kind, number(space.id)
            made = library.H5Acreate2(*place, nothing, nothing)
            assert made > 0
            library.H5Aclose(number(made))
        said = set()
        for dry_run in (True, False):
            with pytest.raises(FileError, match="cannot be carried over") as raised:
                pool("a.h5", "b.h5", size=2, dry_run=dry_run, carry=carry)
            said.add(str(raised.value))
        assert len(said) == 1

    @pytest.mark.parametrize("what", ["coordinate", "attribute"])
    def test_what_is_damaged_fails_a_dry_run_too(self, what):
        write("a.h5", np.ones((1, 4, 4)), {})
        with h5py.File("a.h5", "a") as file:
            file.create_dataset("y", data=np.arange(4.0), chunks=(4,), compression="gzip")
            file["y"].make_scale("y")
            file["v"].dims[1].attach_scale(file["y"])
            file.create_group("g").attrs["text"] = "long enough to be found"
            chunk = file["y"].id.get_chunk_info(0)
        data = Path("a.h5").read_bytes()
        if what == "coordinate":
            data = data[: chunk.byte_offset] + bytes(chunk.size) + data[chunk.byte_offset + chunk.size :]
        else:
            assert data.count(b"GCOL") >= 1
            data = data.replace(b"GCOL", b"LOCG")
        Path("a.h5").write_bytes(data)
        said = set()
        for dry_run in (True, False):
            with pytest.raises(FileError, match="cannot be carried over") as raised:
                pool("a.h5", "b.h5", size=2, dry_run=dry_run)
            said.add(str(raised.value))
        assert len(said) == 1

    def test_links_of_other_software_are_noted_by_a_dry_run_too(self):
        write("a.h5", np.ones((1, 4, 4)), {})
        library, number = ctypes.CDLL(h5py.h5p.__file__), ctypes.c_int64
        follow = ctypes.CFUNCTYPE(number)(lambda: -1)

        class LinkClass(ctypes.Structure):
            _fields_ = [("version", ctypes.c_int), ("id", ctypes.c_int), ("comment", ctypes.c_char_p)]
            _fields_ += [
                (name, ctypes.c_void_p) for name in ("create", "move", "copy", "follow", "delete", "query")
            ]

        own = LinkClass(1, 200, b"own", follow=ctypes.cast(follow, ctypes.c_void_p))
        assert library.H5Lregister(ctypes.byref(own)) >= 0
        with h5py.File("a.h5", "a") as file:
            place = (
                number(file.id.id),
                b"odd",
                ctypes.c_int(200),
                b"",
                ctypes.c_size_t(0),
                number(0),
                number(0),
            )
            assert library.H5Lcreate_ud(*place) >= 0
        library.H5Lunregister(200)
        notes = [pool("a.h5", "b.h5", size=2, dry_run=dry_run).notes for dry_run in (True, False)]
        assert notes[0] == notes[1] == ("links of a kind that only their own software can make: /odd",)

    def test_references_of_a_kind_that_h5py_cannot_make_are_named(self):
        write("a.h5", np.ones((1, 4, 4)), {})
        library = ctypes.CDLL(h5py.h5p.__file__)
        number = ctypes.c_int64
        with h5py.File("a.h5", "a") as file:
            kind = number.in_dll(library, "H5T_STD_REF_g")
            library.H5Dcreate2.restype = number
            space, nothing = h5py.h5s.create_simple((2,)), number(0)
            place = number(file.id.id), b"new", kind, number(space.id)
            made = library.H5Dcreate2(*place, nothing, nothing, nothing)
            assert made > 0
            library.H5Dclose(number(made))
        for dry_run in (True, False):
            with pytest.raises(FileError, match="/new cannot be carried over, and `drop` leaves it out"):
                pool("a.h5", "b.h5", size=2, dry_run=dry_run)
        assert pool("a.h5", "b.h5", size=2, drop="new").carried == 0

    def test_links_to_what_became_several(self):
        with h5py.File("a.h5", "w") as file:
            file["g/v"] = np.ones((1, 4, 4))
            file["soft"], file["g/near"] = h5py.SoftLink("/g/v"), h5py.SoftLink("v")
            file["chain"], file["other"] = h5py.SoftLink("/soft"), h5py.SoftLink("/g")
            file["hard"] = file["g/v"]
        pool("a.h5", "b.h5", sizes=[1, 2], datasets=["g/v"])
        with h5py.File("b.h5") as file:
            for name in ("soft", "g/near", "chain", "hard"):
                assert [file[f"{name}_{n}x{n}"].shape for n in (1, 2)] == [(1, 1, 1), (1, 2, 2)]
            assert file["other"] == file["g"]

    def test_images_with_scales(self):
        with h5py.File("a.h5", "w") as file:
            file["v"], file["s"] = np.arange(16, dtype="u1").reshape(1, 4, 4), 1.0
            file["s"].make_scale("s")
            file["v"].dims[1].attach_scale(file["s"])
            file["v"].attrs.update(CLASS=np.bytes_("IMAGE"), IMAGE_MINMAXRANGE=np.uint8([0, 255]))
        pool("a.h5", "b.h5", size=2)
        _, attributes = read("b.h5")
        assert attributes["CLASS"] == b"IMAGE"
        assert attributes["IMAGE_MINMAXRANGE"].dtype == "f4"


class TestOtherFiles:
    @pytest.fixture(autouse=True)
    def make(self):
        Path("out").mkdir()
        for i in range(3):
            write(f"{i}.h5", np.full((2, 4, 4), i + 1.0), {}, "data")

    def virtual(self, name, sources, shape, **options):
        layout = h5py.VirtualLayout(shape, "f8")
        for at, file, length in sources:
            layout[at] = h5py.VirtualSource(file, "data", (length, 4, 4))
        with h5py.File(name, "a") as file:
            file.create_virtual_dataset("all", layout, **options)

    def test_names_lead_there_from_another_folder(self, monkeypatch):
        write("a.h5", np.ones((1, 4, 4)), {})
        self.virtual("a.h5", [(slice(0, 2), "0.h5", 2), (slice(2, 4), "1.h5", 2)], (4, 4, 4), fillvalue=-1)
        np.arange(3.0).tofile("raw.bin")
        with h5py.File("a.h5", "a") as file:
            file["link"] = h5py.ExternalLink("2.h5", "/data")
            file.create_dataset("raw", (3,), "f8", external=[("raw.bin", 0, 24)])
        pool("a.h5", "out/b.h5", size=2, datasets=["v"])
        folder = Path.cwd()
        monkeypatch.chdir("/")
        with h5py.File(f"{folder}/out/b.h5") as file:
            assert file["all"][:, 0, 0].tolist() == [1, 1, 2, 2]
            assert file["link"][0, 0, 0] == 3
            assert file["raw"][:].tolist() == [0, 1, 2]

    @pytest.mark.parametrize(
        ("sources", "why"),
        [
            ([(slice(0, 2), "9.h5", 2)], "9.h5, which is not there"),
            ([(slice(0, 4), "0.h5", 4)], r"more of data in 0.h5 than it holds, \(2, 4, 4\)"),
        ],
    )
    def test_missing_sources(self, sources, why):
        self.virtual("a.h5", sources, (4, 4, 4))
        for dry_run in (True, False):
            with pytest.raises(DatasetError, match=why):
                pool("a.h5", "b.h5", size=2, allow_external=True, dry_run=dry_run)
        if "more" in why:
            return  # the library itself fails there
        Path("a.h5").unlink()
        self.virtual("a.h5", sources, (4, 4, 4), fillvalue=np.nan)
        (note,) = pool("a.h5", "b.h5", size=2, allow_external=True).notes
        assert note.endswith("; its cells are NaN")

    def test_external_storage_that_is_too_short(self):
        np.zeros(20).tofile("raw.bin")
        with h5py.File("a.h5", "w") as file:
            file.create_dataset("v", (2, 4, 4), "f8", external=[("raw.bin", 0, 256)])
        with pytest.raises(DatasetError, match=r"raw.bin, which has 160 of 256 bytes"):
            pool("a.h5", "b.h5", size=2, allow_external=True)

    def test_a_series_that_ends_is_whole(self):
        space = h5py.h5s.create_simple((2, 4, 4), (h5py.h5s.UNLIMITED, 4, 4))
        space.select_hyperslab((0, 0, 0), (h5py.h5s.UNLIMITED, 1, 1), (2, 4, 4), (2, 4, 4))
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_virtual(space, b"%b.h5", b"data", h5py.h5s.create_simple((2, 4, 4)))
        with h5py.File("a.h5", "w") as file:
            shape = h5py.h5s.create_simple((2, 4, 4), (h5py.h5s.UNLIMITED, 4, 4))
            h5py.h5d.create(file.id, b"v", h5py.h5t.IEEE_F64LE, shape, creation)
        assert pool("a.h5", "out/b.h5", size=1, allow_external=True).notes == ()
        assert read("out/b.h5")[0].ravel().tolist() == [1, 1, 2, 2, 3, 3]
        write("a.h5", np.ones((1, 1, 4, 4)), {}, "w")
        lucid.pool_file("a.h5", "out/c.h5", size=1)
        assert read("out/c.h5", "v")[0][:, 0, 0].tolist() == [1, 1, 2, 2, 3, 3]

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("raw", {}),
            ("./soft", {}),
            ("a_hard", {}),
            ("group/raw", {}),
            ("raw", {"datasets": "v", "drop": "raw"}),
            ("soft", {"datasets": "v", "drop": ["aside", "r*"]}),
            ("aside/raw", {"drop": "aside"}),
        ],
    )
    def test_versions_of_what_is_pooled_or_dropped_are_written_out(self, name, options):
        write("a.h5", np.arange(64.0).reshape(1, 4, 4, 4), {}, "raw")
        write("a.h5", np.arange(16.0).reshape(2, 8), {}, "aside/raw")
        write("a.h5", np.ones((1, 1, 4, 4)), {}, "v")
        with h5py.File("a.h5", "a") as file:
            file["a_hard"], file["soft"], file["group"] = (
                file["raw"],
                h5py.SoftLink("raw"),
                h5py.SoftLink("/"),
            )
            layout = h5py.VirtualLayout((2, 4), "f8")
            first = (0,) * (file[name].ndim - 2)
            layout[:] = h5py.VirtualSource(".", name, file[name].shape)[(*first, slice(2), slice(4))]
            file.create_virtual_dataset("version", layout)
            right = file["version"][:]
        planned = lucid.pool_file("a.h5", "b.h5", size=2, dry_run=True, **options)
        report = lucid.pool_file("a.h5", "b.h5", size=2, **options)
        assert planned.notes == report.notes
        assert np.array_equal(read("b.h5", "version")[0], right)
        assert report.notes == ("virtual datasets of what is pooled or dropped are written out: /version",)


def test_real_files_say_the_same_to_xarray(rng):
    xarray = pytest.importorskip("xarray", reason="xarray is not installed (extra dev)")
    pytest.importorskip("netCDF4", reason="in the extra `dev`")
    for kind, fill, packing in itertools.product(
        ("i1", "i2", "i4", "f4", "f8"), (None, -9), ({}, {"scale_factor": 0.5, "add_offset": 2.0})
    ):
        cells = rng.integers(-8, 50, (3, 7, 9)).astype("f8")
        cells[rng.random(cells.shape) < 0.3] = np.nan if fill is not None else 1
        encoding = {"dtype": kind} | packing | ({} if fill is None else {"_FillValue": fill})
        data = xarray.Dataset(
            {"v": (("t", "y", "x"), cells * (0.5 if packing else 1) + (2 if packing else 0))}
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NaN cannot be stored as integers
            data.to_netcdf("a.nc", encoding={"v": encoding})
        pool("a.nc", "b.nc", size=(3, 4))
        with (
            warnings.catch_warnings(),
            xarray.open_dataset("a.nc") as before,
            xarray.open_dataset("b.nc") as after,
        ):
            warnings.simplefilter("ignore")
            x, y = before["v"].values.astype("f8"), after["v"].values
            for i, j in np.ndindex(3, 4):
                window = x[:, i * 7 // 3 : -(-(i + 1) * 7 // 3), j * 9 // 4 : -(-(j + 1) * 9 // 4)]
                assert np.allclose(y[:, i, j], np.nanmean(window, (1, 2)), equal_nan=True, rtol=1e-5)


@pytest.mark.parametrize(
    ("suffix", "names"), [("nc", {"lzf"}), ("nc4", {"lzf"}), ("mat", {"lzf"}), ("h5", set())]
)
def test_compressions_that_the_software_of_an_output_lacks_are_named(suffix, names):
    write("a.h5", np.ones((1, 2, 2), "f4"), {})
    write(f"a.{suffix}", np.ones((1, 2, 2), "f4"), {}, path="w")
    for compression in "lzf", "gzip", "none", "keep":
        notes = pool(f"a.{suffix}", compression=compression, size=1).notes
        assert any(f"has no {compression}" in note for note in notes) is (compression in names)


@pytest.mark.parametrize("compression", ["lzf", "gzip", "szip"])
def test_filters_that_the_software_of_an_output_lacks_are_named_where_they_are_kept(compression):
    options = {"compression": compression, "shuffle": True, "fletcher32": True, "chunks": (1, 8, 8)}
    for path in "vw":
        write("a.h5", np.ones((1, 8, 8), "f4"), {}, path=path, **options)
    for suffix, software in ("nc", "netCDF"), ("mat", "MATLAB"), ("h5", None):
        for dry_run in True, False:
            notes = pool("a.h5", f"b.{suffix}", size=1, dry_run=dry_run).notes
            named = [f"{software} has no lzf, and cannot read the output"] * (
                compression == "lzf" and suffix != "h5"
            )
            assert [note.partition(";")[0] for note in notes] == named
