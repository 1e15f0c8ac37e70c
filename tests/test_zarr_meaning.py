"""What the numbers in a Zarr store mean: results are right for whoever opens them next, in zarr, xarray and OME-Zarr."""

import base64
import contextlib
import json
import math
import shutil
import struct
import warnings
import zipfile

import h5py
import numpy as np
import pytest
from slow import slow

import lucid
from lucid.errors import DatasetError, FormatError, LucidError
from lucid.formats.registry import format_of_content
from lucid.options import Options

zarr = pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")

NAN = math.nan
VERSIONS = pytest.mark.parametrize("version", [2, 3])


def load_xarray():
    """What needs it from here on is run where it is installed."""
    return pytest.importorskip("xarray", reason="xarray is not installed (extra dev)")


def write(path, dataset, version, **encoding):
    with warnings.catch_warnings(action="ignore"):
        dataset.to_zarr(path, zarr_format=version, encoding=encoding)
    return path


def decoded(path):
    xarray = load_xarray()
    with warnings.catch_warnings(action="ignore"), xarray.open_zarr(path, chunks=None) as dataset:
        return dataset.load()


def grid(x, *names, **more):
    counted = {n: np.arange(float(k)) for n, k in zip(names, np.shape(x), strict=True)}
    return load_xarray().Dataset({"v": (names, np.asarray(x))} | more, counted)


def pooled(path, target, **options):
    lucid.pool_file(path, target, **({"size": 2} | options))
    return target


def consolidate(path):
    with warnings.catch_warnings(action="ignore"):
        zarr.consolidate_metadata(path)


def document(path):
    for name in ("zarr.json", ".zarray"):
        if (path / name).exists():
            return json.loads((path / name).read_text())
    raise FileNotFoundError(path)


