"""Coordinates and bounds of results, without any file."""

from itertools import product

import numpy as np
import pytest

from lucid.formats.grid import (
    bounds_name,
    coarse_bounds,
    coarse_coordinates,
    coarse_transform,
    references_of,
)
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.pooling.windows import Axis


def coarsen(planes, size):
    return adaptive_avg_pool2d(planes, size, nan="skip")


class TestCoordinates:
    @pytest.mark.parametrize("kind", ["f4", ">f8", "i2", "u1", "i8"])
    def test_means_of_one_axis(self, kind):
        made = coarse_coordinates(np.array([0, 1, 2, 3], kind), {}, (2,))
        assert made.tolist() == [0.5, 2.5]
        assert made.dtype == {"i8": "f8", ">f8": "f8"}.get(kind, "f4")

    def test_missing_ones_count_as_nothing(self):
        made = coarse_coordinates(np.int16([4, -9, 2, 4]), {"_FillValue": np.int16(-9)}, (2,))
        assert made.tolist() == [4, 3]
        assert made.dtype == "f4"
        plane = np.array([[1, 3], [1e20, 5]])
        assert coarse_coordinates(plane, {"missing_value": 1e20}, (2, 1)).tolist() == [[2], [5]]

    def test_unsigned_ones(self):
        assert coarse_coordinates(np.int8([-1, -3]), {"_Unsigned": "true"}, (1,)) == 254

    @pytest.mark.parametrize("units", ["degrees_east", b"degreeE"])
    @pytest.mark.parametrize(
        ("values", "right"),
        [
            ([170, 190, 210, 230], [180, 220]),
            ([350, 355, 0, 5], [352.5, 2.5]),
            ([358, 0, 2, 4], [359, 3]),
            ([179, -179], [180]),
        ],
    )
    def test_longitudes_go_on_round_the_earth(self, units, values, right):
        made = coarse_coordinates(np.array(values, "f4"), {"units": units}, (len(right),))
        assert np.allclose((made - right + 180) % 360, 180)
        assert made.dtype == "f4"
        assert made.min() >= min(values) - 180

    @pytest.mark.parametrize("named", [{"units": "degrees_east"}, {"standard_name": "longitude"}])
    @pytest.mark.parametrize("first", [100.0, 170.0, -185.0, 350.0])
    @pytest.mark.parametrize("start", [-180, 0])
    def test_longitudes_of_a_plane_go_on_round_the_earth(self, named, first, start):
        turning = first + 3 * np.arange(12) + np.arange(8)[:, None]
        right = coarsen(turning[None], (4, 3))[0]
        stored = (turning - start) % 360 + start
        made = coarse_coordinates(stored, named, (4, 3))
        assert np.allclose((made - right + 180) % 360, 180)
        stored[0, 0] = np.nan
        made = coarse_coordinates(stored, named, (4, 3))
        assert np.allclose((made[1:] - right[1:] + 180) % 360, 180)

    @pytest.mark.parametrize(("scale", "offset"), [(0.01, 0.0), (0.1, -100.0), (-0.5, 20.0)])
    @pytest.mark.parametrize(
        ("degrees", "right"),
        [([0, 90, 180, 270], [45, 225]), ([174, 178, -178, -174], [176, 184]), ([0, 5, 10, 15], [2.5, 12.5])],
    )
    def test_packed_longitudes_jump_by_a_turn_of_what_they_stand_for(self, scale, offset, degrees, right):
        attributes = {"units": "degrees_east", "scale_factor": scale, "add_offset": offset}
        packed = np.round((np.array(degrees) - offset) / scale).astype("i4")
        for stored, size in (packed, (2,)), (np.stack([packed] * 2), (1, 2)):
            made = coarse_coordinates(stored, attributes, size) * scale + offset
            assert np.allclose((made - right + 180) % 360, 180, atol=1e-4)

    def test_missing_longitudes_of_an_axis_take_no_others_along(self):
        values = np.array([176.0, 178, np.nan, -178, -176, -174])
        made = coarse_coordinates(values, {"units": "degrees_east"}, (3,))
        assert np.allclose(made % 360, [177, 182, 185])

    @pytest.mark.parametrize("size", [(3, 2, 2), (3, 4, 2), (3, 2, 6), (1, 4, 6)])
    def test_those_of_more_axes_are_pooled_along_the_axes_that_change(self, rng, size):
        values = rng.standard_normal((3, 4, 6))
        made = coarse_coordinates(values, {}, size)
        right = values.reshape(size[0], -1, size[1], 4 // size[1], size[2], 6 // size[2]).mean((1, 3, 5))
        assert np.allclose(made, right)

    def test_more_than_two_axes_that_change_are_no_plane(self):
        assert coarse_coordinates(np.ones((4, 4, 4)), {}, (2, 2, 2)) is None

    def test_other_numbers_that_jump_do_not(self):
        assert coarse_coordinates(np.array([358.0, 0]), {"units": "m"}, (1,)) == 179


class TestBounds:
    @pytest.mark.parametrize("order", [1, -1])
    @pytest.mark.parametrize("direction", [1, -1])
    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
    def test_outer_edges(self, order, direction, size):
        edges = np.stack([np.arange(5.0), np.arange(1, 6.0)], 1)[::direction, ::order]
        made = coarse_bounds(edges, (size,))
        first, behind = Axis(5, size).bounds((0, size))
        for (low, high), a, b in zip(np.sort(made, 1), first, behind, strict=True):
            assert (low, high) == (edges[a:b].min(), edges[a:b].max())
        # Whichever of the two comes first in the source comes first here.
        assert np.all((made[:, 1] > made[:, 0]) == (order == 1))

    @pytest.mark.parametrize("first", [150.0, 165.0, 175.0, -30.0])
    def test_of_longitudes_on_both_sides_of_the_date_line(self, first):
        for order, direction, size in product((1, -1), (1, -1), (1, 2, 3)):
            edges = np.stack([np.arange(5.0), np.arange(1, 6.0)], 1)[::direction, ::order] * 10 + first
            right = coarse_bounds(edges, (size,))
            made = coarse_bounds((edges + 180) % 360 - 180, (size,), are_turns=True)
            assert np.array_equal(made, (right + 180) % 360 - 180), (order, direction, size)

    @pytest.mark.parametrize("start", range(4))
    @pytest.mark.parametrize("step", [1, -1])
    def test_corners_in_any_order(self, start, step, rng):
        corners = rng.standard_normal((5, 7))
        cells = np.stack([corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1]], 2)
        order = [(start + step * k) % 4 for k in range(4)]
        coarse = corners[::2, ::3]
        right = np.stack([coarse[:-1, :-1], coarse[:-1, 1:], coarse[1:, 1:], coarse[1:, :-1]], 2)
        assert np.array_equal(coarse_bounds(cells[..., order], (2, 2)), right[..., order])
        several, all_right = (np.stack([one, -one])[..., order] for one in (cells, right))
        assert np.array_equal(coarse_bounds(several, (2, 2, 2)), all_right)
        assert coarse_bounds(several, (1, 2, 2)) is None

    def test_corners_that_meet_but_for_rounding(self):
        centres = (np.arange(5) * 0.1 + 50.05)[:, None, None] + np.zeros((5, 7, 1))
        cells = centres + np.array([-0.05, -0.05, 0.05, 0.05])
        assert not np.array_equal(cells[:-1, :, 3], cells[1:, :, 0])
        coarse = coarse_bounds(cells, (1, 7))
        assert np.allclose(coarse, [50.0, 50.0, 50.5, 50.5], rtol=0, atol=1e-5)

    def test_corners_that_do_not_meet_and_other_shapes(self, rng):
        assert coarse_bounds(rng.standard_normal((4, 6, 4)), (2, 2)) is None
        assert coarse_bounds(rng.standard_normal((4, 3)), (2,)) is None

    def test_their_names(self):
        assert bounds_name({"bounds": b"lat_bnds"}) == ("bounds", "lat_bnds")
        assert bounds_name({"climatology": "c"}) == ("climatology", "c")
        assert bounds_name({}) is None


