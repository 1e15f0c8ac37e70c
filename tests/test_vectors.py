"""The test vectors, as anybody's software would use them: our functions give these numbers, bit for bit."""

import json
from pathlib import Path

import numpy as np
import pytest
from vectors import make

import lucid

FOLDER = Path(__file__).parent / "vectors"
DATA = (FOLDER / "vectors.bin").read_bytes()
CASES = json.loads((FOLDER / "vectors.json").read_text())["cases"]
DTYPES = ["bool", *make.INTEGERS, *make.FLOATS]


def array(entry):
    """An array of the vectors."""
    stored = np.dtype("<u2" if entry["dtype"] == "bfloat16" else entry["dtype"]).newbyteorder("<")
    count = int(np.prod(entry["shape"]))
    values = np.frombuffer(DATA, stored, count, entry["offset"]).reshape(entry["shape"])
    if entry["dtype"] == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed (extra bfloat16)")
        return values.view(ml_dtypes.bfloat16)
    return values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("key", "function"),
    [
        ("mean", lucid.nn.functional.adaptive_avg_pool2d),
        ("max", lucid.nn.functional.adaptive_max_pool2d),
    ],
)
def test_every_case(dtype, key, function):
    """Type, shape and every number, a NaN being any NaN, a zero being of any sign."""
    for case in CASES:
        if case["input"]["dtype"] != dtype:
            continue
        result, right = function(array(case["input"]), tuple(case["output_size"])), array(case[key])
        assert result.dtype.name == case[key]["dtype"]
        assert result.shape == right.shape
        same = (result == right) | (np.isnan(result) & np.isnan(right))
        assert same.all(), f"{case['name']}: {result[~same]} instead of {right[~same]}"


@pytest.mark.slow
def test_the_files_are_what_the_script_makes():
    text, data = make.build()
    assert (FOLDER / "vectors.json").read_text() == text
    assert data == DATA
    assert len(text) + len(data) < 300_000


def test_every_kind_of_case_is_there():
    assert {case["input"]["dtype"] for case in CASES} == {*DTYPES}
    lengths = {case["input"]["shape"][-1] for case in CASES if case["group"] == "sizes"}
    assert lengths == set(range(1, 17))
    assert sum(case["group"] == "traps" for case in CASES) == 32


@pytest.mark.parametrize(
    ("value", "dtype", "nearest"),
    [
        ("65519", "float16", 65504),
        ("65520", "float16", np.inf),
        ("1/3", "float64", 1 / 3),
        ("-1/3", "float32", float(np.float32(-1 / 3))),
    ],
)
def test_fractions_are_rounded_once(value, dtype, nearest):
    assert make.rounded(make.Fraction(value), dtype) == nearest