def means(x, *size):
    windows = [
        [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
        for n, m in zip(x.shape[-2:], size, strict=True)
    ]
    with warnings.catch_warnings(action="ignore"):
        rows = [[np.nanmean(x[..., a:b, c:d], (-2, -1)) for c, d in windows[1]] for a, b in windows[0]]
    return np.stack([np.stack(row, -1) for row in rows], -2)


class TestMissing:
    @VERSIONS
    @pytest.mark.parametrize("kind", ["i2", "f4", *slow("i4", "u1", "f8")])
    def test_results_decode_to_means_of_the_decoded_source(self, tmp_path, rng, version, kind):
        field = rng.integers(0, 90, (3, 2, 6, 5)).astype(float)
        field[rng.random(field.shape) < 0.4] = NAN
        field[0, 0, :3, :3] = NAN
        packing = {
            "dtype": kind,
            "_FillValue": np.dtype(kind).type(99),
            "scale_factor": 0.5,
            "add_offset": 3.0,
        }
        source = write(tmp_path / "a.zarr", grid(field, "t", "z", "y", "x"), version, v=packing)
        target = decoded(pooled(source, tmp_path / "o.zarr"))
        assert np.allclose(target.v, means(decoded(source).v.values, 2, 2), equal_nan=True)
        assert "scale_factor" in target.v.encoding
        assert np.isnan(target.v.encoding["_FillValue"])

    @VERSIONS
    def test_missing_value_alone(self, tmp_path, version):
        dataset = grid([[[1.0, -9, 4, 6]]], "t", "y", "x")
        dataset.v.attrs["missing_value"] = -9.0
        source = write(tmp_path / "a.zarr", dataset, version, v={"_FillValue": None})
        assert np.isnan(decoded(source).v.values[0, 0, 1])
        assert decoded(pooled(source, tmp_path / "o.zarr", layout="TYX", size=(1, 2))).v.values.tolist() == [
            [[1, 5]]
        ]
        # JSON has no NaN, so the metadata hold none that the source has not.
        assert (
            "NaN,"[:3] + "\n"
            not in (tmp_path / "o.zarr" / "v" / (".zattrs" if version == 2 else "zarr.json")).read_text()
        )
        json.loads(
            (tmp_path / "o.zarr" / "v" / (".zattrs" if version == 2 else "zarr.json")).read_text(),
            parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"),
        )

    @VERSIONS
    def test_sums_of_integers_have_a_mark_of_their_type(self, tmp_path, version):
        dataset = grid(np.array([[[1, 99, 4, 6]]], "u2"), "t", "y", "x")
        dataset.v.attrs["missing_value"] = np.uint16(99)
        source = write(tmp_path / "a.zarr", dataset, version)
        target = pooled(source, tmp_path / "o.zarr", layout="TYX", size=(1, 2), reduce="sum")
        assert decoded(target).v.values.tolist() == [[[1, 10]]]

    @VERSIONS
    def test_missing_value_that_is_nan_stays(self, tmp_path, version):
        dataset = grid([[[1.0, NAN, 4, 6]]], "t", "y", "x")
        source = write(
            tmp_path / "a.zarr", dataset, version, v={"_FillValue": NAN, "missing_value": np.float64(NAN)}
        )
        target = decoded(pooled(source, tmp_path / "o.zarr", layout="TYX", size=(1, 2)))
        assert target.v.values.tolist() == [[[1, 5]]]
        assert np.isnan(target.v.encoding["missing_value"])
        assert np.isnan(target.v.encoding["_FillValue"])

    @VERSIONS
    @pytest.mark.parametrize("packing", [{}, {"dtype": "i2", "scale_factor": 0.5}, {"missing_value": -9.0}])
    def test_a_store_with_bfloat16_opens(self, tmp_path, version, packing):
        dataset = grid([[[1.0, NAN, 4, 6]]], "t", "y", "x")
        source = write(tmp_path / "a.zarr", dataset, version, v={"_FillValue": -9.0} | packing)
        target = pooled(source, tmp_path / "o.zarr", layout="TYX", size=(1, 2), dtype="bfloat16")
        with load_xarray().open_zarr(target, chunks=None) as read:  # whose elements have no type for xarray
            assert read["x_2"].values.tolist() == [0.5, 2.5]

    def test_own_fill_values_mark_nothing_but_in_version_2_of_xarrays(self, tmp_path):
        x = np.array([[[0, 2, 7, 3]]], "f4")
        for version in (2, 3):
            zarr.open_group(tmp_path / f"{version}.zarr", mode="w", zarr_format=version).create_array(
                "v", data=x, fill_value=0
            )
            target = pooled(
                tmp_path / f"{version}.zarr", tmp_path / f"o{version}.zarr", layout="CHW", size=(1, 2)
            )
            array = zarr.open_array(target / "v", mode="r")
            assert array[...].tolist() == [[[1, 5]]]
            assert array.fill_value == 0
        group = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2)
        group.create_array("v", data=x, fill_value=0, attributes={"_ARRAY_DIMENSIONS": ["t", "y", "x"]})
        target = pooled(tmp_path / "x.zarr", tmp_path / "y.zarr", layout="CHW", size=(1, 2))
        assert zarr.open_array(target / "v", mode="r")[...].tolist() == [[[2, 5]]]
        assert document(target / "v")["fill_value"] == "NaN"
        target = pooled(tmp_path / "x.zarr", tmp_path / "z.zarr", layout="CHW", size=(1, 2), missing="none")
        assert decoded(target).v.values.tolist() == [[[1, 5]]]

    @pytest.mark.parametrize(
        "marks", [[], ["_FillValue"], ["missing_value"], ["_FillValue", "missing_value"]]
    )
    @pytest.mark.parametrize("dims", [["t", "y", "x"], *slow(None)])
    @pytest.mark.parametrize(("kind", "dtype"), [("f4", None), ("i2", None), ("i2", "keep")])
    def test_null_stays_null(self, tmp_path, marks, dims, kind, dtype):
        x = np.array([[[0, 0, 7, 3]]], kind)
        attributes = ({"_ARRAY_DIMENSIONS": dims} if dims else {}) | dict.fromkeys(marks, 3)
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
        group.create_array("v", data=x, fill_value=None, attributes=attributes)
        options = {"layout": "CHW", "size": (1, 2), "dtype": dtype}
        target = pooled(tmp_path / "a.zarr", tmp_path / "o.zarr", **options)
        assert document(target / "v")["fill_value"] is None
        assert zarr.open_array(target / "v", mode="r")[...].tolist() == [[[0, 7 if marks else 5]]]
        without = pooled(tmp_path / "a.zarr", tmp_path / "n.zarr", missing=["7", "3"], **options)
        assert document(without / "v")["fill_value"] is None
        if dims:
            assert decoded(target).v.values.tolist() == [[[0, 7 if marks else 5]]]
            assert np.array_equal(decoded(without).v.values, [[[0, NAN]]], equal_nan=True)

    @pytest.mark.parametrize("own", [None, False, True])
    def test_no_truth_value_marks_a_gap(self, tmp_path, own):
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
        x = np.array([[[True, False]]])
        group.create_array("v", data=x, fill_value=own, attributes={"_ARRAY_DIMENSIONS": ["t", "y", "x"]})
        target = pooled(tmp_path / "a.zarr", tmp_path / "o.zarr", layout="CHW", size=1)
        assert document(target / "v")["fill_value"] is None
        assert decoded(target).v.values.tolist() == [[[0.5]]]

    @pytest.mark.parametrize("own", [0, -9])
    def test_own_fill_values_without_names_of_axes_follow_the_mark_they_are_equal_to(self, tmp_path, own):
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
        x = np.array([[[0, 0, -9, -9]]], "i2")
        group.create_array("v", data=x, fill_value=own, attributes={"_FillValue": -9})
        target = pooled(tmp_path / "a.zarr", tmp_path / "o.zarr", layout="CHW", size=(1, 2))
        assert document(target / "v")["fill_value"] == ("NaN" if own else 0)
        assert "_FillValue" not in zarr.open_array(target / "v", mode="r").attrs

    @VERSIONS
    def test_the_own_type_keeps_the_mark(self, tmp_path, version):
        x = np.array([[[-9, -9, 4, 7]]], "i2")
        source = write(tmp_path / "a.zarr", grid(x, "t", "y", "x"), version, v={"_FillValue": np.int16(-9)})
        target = pooled(source, tmp_path / "o.zarr", layout="TYX", size=(1, 2), dtype="keep")
        assert zarr.open_array(target / "v", mode="r")[...].tolist() == [[[-9, 6]]]
        assert np.isnan(decoded(target).v.values[0, 0, 0])

    def test_named_by_an_option(self, tmp_path):
        x = np.array([[[255, 1, 254, 5]]], "u1")
        zarr.create_array(tmp_path / "a.zarr", data=x)
        target = pooled(
            tmp_path / "a.zarr", tmp_path / "o.zarr", layout="CHW", size=(1, 2), missing=[255, 254]
        )
        assert zarr.open_array(target, mode="r")[...].tolist() == [[[1, 5]]]
        kept = pooled(
            tmp_path / "a.zarr", tmp_path / "k.zarr", layout="CHW", size=(1, 2), missing=255, dtype="keep"
        )
        assert zarr.open_array(kept, mode="r").attrs["_FillValue"] == 255

    def test_unsigned(self, tmp_path):
        counts = np.array([[[40000, 20000], [60000, 65535]]], "u2").view("i2")
        attributes = {"_Unsigned": "true", "_FillValue": -1, "valid_range": [0, -6]}
        group = zarr.open_group(tmp_path / "a.zarr", mode="w")
        group.create_array("v", data=counts, attributes=attributes, dimension_names=["t", "y", "x"])
        target = pooled(tmp_path / "a.zarr", tmp_path / "o.zarr", layout="CHW", size=1)
        assert zarr.open_array(target / "v", mode="r").attrs["valid_range"] == [0, 65530]
        kept = pooled(tmp_path / "a.zarr", tmp_path / "k.zarr", layout="CHW", size=1, dtype="keep")
        assert zarr.open_array(kept / "v", mode="r").dtype == "int16"
        assert decoded(target).v.values.tolist() == [[[40000]]]
        assert decoded(kept).v.values.tolist() == [[[40000]]]

    @VERSIONS
    def test_a_fill_value_follows_where_the_two_were_equal(self, tmp_path, version):
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
        made = {"shape": (1, 2, 4), "dtype": "f4", "chunks": (1, 2, 4), "fill_value": -9}
        text = base64.b64encode(struct.pack("<d", -9)).decode()
        group.create_array("same", **made, attributes={"_FillValue": text if version == 3 else -9.0})
        group.create_array(
            "other", **made | {"fill_value": 4}, attributes={"_FillValue": text if version == 3 else -9.0}
        )
        target = pooled(tmp_path / "a.zarr", tmp_path / "o.zarr", layout="CHW", size=(1, 2))
        assert np.isnan(zarr.open_array(target / "same", mode="r")[...]).all()
        assert document(target / "same")["fill_value"] == "NaN"
        assert zarr.open_array(target / "other", mode="r")[...].tolist() == [[[4, 4]]]

    def test_metadata_with_nan_and_infinity(self, tmp_path):
        attributes = {"valid_max": math.inf, "note": NAN}
        for version in (2, 3):
            path = tmp_path / f"{version}.zarr"
            group = zarr.open_group(path, mode="w", zarr_format=version, attributes=attributes)
            group.create_array("v", data=np.ones((1, 2, 2), "f4"), attributes=attributes, fill_value=NAN)
            consolidate(path)
            target = zarr.open_group(
                pooled(path, tmp_path / f"o{version}.zarr", layout="CHW", size=1), mode="r"
            )
            assert np.isnan(target["v"].attrs["note"])
            assert target.attrs["valid_max"] == math.inf

    def test_packed_numbers_that_go_to_another_format_are_told(self, tmp_path):
        group = zarr.open_group(tmp_path / "a.zarr", mode="w")
        group.create_array("v", data=np.ones((1, 2, 2), "i2"), attributes={"scale_factor": 0.5})
        report = lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.npy", size=1, layout="CHW")
        assert report.notes == (
            "attributes, labels and whatever else it holds are not carried from Zarr to npy",
            "/v: numbers stay packed, and scale_factor and add_offset, which say what they stand for, "
            "do not go from Zarr to npy",
        )

    @pytest.mark.parametrize("suffixes", [("zarr", "h5"), ("h5", "zarr")])
    @pytest.mark.parametrize("pool", [lucid.pool_file, lucid.pack_files])
    def test_unsigned_integers_go_to_another_format_as_what_they_are(self, tmp_path, suffixes, pool):
        source, target = (tmp_path / f"{name}.{suffix}" for name, suffix in zip("ao", suffixes, strict=True))
        x = np.full((1, 2, 4), 40000, "u2")
        x[..., 2:] = 65535
        attributes = {"_Unsigned": "true", "_FillValue": -1}
        if suffixes[0] == "zarr":
            zarr.open_group(source, mode="w").create_array("v", data=x.view("i2"), attributes=attributes)
        else:
            with h5py.File(source, "w") as file:
                file["v"] = x.view("i2")
                file["v"].attrs.update(attributes | {"_FillValue": np.int16(-1)})
        pool(source, target, size=(1, 2), layout="CHW", dtype="keep")
        with (
            h5py.File(target)
            if suffixes[1] == "h5"
            else contextlib.nullcontext(zarr.open_group(target)) as file
        ):
            made = file["v" if pool is lucid.pool_file else "a"]
            assert made.dtype == "u2"
            assert made[...].tolist() == [[[40000, 65535]]]
            assert made.attrs["_FillValue"] == 65535
        report = lucid.pool_file(source, tmp_path / "o.npy", size=(1, 2), layout="CHW", dtype="keep")
        assert [note for note in report.notes if "gaps are the fill value" in note]


