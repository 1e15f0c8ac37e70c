"""Coordinates and transforms of results, in netCDF and in Zarr alike, as xarray reads them."""

from contextlib import nullcontext, suppress
from importlib.util import find_spec
from warnings import catch_warnings

import h5py
import numpy as np
import pytest
from slow import slow

import lucid
from lucid.errors import DatasetError
from lucid.nn.functional import adaptive_avg_pool2d

with suppress(ImportError):  # those who use it are skipped
    import xarray

zarr = pytest.importorskip("zarr", reason="the extra 'zarr'")


@pytest.fixture(params=["h5", *slow("zarr2"), "zarr3"])
def tree(request, tmp_path):
    """Write and pool arrays and groups, of which no axis has a name: path → (array, attributes)."""
    suffix = request.param[:4]

    def pooled(things, size=2, **options):
        path, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
        if suffix == "h5":
            file = h5py.File(path, "w")
        else:
            file = zarr.open_group(path, mode="w", zarr_format=int(request.param[-1]))
        for name, (array, attributes) in things.items():
            if array is None:
                made = file.require_group(name) if name else file
            else:
                made = (
                    file.create_dataset(name, data=array)
                    if suffix == "h5"
                    else file.create_array(name, data=array)
                )
            made.attrs.update(attributes)
        if suffix == "h5":
            file.close()
        options = {"layout": "HW", "overwrite": True} | options
        planned = lucid.pool_file(path, target, size=size, dry_run=True, **options)
        report = lucid.pool_file(path, target, size=size, **options)
        assert planned.notes == report.notes
        return h5py.File(target) if suffix == "h5" else zarr.open_group(target, mode="r"), report.notes

    return pooled


@pytest.fixture(params=["nc", *slow("zarr2"), "zarr3"])
def store(request, tmp_path):
    """Write, pool and read a dataset of one format."""
    pytest.importorskip("xarray", reason="xarray is not installed (extra dev)")
    if request.param == "nc":
        pytest.importorskip("h5netcdf", reason="h5netcdf writes netCDF")

    def pooled(dataset, size, **options):
        if request.param == "nc":
            paths = tmp_path / "in.nc", tmp_path / "out.nc"
            dataset.to_netcdf(paths[0], engine="h5netcdf", format="NETCDF4")
        else:
            paths = tmp_path / "in.zarr", tmp_path / "out.zarr"
            dataset.to_zarr(paths[0], mode="w", zarr_format=int(request.param[-1]), consolidated=False)
        sizes = size if isinstance(size, list) else [size]
        planned = lucid.pool_file(*paths, sizes=sizes, dims="y,x", dry_run=True, **options)
        report = lucid.pool_file(*paths, sizes=sizes, dims="y,x", **options)
        assert planned.notes == report.notes
        engine = (
            {"engine": "h5netcdf"} if request.param == "nc" else {"engine": "zarr", "consolidated": False}
        )
        with xarray.open_dataset(paths[1], decode_coords="all", **engine) as result:
            return result.load(), report.notes

    return pooled


def field(**others):
    """A variable over time, rows and columns, with more beside it."""
    x = np.arange(2 * 4 * 6, dtype="f4").reshape(2, 4, 6)
    return xarray.Dataset({"t": (("time", "y", "x"), x)} | others)


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_a_grid_as_it_stands_in_the_file(tmp_path, suffix):
    """Dimensions, coordinates, bounds and planes of coordinates, also over two runs, without a reader of netCDF's."""
    y, x = np.mgrid[0:4, 0:6].astype("f8")
    lengths = {"t": np.arange(2.0), "y": y[:, 0], "x": x[0], "nv": np.arange(2.0)}
    arrays = {
        "v": (["t", "y", "x"], np.stack([x, x])),
        "w": (["t", "y", "x"], np.stack([y, y])),
        "lat": (["y", "x"], 10 * y),
        "edges": (["y", "nv"], np.stack([y[:, 0] - 0.5, y[:, 0] + 0.5], 1)),
    } | {name: ([name], values) for name, values in lengths.items()}
    attributes = {
        "v": {"coordinates": "lat"},
        "w": {"coordinates": "lat"},
        "y": {"bounds": "edges", "units": "m"},
    }
    paths = [tmp_path / f"{name}.{suffix}" for name in "abc"]
    if suffix == "h5":
        with h5py.File(paths[0], "w") as file:
            for name, (_, values) in arrays.items():
                file[name] = values
                file[name].attrs.update(attributes.get(name, {}))
            for name in lengths:
                file[name].make_scale(name)
            for name, (dims, _) in arrays.items():
                for axis, dim in enumerate(dims if name not in lengths else ()):
                    file[name].dims[axis].attach_scale(file[dim])
    else:
        group = zarr.open_group(paths[0], mode="w")
        for name, (dims, values) in arrays.items():
            group.create_array(name, data=values, dimension_names=dims, attributes=attributes.get(name, {}))
    for source, target, name in (*paths[:2], "v"), (*paths[1:], "w"):
        lucid.pool_file(source, target, size=(2, 3), dims="y,x", datasets=name)

    def dims(name):
        if suffix == "h5":
            return [axis[0].name.strip("/") if len(axis) else name for axis in file[name].dims]
        return [*file[name].metadata.dimension_names]

    with h5py.File(paths[2]) if suffix == "h5" else nullcontext(zarr.open_group(paths[2], mode="r")) as file:
        assert dims("v") == dims("w") == ["t", "y_2", "x_3"]
        assert file["v"][0].tolist() == [[0.5, 2.5, 4.5]] * 2
        assert file["w"][0].tolist() == [[0.5] * 3, [2.5] * 3]
        assert (dims("lat_2x3"), file["lat_2x3"][:].tolist()) == (["y_2", "x_3"], [[5] * 3, [25] * 3])
        assert file["v"].attrs["coordinates"] == file["w"].attrs["coordinates"] == "lat_2x3"
        assert (file["y_2"][:].tolist(), file["x_3"][:].tolist()) == ([0.5, 2.5], [0.5, 2.5, 4.5])
        assert file["y_2"].attrs["units"] == "m"
        edges = file["y_2"].attrs["bounds"]
        assert (dims(edges), file[edges][:].tolist()) == (["y_2", "nv"], [[-0.5, 1.5], [1.5, 3.5]])
        assert {"y_3", "x_2", "y_2x3"}.isdisjoint(file)
        assert np.array_equal(file["lat"], 10 * y)


