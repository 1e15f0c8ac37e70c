"""Wrong arguments of the API are lucid errors of one line, whatever they are."""

import io
from pathlib import Path

import numpy as np
import pytest

import lucid
from lucid import nn
from lucid.errors import ArgumentError, LucidError, SizeTypeError
from lucid.nn import functional
from lucid.options import Options, option_rows

WRONG = {
    "a function": len,
    "a number": -2.5,
    "a slice": slice("a"),
    "a text stream": io.StringIO(),
    "a null byte": "a\0b",
    "bytes": b"x",
    "an array": np.array([1, 2]),
    "an object": object(),
    "mixed": ["a", 1, None],
}
X = np.ones((1, 2, 4, 4), "f4")


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    return "x.npy"


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
class TestWrongArguments:
    def test_of_pool_file(self, source, value):
        for name in [*option_rows(), "size", "target", "executor", "layot"]:
            if name == "missing" and isinstance(value, float):
                continue  # which is what it takes
            arguments = {"target": "y.npy"} | ({} if name in ("size", "sizes") else {"size": 2})
            self.refused(lucid.pool_file, source, **{**arguments, name: value})
            assert not Path("y.npy").exists(), name

    def test_of_sources(self, source, value):
        self.refused(lucid.pool_file, value, "y.npy", size=2)
        self.refused(lucid.merge_files, value)
        self.refused(lucid.merge_files, [value])
        self.refused(lucid.merge_files, [source], value)

    @pytest.mark.parametrize("function", [functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d])
    def test_of_functions(self, function, value):
        self.refused(function, value, 2)
        self.refused(function, X, value if not isinstance(value, np.ndarray) else value[:1] * 0.5)
        self.refused(function, X, 2, nan=value)
        self.refused(function, X, 2, threads=value)

    def test_of_modules_and_arrays(self, value):
        self.refused(nn.AdaptiveAvgPool2d, 2, nan=value)
        self.refused(nn.Sequential, value)
        self.refused(lucid.full, ["a"], value)
        self.refused(lucid.ones, value if not isinstance(value, np.ndarray) else value * 0.5)

    @staticmethod
    def refused(function, *args, **keywords):
        with pytest.raises(LucidError) as raised:
            function(*args, **keywords)
        assert "\n" not in str(raised.value)


def test_an_empty_path_is_no_folder(source):
    for arguments in (("", "y.npy"), (source, "")):
        with pytest.raises(ArgumentError, match="is ''; expected a path"):
            lucid.pool_file(*arguments, size=2)


def test_what_is_no_file_is_told_in_one_line_before_any_work(source):
    class Reader:
        read = write = len

    for arguments in ((X, "y.npy"), (Reader(), "y.npy"), (source, X), (source, Reader())):
        with pytest.raises(
            SizeTypeError, match=r"^`(source|target)` is .*; expected a path or a binary stream$"
        ):
            lucid.pool_file(*arguments, size=2)


def test_a_keyword_that_is_misspelt_gets_a_suggestion(source):
    with pytest.raises(SizeTypeError, match="`layot` is no option; did you mean `layout`"):
        lucid.pool_file(source, size=2, layot="NCHW")


def test_a_stream_is_written_nowhere_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = io.BytesIO()
    np.save(data, X)
    data.seek(0)
    with pytest.raises(ArgumentError, match="`target` is missing; the output of a stream needs a name"):
        lucid.pool_file(data, size=2)
    assert not list(tmp_path.iterdir())


def test_errors_speak_pythons_words(source):
    lucid.pool_file(source, size=2)
    with pytest.raises(
        LucidError, match=r"x\.npy: output x\.pooled\.npy exists already; `overwrite=True` replaces it"
    ):
        lucid.pool_file(source, size=2)
    report = lucid.pool_file(source, size=2, dry_run=True)
    assert report.notes == (
        "the run would fail: output x.pooled.npy exists already; `overwrite=True` replaces it",
    )


def test_shares_of_the_input(source):
    assert lucid.pool_file(source, "y.npy", size=("/2", "75%")).datasets[0].output_shape == (1, 2, 2, 3)
    assert Options(sizes=["/2", (1, "50%")]).sizes == (("/2", "/2"), (1, "50%"))
    for wrong in ("/0", "0%", "x", "-1%", "/2.5", "%", "2x3x4", ""):
        with pytest.raises(ArgumentError, match="expected one or two dimensions"):
            Options(size=wrong)