class TestGeography:
    @VERSIONS
    def test_coordinates_and_bounds_are_made_anew(self, tmp_path, version):
        dataset = grid(np.ones((1, 4, 4)), "t", "lat", "lon").assign_coords(lat=[-1.0, 1, 3, 5])
        dataset["lat"].attrs |= {"bounds": "lat_bnds", "units": "degrees_north"}
        dataset["lat_bnds"] = (("lat", "nv"), [[-2.0, 0], [0, 2], [2, 4], [4, 6]])
        target = decoded(
            pooled(write(tmp_path / "a.zarr", dataset, version), tmp_path / "o.zarr", layout="THW")
        )
        assert target.v.dims == ("t", "lat_2", "lon_2")
        assert target.lat_2.values.tolist() == [0, 4]
        assert target.lat_2.attrs == {"bounds": "lat_bnds_2", "units": "degrees_north"}
        assert target.lat_bnds_2.values.tolist() == [[-2, 2], [2, 6]]
        assert target.lat_bnds_2.dims == ("lat_2", "nv")
        assert target.lat.values.tolist() == [-1, 1, 3, 5]

    @VERSIONS
    def test_two_dimensional_coordinates_are_pooled_along(self, tmp_path, version):
        xarray, (rows, cols) = load_xarray(), np.mgrid[0:4, 0:6].astype(float)
        dataset = xarray.Dataset(
            {"v": (("t", "y", "x"), np.ones((1, 4, 6))), "w": (("t", "y", "x"), np.ones((1, 4, 6)))},
            {"lat": (("y", "x"), rows), "lon": (("y", "x"), cols)},
        )
        source = write(tmp_path / "a.zarr", dataset, version)
        target = decoded(pooled(source, tmp_path / "o.zarr", layout="TYX", size=(2, 3)))
        assert target.v.dims == target.w.dims == ("t", "y_2", "x_3")
        assert {name for name in target.v.coords if "lat" in name} == {"lat_2x3"}
        assert target["lat_2x3"].values.tolist() == [[0.5] * 3, [2.5] * 3]
        assert target["lon_2x3"].dims == ("y_2", "x_3")

    @VERSIONS
    def test_one_dimension_for_a_length_also_over_runs(self, tmp_path, version):
        dataset = grid(np.ones((1, 4, 4)), "t", "lat", "lon", w=(("t", "lat", "lon"), np.ones((1, 4, 4))))
        source = write(tmp_path / "a.zarr", dataset, version)
        first = pooled(source, tmp_path / "b.zarr", layout="THW", datasets="v")
        target = decoded(pooled(first, tmp_path / "c.zarr", layout="THW", datasets="w"))
        assert target.v.dims == target.w.dims == ("t", "lat_2", "lon_2")
        assert sorted(target.variables) == ["lat", "lat_2", "lon", "lon_2", "t", "v", "w"]

    @VERSIONS
    def test_names_that_are_taken(self, tmp_path, version):
        dataset = grid(np.ones((1, 4, 4)), "t", "lat", "lon")
        dataset["other"] = (("lon_2",), np.arange(7.0))
        dataset = dataset.assign_coords(lat_2=[100.0, 200.0])
        target = decoded(
            pooled(write(tmp_path / "a.zarr", dataset, version), tmp_path / "o.zarr", layout="THW")
        )
        assert target.v.dims == ("t", "lat_2_", "lon_2_")
        assert target["lat_2_"].values.tolist() == [0.5, 2.5]
        assert target["lat_2"].values.tolist() == [100, 200]

    @VERSIONS
    def test_an_axis_that_is_kept_keeps_its_name(self, tmp_path, version):
        source = write(tmp_path / "a.zarr", grid(np.ones((1, 4, 4)), "t", "lat", "lon"), version)
        target = decoded(pooled(source, tmp_path / "o.zarr", layout="THW", size=(None, 2)))
        assert target.v.dims == ("t", "lat", "lon_2")

    @VERSIONS
    def test_coordinates_of_a_group_around(self, tmp_path, version):
        xarray = load_xarray()
        root = xarray.Dataset(coords={"lat": np.arange(4.0), "lon": np.arange(4.0)})
        child = xarray.Dataset({"v": (("t", "lat", "lon"), np.ones((1, 4, 4)))})
        tree = xarray.DataTree.from_dict({"/": root, "/child": child})
        with warnings.catch_warnings(action="ignore"):
            tree.to_zarr(tmp_path / "a.zarr", zarr_format=version)
            pooled(tmp_path / "a.zarr", tmp_path / "o.zarr", layout="THW")
            target = xarray.open_datatree(tmp_path / "o.zarr", engine="zarr", chunks=None)
            assert target["child/v"].dims == ("t", "lat_2", "lon_2")
            assert target["child/v"].lat_2.values.tolist() == [0.5, 2.5]

    def test_by_the_names_of_dimensions(self, tmp_path):
        fields = {"v": (("y", "x", "t"), np.ones((4, 4, 3))), "w": (("t", "y", "x"), np.ones((3, 4, 4)))}
        source = write(tmp_path / "a.zarr", load_xarray().Dataset(fields), 3)
        target = decoded(pooled(source, tmp_path / "o.zarr", dims="y,x", size=(1, 2)))
        assert dict(zip(target.v.dims, target.v.shape, strict=True)) == {"y_1": 1, "x_2": 2, "t": 3}
        assert target.w.shape == (3, 1, 2)