def test_coordinates_of_three_axes_are_pooled_along(store):
    height = np.random.default_rng(0).standard_normal((2, 4, 6))
    dataset = field().assign_coords(height=(("time", "y", "x"), height), when=(("x", "time"), height[:, 0].T))
    result, _ = store(dataset, (2, 3))
    right = height.reshape(2, 2, 2, 3, 2).mean((2, 4))
    assert np.allclose(result.t.coords["height_2x3"], right)
    assert result["height_2x3"].dims == ("time", "y_2", "x_3")
    assert np.allclose(result.t.coords["when_3"], height[:, 0].T.reshape(3, 2, 2).mean(1))
    assert np.array_equal(result["height"], height)


@pytest.mark.parametrize("dtype", [None, "keep"])
@pytest.mark.parametrize("times", ["datetime64[ns]", "timedelta64[ns]"])
def test_of_times_that_are_integers_xarray_marks_gaps_by_the_least_one(store, times, dtype):
    start = np.zeros((), times)
    values = start + (2 * np.arange(24).reshape(4, 6)).astype("timedelta64[h]")
    values[:2, 0] = values[2:, 3:] = "NaT"
    result, _ = store(field(when=(("y", "x"), values)), (2, 2), dtype=dtype)
    hours = (result["when"].values - start) / np.timedelta64(1, "h")
    assert np.array_equal(hours, [[9, 14], [32, np.nan]], equal_nan=True)


@pytest.mark.parametrize("attributes", [{"units": "degrees_east"}, {"standard_name": "longitude"}])
def test_longitudes_of_a_plane_cross_the_date_line(store, attributes):
    turning = 170 + 4.0 * np.arange(6) + np.arange(4)[:, None]
    longitudes = (turning + 180) % 360 - 180
    dataset = field().assign_coords(lon=(("y", "x"), longitudes, attributes))
    result, _ = store(dataset, (2, 3))
    right = adaptive_avg_pool2d(turning[None], (2, 3))[0]
    assert np.allclose((result["lon_2x3"] - right + 180) % 360, 180)


def test_names_of_what_says_more_of_each_cell_follow(store):
    dataset = field(flag=(("time", "y", "x"), np.ones((2, 4, 6), "i1")), clock=(("time",), np.arange(2.0)))
    dataset["t"].attrs["ancillary_variables"] = "flag clock"
    result, _ = store(dataset, [(2, 3), (4, 6)])
    for size in "2x3", "4x6":
        assert result[f"t_{size}"].attrs["ancillary_variables"] == f"flag_{size} clock"
        assert result[f"flag_{size}"].dims == result[f"t_{size}"].dims


def test_names_of_what_stays_on_the_old_grid_go(store):
    dataset = field(flag=(("time", "y", "x"), np.ones((2, 4, 6), "i1")))
    dataset["t"].attrs["ancillary_variables"] = "flag"
    result, _ = store(dataset, (2, 3), datasets="t")
    assert "ancillary_variables" not in result["t"].attrs


def test_a_dimension_whose_coordinates_are_dropped_keeps_its_length(store):
    """Software for netCDF refuses a file where one axis of a variable has a dimension and another has none."""
    clock = xarray.DataArray(np.arange(2.0), dims="time")
    dataset = field(clock=clock).assign_coords(time=[5, 6], y=np.arange(4.0))
    result, _ = store(dataset, (2, 3), drop=["time"], datasets="t")
    assert result.t.dims == ("time", "y_2", "x_3")
    assert result.clock.dims == ("time",)
    assert "time" not in result.variables
    assert result.sizes["time"] == 2


def test_a_dropped_dimension_that_names_others_keeps_its_number(tmp_path):
    netcdf = pytest.importorskip("netCDF4", reason="netCDF4 is in the extra `dev`")
    with netcdf.Dataset(tmp_path / "a.nc", "w") as data:
        for name, length in ("y", 4), ("x", 6), ("level", 2):
            data.createDimension(name, length)
        data.createVariable("level", "f4", ("level",)).formula_terms = "a: level b: pressure"
        for name in "pressure", "v":
            data.createVariable(name, "f4", ("y", "x", "level"))[:] = 1
    lucid.pool_file(tmp_path / "a.nc", tmp_path / "b.nc", size=2, layout="YXZ", drop=["level"])
    with netcdf.Dataset(tmp_path / "b.nc") as data:
        assert data["v"].dimensions == ("y_2", "x_2", "level")


@pytest.mark.parametrize("sizes", [[(2, 3)], [(2, 3), (1, 1)]])
def test_names_keep_the_groups_in_which_others_are(tmp_path, sizes):
    netcdf = pytest.importorskip("netCDF4", reason="netCDF4 is in the extra `dev`")
    with netcdf.Dataset(tmp_path / "a.nc", "w") as data:
        for name, length in ("y", 4), ("x", 6), ("corner", 4):
            data.createDimension(name, length)
        variables = {
            path: data.createVariable(path, "f4", ("y", "x")) for path in ("/a/angle", "/b/c/v", "/b/f")
        }
        data.createVariable("/b/corners", "f4", ("y", "x", "corner"))[:] = 1
        data.createVariable("/b/kept", "f4", ()).ancillary_variables = "/b/f c/v"
        variables["/a/angle"].bounds = "/b/corners"
        variables["/b/c/v"].setncatts({"coordinates": "/a/angle", "ancillary_variables": "/b/f"})
        variables["/b/f"].ancillary_variables = "c/v"
        for variable in variables.values():
            variable[:] = 1
    lucid.pool_file(tmp_path / "a.nc", tmp_path / "b.nc", sizes=sizes, layout="YX")
    suffix = "_2x3" * (len(sizes) > 1)
    with netcdf.Dataset(tmp_path / "b.nc") as data:
        assert data["/a/angle_2x3"].bounds == "/b/corners_2x3"
        assert data[f"/b/c/v{suffix}"].coordinates == "/a/angle_2x3"
        assert data[f"/b/c/v{suffix}"].ancillary_variables == f"/b/f{suffix}"
        assert data[f"/b/f{suffix}"].ancillary_variables == f"c/v{suffix}"
        assert data["/b/kept"].ancillary_variables == f"/b/f{suffix} c/v{suffix}"


