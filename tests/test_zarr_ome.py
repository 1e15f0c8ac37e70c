"""OME-Zarr images: levels from level 0, labels left alone, transformations that still lead to the same places."""

import json
import re

import numpy as np
import pytest

import lucid
from lucid.formats.zarr.ome import transformations_of_result

zarr = pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")

AXES = [
    {"name": "c", "type": "channel"},
    {"name": "z", "type": "space", "unit": "micrometer"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]
VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])


def levels_of(count, **more):
    return [
        {
            "path": str(i),
            "coordinateTransformations": [{"type": "scale", "scale": [1, 2, 0.5 * 2**i, 0.25 * 2**i]}],
        }
        for i in range(count)
    ]


def image(path, version, data, count=3, group="", attributes=None, **multiscale):
    """An image as OME-Zarr wants it: each level half as large as the one before."""
    is_new = version == "0.5"
    root = zarr.open_group(path, mode="a", zarr_format=3 if is_new else 2)
    node = root.require_group(group) if group else root
    names = {"dimension_names": [axis["name"] for axis in AXES]} if is_new else {}
    separator = {"name": "v2", "separator": "/"} if not is_new else {"name": "default", "separator": "/"}
    for i in range(count):
        node.create_array(str(i), data=data[..., :: 2**i, :: 2**i], chunk_key_encoding=separator, **names)
    described = {"name": "x", "axes": AXES, "datasets": levels_of(count)} | multiscale
    if not is_new:
        described["version"] = "0.4"
    said = {"multiscales": [described]} | (attributes or {})
    node.attrs.update({"ome": {"version": "0.5"} | said} if is_new else said)


def holder(path, group=""):
    attributes = dict(zarr.open_group(path, path=group, mode="r").attrs)
    return attributes.get("ome", attributes)


def check_valid(path, group=""):
    """The rules of 0.4 and 0.5 for multiscales, as far as they can be broken here."""
    for one in holder(path, group)["multiscales"]:
        shapes = []
        for level in one["datasets"]:
            array = zarr.open_array(path, path=f"{group}/{level['path']}".strip("/"), mode="r")
            shapes.append(array.shape)
            names = getattr(array.metadata, "dimension_names", None)
            assert names is None or list(names) == [axis["name"] for axis in one["axes"]]
            kinds = [step["type"] for step in level["coordinateTransformations"]]
            assert kinds in (["scale"], ["scale", "translation"])
            for step in level["coordinateTransformations"]:
                assert len(step[step["type"]]) == len(one["axes"]) == array.ndim
        assert shapes == sorted(shapes, reverse=True)


@VERSIONS
def test_levels_come_from_the_first(tmp_path, rng, version):
    data = rng.random((2, 3, 16, 32)).astype("f4")
    translation = [{"type": "translation", "translation": [0, 0, 10, 0]}]
    image(
        tmp_path / "a.zarr",
        version,
        data,
        coordinateTransformations=translation,
        type="gaussian",
        metadata={"a": 1},
    )
    report = lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", sizes=[4, 8], layout="CZYX")
    check_valid(tmp_path / "o.zarr")
    (one,) = holder(tmp_path / "o.zarr")["multiscales"]
    assert [level["path"] for level in one["datasets"]] == ["0_8x8", "0_4x4"]
    assert one["datasets"][0]["coordinateTransformations"] == [
        {"type": "scale", "scale": [1, 2, 1, 1]},
        {"type": "translation", "translation": [0, 0, 0.25, 0.375]},
    ]
    assert one["coordinateTransformations"] == translation
    assert (one["axes"], one["name"], one["type"]) == (AXES, "x", "mean")
    for level, size in zip(one["datasets"], (8, 4), strict=True):
        array = zarr.open_array(tmp_path / "o.zarr", path=level["path"], mode="r")
        assert np.array_equal(array[...], lucid.nn.functional.adaptive_avg_pool2d(data, size))
    assert not (tmp_path / "o.zarr" / "1").exists()
    assert report.notes == ("levels /1, /2 of image / are left out: its levels come from the first",)


@VERSIONS
def test_one_size_keeps_the_name(tmp_path, rng, version):
    image(tmp_path / "a.zarr", version, rng.random((2, 3, 16, 32)))
    lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", size=8, layout="CZYX")
    check_valid(tmp_path / "o.zarr")
    assert [level["path"] for level in holder(tmp_path / "o.zarr")["multiscales"][0]["datasets"]] == ["0"]


@VERSIONS
def test_labels_are_carried_over(tmp_path, rng, version):
    path = tmp_path / "a.zarr"
    image(path, version, rng.random((2, 3, 16, 16)))
    cells = rng.integers(0, 9, (1, 3, 16, 16)).astype("u4")
    image(
        path,
        version,
        cells,
        group="labels/cells",
        attributes={"image-label": {"source": {"image": "../../"}}},
    )
    lucid.pool_file(path, tmp_path / "o.zarr", size=4, layout="CZYX")
    check_valid(tmp_path / "o.zarr", "labels/cells")
    assert holder(tmp_path / "o.zarr", "labels/cells") == holder(path, "labels/cells")
    assert np.array_equal(zarr.open_array(tmp_path / "o.zarr", path="labels/cells/0", mode="r")[...], cells)
    for sizes, after in ([4], 1), ([8, 4], 2), ([8, 4, 2], 3):
        for dry_run in True, False:
            notes = lucid.pool_file(
                path, tmp_path / f"{after}.zarr", sizes=sizes, layout="CZYX", dry_run=dry_run
            ).notes
            said = f"/labels/cells has 3 levels, its image {after}; OME-Zarr wants as many of both"
            assert (said in notes) == (after != 3)
    report = lucid.pool_file(
        path, tmp_path / "l.zarr", size=4, layout="CZYX", datasets="labels/cells/0", reduce="max"
    )
    assert any("label image" in note for note in report.notes)
    made = zarr.open_array(tmp_path / "l.zarr", path="labels/cells/0", mode="r")
    assert made.dtype == "u4"
    check_valid(tmp_path / "l.zarr", "labels/cells")
    check_valid(tmp_path / "l.zarr")