class TestWhatIsThere:
    @VERSIONS
    def test_the_summary_of_the_output_is_true(self, tmp_path, version):
        path = tmp_path / "a.zarr"
        group = zarr.open_group(path, mode="w", zarr_format=version)
        group.create_array("g/early", data=np.ones((4, 4)))
        consolidate(path)
        group = zarr.open_group(path, mode="a", use_consolidated=False)
        group["g"].create_array("late", data=np.full((6, 6), 3.0))
        group["g/early"].resize((5, 4))
        target = zarr.open_group(
            pooled(path, tmp_path / "o.zarr", layout="HW"), mode="r", use_consolidated=True
        )
        assert {name: array.shape for name, array in target["g"].arrays()} == {
            "early": (2, 2),
            "late": (2, 2),
        }
        assert target["g/late"][0, 0] == 3

    @pytest.mark.parametrize("version", [2, 3])
    def test_arrays_that_nobody_knows_are_carried_and_listed(self, tmp_path, version):
        path = tmp_path / "a.zarr"
        group = zarr.open_group(path, mode="w", zarr_format=version)
        for name in ("v", "odd", "coded"):
            group.create_array(name, data=np.ones((1, 4, 4), "f4"))
        consolidate(path)
        kinds = {"odd": {"dtype": "|O", "filters": [{"id": "json2"}], "data_type": "quaternion"}}
        kinds["coded"] = {"compressor": {"id": "new"}, "codecs": [{"name": "new"}]}
        for name, changes in kinds.items():
            file = path / name / (".zarray" if version == 2 else "zarr.json")
            old = json.loads(file.read_text())
            file.write_text(json.dumps(old | {key: changes[key] for key in changes if key in old}))
        target = pooled(path, tmp_path / "o.zarr", layout="CHW", datasets="v")
        for name in ("odd", "coded"):
            for file in (path / name).rglob("*"):
                assert file.is_dir() or file.read_bytes() == (target / file.relative_to(path)).read_bytes()
        summary = json.loads((target / (".zmetadata" if version == 2 else "zarr.json")).read_text())
        listed = summary["metadata"] if version == 2 else summary["consolidated_metadata"]["metadata"]
        assert {"v", "odd", "coded"} <= {key.partition("/")[0] for key in listed}
        with pytest.raises(LucidError, match="array /coded"):
            lucid.pool_file(path, tmp_path / "p.zarr", size=2, layout="CHW")
        with pytest.raises(DatasetError, match="dataset /odd is "):
            lucid.pool_file(path, tmp_path / "p.zarr", size=2, layout="CHW", datasets="odd")

    @pytest.mark.parametrize("text", ["{", "[]", '{"zarr_format": 2}', '{"shape": [-1]}', '{"shape": "4"}'])
    def test_damaged_metadata_of_others_do_not_matter(self, tmp_path, text):
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
        for name in ("v", "odd"):
            group.create_array(name, data=np.ones((1, 4, 4), "f4"))
        (tmp_path / "a.zarr" / "odd" / ".zarray").write_text(text)
        target = pooled(tmp_path / "a.zarr", tmp_path / "o.zarr", layout="CHW", datasets="v")
        assert (target / "odd" / ".zarray").read_text() == text
        with pytest.raises(DatasetError, match="dataset /odd has metadata"):
            lucid.pool_file(tmp_path / "a.zarr", tmp_path / "p.zarr", size=2, layout="CHW", datasets="odd")

    @pytest.mark.parametrize(
        ("version", "keys", "said"),
        [
            (2, {"name": "v2", "separator": "/"}, {"dimension_separator": "."}),
            (2, {"name": "v2", "separator": "."}, {"dimension_separator": "/"}),
            (3, {"name": "default", "separator": "."}, {"chunk_key_encoding": {"name": "default"}}),
            (3, {"name": "v2", "separator": "."}, {"chunk_key_encoding": {"name": "default"}}),
            (3, {"name": "default", "separator": "/"}, {"chunk_key_encoding": {"name": "v2"}}),
        ],
    )
    def test_chunks_under_other_names_are_an_error(self, tmp_path, version, keys, said):
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
        group.create_array("x", data=np.full((4, 8, 8), 5, "u2"), chunks=(1, 8, 8), chunk_key_encoding=keys)
        file = tmp_path / "a.zarr" / "x" / (".zarray" if version == 2 else "zarr.json")
        file.write_text(json.dumps(json.loads(file.read_text()) | said))
        for dry_run in (True, False):
            with pytest.raises(
                FormatError, match=r"array /x: has its chunks in files such as .*, where its metadata"
            ):
                lucid.pool_file(tmp_path / "a.zarr", size=2, layout="CHW", dry_run=dry_run)
        assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]

    @VERSIONS
    @pytest.mark.parametrize("shards", [None, (4, 8, 8)])
    def test_what_was_never_written_is_the_fill_value(self, tmp_path, version, shards):
        if version == 2 and shards:
            pytest.skip("version 2 knows no shards")
        array = zarr.create_array(
            tmp_path / "a.zarr",
            shape=(6, 8, 8),
            chunks=(1, 4, 4),
            shards=shards,
            dtype="i2",
            fill_value=7,
            zarr_format=version,
        )
        array[4] = 3
        target = zarr.open_array(pooled(tmp_path / "a.zarr", tmp_path / "o.zarr", layout="CHW"), mode="r")
        assert target[:, 0, 0].tolist() == [7, 7, 7, 7, 3, 7]

    def test_an_archive_of_a_folder(self, tmp_path):
        group = zarr.open_group(tmp_path / "in" / "x.zarr", mode="w", zarr_format=2)
        group.create_array("a/b", data=np.arange(16.0).reshape(1, 4, 4))
        shutil.make_archive(str(tmp_path / "x.zarr"), "zip", tmp_path / "in", "x.zarr")
        target = pooled(tmp_path / "x.zarr.zip", tmp_path / "o.zarr", layout="CHW")
        assert zarr.open_array(target / "a" / "b", mode="r")[...].tolist() == [[[2.5, 4.5], [10.5, 12.5]]]

    @VERSIONS
    def test_a_server_that_lists_nothing(self, tmp_path, version):
        import fsspec
        from fsspec.implementations.memory import MemoryFileSystem

        class Blind(MemoryFileSystem):
            protocol = "blind"

            @classmethod
            def _strip_protocol(cls, path):
                return super()._strip_protocol(path.replace("blind://", "memory://"))

            def ls(self, path, detail=True, **_):
                raise NotImplementedError("ls")

        fsspec.register_implementation("blind", Blind, clobber=True)
        url = f"memory://blind{version}.zarr"
        group = zarr.open_group(url, mode="w", zarr_format=version)
        group.create_array("g/v", data=np.ones((1, 4, 4), "f4"))
        group.create_array("g/w", data=np.ones(3))
        group.create_array("gone", data=np.ones((1, 4, 4), "f4"))
        consolidate(url)
        zarr.open_group(url, mode="a", use_consolidated=False)["g/v"].resize((2, 4, 4))
        fsspec.filesystem("memory").rm(f"/blind{version}.zarr/gone", recursive=True)
        blind = f"blind://blind{version}.zarr"
        report = lucid.pool_file(blind, tmp_path / "o.zarr", size=2, layout="CHW", carry=False)
        assert [(one.name, one.input_shape) for one in report.datasets] == [("/g/v", (2, 4, 4))]
        with pytest.raises(LucidError, match="array /g/w is behind a server that lists no files"):
            lucid.pool_file(blind, tmp_path / "p.zarr", size=2, layout="CHW")

    def test_the_configuration_of_zarr_is_the_users(self, tmp_path):
        zarr.create_array(tmp_path / "a.zarr", data=np.ones((2, 4, 4), "f4"), chunks=(1, 4, 4))
        before = json.dumps(zarr.config.config, default=str)
        with format_of_content(tmp_path / "a.zarr").open(tmp_path / "a.zarr", Options()):
            assert json.dumps(zarr.config.config, default=str) == before
        with zarr.config.set({"array.write_empty_chunks": True, "array.order": "F"}):
            one = pooled(tmp_path / "a.zarr", tmp_path / "one.zarr", layout="CHW")
        two = pooled(tmp_path / "a.zarr", tmp_path / "two.zarr", layout="CHW")
        assert {p.name: p.read_bytes() for p in one.iterdir() if p.is_file()} == {
            p.name: p.read_bytes() for p in two.iterdir() if p.is_file()
        }

    @VERSIONS
    @pytest.mark.parametrize("is_archive", [False, True])
    def test_a_dry_run_counts_what_the_run_carries_over(self, tmp_path, version, is_archive):
        dataset = grid(np.ones((2, 4, 4), "f4"), "time", "lat", "lon", flag=("time", ["a", "b"]))
        path = write(tmp_path / "a.zarr", dataset, version)
        if is_archive:
            path = shutil.make_archive(str(path), "zip", path)
        options = {"size": 2, "layout": "CHW", "drop": ["lat"]}
        planned = lucid.pool_file(path, tmp_path / "b.zarr", dry_run=True, **options)
        report = lucid.pool_file(path, tmp_path / "b.zarr", **options)
        assert report.carried > 1
        assert report.carried_bytes > 0
        assert (planned.carried, planned.carried_bytes) == (report.carried, report.carried_bytes)

    def test_what_is_dropped(self, tmp_path):
        group = zarr.open_group(tmp_path / "a.zarr", mode="w")
        for name in ("v", "g/a", "g/h/b", "k"):
            group.create_array(name, data=np.ones((1, 2, 2)) if name == "v" else np.ones(3))
        target = pooled(tmp_path / "a.zarr", tmp_path / "o.zarr", layout="CHW", size=1, drop=["g", "/k*"])
        assert sorted(path.name for path in target.iterdir()) == ["v", "zarr.json"]