@pytest.mark.parametrize("drop", [["t"], ["time"], ["t", "time"]])
def test_a_scale_that_is_dropped_under_one_of_its_names_stays_under_the_other(tmp_path, drop):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["t"], file["v"], file["w"] = np.arange(2.0), np.ones((2, 4, 4)), np.ones((2, 3))
        file["t"].make_scale("t")
        file["time"] = file["t"]
        for name in "vw":
            file[name].dims[0].attach_scale(file["t"])
    lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2, layout="TYX", drop=drop)
    with h5py.File(tmp_path / "b.h5") as file:
        (kept,) = {"t", "time"} & {*file}
        assert kept not in drop or len(drop) == 2
        scales = [list(file[name].dims[0].values()) for name in "vw"]
        assert scales == [[file[kept]], [file[kept]]]
        assert len(file[kept].attrs["REFERENCE_LIST"]) == 2
        assert file[kept][:].tolist() == ([0, 0] if len(drop) == 2 else [0, 1])


def test_dimensions_that_nothing_lies_along_are_dropped_with_their_coordinates(tmp_path):
    pytest.importorskip("h5netcdf", reason="h5netcdf writes netCDF")
    field(alone=("z", np.ones(3))).assign_coords(z=[1, 2, 3]).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    lucid.pool_file(tmp_path / "a.nc", tmp_path / "b.nc", size=2, dims="y,x", drop=["z", "alone"])
    with h5py.File(tmp_path / "b.nc") as file:
        assert "z" not in file


def test_dimensions_of_a_dropped_group_keep_their_lengths_for_what_is_pooled_in_it(tmp_path):
    netcdf = pytest.importorskip("netCDF4", reason="netCDF4 is in the extra `dev`")
    with netcdf.Dataset(tmp_path / "a.nc", "w") as data:
        group = data.createGroup("g")
        for name, length in ("t", 2), ("y", 4), ("x", 6):
            group.createDimension(name, length)
        group.createVariable("t", "f4", ("t",))[:] = 1
        group.createVariable("v", "f4", ("t", "y", "x"))[:] = 1
    lucid.pool_file(tmp_path / "a.nc", tmp_path / "b.nc", size=2, layout="TYX", drop=["g"])
    with netcdf.Dataset(tmp_path / "b.nc") as data:
        assert data["g/v"].dimensions == ("t", "y_2", "x_2")
        assert set(data["g"].variables) == {"v"}


class TestTransform:
    def dataset(self, transform="100 10 0 50 0 -10"):
        there = xarray.DataArray(0, attrs={"crs_wkt": "a projection", "GeoTransform": transform})
        dataset = field(other=(("y", "time"), np.zeros((4, 2), "f4"))).assign_coords(spatial_ref=there)
        dataset.t.attrs["grid_mapping"] = "spatial_ref"
        dataset.other.attrs["grid_mapping"] = "spatial_ref"
        return dataset

    def test_it_follows_the_cells(self, store):
        result, notes = store(self.dataset(), (2, 2))
        made = result["spatial_ref_2x2"]
        assert made.attrs == {"crs_wkt": "a projection", "GeoTransform": "100.0 30.0 0.0 50.0 0.0 -20.0"}
        assert result.t.encoding["grid_mapping"] == "spatial_ref_2x2"
        assert result.other.encoding["grid_mapping"] == "spatial_ref"
        assert result["spatial_ref"].attrs["GeoTransform"] == "100 10 0 50 0 -10"
        assert not any("GeoTransform" in note for note in notes)

    def test_there_is_none_for_windows_of_several_sizes(self, store):
        result, notes = store(self.dataset(), (3, 2))
        assert result["spatial_ref_3x2"].attrs == {"crs_wkt": "a projection"}
        assert [note for note in notes if note.startswith("GeoTransform is left out")]

    def test_of_a_mapping_that_names_its_coordinates(self, store):
        dataset = self.dataset().assign_coords(y=np.arange(4.0), x=np.arange(6.0))
        dataset["t"].attrs["grid_mapping"] = "spatial_ref: x y"
        result, _ = store(dataset, (2, 2))
        told = (result["t"].encoding | result["t"].attrs)["grid_mapping"].split()
        assert told[1:] == ["x_2", "y_2"]
        transform = result[told[0][:-1]].attrs["GeoTransform"]
        assert transform.split() == ["100.0", "30.0", "0.0", "50.0", "0.0", "-20.0"]

    @pytest.mark.filterwarnings("ignore:The data type")  # zarr's word on text in version 3
    def test_of_a_mapping_that_is_text(self, store):
        dataset = self.dataset()
        dataset["spatial_ref"] = xarray.DataArray("text", attrs=dataset.spatial_ref.attrs)
        result, _ = store(dataset, (2, 2))
        assert result["spatial_ref_2x2"].attrs["GeoTransform"] == "100.0 30.0 0.0 50.0 0.0 -20.0"
        assert result["spatial_ref"] == "text"

    def test_it_is_made_once_as_coordinates_are(self, store):
        dataset = self.dataset().assign_coords(y=np.arange(4.0), x=np.arange(6.0))
        dataset["u"] = dataset.t * 2
        dataset.u.attrs |= {"grid_mapping": "spatial_ref"}
        for name in "tu":
            dataset[name].attrs["coordinates"] = "y x"
        result, _ = store(dataset, [(2, 2), (2, 3)])
        made = set(result.variables) - set(dataset.variables) - {"t_2x2", "t_2x3", "u_2x2", "u_2x3"}
        assert made == {"y_2", "x_2", "x_3", "spatial_ref_2x2", "spatial_ref_2x3"}

    def test_of_the_variable_itself(self, store):
        dataset = field()
        dataset.t.attrs["GeoTransform"] = "0 1 0 0 0 1"
        result, _ = store(dataset, (2, 2))
        assert result.t.attrs["GeoTransform"] == "0.0 3.0 0.0 0.0 0.0 2.0"

    @pytest.mark.filterwarnings("ignore:The .phony_dims")
    @pytest.mark.parametrize("axes", [("y", "x"), ("x", "y")])
    def test_of_the_variable_itself_without_all_else(self, store, axes):
        dataset = field()
        dataset["t"] = dataset.t.transpose("time", *axes)
        dataset.t.attrs |= {"GeoTransform": "0 1 0 0 0 1", "bounds": "nothing"}
        result, _ = store(dataset, (2, 2), carry=False)
        assert result.t.attrs["GeoTransform"] == "0.0 3.0 0.0 0.0 0.0 2.0"
        assert "bounds" not in result.t.attrs

    def test_of_what_is_flattened_there_is_none(self, store):
        dataset = field()
        dataset.t.attrs["GeoTransform"] = "0 1 0 0 0 1"
        assert "GeoTransform" not in store(dataset, (2, 2), flatten=True)[0].t.attrs

    def test_axes_that_come_the_other_way_round(self, store):
        dataset = self.dataset()
        dataset["t"] = dataset.t.transpose("time", "x", "y")
        result, _ = store(dataset, (2, 2))
        assert result["spatial_ref_2x2"].attrs["GeoTransform"] == "100.0 30.0 0.0 50.0 0.0 -20.0"