def test_texts_that_name_what_there_is_no_longer():
    attributes = {"coordinates": "lat lon", "cell_methods": "lat: lon: mean time: max", "units": "K"}
    assert references_of(attributes, {}) == {}
    assert references_of(attributes, {"lat": "lat_2", "lon": "lon_3"}) == {
        "coordinates": "lat_2 lon_3",
        "cell_methods": "lat_2: lon_3: mean time: max",
    }
    assert references_of({"coordinates": "zone"}, {"zone": None}) == {"coordinates": None}


@pytest.mark.parametrize(
    ("attributes", "names", "changes"),
    [
        (
            {"cell_methods": "lat: lon: mean"},
            {"lat": "lat_2", "lon": None},
            {"cell_methods": "lat_2: lon: mean"},
        ),
        ({"grid_mapping": "crs: x y"}, {"x": "x_2", "y": "y_2"}, {"grid_mapping": "crs: x_2 y_2"}),
        ({"formula_terms": "ps: ps b: b"}, {"ps": "ps_2x2"}, {"formula_terms": "ps: ps_2x2 b: b"}),
        (
            {"grid_mapping": "crs: x y", "cell_methods": "x: mean"},
            {"crs": None, "mean": None},
            {"grid_mapping": None},
        ),
    ],
)
def test_words_with_colons_say_what_names_are(attributes, names, changes):
    assert references_of(attributes, names) == changes


class TestTransform:
    def test_it_follows_the_size_of_a_cell(self):
        made = coarse_transform("100.5 2 0.25 50 0.125 -3 ", (8, 6), (2, 3))
        assert made == "100.5 4.0 1.0 50.0 0.25 -12.0"
        numbers = coarse_transform(np.array([0, 1, 0, 0, 0, -1.0]), (8, 6), (8, 2))
        assert numbers.tolist() == [0, 3, 0, 0, 0, -1]

    @pytest.mark.parametrize("transform", ["1 2 3", "a b c d e f", np.int8([1, 2]), ""])
    def test_what_is_none_goes(self, transform):
        assert coarse_transform(transform, (8, 6), (2, 3)) is None

    @pytest.mark.parametrize("size", [(3, 3), (2, 4), (16, 6)])
    def test_there_is_none_for_cells_of_several_sizes(self, size):
        assert coarse_transform("0 1 0 0 0 1", (8, 6), size) is None
