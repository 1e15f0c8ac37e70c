"""What attributes say of numbers, without any file."""

import warnings

import numpy as np
import pytest
from slow import slow

import lucid
from lucid.errors import ArgumentError, DatasetError
from lucid.formats.arrays import Meaning
from lucid.formats.meaning import (
    cells_of_sums,
    check_sums,
    meaning_of,
    reduction_of,
)
from lucid.formats.result import changes_of, fill_of, unwritten_fill
from lucid.kinds import FRACTION
from lucid.missing import MISSING, Missing, parse_missing
from lucid.pooling.dtypes import NAMES

INTEGERS = [name for name in NAMES if "int" in name]


def of(attributes, stored="int16", **options):
    return meaning_of(attributes, stored, **options)


class TestMissing:
    @pytest.mark.parametrize("key", ["_FillValue", "missing_value"])
    @pytest.mark.parametrize("stored", INTEGERS)
    @pytest.mark.parametrize("order", "<>")
    def test_integers(self, key, stored, order):
        value = np.array([np.iinfo(stored).max], np.dtype(stored).newbyteorder(order))
        for shown in (value, value[0], value.reshape(())):
            assert of({key: shown}, stored).missing == (np.iinfo(stored).max,)

    def test_both_attributes_and_lists_of_values(self):
        assert of({"_FillValue": np.int16(-9), "missing_value": np.int16([-9, 3, 4])}).missing == (-9, 3, 4)

    def test_values_are_rounded_as_the_elements_are(self):
        assert of({"missing_value": np.float64(1e20)}, "float32").missing == (float(np.float32(1e20)),)
        assert of({"missing_value": 0.1}, "float16").missing == (float(np.float16(0.1)),)
        assert of({"missing_value": 1.01}, "bfloat16").missing == (1.0078125,)
        assert of({"missing_value": np.float64(-9999)}).missing == (-9999,)

    @pytest.mark.parametrize("value", [0.5, -40000, 1e20, np.nan, "-9", b"-9", np.array([]), 1j, ["x"]])
    def test_what_no_element_can_be_names_none(self, value):
        assert of({"_FillValue": value}).missing == ()

    def test_nan_is_named_for_floats_only_and_the_option_has_the_last_word(self):
        nan = {"_FillValue": np.float32("nan")}
        assert of(nan, "float32").skip_nan
        assert not of(nan, "float32", nan="propagate").skip_nan
        assert not of(nan, "float32", missing=Missing(by_attributes=False)).skip_nan
        assert not of(nan, "int16").skip_nan
        assert not of({}, "float32").skip_nan
        assert of({}, "float32", nan="skip").skip_nan
        assert of({}, "float32", missing=Missing((float("nan"),))).skip_nan
        assert of({"missing_value": np.array([np.nan, -1])}, "float64")[2:4] == ((-1.0,), True)

    def test_the_option_adds_to_attributes_or_turns_them_off(self):
        attributes = {"_FillValue": np.int16(-9)}
        assert of(attributes, missing=parse_missing(["5"])).missing == (-9, 5)
        assert of(attributes, missing=parse_missing(["none", "5"])).missing == (5,)

    def test_texts_and_numbers_of_the_option(self):
        texts = MISSING.check("missing", ["4294967295", "0x10", "-1.5", "1e3", 7, "-0", "nan"])
        assert parse_missing(texts).values[:-1] == (4294967295, 16, -1.5, 1000, 7, 0)
        assert np.isnan(parse_missing(texts).values[-1])
        assert parse_missing(MISSING.check("missing", "NONE")) == Missing((), by_attributes=False)
        with pytest.raises(ArgumentError, match="`missing` is 'x'; expected a number, nan or none"):
            MISSING.check("missing", ["x"])

    @pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), True, "half"])
    def test_fractions(self, wrong):
        assert FRACTION.check("min_valid", "0.5") == FRACTION.check("min_valid", 0.5) == 0.5
        with pytest.raises(ArgumentError, match="expected a fraction of the cells, 0 to 1"):
            FRACTION.check("min_valid", wrong)


class TestUnsigned:
    @pytest.mark.parametrize(
        ("value", "is_one"), [("true", 1), (b"true", 1), (np.array(["True"]), 1), ("false", 0), (1, 0)]
    )
    def test_signed_integers_are_read_as_unsigned(self, value, is_one):
        assert of({"_Unsigned": value}, "int8").numbers == ("uint8" if is_one else "int8")
        assert of({"_Unsigned": value}, "float32").numbers == "float32"

    def test_values_in_either_type(self):
        for value in (np.int16(-2), np.uint16(65534), np.int32(65534)):
            assert of({"_Unsigned": "true", "_FillValue": value}).missing == (65534,)
        assert of({"_Unsigned": "false", "_FillValue": np.uint8(255)}, "uint8")[1:3] == ("int8", (-1,))

    def test_it_goes_from_floats_and_stays_where_the_type_does(self):
        attributes = {"_Unsigned": "true", "_FillValue": np.int16(-1), "valid_range": np.int16([0, -6])}
        meaning = of(attributes)
        changes = changes_of(attributes, meaning, "float32")
        assert changes["_Unsigned"] is None
        assert changes["valid_range"].tolist() == [0, 65530]
        assert np.isnan(changes["_FillValue"])
        assert changes_of(attributes, meaning, "uint16") == {}
        assert fill_of(meaning, "uint16") == 65535