def test_coordinates_that_name_themselves_are_no_fields_and_others_are(store):
    latitudes = np.arange(24.0).reshape(4, 6)
    plane = ("y", "x"), latitudes
    dataset = field(lat=plane, one=plane, two=plane)
    # xarray writes attributes of its own for coordinates, but leaves those that are there.
    for name, coordinates in {"t": "lat", "lat": "lat", "one": "two", "two": "one"}.items():
        dataset[name].attrs["coordinates"] = coordinates
    result, _ = store(dataset, (2, 3))
    assert result["one"].shape == result["two"].shape == (2, 3)
    assert result["lat"].shape == (4, 6)
    assert np.allclose(result["lat_2x3"], latitudes.reshape(2, 2, 3, 2).mean((1, 3)))


@pytest.mark.filterwarnings("ignore:The .phony_dims")
def test_what_is_not_carried_over_is_not_named(store):
    dataset = field(crs=((), np.int32(0)), area=(("y", "x"), np.ones((4, 6))), flag=(("time",), np.ones(2)))
    names = {"grid_mapping": "crs", "cell_measures": "area: area", "ancillary_variables": "flag"}
    dataset["t"].attrs |= names | {"coordinates": "flag", "formula_terms": "a: flag", "units": "K"}
    result, _ = store(dataset, (2, 3), carry=False)
    said = result["t"].encoding | result["t"].attrs
    assert not said.keys() & {*names, "coordinates", "formula_terms"}
    assert said["units"] == "K"


class TestArraysWithoutSamples:
    """An array of nothing but rows and columns beside others that have samples before them."""

    def dataset(self):
        return field(plane=(("y", "x"), np.arange(24.0).reshape(4, 6)))

    def test_slices_join_to_a_single_run(self, tmp_path):
        pytest.importorskip("h5netcdf", reason="h5netcdf writes netCDF")
        self.dataset().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
        options = {"size": 2, "dims": "y,x"}
        lucid.pool_file(tmp_path / "a.nc", tmp_path / "whole.nc", **options)
        for name, samples in ("0.nc", slice(0, 1)), ("1.nc", slice(1, 2)):
            lucid.pool_file(tmp_path / "a.nc", tmp_path / name, slice=samples, **options)
        lucid.merge_files([tmp_path / "1.nc", tmp_path / "0.nc"], tmp_path / "joined.nc")
        assert (tmp_path / "joined.nc").read_bytes() == (tmp_path / "whole.nc").read_bytes()
        with pytest.raises(DatasetError, match="/plane: `slice` needs the first axis, which is pooled"):
            lucid.pool_file(
                tmp_path / "a.nc", tmp_path / "n.nc", datasets="plane", slice=slice(0, 1), **options
            )

    def test_it_is_carried_over_where_the_others_are_flattened(self, store):
        result, notes = store(self.dataset(), (2, 3), flatten=True)
        assert result["plane"].shape == (4, 6)
        assert result["t"].shape == (2, 6)
        assert "dataset /plane: `flatten` needs the first axis, which is pooled, so it was left out" in notes
        with pytest.raises(DatasetError, match="/plane: `flatten` needs the first axis"):
            store(self.dataset(), (2, 3), flatten=True, datasets="plane", overwrite=True)


#: Attributes that name others: what a variable says that is carried over, and what its copy says.
NAMES = {
    "formula_terms": ("a: level p: p", "a: level p: p_2x3"),
    "ancillary_variables": ("p level", "p_2x3 level"),
    "cell_measures": ("area: p", "area: p_2x3"),
    "coordinates": ("p level", "p_2x3 level"),
}


@pytest.mark.parametrize("key", NAMES)
def test_what_is_carried_over_names_results_that_are_there(store, key):
    before, after = NAMES[key]
    dataset = field(p=(("time", "y", "x"), np.ones((2, 4, 6), "f4")), level=(("z",), np.arange(3.0)))
    dataset["other"] = ("z",), np.arange(3.0), {key: before}
    several, _ = store(dataset, [(2, 3), (1, 1)])
    assert (several["other"].encoding | several["other"].attrs)[key] == after
    single, _ = store(dataset, (2, 3), overwrite=True)
    assert (single["other"].encoding | single["other"].attrs)[key] == before


def test_names_of_terms_lead_to_the_same_size(store):
    dataset = field(p=(("time", "y", "x"), np.ones((2, 4, 6), "f4")), ground=(("y", "x"), np.ones((4, 6))))
    dataset["t"].attrs["formula_terms"] = "t: ground p: p"
    result, _ = store(dataset, [(2, 3), (1, 1)], datasets=["t", "p"])
    for size in "2x3", "1x1":
        array = result[f"t_{size}"]
        assert (array.encoding | array.attrs)["formula_terms"] == f"t: ground_{size} p: p_{size}"
    assert result["ground_2x3"].dims == ("y_2", "x_3")


def test_terms_of_the_coordinates_of_a_dimension_lie_along_it(store):
    level = ("y", np.arange(4.0), {"formula_terms": "a: a p0: p0", "bounds": "edges"})
    edges = ("y", "two"), np.stack([np.arange(4.0), np.arange(4.0) + 1], 1), {"formula_terms": "a: a_edges"}
    others = {"a": ("y", np.arange(4.0)), "a_edges": (("y", "two"), np.ones((4, 2))), "p0": ((), 1.0)}
    result, _ = store(field(edges=edges, **others).assign_coords(y=level), (2, 3), datasets="t")
    assert (result["y_2"].encoding | result["y_2"].attrs)["formula_terms"] == "a: a_2 p0: p0"
    assert result["a_2"].dims == ("y_2",)
    assert np.array_equal(result["a_2"], [0.5, 2.5])
    # Means of the edges of others are no edges.
    assert "formula_terms" not in result["edges_2"].encoding | result["edges_2"].attrs