@VERSIONS
def test_a_level_that_is_named_is_pooled(tmp_path, rng, version):
    image(tmp_path / "a.zarr", version, rng.random((2, 3, 16, 16)))
    lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", size=2, layout="CZYX", datasets="1")
    check_valid(tmp_path / "o.zarr")
    assert [level["path"] for level in holder(tmp_path / "o.zarr")["multiscales"][0]["datasets"]] == [
        "0",
        "2",
        "1",
    ]


@VERSIONS
def test_plates_and_series(tmp_path, rng, version):
    path = tmp_path / "a.zarr"
    for group in ("A/1/0", "A/1/1", "B/2/0"):
        image(path, version, rng.random((2, 3, 8, 8)), 2, group)
    lucid.pool_file(path, tmp_path / "o.zarr", sizes=[4, 2], layout="CZYX")
    for group in ("A/1/0", "A/1/1", "B/2/0"):
        check_valid(tmp_path / "o.zarr", group)
        paths = [level["path"] for level in holder(tmp_path / "o.zarr", group)["multiscales"][0]["datasets"]]
        assert paths == ["0_4x4", "0_2x2"]


def test_zero_is_a_number_in_an_image(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    x = np.array([[[[0, 2], [4, 2]]]], "u2")
    group.create_array("0", data=x, fill_value=0, attributes={"_ARRAY_DIMENSIONS": [*"czyx"]})
    group.attrs["multiscales"] = [{"version": "0.4", "axes": AXES, "datasets": levels_of(1)}]
    lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", size=1, layout="CZYX")
    made = zarr.open_array(tmp_path / "o.zarr", path="0", mode="r")
    assert made[...].tolist() == [[[[2]]]]
    assert made.attrs["_ARRAY_DIMENSIONS"] == [*"czyx"]


def test_flattened_arrays_are_no_images(tmp_path, rng):
    image(tmp_path / "a.zarr", "0.5", rng.random((2, 3, 8, 8)))
    lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", size=1, layout="CZYX", flatten=True)
    assert "multiscales" not in holder(tmp_path / "o.zarr")


@pytest.mark.parametrize(
    "wrong",
    [None, 3, {}, [3], [{}], [{"datasets": 3}], [{"datasets": [{}, 3, {"path": 3}, {"path": "gone"}]}]],
)
def test_metadata_that_are_none_do_not_matter(tmp_path, wrong):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", attributes={"ome": {"multiscales": wrong}})
    group.create_array("0", data=np.ones((1, 2, 4, 4)))
    lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", size=2)
    assert zarr.open_group(tmp_path / "o.zarr", mode="r").attrs["ome"] == {"multiscales": wrong}


def applied(steps, cell):
    """Where a cell is, by transformations one after another."""
    for step in steps:
        if step["type"] == "scale":
            cell = cell * np.array(step["scale"])
        elif step["type"] == "translation":
            cell = cell + np.array(step["translation"])
        elif step["type"] == "affine":
            matrix = np.array(step["affine"])
            cell = matrix[:, :-1] @ cell + matrix[:, -1]
        elif step["type"] == "mapAxis":
            cell = cell[::-1]
    return cell


SCALE, MOVE = {"type": "scale", "scale": [0.5, 3]}, {"type": "translation", "translation": [7, -1]}
AFFINE = {"type": "affine", "affine": [[1, 2, 3], [4, 5, 6]]}


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [SCALE],
        [SCALE, MOVE],
        [MOVE, SCALE],
        [{"type": "identity"}, MOVE],
        [AFFINE],
        [AFFINE, SCALE],
        [SCALE, AFFINE],
        [MOVE, {"type": "mapAxis", "mapAxis": {}}, SCALE],
    ],
)
def test_a_cell_lies_in_the_middle_of_its_window(steps):
    again, unknown = transformations_of_result(steps, (12, 5), (4, 5))
    for window in range(4):
        middle = applied(steps, np.array([3 * window + 1.0, 2.0]))
        assert np.allclose(applied(again, np.array([float(window), 2.0])), middle)
    assert unknown == [step["type"] for step in steps if step["type"] in ("affine", "mapAxis")]


def test_transformations_that_nobody_knows_are_kept_and_told(tmp_path, rng):
    image(tmp_path / "a.zarr", "0.5", rng.random((2, 3, 8, 8)), 1)
    steps = [{"type": "scale", "path": "numbers"}, {"type": "rotation", "rotation": [[1, 0], [0, 1]]}]
    group = zarr.open_group(tmp_path / "a.zarr")
    ome = json.loads(json.dumps(group.attrs["ome"]))
    ome["multiscales"][0]["datasets"][0]["coordinateTransformations"] = steps
    group.attrs["ome"] = ome
    report = lucid.pool_file(tmp_path / "a.zarr", tmp_path / "o.zarr", size=4, layout="CZYX")
    made = holder(tmp_path / "o.zarr")["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert made[2:] == steps
    assert [step["type"] for step in made[:2]] == ["scale", "translation"]
    assert [re.search("of type (.*?),", note)[1] for note in report.notes] == ["scale", "rotation"]