def test_stores_of_older_netcdf_name_their_dimensions_in_their_documents(tmp_path):
    """As netCDF-C 4.8 to 4.9.2 writes them, which refuses a store where these are not."""
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("v", data=np.ones((2, 4, 4), "i2"), fill_value=-1)
    group.create_array("lat", data=np.arange(4.0), fill_value=-1.0)
    types = {"types": {"_FillValue": "<i2", "units": "<U1"}}
    group["v"].attrs.update({"_FillValue": -1, "units": "K", "_NCZARR_ATTR": types})
    own = {
        ".zgroup": {
            "_NCZARR_GROUP": {"dims": {"t": 2, "lat": 4, "lon": 4}, "vars": ["v", "lat"], "groups": []}
        },
        "v/.zarray": {"_NCZARR_ARRAY": {"dimrefs": ["/t", "/lat", "/lon"], "storage": "chunked"}},
        "lat/.zarray": {"_NCZARR_ARRAY": {"dimrefs": ["/lat"], "storage": "chunked"}},
    }
    own[".zgroup"]["_NCZARR_SUPERBLOCK"] = {"version": "2.0.0"}
    for name, document in own.items():
        path = tmp_path / "a.zarr" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | document))
    target = pooled(tmp_path / "a.zarr", tmp_path / "o.zarr", layout="TYX", size=2)
    made = json.loads((target / ".zgroup").read_text())
    assert made["_NCZARR_SUPERBLOCK"] == {"version": "2.0.0"}
    assert made["_NCZARR_GROUP"]["dims"] == {"t": 2, "lat": 4, "lon": 4, "lat_2": 2, "lon_2": 2}
    assert made["_NCZARR_GROUP"]["vars"] == ["lat", "lat_2", "v"]
    for name, dims in {"v": ["/t", "/lat_2", "/lon_2"], "lat_2": ["/lat_2"]}.items():
        assert json.loads((target / name / ".zarray").read_text())["_NCZARR_ARRAY"]["dimrefs"] == dims
    attributes = json.loads((target / "v" / ".zattrs").read_text())
    assert attributes["_NCZARR_ATTR"] == {"types": {"units": "<U1"}}
    assert "_NCZARR_ARRAY" not in attributes
    group.create_array("v_2x2", data=np.arange(3))
    options = {"layout": "TYX", "sizes": [1, 2], "drop": ["v_2x2"]}
    (target,) = lucid.pool_file(tmp_path / "a.zarr", tmp_path / "p.zarr", **options).targets
    names = json.loads((target / ".zgroup").read_text())["_NCZARR_GROUP"]["vars"]
    assert {"v_1x1", "v_2x2"} <= {*names}