def test_coordinates_name_others_of_their_size(store):
    dataset = field(lat=(("y", "x"), np.ones((4, 6))), lon=(("y", "x"), np.ones((4, 6))))
    for name, coordinates in {"t": "lat lon", "lat": "lat lon", "lon": "lat lon"}.items():
        dataset[name].attrs["coordinates"] = coordinates
    result, _ = store(dataset, [(2, 3), (1, 1)], datasets="t")
    for name in ("lat_2x3", "lon_2x3", "t_2x3"):
        assert (result[name].encoding | result[name].attrs)["coordinates"] == "lat_2x3 lon_2x3"


class TestFlat:
    """Results of two axes: the first has the dimension that it had, the other one of its own."""

    def dataset(self):
        rng = np.random.default_rng(0)
        arrays = {name: (("t", "c", "y", "x"), rng.random((3, 2, 4, 6), "f4")) for name in "vw"}
        # A dimension of as many cells as a result has features, which netCDF would take for one of its own.
        arrays |= {"u": (("t", "y", "x"), rng.random((3, 4, 6), "f4")), "s": (("eight",), np.ones(8))}
        arrays["scene"] = (("t", "yc"), np.ones((3, 8)), {"coordinates": "yc"})
        return xarray.Dataset(arrays, {"t": [3, 4, 5], "y": np.arange(4.0), "yc": np.arange(8.0)})

    @pytest.mark.parametrize("sizes", [[(2, 2)], [(2, 2), (1, 4), (1, 1)]])
    def test_features_have_a_dimension_of_their_own(self, store, sizes):
        result, _ = store(self.dataset(), sizes, flatten=True)
        for name, channels in ("v", 2), ("w", 2), ("u", 1):
            for height, width in sizes:
                full = f"{name}_{height}x{width}" if len(sizes) > 1 else name
                assert dict(result[full].sizes) == {"t": 3, f"{full}_features": channels * height * width}
                assert f"{full}_features" not in result.variables
        assert result["scene"].dims == ("t", "yc")
        assert result["s"].dims == ("eight",)
        assert list(result["t"]) == [3, 4, 5]

    def test_the_name_of_another_variable_is_not_taken(self, store):
        dataset = self.dataset()
        dataset["v_features"] = ("yc",), np.arange(8.0)
        result, _ = store(dataset, (2, 2), flatten=True)
        assert dict(result["v"].sizes) == {"t": 3, "v_features_": 8}
        assert result["v_features"].dims == ("yc",)

    def test_what_lies_along_the_old_grid_is_not_named(self, store):
        dataset = self.dataset().assign_coords(
            lat=(("y", "x"), np.ones((4, 6))), when=(("t",), np.ones(3)), crs=((), np.int32(0))
        )
        dataset["v"].attrs |= {
            "coordinates": "lat when yc",
            "grid_mapping": "crs",
            "GeoTransform": "0 1 0 0 0 1",
        }
        dataset["v"].attrs |= {"ancillary_variables": "w u", "cell_measures": "area: lat", "units": "K"}
        result, _ = store(dataset, (2, 2), flatten=True)
        said = result["v"].attrs | result["v"].encoding
        assert said["coordinates"] == "when yc"
        assert said["units"] == "K"
        assert not {"grid_mapping", "GeoTransform", "ancillary_variables", "cell_measures"} & said.keys()

    def test_without_scales_there_are_none(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["x"] = np.ones((2, 3, 4, 4), "f4")
            file["x"].attrs["units"] = "K"
        lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2, flatten=True)
        with h5py.File(tmp_path / "b.h5") as file:
            assert set(file) == {"x"}
            assert set(file["x"].attrs) == {"units", "lucid_pool"}

    def test_netcdf_finds_the_dimensions(self, tmp_path):
        netcdf = pytest.importorskip("netCDF4", reason="netCDF4 is in the extra `dev`")
        with netcdf.Dataset(tmp_path / "a.nc", "w") as data:
            for name, length in {"t": None, "c": 2, "y": 4, "x": 6, "eight": 8}.items():
                data.createDimension(name, length)
            for name in "vw":
                data.createVariable(name, "f4", ("t", "c", "y", "x"))[:3] = np.ones((3, 2, 4, 6))
            data.createVariable("s", "f4", ("t", "eight"))[:3] = np.ones((3, 8))
        options = {"sizes": [(2, 2), (1, 1)], "flatten": True}
        lucid.pool_file(tmp_path / "a.nc", tmp_path / "b.nc", **options)
        with netcdf.Dataset(tmp_path / "b.nc") as data:
            for name in "v_2x2", "v_1x1", "w_2x2", "w_1x1":
                assert data[name].dimensions == ("t", f"{name}_features")
            assert data["s"].dimensions == ("t", "eight")
            assert data.dimensions["t"].isunlimited()
        for name, samples in ("0.nc", slice(0, 1)), ("1.nc", slice(1, 3)):
            lucid.pool_file(tmp_path / "a.nc", tmp_path / name, slice=samples, **options)
        lucid.merge_files([tmp_path / "1.nc", tmp_path / "0.nc"], tmp_path / "joined.nc")
        assert (tmp_path / "joined.nc").read_bytes() == (tmp_path / "b.nc").read_bytes()