@pytest.mark.parametrize("stored", [*INTEGERS, "float32", "float64"])
@pytest.mark.parametrize("unsigned", [None, "true", "false"])
def test_cells_are_missing_where_xarray_shows_nan(stored, unsigned, rng):
    xarray = pytest.importorskip("xarray", reason="xarray is not installed (extra dev)")
    cells = rng.integers(0, 100, 200).astype(stored)
    for key in ("_FillValue", "missing_value"):
        attributes = {key: cells[0]} | ({"_Unsigned": unsigned} if unsigned and "int" in stored else {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seen = xarray.decode_cf(xarray.Dataset({"v": ("x", cells, dict(attributes))}))["v"].values
        meaning = meaning_of(attributes, stored)
        assert np.array_equal(np.isin(cells.view(meaning.numbers), meaning.missing), np.isnan(seen))


class TestResults:
    @pytest.mark.parametrize("result", ["float16", "bfloat16", "float32", "float64"])
    def test_floats_name_nan_in_their_own_type(self, result):
        attributes = {
            "_FillValue": np.int16([-9]),
            "missing_value": np.int16([-9, 3]),
            "flag_values": np.int16([0, 1]),
        }
        changes = changes_of(attributes, of(attributes), result)
        own = np.dtype("float32" if result == "bfloat16" else result)
        assert {key: value.dtype for key, value in changes.items()} == dict.fromkeys(attributes, own)
        assert np.isnan(changes["_FillValue"]).all()
        assert changes["missing_value"].shape == (1,)
        assert changes["flag_values"].tolist() == [0, 1]

    def test_floats_of_floats_name_nan_too_and_keep_the_rest(self):
        attributes = {"_FillValue": np.float32(0), "valid_min": np.float32(3), "_Unsigned": "true"}
        changes = changes_of(attributes, of(attributes, "float32"), "float32")
        assert list(changes) == ["_FillValue"]
        assert np.isnan(changes["_FillValue"])

    def test_text_is_left_alone(self):
        assert changes_of({"_FillValue": "-9", "valid_range": "0, 9"}, of({}), "float32") == {}

    def test_a_kept_type_keeps_its_attributes(self):
        attributes = {"_FillValue": np.int16(-9), "valid_range": np.int16([0, 9])}
        assert changes_of(attributes, of(attributes), "int16") == {}
        assert fill_of(of(attributes), "int16") == -9

    def test_a_kept_type_says_which_value_the_option_named(self):
        meaning = of({}, missing=parse_missing(["7"]))
        assert changes_of({}, meaning, "int16") == {"_FillValue": np.int16(7)}
        signed = of({"_Unsigned": "true"}, missing=parse_missing(["65535"]))
        assert changes_of({"_Unsigned": "true"}, signed, "uint16")["_FillValue"] == np.int16(-1)

    def test_who_denies_the_attributes_has_none_on_kept_integers(self):
        attributes = {"_FillValue": np.int16(-9), "missing_value": np.int16(-9)}
        meaning = of(attributes, missing=parse_missing(["none"]))
        assert changes_of(attributes, meaning, "int16") == {"_FillValue": None, "missing_value": None}
        assert np.isnan(changes_of(attributes, meaning, "float32")["_FillValue"])

    def test_sums_of_integers_mark_gaps_at_the_end_of_their_type(self):
        attributes = {"_FillValue": np.int16(-9), "valid_max": np.int16(9)}
        changes = changes_of(attributes, of(attributes), "int64", reduce="sum")
        assert changes == {"_FillValue": np.iinfo("int64").min, "valid_max": None}
        assert fill_of(Meaning("uint8", "uint8", (1,)), "uint64") == np.iinfo("uint64").max

    def test_marks_of_logicals_go(self):
        assert changes_of({"dtype": "bool"}, of({}, "int8"), "float32") == {"dtype": None}
        assert changes_of({"dtype": "bool"}, of({}, "int8"), "int8") == {}

    def test_limits_of_what_packed_numbers_stand_for_are_packed(self):
        attributes = {"scale_factor": 0.5, "add_offset": 10.0, "valid_range": np.float64([10, 20])}
        assert changes_of(attributes, of(attributes), "float32")["valid_range"].tolist() == [0, 20]
        attributes = {"scale_factor": -0.5, "valid_min": np.float64(-3), "valid_max": np.float64(5)}
        changes = changes_of(attributes, of(attributes), "float32")
        assert (changes["valid_min"], changes["valid_max"]) == (-10, 6)

    def test_own_fill_values(self):
        equal = {"_FillValue": np.array([-9], ">i2")}
        assert np.isnan(unwritten_fill(equal, of(equal), np.int16(-9), "float32"))
        assert unwritten_fill(equal, of(equal), np.int16(4), "float32") == 4
        assert unwritten_fill(equal, of(equal), np.int16(-9), "int16") == -9
        assert unwritten_fill(equal, of(equal), np.int16(-9), "int64") == np.iinfo("int64").min
        unsigned = {"_Unsigned": "true"}
        assert unwritten_fill(unsigned, of(unsigned), np.int16(-9), "float32") == 65527
        nan = {"_FillValue": np.float32("nan")}
        assert np.isnan(unwritten_fill(nan, of(nan, "float32"), np.float32("nan"), "float32"))


class TestReductions:
    def test_a_negative_scale_swaps_the_extremes(self):
        negative = of({"scale_factor": np.float32(-0.1)})
        assert [reduction_of(negative, r) for r in ("mean", "max", "min", "sum")] == [
            "mean",
            "min",
            "max",
            "sum",
        ]
        assert reduction_of(of({"scale_factor": 0.1}), "max") == "max"

    def test_offsets_of_sums(self):
        attributes = {"add_offset": 250.0}
        meaning = of(attributes)
        assert cells_of_sums(meaning, (8, 6), (4, 2)) == 6
        check_sums("/v", meaning, (8, 6), (4, 2))
        assert changes_of(attributes, meaning, "int64", reduce="sum", cells=6) == {"add_offset": 1500}
        for odd in (meaning, (8, 6), (3, 2)), (meaning._replace(missing=(1,)), (8, 6), (4, 2)):
            with pytest.raises(DatasetError, match="/v: sums of numbers with an add_offset of 250"):
                check_sums("/v", *odd)
        check_sums("/v", of({}), (8, 6), (3, 2))


@pytest.mark.parametrize("suffix", ["npy", "h5", "zarr"])
@pytest.mark.parametrize("kind", ["i1", "i8", *slow("u1", "i2", "u8")])
@pytest.mark.parametrize("sizes", [[(2, 3)], [(2, 3), (1, 2)]])
def test_means_that_are_rounded_to_a_mark_are_counted(tmp_path, suffix, kind, sizes):
    """A reader takes them for gaps; of the gaps themselves, and of other marks, nothing is said."""
    pytest.importorskip("zarr" if suffix == "zarr" else "numpy", reason="the extra 'zarr'")
    # 4 and 6 have the mean 5, which marks gaps, as does 9; the lower right window is a gap.
    x = np.array([[[4, 6, 8, 10, 1, 1], [6, 4, 10, 8, 1, 1], [5, 5, 7, 6, 5, 5], [3, 3, 5, 5, 9, 9]]], kind)
    np.save(tmp_path / "in.npy", x)
    options = {"sizes": sizes, "layout": "CHW", "missing": [5, 9], "threads": 1}
    report = lucid.pool_file(tmp_path / "in.npy", tmp_path / f"{{size}}.{suffix}", dtype="keep", **options)
    marks = [note for note in report.notes if "marks gaps" in note]
    means = [adaptive_mean(x[0], size, (5, 9)) for size in sizes]
    counts = {mark: sum(int(np.sum(np.rint(one) == mark)) for one in means) for mark in (5, 9)}
    assert counts[5] > 0
    assert marks == [
        f"{n} finite result{'s' * (n > 1)} of the array became {mark}, which marks gaps; `dtype` float32 tells them apart"
        for mark, n in counts.items()
        if n
    ]
    for others in {"dtype": None}, {"dtype": "keep", "reduce": "max"}, {"dtype": "keep", "missing": ()}:
        report = lucid.pool_file(
            tmp_path / "in.npy", tmp_path / f"{{size}}.{suffix}", overwrite=True, **(options | others)
        )
        assert not any("marks gaps" in note for note in report.notes)


def adaptive_mean(cells, size, missing):
    """Means of valid cells by the definition, NaN where there are none; windows of one size."""
    (m, n), (rows, cols) = size, (cells.shape[0] // size[0], cells.shape[1] // size[1])
    windows = np.where(np.isin(cells, missing), np.nan, cells.astype("f8")).reshape(m, rows, n, cols)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.nanmean(windows, (1, 3))