@pytest.mark.parametrize("mode", ["nczarr", "zarr"])
@pytest.mark.parametrize("options", [{}, {"dtype": "keep"}, {"size": 1}])
def test_netcdf_reads_what_is_made_of_its_own_stores(tmp_path, mode, options):
    netcdf = pytest.importorskip("netCDF4", reason="netCDF4 is not installed")
    place, target = (f"file://{tmp_path / name}.zarr#mode={mode},file" for name in ("a", "o"))
    try:
        file = netcdf.Dataset(place, "w")
    except OSError:
        pytest.skip("this netCDF library has no NCZarr")
    for name, length in (("t", 2), ("lat", 4), ("lon", 4)):
        file.createDimension(name, length)
    file.createVariable("lat", "f8", ("lat",))[:] = np.arange(4)
    field = file.createVariable("v", "i2", ("t", "lat", "lon"), fill_value=-9)
    field.setncatts({"scale_factor": 0.5, "valid_range": np.array([0, 99], "i2"), "units": "K"})
    field[:] = np.ma.masked_equal(np.arange(32.0).reshape(2, 4, 4) / 2, 0)
    file.close()
    options = {"size": 2} | options
    lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", layout="TYX", **options)
    n = options["size"]
    with netcdf.Dataset(place) as old, netcdf.Dataset(target) as new:
        right = means(np.ma.filled(old["v"][:].astype(float), NAN), n, n)
        tolerance = 0.26 if options.get("dtype") else 1e-6
        assert np.allclose(np.ma.filled(new["v"][:].astype(float), NAN), right, atol=tolerance)
        assert new["v"].dimensions == ("t", f"lat_{n}", f"lon_{n}")
        assert new[f"lat_{n}"][:].tolist() == [[1.5], [0.5, 2.5]][n - 1]
        assert new["v"].units == "K"