class TestDrop:
    """No name of what is dropped stays, in results as in what is carried over."""

    def dataset(self):
        dataset = field(flag=("time", [1, 2]), clock=("time", [1, 2]), crs=((), np.int32(0)))
        dataset["area"] = ("z",), np.ones(3)
        dataset["other"] = ("z",), np.ones(3), {"cell_measures": "area: area"}
        dataset["edges"] = ("z", "side"), np.ones((3, 2))
        dataset["level"] = ("z",), np.ones(3), {"bounds": "edges", "formula_terms": "a: flag b: area"}
        for name in ("t", "other"):
            dataset[name].attrs |= {"coordinates": "flag clock", "ancillary_variables": "clock"}
            dataset[name].attrs |= {"grid_mapping": "crs: clock", "cell_methods": "flag: mean clock: flag"}
        return dataset

    @pytest.mark.parametrize("sizes", [[(2, 3)], [(2, 3), (1, 1)]])
    def test_names_of_what_is_dropped_go(self, store, sizes):
        result, _ = store(self.dataset(), sizes, drop=["flag", "area", "edges"])
        for name in "other", "t" if len(sizes) == 1 else "t_2x3":
            said = result[name].encoding | result[name].attrs
            assert said["coordinates"] == said["ancillary_variables"] == "clock"
            assert said["cell_methods"] == "flag: mean clock: flag"
            assert said["grid_mapping"] == "crs: clock"
            assert "cell_measures" not in said
        assert not {"bounds", "formula_terms"} & (result["level"].encoding | result["level"].attrs).keys()
        assert "clock" in result.coords

    def test_bounds_that_are_made_anew_do_not_name_it(self, store):
        bounds = (("y", "two"), [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [3.0, 4.0]], {"coordinates": "height"})
        dataset = field(y_bounds=bounds, height=((), 2.0)).assign_coords(
            y=("y", range(4), {"bounds": "y_bounds"})
        )
        coarse, _ = store(dataset, (2, 3), drop=["height"])
        assert "coordinates" not in coarse["y_bounds_2"].attrs | coarse["y_bounds_2"].encoding

    def test_of_a_flattened_result_too(self, store):
        result, _ = store(self.dataset(), (2, 3), drop=["flag"], flatten=True)
        assert (result["t"].encoding | result["t"].attrs)["coordinates"] == "clock"

    def test_of_a_mapping_the_whole_attribute_goes(self, store):
        result, _ = store(self.dataset(), (2, 3), drop="c*")
        for name in "t", "other":
            said = result[name].encoding | result[name].attrs
            assert "grid_mapping" not in said
            assert "ancillary_variables" not in said
            assert said["coordinates"] == "flag"

    def test_what_is_pooled_keeps_its_name_and_what_leads_to_nothing_stays(self, store):
        dataset = field(p=(("time", "y", "x"), np.ones((2, 4, 6), "f4")))
        dataset["t"].attrs["ancillary_variables"] = "p nothing"
        result, _ = store(dataset, (2, 3), drop="p")
        assert result["t"].attrs["ancillary_variables"] == "p nothing"


class TestAxesWithoutNames:
    """Coordinates that a variable names lie along its axes where they have their lengths."""

    X = np.arange(24.0).reshape(4, 6)

    @pytest.mark.parametrize("name", ["lat", "/g/lat"])
    @pytest.mark.parametrize("shape", [(4, 6), (3, 4, 6)])
    def test_they_are_pooled_along(self, tree, name, shape):
        planes = np.broadcast_to(self.X, shape).astype("f4")
        things = {
            "g/x": (planes, {"coordinates": name}),
            "g/lat": (self.X, {}),
            "g/lon": (self.X, {"units": "m"}),
        }
        result, notes = tree(things, layout="CHW"[-len(shape) :], datasets="g/x")
        assert notes == ()
        assert result["g/x"].attrs["coordinates"] == f"{name}_2x2"
        assert np.array_equal(result["g/lat_2x2"], adaptive_avg_pool2d(self.X[None], 2)[0])
        assert np.array_equal(result["g/lat"], self.X)
        assert "g/lon_2x2" not in result

    def test_of_other_lengths_they_stay(self, tree):
        other = np.ones((4, 5))
        things = {"x": (self.X, {"coordinates": "other nothing"}), "other": (other, {"b": 1})}
        assert tree(things, datasets="x")[0]["x"].attrs["coordinates"] == "other nothing"

    def test_nothing_lies_along_axes_that_are_joined(self, tree):
        things = {"x": (np.ones((3, 4, 6)), {"coordinates": "lat"}), "lat": (self.X, {})}
        result, _ = tree(things, layout="CHW", flatten=True)
        assert "coordinates" not in result["x"].attrs
        assert np.array_equal(result["lat"], self.X)


