"""Options are declared once: flags, keywords, docstrings and JSON follow from that, and mistakes are one line."""

import inspect
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lucid
from lucid.errors import ArgumentError, LucidError
from lucid.options import WORK, Options, option_rows
from lucid.pooling.dtypes import FLOATS
from lucid_cli.command import command
from lucid_cli.streams import in_shell_words


def test_every_option_is_a_flag_a_keyword_a_line_of_the_docstring_and_a_line_of_the_help():
    keywords = inspect.signature(lucid.pool_file).parameters
    help_ = command.get_help(command.make_context("lucid-pool", ["x"]))
    for name, row in option_rows().items():
        assert row.flags[-1] in help_
        assert f"\n{name} : {row.kind.expected}" in lucid.pool_file.__doc__
        assert " ".join(row.help.split()) in " ".join(lucid.pool_file.__doc__.split())
        assert keywords[name].kind is inspect.Parameter.KEYWORD_ONLY
    assert [*keywords][:5] == ["source", "target", "on_progress", "executor", "size"]
    assert max(map(len, lucid.pool_file.__doc__.splitlines())) < 150


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"size": 0},
            "`size` is 0; expected one or two dimensions, each an integer of at least 1, keep, or a share",
        ),
        ({"size": True}, "`size` is True; expected one or two dimensions"),
        ({"size": 2.5}, "`size` is 2.5; expected one or two dimensions"),
        ({"size": np.bool_(True)}, "expected one or two dimensions"),
        ({"size": (1, 2, 3)}, "`size` is (1, 2, 3); expected one or two dimensions"),
        ({"size": 1, "sizes": [2]}, "`size` and `sizes` exclude each other"),
        ({"sizes": len}, "`sizes` is <built-in function len>; expected one or two dimensions"),
        ({"sizes": [1, "1x1"]}, "`sizes` is 1x1, 1x1; expected different sizes"),
        ({"datasets": [3]}, "`datasets` is 3; expected names of datasets"),
        ({"layout": 5}, "`layout` is 5; expected different letters with HW or YX in them, such as NCHW"),
        ({"layout": "NCWH"}, "`layout` is 'NCWH'"),
        ({"layout": "HWHW"}, "`layout` is 'HWHW'"),
        ({"dtype": "int8"}, "`dtype` is 'int8'; expected float16, bfloat16, float32, float64 or keep"),
        ({"dtype": int}, "`dtype` is <class 'int'>; expected float16, bfloat16, float32"),
        ({"dtype": ["f4"]}, "`dtype` is ['f4']; expected float16, bfloat16, float32"),
        ({"dtype": object()}, "`dtype` is <object object at "),
        ({"nan": "drop"}, "`nan` is 'drop'; expected propagate or skip"),
        ({"input_dtype": "f4"}, "`input_dtype` is 'f4'; expected bfloat16"),
        ({"max_memory": "1X"}, "`max_memory` is '1X'; expected a number of bytes"),
        ({"threads": 0}, "`threads` is 0; expected an integer of at least 1"),
        ({"overwrite": 1}, "`overwrite` is 1; expected True or False"),
        ({"compression": 4}, "`compression` is 4; expected keep, none, gzip"),
        ({"slice": (0, 3)}, "`slice` is (0, 3); expected A:B with 0 <= A < B"),
        ({"slice": slice(4, 4)}, "expected A:B with 0 <= A < B"),
        (
            {"flatten": True, "layout": "HWC"},
            "`flatten` needs the first axis, which is pooled in `layout` 'HWC'",
        ),
    ],
)
def test_mistakes_are_one_line_and_lucids(options, text):
    with pytest.raises(LucidError) as raised:
        Options(**options)
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


def test_values_are_kept_in_one_form():
    one = Options(size=[np.int64(4), None], datasets="a", layout="tyx", slice=slice(None, 9))
    assert (one.sizes, one.datasets, one.layout, one.slice) == (((4, None),), ("a",), "THW", slice(0, 9))
    assert Options(size=None).sizes == ((None, None),)
    assert Options(sizes=[1, (2, 3)]).sizes == ((1, 1), (2, 3))
    assert replace(one, dry_run=True).sizes == one.sizes
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.float16, "float16"),
        (np.dtype(">f4"), "float32"),
        (float, "float64"),
        (np.double, "float64"),
        ("keep", "keep"),
        (None, None),
    ],
)
def test_a_dtype_is_taken_as_numpy_has_it(dtype, name):
    assert Options(dtype=dtype).dtype == name