@pytest.mark.parametrize("name", [".zarray", "zarr.json"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '{"zarr_format": 9, "node_type": "group"}',
        '{"zarr_format": 3, "node_type": "group", "consolidated_metadata": [3]}',
        '{"zarr_format": "x", "shape": [1, 2, 2], "dtype": "<f4", "chunks": [1, 2, 2]}',
        '{"zarr_format": 3, "node_type": "array", "shape": [1, 2, 2], "data_type": "float32"}',
        '{"zarr_format": 2, "shape": [1, 2], "chunks": [1, 2], "dtype": [["a", 3]]}',
        '{"zarr_format": 2, "shape": [9223372036854775807, 9, 9], "chunks": [1, 1, 1], "dtype": "<f4"}',
        '{"zarr_format": 2, "shape": [2, 4, 4], "chunks": [-1, 4, 4], "dtype": "<f4", "compressor": null, '
        '"fill_value": 0, "order": "C", "filters": null}',
    ],
)
def test_a_hostile_document_is_one_line(tmp_path, name, text):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / name).write_text(text)
    with pytest.raises(LucidError) as raised:
        lucid.pool_file(tmp_path / "a.zarr", size=2, layout="CHW")
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


class TestChoosing:
    def test_reasons(self, tmp_path):
        group = zarr.open_group(tmp_path / "a.zarr", mode="w")
        group.create_array("g/v", data=np.ones((1, 2, 2)))
        group.create_array("empty", shape=(1, 0, 2), dtype="f4")
        with warnings.catch_warnings(action="ignore"):
            group.create_array("text", data=np.array([[["a"]]], "U1"))
        for name, text in {
            "g": "/g is a group; name a dataset in it, or /g/\\* for all",
            "empty": "dataset /empty has planes of 0x2, which have no cells",
            "text": "dataset /text is fixed_length_utf32, which has no mean here",
            "t*": "has no dataset 't\\*' that can be pooled: /text is fixed",
            "g/w": "has no dataset 'g/w' that can be pooled; did you mean '/g/v'",
        }.items():
            with warnings.catch_warnings(action="ignore"), pytest.raises(DatasetError, match=text):
                lucid.pool_file(tmp_path / "a.zarr", size=1, layout="CHW", datasets=name)
        with pytest.raises(
            DatasetError,
            match=r"has no array of numbers with 4 axes \(`layout` names them\); it has /empty float32 \(1, 0, 2\), /g/v",
        ):
            lucid.pool_file(tmp_path / "a.zarr", size=1)

    def test_an_array_without_a_name_is_told_by_its_type_or_its_fault(self, tmp_path):
        zarr.create_array(tmp_path / "a.zarr", data=np.ones((1, 2)), zarr_format=2)
        with pytest.raises(DatasetError, match=r"it has an array of float64 \(1, 2\)"):
            lucid.pool_file(tmp_path / "a.zarr", size=1)
        (tmp_path / "a.zarr/.zarray").write_text("{")
        with pytest.raises(DatasetError, match="it has an array that has metadata that are no JSON"):
            lucid.pool_file(tmp_path / "a.zarr", size=1)

    def test_arrays_of_the_same_plane_are_named(self, tmp_path):
        source = write(
            tmp_path / "a.zarr",
            grid(np.ones((1, 4, 4)), "t", "lat", "lon", w=(("lat", "lon"), np.ones((4, 4)))),
            3,
        )
        report = lucid.pool_file(source, tmp_path / "o.zarr", size=2, layout="THW")
        assert report.notes == (
            "/w has 2 axes, (4, 4), and was left out; a `layout` of as many letters pools it",
        )

    @pytest.mark.parametrize(
        "options",
        [
            {"compression": "lzf"},
            {"reduce": "sum"},
            {"datasets": "odd"},
            {"size": 2, "flatten": True, "layout": "HWC"},
        ],
    )
    def test_a_dry_run_refuses_what_the_run_would(self, tmp_path, options):
        group = zarr.open_group(tmp_path / "a.zarr", mode="w")
        attributes = {"add_offset": 3.0, "missing_value": 0}
        group.create_array("v", data=np.ones((1, 4, 4), "i2"), attributes=attributes)
        group.create_array("odd", data=np.ones((4, 4), "i2"))
        options = {"size": 2, "layout": "CHW"} | options
        said = set()
        for dry_run in (True, False):
            with pytest.raises(LucidError) as raised:
                lucid.pool_file(tmp_path / "a.zarr", dry_run=dry_run, **options)
            said.add(str(raised.value))
        assert len(said) == 1

    def test_a_dry_run_says_what_the_run_would_say(self, tmp_path):
        from zarr.codecs.numcodecs import BitRound

        with warnings.catch_warnings(action="ignore"):
            zarr.create_array(
                tmp_path / "a.zarr", data=np.ones((1, 4, 4), "f4"), filters=[BitRound(keepbits=3)]
            )
            notes = [
                lucid.pool_file(
                    tmp_path / "a.zarr", tmp_path / "o.zarr", size=2, layout="CHW", dry_run=dry
                ).notes
                for dry in (True, False)
            ]
        assert (
            notes[0]
            == notes[1]
            == ("bitround of the array is left out: its parameters were chosen for other numbers",)
        )