class TestDoubts:
    """What a file says and is not understood is told in a line, whatever chooses the variable."""

    @pytest.mark.parametrize("datasets", [(), ["t", "u"], ["*"]])
    def test_marks_of_missing_cells_under_other_names(self, store, datasets):
        dataset = field(u=(("y", "x"), np.ones((4, 6), "i2")), w=(("time",), np.ones(2), {"NoData": 1}))
        dataset["t"].attrs |= {"MissingValue": -999.5, "units": "K"}
        dataset["u"].attrs |= {"nodata": -999, "fill_value": "none", "Code_Missing_Value": "-7"}
        _, notes = store(dataset, (2, 3), datasets=datasets)
        assert sorted(notes) == [
            "Code_Missing_Value is -7.0, a value like others unless `missing=-7.0`: /u",
            "MissingValue is -999.5, a value like others unless `missing=-999.5`: /t",
            "nodata is -999, a value like others unless `missing=-999`: /u",
        ]
        assert store(dataset, (2, 3), missing=[-999, -999.5, -7], overwrite=True)[1] == ()
        assert store(dataset, (2, 3), missing="none", overwrite=True)[1] == ()

    @pytest.mark.parametrize("name", ["wind_from_direction", "solar_azimuth_angle"])
    def test_directions(self, store, name):
        dataset = field(wind=(("y", "x"), np.ones((4, 6)), {"standard_name": name, "units": "degree"}))
        said = "directions are numbers, also where they go round north: /wind"
        assert store(dataset, (2, 3))[1] == (said,)

    def test_images_of_a_palette(self, tree):
        image = np.ones((4, 6), "u1"), {"CLASS": "IMAGE", "PALETTE": "colours"}
        assert tree({"image": image})[1] == ("PALETTE names its numbers, of which no mean is one: /image",)

    @pytest.mark.parametrize(("reduce", "names"), [("mean", ["mean"]), ("sum", ["sum"]), ("max", [])])
    def test_numbers_that_have_names(self, store, reduce, names):
        flags = {"flag_values": np.array([0, 1], "i1"), "flag_meanings": "land sea"}
        dataset = field(
            u=(("y", "x"), np.ones((4, 6), "i1"), flags), w=(("y", "x"), np.ones((4, 6), "i1"), flags)
        )
        _, notes = store(dataset, (2, 3), reduce=reduce)
        assert notes == tuple(
            f"flag_meanings names its numbers, of which no {name} is one: /u, /w" for name in names
        )

    def test_longitudes_that_are_pooled_as_a_field(self, store):
        dataset = field(lon=(("y", "x"), np.ones((4, 6)), {"units": "degrees_east"}))
        said = "longitudes that are fields of their own are numbers, also over the date line: /lon"
        assert store(dataset, (2, 3))[1] == (said,)
        dataset["t"].attrs["coordinates"] = "lon"
        assert store(dataset, (2, 3), overwrite=True)[1] == ()
        assert store(dataset, (2, 3), overwrite=True, datasets="lon")[1] == (said,)

    @pytest.mark.parametrize("key", ["element_size_um", "spatial:transform"])
    def test_sizes_of_cells(self, store, key):
        dataset = field()
        dataset["t"].attrs |= {key: [1.0, 0.5, 0.5]}
        assert store(dataset, (2, 3))[1] == (f"{key} is that of the source's cells: /t",)

    def test_what_is_said_of_all_numbers_together_goes(self, store):
        dataset = field()
        dataset["t"].attrs |= {"actual_range": [0.0, 47.0], "STATISTICS_MEAN": 23.5, "units": "K"}
        result, _ = store(dataset, (2, 3))
        assert {*result["t"].attrs} == {"units", "lucid_pool"}

    @pytest.mark.parametrize(
        ("group", "own", "what"),
        [
            ({"signal": "x", "axes": ["y"]}, {}, "axes of NeXus"),
            ({}, {"signal": 1, "axes": "y:x"}, "axes of NeXus"),
            ({"pandas_type": "frame"}, {}, "axes of pandas"),
            ({"emd_group_type": 1}, {}, "dims of EMD"),
            ({}, {"encoding-type": "array"}, "obs and var of AnnData"),
        ],
    )
    def test_descriptions_of_the_axes_beside_an_array(self, tree, group, own, what):
        things = {"g": (None, group), "g/x": (np.ones((4, 6)), own), "y": (np.ones((4, 6)), {})}
        assert tree(things)[1] == (f"grids and sizes stay those of the source in {what}: /g/x",)

    def test_names_of_rows_matter_where_rows_are_pooled(self, tree):
        own = {"encoding-type": "array"}
        things = {"obsm/x": (np.ones((3, 4, 6)), own), "uns/image": (np.ones((5, 6)), own)}
        assert tree(things, layout="CHW")[1] == ()
        assert tree(things, datasets="uns/*")[1] == ()

    @pytest.mark.parametrize("place", ["d/data1/what", "d/what"])
    def test_marks_in_a_group_beside_it(self, tree, place):
        marks = {"quantity": "DBZH", "gain": 0.5, "offset": -32.0, "nodata": 255.0, "undetect": 0.0}
        things = {place: (None, marks), "d/data1/data": (np.ones((4, 6), "u1"), {})}
        said = "grids and sizes stay those of the source in where of ODIM_H5"
        lines = [f"{key} is {n}, a value like others unless `missing={n}`" for key, n in [*marks.items()][3:]]
        assert tree(things)[1] == tuple(f"{line}: /d/data1/data" for line in (said, *lines))
        assert tree(things, missing=[255, 0])[1] == (f"{said}: /d/data1/data",)
        line = "offset is that of one number, not of a sum of several: /d/data1/data"
        assert line in tree(things, reduce="sum")[1]

    def test_sizes_of_cells_of_a_whole_group(self, tree):
        things = {
            "": (None, {"DX": 3000.0, "title": "x"}),
            "x": (np.ones((4, 6)), {}),
            "g/y": (np.ones((4, 6)), {}),
        }
        assert tree(things)[1] == ("DX is that of the source's cells: /x",)

    def test_of_what_a_sum_leaves_out_nothing_is_doubtful(self, tree):
        packed = {"add_offset": 5.0, "missing_value": -9, "NoData": -7}
        things = {"u": (np.ones((4, 6), "i2"), {"NoData": -7}), "v": (np.ones((4, 6), "i2"), packed)}
        left_out, doubt = tree(things, reduce="sum")[1]
        assert left_out.endswith("so it was left out")
        assert doubt == "NoData is -7, a value like others unless `missing=-7`: /u"

    def test_numbers_without_a_mean_are_told_of(self, tree):
        things = {"x": (np.ones((4, 6)), {}), "c": (np.ones((4, 6), "c8"), {})}
        (note,) = tree(things)[1]
        assert note in [f"left out, since {name} has no mean here: /c" for name in ("complex64", "<c8")]
        assert tree(things, datasets="x")[1] == ()

    def test_bits_have_no_mean(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["x"], file["text"] = np.ones((4, 6)), np.full((4, 6), b"a")
            h5py.h5d.create(file.id, b"b", h5py.h5t.STD_B8LE, h5py.h5s.create_simple((4, 6)))
        report = lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2, layout="HW")
        assert report.notes == ("left out, since bit field has no mean here: /b",)

    @pytest.mark.parametrize(
        ("path", "what"),
        [
            ("HDFEOS/GRIDS/x", "StructMetadata of HDF-EOS"),
            ("Experiments/t/data", "axes of HyperSpy"),
            ("Data/Image/0a1b/Data", "Metadata of Velox"),
            ("mnepython/key_data", "times and freqs of MNE"),
            ("VTKHDF/PointData/x", "WholeExtent of VTK"),
            ("ITKImage/0/VoxelData", "Dimension and Spacing of ITK"),
            ("minc-2.0/image/0/image", "dimensions of MINC"),
            ("MDF/images/0/image", "EMAN.nx of EMAN"),
            ("Chimera/image1/data", "step of Chimera"),
        ],
    )
    def test_descriptions_elsewhere_in_the_file(self, tmp_path, path, what):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file[path] = np.ones((1, 1, 4, 4), "f4")
        report = lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2)
        assert report.notes == (f"grids and sizes stay those of the source in {what}: /{path}",)

    def test_a_palette_is_no_field(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["image"], file["palette"] = np.ones((4, 4), "u1"), np.ones((256, 3), "u1")
            file["palette"].attrs["CLASS"] = np.bytes_("PALETTE")
        report = lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2, layout="HW")
        assert [dataset.name for dataset in report.datasets] == ["/image"]
        why = "has no dataset 'pal\\*' that can be pooled: /palette is a palette, which is only pooled by its full name"
        with pytest.raises(DatasetError, match=why):
            lucid.pool_file(tmp_path / "a.h5", tmp_path / "c.h5", size=2, layout="HW", datasets="pal*")