def test_bfloat16_is_taken_as_ml_dtypes_has_it():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    assert Options(dtype=bfloat16, input_dtype=bfloat16) == Options(dtype="bfloat16", input_dtype="bfloat16")


def test_the_result_goes_through_json_and_leaves_out_how_the_work_is_done():
    one = Options(sizes=[1, (2, None)], nan="skip", dtype="float64", datasets=["a"], flatten=True, threads=3)
    said = json.loads(json.dumps(one.result()))
    assert Options(**said) == replace(one, threads=None)
    assert not {name for name, option in option_rows().items() if option.group == WORK} & {*said}
    numbers = one.result(only="numbers")
    assert numbers.items() >= {"dtype": "float64", "missing": (), "nan": "skip", "reduce": "mean"}.items()
    assert not {"sizes", "flatten"} & {*numbers}
    with pytest.raises((ArgumentError, TypeError)):
        Options(layout=4)


def test_errors_speak_the_shells_words_in_the_shell():
    said = "`max_memory` and `size` of `x`; `overwrite=True`, `layout='CHW'`, `target`"
    assert in_shell_words(said) == "--max-memory and --size of `x`; -f, --layout CHW, -o"


def test_floats_are_those_of_the_arithmetic():
    assert option_rows()["dtype"].kind.choices == (*FLOATS, "keep")


@pytest.mark.parametrize(
    ("text", "count"),
    [("1", 1), ("7B", 7), ("1K", 1024), ("1kB", 1000), ("1.5MiB", 3 << 19), (" 2 gib ", 2 << 30)],
)
def test_numbers_of_bytes(text, count):
    assert Options(max_memory=text).max_memory == count


@pytest.mark.parametrize("text", ["", "5iB", "0.5", "0", "-1", "1e3", "9" * 400, "²", "1 M i B"])
def test_texts_that_are_no_number_of_bytes(text):
    with pytest.raises(ArgumentError, match=r"`max_memory` is .* expected a number of bytes"):
        Options(max_memory=text)


def test_python_takes_the_words_of_the_shell():
    said = Options(
        sizes=["4x5", "keep", "/2 50%"], slice="2:", threads="3", min_valid="0.5", dims="lat, lon", missing=-9
    )
    assert said.sizes == ((4, 5), (None, None), ("/2", "50%"))
    assert (said.slice, said.threads, said.min_valid, said.dims) == (slice(2, None), 3, 0.5, ("lat", "lon"))
    assert said.missing == ("-9",)
    assert Options(missing=[np.int16(-9), np.float32(0.5)]).missing == ("-9", "0.5")


def test_a_users_script_is_typed(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed (extra dev)")
    script = """
import lucid
report = lucid.pool_file("x.npy", target="y.npy", size=(4, None), datasets="a", nan="skip", threads=2)
print(report.input_bytes + 1)
lucid.pool_file("x.npy", sizes=[1, (2, 3)], on_progress=lambda event: print(event.done_bytes))
lucid.pool_file("x.npy", size="4x5", max_memory="1GiB", slice="0:5", dtype=float)

class Halved(lucid.nn.Module):
    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        return x / 2

print(lucid.nn.Sequential(Halved(), lucid.nn.AdaptiveAvgPool2d(4))(lucid.ones(2, 3, 8, 8)).shape)
lucid.pool_file("x.npy", size=4, max_memory=2.5)
lucid.pool_file("x.npy", size=4, layot="NCHW")
lucid.pool_file("x.npy", size=4, layout=5)
lucid.pool_file("x.npy", size=4, nan="drop")
lucid.pol_file("x.npy", size=4)
"""
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "script.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(Path(lucid.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [
        line for line in done.stdout.splitlines() if line.startswith("script.py") and ": error: " in line
    ]
    assert [line.split(":")[1] for line in lines] == ["13", "14", "15", "16", "17"], done.stdout