class TestCodecs:
    @pytest.mark.parametrize(
        ("codec", "name"),
        [
            ("FixedScaleOffset", "fixedscaleoffset"),
            ("Quantize", "quantize"),
            ("BitRound", "bitround"),
            ("Delta", "delta"),
            ("AsType", "astype"),
        ],
    )
    @VERSIONS
    def test_those_that_round_or_pack_are_left_out(self, tmp_path, rng, codec, name, version):
        import numcodecs
        import zarr.codecs.numcodecs as three

        options = {
            "FixedScaleOffset": {"offset": 0, "scale": 10, "dtype": "<f4", "astype": "<i2"},
            "Quantize": {"digits": 1, "dtype": "<f4"},
            "BitRound": {"keepbits": 4},
            "Delta": {"dtype": "<f4"},
            "AsType": {"encode_dtype": "<f2", "decode_dtype": "<f4"},
        }[codec]
        kind = getattr(numcodecs if version == 2 else three, codec)
        x = rng.random((1, 8, 8)).astype("f4")
        with warnings.catch_warnings(action="ignore"):
            group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
            made = group.create_array("v", data=x, filters=[kind(**options)])
            right = lucid.nn.functional.adaptive_avg_pool2d(made[...], 2)
            report = lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", size=2, layout="CHW")
            target = zarr.open_array(tmp_path / "o.zarr" / "v", mode="r")
        assert np.array_equal(target[...], right)
        assert target.filters == ()
        assert report.notes == (f"{name} of /v is left out: its parameters were chosen for other numbers",)

    def test_lossless_ones_fit_the_results(self, tmp_path, rng):
        import numcodecs

        x = rng.integers(0, 99, (2, 8, 8)).astype("i2")
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
        filters = [numcodecs.Delta(dtype="<i2"), numcodecs.Shuffle(elementsize=2)]
        group.create_array("v", data=x, filters=filters, compressors=numcodecs.LZMA())
        lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", size=2, layout="CHW")
        lucid.pool_file(tmp_path / "a.zarr", tmp_path / "k.zarr", size=2, layout="CHW", dtype="keep")
        target, kept = (zarr.open_array(tmp_path / name / "v", mode="r") for name in ("o.zarr", "k.zarr"))
        assert [codec.codec_id for codec in target.filters] == ["shuffle"]
        assert target.filters[0].elementsize == 4
        assert [codec.codec_id for codec in kept.filters] == ["delta", "shuffle"]
        right = lucid.nn.functional.adaptive_avg_pool2d(x, 2)
        assert np.array_equal(target[...], right)
        assert np.array_equal(kept[...], np.rint(right))
        assert "lzma" in str(target.compressors).lower()

    def test_what_only_zarr_passes_over_is_one_line(self, tmp_path):
        zarr.create_array(tmp_path / "a.zarr", data=np.ones((2, 4, 4), "f4"), zarr_format=2)
        document = tmp_path / "a.zarr" / ".zarray"
        compressor = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": "float32"}
        document.write_text(json.dumps(json.loads(document.read_text()) | {"compressor": compressor}))
        (tmp_path / "a.zarr" / "0.0.0").unlink()
        options = {"size": 2, "layout": "CHW"}
        for dry_run in (True, False):
            with pytest.raises(
                FormatError, match="with codecs that make no sense; `compression` chooses others"
            ):
                lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", dry_run=dry_run, **options)
        lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", compression="none", **options)
        assert not zarr.open_array(tmp_path / "o.zarr", mode="r")[...].any()

    @pytest.mark.parametrize("left_out", ["shuffle", "blocksize", "cname", "clevel"])
    def test_parameters_that_a_document_leaves_out_are_the_defaults_of_the_codec(self, tmp_path, left_out):
        import numcodecs

        x = np.arange(32, dtype="f4").reshape(2, 4, 4)
        zarr.create_array(tmp_path / "a.zarr", data=x, compressors=numcodecs.Blosc(), zarr_format=2)
        document = tmp_path / "a.zarr" / ".zarray"
        said = json.loads(document.read_text())
        del said["compressor"][left_out]
        document.write_text(json.dumps(said))
        lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", size=2, layout="CHW")
        right = lucid.nn.functional.adaptive_avg_pool2d(x, 2)
        assert np.array_equal(zarr.open_array(tmp_path / "o.zarr", mode="r")[...], right)


def test_a_large_file_that_is_carried_over_takes_little_memory(tmp_path):
    import tracemalloc

    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("x", data=np.ones((1, 4, 4), "f4"))
    group.create_array("table", data=np.arange(10 << 20, dtype="u4"), chunks=(10 << 20,), compressors=None)
    tracemalloc.start()
    try:
        pooled(tmp_path / "a.zarr", tmp_path / "o.zarr", layout="CHW")
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()
    assert np.array_equal(zarr.open_group(tmp_path / "o.zarr")["table"][:], np.arange(10 << 20))


def test_a_transform_of_numbers_follows_the_cells(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    attributes = {"GeoTransform": [100, 10, 0, 50, 0, -10]}
    names = ["t", "y", "x"]
    group.create_array("v", data=np.ones((1, 4, 4), "f4"), dimension_names=names, attributes=attributes)
    pooled(tmp_path / "a.zarr", tmp_path / "o.zarr", layout="CHW")
    result = zarr.open_group(tmp_path / "o.zarr", mode="r")["v"]
    assert result.attrs["GeoTransform"] == [100, 20, 0, 50, 0, -20]


@VERSIONS
@pytest.mark.parametrize(
    ("place", "path"),
    [("g/x", "g/x"), ("g/h/x", "g/h/x"), ("a.zarr/g/x", "g/x"), ("a.zarr", ""), ("b/a.zarr", "")],
)
def test_an_archive_of_one_array_keeps_its_path(tmp_path, version, place, path):
    zarr.create_array(tmp_path / place, data=np.ones((1, 1, 4, 4)), zarr_format=version)
    with zipfile.ZipFile(tmp_path / "x.zarr.zip", "w") as archive:
        for one in tmp_path.rglob("*"):
            if one.is_file() and one.suffix != ".zip":
                archive.write(one, one.relative_to(tmp_path))
    target = pooled(tmp_path / "x.zarr.zip", tmp_path / "o.zarr")
    assert zarr.open_array(target / path, mode="r").shape == (1, 1, 2, 2)