class TestBetweenFormats:
    """Names of axes and packing go from netCDF to Zarr and back, where coordinates do not."""

    WAYS = pytest.mark.parametrize(("source", "target"), [(".nc", ".zarr"), (".zarr", ".nc")])

    BOTH = pytest.mark.skipif(
        not (find_spec("xarray") and find_spec("h5netcdf")),
        reason="xarray or h5netcdf is missing (extra dev)",
    )

    @staticmethod
    def write(dataset, path):
        if path.suffix == ".zarr":
            dataset.to_zarr(path, consolidated=False)
        else:
            dataset.to_netcdf(path, engine="h5netcdf")

    @staticmethod
    def read(path):
        engine = "zarr" if path.suffix == ".zarr" else "h5netcdf"
        options = {"consolidated": False} if engine == "zarr" else {}
        with xarray.open_dataset(path, engine=engine, **options) as dataset:
            return dataset.load()

    @BOTH
    @WAYS
    @pytest.mark.parametrize("reduce", ["mean", "max", "sum"])
    def test_results_decode_to_those_of_the_decoded_source(self, tmp_path, rng, source, target, reduce):
        x = rng.integers(0, 90, (3, 2, 6, 8)).astype(float)
        attributes = {"scale_factor": -0.5, "add_offset": 3.0}
        if reduce != "sum":  # else every window needs as many cells
            x[:, 0, :, :4] = np.nan
            attributes["_FillValue"] = np.int16(-9)
        packed = np.where(np.isnan(x), -9, 6 - 2 * x).astype("i2")
        dataset = xarray.Dataset({"v": (list("tzyx"), packed, attributes)})
        self.write(dataset, tmp_path / f"a{source}")
        paths = tmp_path / f"a{source}", tmp_path / f"o{target}"
        report = lucid.pool_file(*paths, sizes=[(2, 2), (6, 1)], reduce=reduce)
        assert not any("packed" in note for note in report.notes)
        result = self.read(paths[1])
        for size in ((2, 2), (6, 1)):
            v = result[f"v_{size[0]}x{size[1]}"]
            windows = x.reshape(3, 2, size[0], 6 // size[0], size[1], 8 // size[1])
            with catch_warnings(action="ignore"):  # of windows that are all gaps
                expected = getattr(np, f"nan{reduce}")(windows, (3, 5))
            assert np.allclose(v, expected, equal_nan=True, rtol=1e-6)
            assert v.dims == ("t", "z", "y" if size[0] == 6 else "y_2", f"x_{size[1]}")

    def test_an_array_without_names_may_be_called_like_a_dimension(self, tmp_path):
        zarr = pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")
        root = zarr.create_group(tmp_path / "a.zarr")
        root.create_array("x", data=np.ones((3, 4, 4)), dimension_names=["z", "y", "x"])
        root.create_array("z", data=np.ones((5, 4, 4)))
        lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.h5", size=2, layout="CHW")
        with h5py.File(tmp_path / "o.h5") as file:
            assert (file["x"].shape, file["z"].shape) == ((3, 2, 2), (5, 2, 2))
            assert [axis[0].name for axis in file["x"].dims] == ["/z_3", "/y_2", "/x_2"]

    def test_no_names_of_coordinates_that_are_text(self, tmp_path):
        zarr = pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")
        root = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
        t = root.create_array("t", data=np.ones((2, 4, 6), "f4"))
        t.attrs.update(_ARRAY_DIMENSIONS=["time", "station", "lon"], coordinates="station lon")
        root.create_array("station", data=np.array(list(b"abcd"), "S1")).attrs["_ARRAY_DIMENSIONS"] = [
            "station"
        ]
        root.create_array("lon", data=np.arange(6.0)).attrs["_ARRAY_DIMENSIONS"] = ["lon"]
        lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", size=2, layout="CHW")
        result = zarr.open_group(tmp_path / "o.zarr", mode="r")
        assert (result["t"].attrs["coordinates"], "station_2" in result) == ("lon_2", False)

    @BOTH
    @WAYS
    def test_flat_results_have_a_dimension_of_features(self, tmp_path, source, target):
        self.write(xarray.Dataset({"v": (list("tzyx"), np.ones((3, 2, 6, 8)))}), tmp_path / f"a{source}")
        lucid.pool_file(tmp_path / f"a{source}", tmp_path / f"o{target}", size=2, flatten=True)
        assert self.read(tmp_path / f"o{target}").v.dims == ("t", "v_features")

    def test_one_name_of_several_lengths(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for name, length in (("g/v", 3), ("g/w", 5), ("g/t", 7), ("h/v", 9), ("h/t/v", 4)):
                file[name] = np.ones((length, 2, 4, 4))
                for axis, dim in enumerate("tzyx"):
                    file[f"{name}_{dim}"] = np.arange(file[name].shape[axis])
                    file.move(f"{name}_{dim}", f"scales/{name}/{dim}")
                    file[f"scales/{name}/{dim}"].make_scale(dim)
                    file[name].dims[axis].attach_scale(file[f"scales/{name}/{dim}"])
        lucid.pool_file(tmp_path / "a.h5", tmp_path / "o.zarr", size=4)
        root = zarr.open_group(tmp_path / "o.zarr", mode="r")
        first = {
            name: root[name].metadata.dimension_names[0] for name in ("g/v", "g/w", "g/t", "h/v", "h/t/v")
        }
        assert first == {"g/t": "t_7", "g/v": "t_3", "g/w": "t_5", "h/v": "t_9", "h/t/v": "t"}
        pytest.importorskip("xarray", reason="xarray is not installed (extra dev)")
        for group in "gh":
            with xarray.open_zarr(
                tmp_path / "o.zarr", group=group, chunks=None, consolidated=False
            ) as dataset:
                assert all(v.dims[1:] == ("z", "y", "x") for v in dataset.values())

    def test_a_dimension_called_as_the_group_of_another_array(self, tmp_path):
        group = zarr.open_group(tmp_path / "a.zarr", mode="w")
        x = np.ones((3, 2, 4, 4))
        group.create_array("v", data=x, dimension_names=["t", "z", "y", "x"])
        group.create_array("t/v", data=x, dimension_names=["t", ".", "y", "x"])
        group.create_array("u", data=x, dimension_names=["t", None, "y", "x"])
        lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.nc", size=2)
        with h5py.File(tmp_path / "o.nc") as file:
            assert [[scale.name for scale in axis.values()] for axis in file["v"].dims] == [
                ["/t_3"],
                ["/z"],
                ["/y_2"],
                ["/x_2"],
            ]
            assert not any(len(axis) for name in ("t/v", "u") for axis in file[name].dims)
