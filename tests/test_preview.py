"""Pictures of a sample: which planes they show, and that these are pooled as the run pools them."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from lucid.options import Options
from lucid_cli.preview import BLOCKS, CHANNELS, SIGNS, _signs, channels_of


def pictures_of(path, dataset, options):
    return channels_of(path, dataset, path.with_suffix(f".pooled{path.suffix}"), options)


def saved(tmp_path, array, name="x.npy"):
    np.save(tmp_path / name, array)
    return tmp_path / name


def test_channels_of_the_first_sample_wherever_their_axis_is(tmp_path):
    x = np.zeros((2, 6, 4, 4), "f4")
    x[0] += np.arange(6)[:, None, None]
    for layout, array in {"NCHW": x, "NHWC": x.transpose(0, 2, 3, 1), "CHW": x[0]}.items():
        channels = pictures_of(saved(tmp_path, array), "", Options(size=2, layout=layout))
        assert [channel.low for channel in channels] == list(range(CHANNELS))
    assert len(pictures_of(saved(tmp_path, x[0, :3]), "", Options(size=2, layout="ZYX"))) == 1


def test_missing_cells_are_no_numbers_and_pool_as_in_the_run(tmp_path):
    x = np.array([[[[-9999, 2, 4, 8], [2, 2, 0, 8]]]], "i2")
    (channel,) = pictures_of(saved(tmp_path, x), "", Options(size=(1, 2), missing=-9999))
    assert (channel.low, channel.high) == (0, 8)
    assert np.isnan(channel.pictures["input"][0, 0])
    assert channel.pictures["1x2"].tolist() == [[2 / 8, 2 / 8, 5 / 8, 5 / 8]] * 2


@pytest.mark.parametrize(
    ("x", "options", "expected"),
    [
        ([[-9, 2, 2, 8]], {"min_valid": 0.9}, [np.nan, 0.5]),
        ([[-9, 2, 2, 8]], {"min_valid": 0.5}, [0, 0.5]),
        ([[-9, -9, 2, 8]], {"dtype": "keep"}, [np.nan, 0.5]),
        ([[0, 3, 8, 8]], {"dtype": "keep"}, [2 / 8, 1]),
        ([[0, 3, 8, 8]], {}, [1.5 / 8, 1]),
    ],
)
def test_numbers_are_those_of_the_run(tmp_path, x, options, expected):
    """Windows with too few valid cells, marks of gaps, rounding: a picture of other numbers would be none of the run."""
    path = saved(tmp_path, np.array([[x]], "i2"))
    (channel,) = pictures_of(path, "", Options(size=(1, 2), missing=-9, **options))
    picture = channel.pictures["1x2"]
    assert np.array_equal(picture[0, [0, -1]], expected, equal_nan=True)


def test_a_type_that_the_output_takes_is_that_of_the_picture(tmp_path):
    """netCDF has no float16, so a sum that float16 does not hold is a number there."""
    path = saved(tmp_path, np.full((1, 1, 2, 2), 3e4, "f2"))
    options = Options(size=1, reduce="sum")
    for name, low in (("y.npy", 1), ("y.nc", 0)):
        (channel,) = channels_of(path, "", tmp_path / name, options)
        assert channel.pictures["1x1"].tolist() == [[low] * 2] * 2


@pytest.mark.parametrize(("reduce", "share"), [("max", 1), ("mean", 0.5), ("min", 0), ("sum", 0)])
def test_every_reduction(tmp_path, reduce, share):
    x = np.arange(4.0).reshape(1, 1, 2, 2)
    (channel,) = pictures_of(saved(tmp_path, x), "", Options(size=1, reduce=reduce))
    assert channel.pictures["1x1"].tolist() == [[share, share]] * 2


def test_shades_tell_what_is_no_number_from_the_lowest():
    for shades in (BLOCKS, SIGNS):
        picture = str(_signs(np.array([[0, 1], [np.nan, 0]]), shades))
        assert picture == f"{shades[0] * 2}{shades[-1] * 2}\n??{shades[0] * 2}"


def test_axes_by_their_names_in_either_order(tmp_path):
    path = tmp_path / "x.nc"
    field = np.arange(24.0).reshape(4, 6)
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = field, field.T
        for name, length in (("lat", 4), ("lon", 6)):
            file[name] = np.arange(float(length))
            file[name].make_scale(name)
        for dataset, names in (("a", ("lat", "lon")), ("b", ("lon", "lat"))):
            for axis, name in enumerate(names):
                file[dataset].dims[axis].attach_scale(file[name])
    options = Options(size=(2, 3), dims="lat,lon")
    (one,), (other,) = (pictures_of(path, name, options) for name in ("/a", "/b"))
    assert list(one.pictures) == list(other.pictures) == ["input", "2x3"]
    for label in one.pictures:
        assert np.array_equal(one.pictures[label], other.pictures[label])


def test_sizes_are_called_by_what_they_come_to(tmp_path):
    path = saved(tmp_path, np.ones((1, 1, 8, 6), ">f4"))
    (channel,) = pictures_of(path, "", Options(sizes=["/2", "keep", 20]))
    assert list(channel.pictures) == ["input", "4x3", "8x6", "20x20"]


def test_what_is_empty_or_too_large_has_no_picture(tmp_path):
    assert pictures_of(saved(tmp_path, np.ones((0, 1, 4, 4))), "", Options(size=1)) == []
    path = tmp_path / "big.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1, 1, 40_000, 40_000)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * 40_000**2)
    assert pictures_of(Path(path), "", Options(size=1)) == []
