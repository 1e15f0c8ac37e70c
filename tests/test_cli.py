"""The command as a shell sees it: real processes, files, pipes, signals and terminals."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow import slow

from lucid_cli.command import command as command_line
from lucid_cli.command import join_sizes
from lucid_cli.streams import name_of, printable

SAMPLES = Path(__file__).parents[1] / "sample_data"
COMMAND = Path(sys.executable).parent / "lucid-pool"


@pytest.fixture
def x(tmp_path, rng):
    array = rng.standard_normal((4, 3, 20, 16)).astype("f4")
    np.save(tmp_path / "x.npy", array)
    return array


@pytest.mark.parametrize(
    "args",
    [
        ["--size", "4", "4", "x.npy"],
        ["x.npy", "--size", "4", "4"],
        ["x.npy", "--size", "4"],
        ["--size", "4", "x.npy"],
        ["--size", "4x4", "x.npy"],
        ["--size=4x4", "x.npy"],
        ["x.npy", "--size=4,4"],
        ["x.npy", "-s4"],
        ["-s", "4,4", "x.npy"],
        ["-s", "4", "4", "--", "x.npy"],
        ["--size=4", "4", "x.npy"],
    ],
)
def test_every_spelling_of_a_size(args, command, x, tmp_path):
    done = command(*args)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "x.pooled.npy").shape == (4, 3, 4, 4)


def test_two_sizes_keep_and_files_named_like_numbers(command, x, tmp_path):
    assert command("x.npy", "-s", "keep", "2", "-o", "y.npy").returncode == 0
    assert np.load(tmp_path / "y.npy").shape == (4, 3, 20, 2)
    (tmp_path / "x.npy").rename(tmp_path / "4")
    assert command("--size", "2", "3", "./4").returncode == 0
    assert np.load(tmp_path / "4.pooled.npy").shape == (4, 3, 2, 3)


@given(
    st.lists(st.sampled_from(["--size", "-s", "4", "keep", "--size=4", "-s2", "a.npy", "--", "-f", "4x4"]))
)
def test_joining_sizes_loses_no_word(args):
    try:
        joined = " ".join(join_sizes(args)).replace("x", " ")
    except click.UsageError as error:
        assert "follows the size" in str(error)
        return
    assert joined.split() == " ".join(args).replace("x", " ").split()


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        (["x.npy"], 2, "Missing option '-s' / '--size'"),
        (
            ["--size", "4"],
            1,
            "lucid-pool: standard input: is empty; expected npy, HDF5, Zarr, npz or safetensors",
        ),
        (
            ["x.npy", "--size", "0"],
            2,
            "--size is '0'; expected one or two dimensions, each an integer of at least 1",
        ),
        (
            ["x.npy", "--size", "4.5"],
            2,
            "--size is '4.5'; expected one or two dimensions, each an integer of at least 1, keep",
        ),
        (["x.npy", "--size", "/0"], 2, "--size is '/0'; expected"),
        (["x.npy", "--size", "0.0%"], 2, "--size is '0.0%'; expected"),
        (["x.npy", "--size", "4", "x", "4"], 2, "4 x 4 is no size; expected 4x5, 4,5 or 4 5"),
        (["-s", "1", "2", "4", "x.npy"], 2, "4 follows the size 1x2; for several sizes repeat --size"),
        (["x.npy", "--size=2", "4x4"], 2, "4x4 follows the size --size=2"),
        (["x.npy", "--size", "4", "-o", "{name}.npy"], 2, "holds {name}; expected {stem}, {parent}, {size}"),
        (
            ["x.npy", "--size", "4", "-o", "{slice}.npy"],
            2,
            "holds {slice}; expected {stem}, {parent}, {size}",
        ),
        (["x.npy", "--size", "-4"], 2, "--size is '-4'; expected"),
        (
            ["x.npy", "--size", "4", "--max-memory", "lots"],
            2,
            "--max-memory is 'lots'; expected a number of bytes such as 1048576, 256MiB or 1G",
        ),
        (["x.npy", "--size", "4", "-j", "0"], 2, "--threads is '0'; expected an integer of at least 1"),
        (["x.npy", "--size", "4", "--layout", "ABC"], 2, "--layout is 'ABC'"),
        *(
            (["x.npy", "-s", "4", flag, ""], 2, f"{flag} is empty")
            for flag in ("--output-dir", "--pack", "--dask")
        ),
        (["x.npy", "-s", "4", "-o", "/dev/stdout"], 2, "-o is '/dev/stdout'; standard output is -o -"),
        (["x.npy", "--size", "4", "-o", "y.png"], 2, "output y.png: its suffix names no format"),
        (
            ["x.npy", "flat.npy", "--size", "4", "-o", "y.npy"],
            2,
            "x.npy would be written to y.npy, as flat.npy would; put {stem} in its name",
        ),
        (["x.npy", "--size", "4", "-o", "y.npy", "--output-dir", "."], 2, "exclude each other"),
        (["x.npy", "--sise", "4"], 2, "No such option"),
        (["x.npy", "--size", "4", "-o"], 2, "Option '-o' requires an argument"),
        (["gone.npy", "--size", "4"], 1, "lucid-pool: gone.npy: no such file"),
        (["", "--size", "4"], 1, "lucid-pool: '': is no path"),
        (["flat.npy", "--size", "4"], 1, "lucid-pool: flat.npy: has shape (3, 4); expected 4 axes"),
        (["text.npy", "--size", "4"], 1, "lucid-pool: text.npy: has elements of dtype"),
        (["cut.npy", "--size", "4"], 1, "lucid-pool: cut.npy: is cut off: it has 200 bytes"),
        (
            ["x.npy", "--size", "4", "--slice", "3"],
            2,
            "--slice is '3'; expected A:B with 0 <= A < B, such as 0:1000",
        ),
        (["x.npy", "--size", "4", "--slice", "3:3"], 2, "--slice is '3:3'; expected A:B with 0 <= A < B"),
        (["x.npy", "--size", "4", "--slice", "90:"], 1, "expected some in slice 90-end"),
        (["-", "--size", "4", "--slice", "0:1"], 2, "--slice needs files"),
        (["x.npy", "--size", "4", "--slice", "0:1", "-o", "-"], 2, "--slice needs files"),
        (["x.npy", "--size", "4", "--slice", "0:1", "--preview"], 2, "choose one"),
        (["--merge"], 2, "--merge needs shards as files"),
        (["--merge", "x.npy", "--size", "4"], 2, "--merge takes no --size: the shards know it"),
        (["--merge", "x.npy", "--resume"], 2, "--merge takes no --resume"),
        (["--merge", "x.npy", "-o", "y.npy"], 1, "y.npy: shard x.npy: is no shard; --slice makes them"),
        (["x.npy", "--size", "4", "-d", "a"], 1, "lucid-pool: x.npy: has no dataset 'a'"),
        (
            ["flat.npy", "--size", "4", "-d", "a"],
            1,
            "has no array of numbers with 4 axes (--layout names them); it has an array of float64 (3, 4)",
        ),
        (["x.npy", "--size", "4", "-o", "no/y.npy"], 1, "there is no folder"),
        (["x.npy", "--size", "4", "-o", "x.npy"], 1, "output x.npy is an input, which is never changed"),
    ],
)
def test_mistakes_cost_one_line_and_leave_nothing(args, status, text, command, x, tmp_path):
    np.save(tmp_path / "flat.npy", np.zeros((3, 4)))
    np.save(tmp_path / "text.npy", np.zeros((1, 1, 2, 2), "S3"))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:200])
    before = sorted(tmp_path.iterdir())
    done = command(*args)
    assert done.returncode == status, done.stderr
    assert text in done.stderr.replace("cannot pool dtype |S3", "has elements of dtype")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_an_option_that_only_some_formats_have_fails_the_others(command, x, tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["x"] = x
    text = "--compression is 'gzip'; .npy files have none; HDF5 files have"
    for names in (["x.npy", "f.h5"], ["f.h5", "x.npy"]):
        done = command(*names, "-s", "2", "--compression", "gzip", "-f", "-q")
        assert (done.returncode, done.stderr) == (1, f"lucid-pool: x.npy: {text}\n")
        (tmp_path / "f.pooled.h5").unlink()
    alone = command("x.npy", "-s", "2", "--compression", "gzip")
    assert (alone.returncode, alone.stderr) == (
        2,
        f"lucid-pool: {text} (lucid-pool --help lists the options)\n",
    )


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/dev/stdin <", "x.npy"),
        ("/dev/fd/3 3<", "f.h5"),
        *slow(("/dev/stdin <", "f.h5"), ("/dev/fd/3 3<", "x.npy")),
    ],
)
def test_what_the_shell_has_opened_is_a_stream_though_it_is_a_file(x, tmp_path, source, name):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["x"] = x
    script = f"{COMMAND} -s 2 {source} {name} > y.npy"
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True)
    assert np.load(tmp_path / "y.npy").shape == (4, 3, 2, 2)


def test_slices_and_merge(command, x, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"], file["labels"] = x, np.arange(len(x))
    assert command("x.h5", "-s", "2", "-o", "one.h5").returncode == 0
    for samples in ("0:1", "1:3", "3:"):
        assert command("x.h5", "-s", "2", "--slice", samples, "--output-dir", ".").returncode == 0
    shards = [f"x.pooled.{samples}.h5" for samples in ("0-1", "1-3", "3-end")]
    assert command("--merge", *shards, "-n").returncode == 0
    assert not (tmp_path / "x.pooled.h5").exists()
    told = command("--merge", *shards, "--json", "-q")
    assert json.loads(told.stdout)["targets"] == [str(tmp_path / "x.pooled.h5")]
    assert (tmp_path / "x.pooled.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()
    failed = command("--merge", *shards[1:], "-o", "y.h5", "--json")
    assert failed.returncode == 1
    assert "no shard holds samples 0:1" in json.loads(failed.stdout)["error"]


def test_one_input_fails_the_others_are_done(command, x, tmp_path):
    done = command("gone.npy", "x.npy", "-s", "2")
    assert done.returncode == 1
    assert "lucid-pool: gone.npy: no such file" in done.stderr
    assert (tmp_path / "x.pooled.npy").exists()


def test_an_existing_output_fails_its_own_input(command, x, tmp_path):
    np.save(tmp_path / "a.npy", x)
    (tmp_path / "x.pooled.npy").write_bytes(b"mine")
    done = command("x.npy", "gone.npy", "a.npy", "x.npy", "-s", "2", "--json", "-q")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "lucid-pool: x.npy: output x.pooled.npy exists already; -f replaces it",
        "lucid-pool: gone.npy: no such file",
    ]
    told = [(line["source"], "error" in line) for line in map(json.loads, done.stdout.splitlines())]
    assert told == [("x.npy", True), ("gone.npy", True), ("a.npy", False)]
    assert (tmp_path / "a.pooled.npy").exists()
    assert (tmp_path / "x.pooled.npy").read_bytes() == b"mine"
    assert command("a.npy", "x.npy", "-s", "2", "-f").returncode == 0


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_file_on_standard_input_is_an_input(name, command, x, tmp_path):
    before = (tmp_path / "x.npy").read_bytes()
    with (tmp_path / "x.npy").open("rb") as stream:
        done = command(name, "-s", "2", "-o", "x.npy", "-f", stdin=stream)
    assert done.returncode == 1
    assert "output x.npy is an input, which is never changed" in done.stderr
    assert (tmp_path / "x.npy").read_bytes() == before


def test_an_output_that_is_an_input_of_the_batch_is_refused(command, x, tmp_path):
    np.save(tmp_path / "x.pooled.npy", x)
    before = (tmp_path / "x.pooled.npy").read_bytes()
    done = command("x.npy", "x.pooled.npy", "-s", "2", "-f")
    assert done.returncode == 1
    assert "x.npy: output x.pooled.npy is an input, which is never changed" in done.stderr
    assert (tmp_path / "x.pooled.npy").read_bytes() == before
    assert "x.pooled.npy: left out: another input is pooled to a file of this name" in done.stderr
    assert not (tmp_path / "x.pooled.pooled.npy").exists()


def test_inputs_of_one_name_need_names_of_their_own(command, x, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", x)
    done = command("a/x.npy", "x.npy", "b/../b/x.npy", "-s", "2", "--output-dir", "b", "-f")
    assert done.returncode == 1
    assert not (tmp_path / "b" / "x.pooled.npy").exists()
    np.save(tmp_path / "z.npy", x)
    done = command("a/x.npy", "z.npy", "b/x.npy", "-s", "2", "--output-dir", "out")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "lucid-pool: a/x.npy: would be written to out/x.pooled.npy, as b/x.npy would; "
        "say -o 'out/{parent}/{stem}.npy'",
        "lucid-pool: b/x.npy: would be written to out/x.pooled.npy, as a/x.npy would; "
        "say -o 'out/{parent}/{stem}.npy'",
    ]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["z.pooled.npy"]
    assert command("a/x.npy", "b/x.npy", "-s", "2", "-o", "out/{parent}/{stem}.npy").returncode == 0
    assert (tmp_path / "out" / "b" / "x.npy").exists()
    assert "put {parent} in its name" in command("a/x.npy", "b/x.npy", "-s", "2", "-o", "{stem}.npy").stderr


@pytest.fixture
def folder(tmp_path, x):
    """A folder as people have them: features at several depths, and other files."""
    (tmp_path / "f" / "sub" / ".hidden").mkdir(parents=True)
    for name in ("f/b.npy", "f/sub/a.npy", "f/sub/.hidden/c.npy"):
        np.save(tmp_path / name, x)
    with h5py.File(tmp_path / "f" / "c.h5", "w") as file:
        file["x"] = x
    np.save(tmp_path / "f" / "labels.npy", np.arange(4))
    (tmp_path / "f" / "README").write_text("features")
    return tmp_path


def test_a_folder_is_all_its_files_that_can_be_read(command, folder):
    done = command("f", "-s", "2", "--output-dir", "new/deep", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["source"] for line in lines if not line.get("skipped")] == [
        "f/b.npy",
        "f/c.h5",
        "f/sub/a.npy",
    ]
    left_out = {line["source"]: line["notes"][0] for line in lines if line.get("skipped")}
    assert left_out["f/labels.npy"] == "has shape (4,); expected 4 axes (--layout names them)"
    assert "it is of no known format" in left_out["f/README"]
    assert "lucid-pool: f/README: left out: it is of no known format" in done.stderr
    made = sorted(str(p.relative_to(folder / "new/deep")) for p in (folder / "new/deep").rglob("*.*"))
    assert made == ["b.pooled.npy", "c.pooled.h5", "sub/a.pooled.npy"]


def test_what_fits_but_cannot_be_pooled_is_no_file_left_out(command, folder):
    np.ones((1, 1, 4, 4), "f4").tofile(folder / "cells")
    with h5py.File(folder / "f/c.h5", "w") as file:
        file.create_dataset("x", (1, 1, 4, 4), "f4", external=[("../cells", 0, 64)])
    with h5py.File(folder / "f/two.h5", "w") as file:
        file["x"] = file["y"] = np.ones((1, 1, 4, 4), "f4")
    done = command("f", "-s", "2", "-o", "{parent}/{stem}.2.npy", "-q")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "lucid-pool: f/c.h5: dataset /x keeps its elements in other files, which only --allow-external reads",
        "lucid-pool: f/two.h5: a .npy file holds one array, the input has 2; choose with --dataset: /x, /y",
    ]


def test_what_earlier_runs_made_is_left_out_of_folders(command, folder):
    assert command("f", "-s", "2").returncode == 0
    # By its attribute, too, where it has another name.
    (folder / "f" / "c.pooled.h5").rename(folder / "f" / "small.h5")
    done = command("f", "-s", "2", "-f", "--json", "-q")
    left_out = {o["source"] for o in map(json.loads, done.stdout.splitlines()) if o.get("skipped")}
    assert {"f/b.pooled.npy", "f/sub/a.pooled.npy", "f/small.h5"} <= left_out
    assert not list(folder.rglob("*.pooled.pooled.*"))
    assert command("f/b.pooled.npy", "-s", "1").returncode == 0


def test_what_a_run_writes_is_no_input_of_it(command, folder):
    for _ in range(2):
        assert command("f", "-s", "2", "-f", "-o", "{parent}/{stem}_small.h5").returncode == 0
    assert not list(folder.rglob("*_small_small.h5"))


def test_an_input_is_pooled_once_and_a_link_is_another(command, folder):
    (folder / "f" / "link.npy").symlink_to("b.npy")
    (folder / "f" / "gone.npy").symlink_to("nothing")
    (folder / "f" / "again").symlink_to("sub")
    done = command("f", "f/sub/a.npy", "./f/b.npy", "-s", "2", "--json", "-q")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    pooled = [line["source"] for line in lines if not line.get("skipped")]
    assert pooled == ["f/b.npy", "f/c.h5", "f/link.npy", "f/sub/a.npy"]
    assert {"f/again", "f/gone.npy"} <= {line["source"] for line in lines if line.get("skipped")}


def test_folders_with_nothing_to_pool(command, tmp_path):
    (tmp_path / "empty").mkdir()
    done = command("empty", "-s", "2")
    assert (done.returncode, done.stderr) == (1, "lucid-pool: empty: holds no file that can be pooled\n")
    np.save(tmp_path / "empty" / "labels.npy", np.arange(4))
    done = command("empty", "-s", "2")
    assert done.returncode == 1
    assert done.stderr.endswith("lucid-pool: empty: holds no file that can be pooled\n")
    (tmp_path / "empty" / "broken.npy").write_bytes(b"no numbers")
    assert "empty/broken.npy: has no header of a .npy file" in command("empty", "-s", "2").stderr


def test_a_folder_as_output(command, x, tmp_path):
    assert command("x.npy", "-s", "2", "-o", "d/").returncode == 0
    assert command("x.npy", "-s", "2", "-o", "d").returncode == 1  # it is there by now, and so is its file
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["x.pooled.npy"]


def test_the_last_input_may_be_meant_as_the_output(command, x, tmp_path):
    done = command("x.npy", "y.npy", "-s", "2")
    assert done.returncode == 1
    assert "y.npy: no such file; if it is to be the output, say -o y.npy" in done.stderr
    assert "say" not in command("x.npy", "y.npy", "-s", "2", "-o", "{stem}.npy", "-f").stderr


def test_pipes_stream_like_standard_input(tmp_path, x):
    np.save(tmp_path / "y.npy", x + 1)
    script = f"{COMMAND} <(cat x.npy) <(cat y.npy) -s 1 --flatten > both.npy; {COMMAND} <(cat x.npy) -s 1 -o z.h5 --json"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    with open(tmp_path / "both.npy", "rb") as file:
        one, two = np.load(file), np.load(file)
    assert np.allclose(two - one, 1, atol=1e-5)
    assert json.loads(done.stdout)["source"].startswith("/dev/fd/")


def test_a_dry_run_shows_conflicts(command, x, tmp_path):
    (tmp_path / "x.pooled.npy").write_bytes(b"mine")
    done = command("x.npy", "-s", "2", "-n")
    assert done.returncode == 0
    assert "4×3×20×16 → 4×3×2×2" in done.stderr
    assert (
        "lucid-pool: x.npy: the run would fail: output x.pooled.npy exists already; -f replaces it"
        in done.stderr
    )
    assert (tmp_path / "x.pooled.npy").read_bytes() == b"mine"


def test_shares_of_the_input(command, x, tmp_path):
    assert command("x.npy", "-s", "/2", "-o", "a.npy").returncode == 0
    assert command("x.npy", "-s", "50%", "-o", "b.npy").returncode == 0
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert np.load(tmp_path / "a.npy").shape == (4, 3, 10, 8)
    assert command("x.npy", "-s", "12.5%", "keep", "-s", "/3", "/100").returncode == 0
    assert np.load(tmp_path / "x.pooled.12.5pctxkeep.npy").shape == (4, 3, 2, 16)
    assert np.load(tmp_path / "x.pooled.by3xby100.npy").shape == (4, 3, 6, 1)


def test_probable_mistakes_are_a_line_each(command, tmp_path):
    np.save(tmp_path / "rgb.npy", np.ones((2, 8, 8, 3), "f4"))
    np.save(tmp_path / "small.npy", np.ones((2, 8, 4, 4), "f4"))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["x"], file["mask"], file["labels"] = (
            np.ones((2, 3, 8, 8)),
            np.ones((2, 8, 8)),
            np.ones((2, 5, 5)),
        )
    done = command("rgb.npy", "small.npy", "f.h5", "-s", "8", "2", "-n")
    assert [line for line in done.stderr.splitlines() if line.startswith("lucid-pool: ")] == [
        "lucid-pool: rgb.npy: the last axis of (2, 8, 8, 3) is taken for the width; if it holds channels, "
        "say --layout NHWC",
        "lucid-pool: small.npy: planes grow, from 4x4 to 8x2",
        "lucid-pool: f.h5: /mask has 3 axes, (2, 8, 8), and was left out; a --layout of as many letters pools it",
    ]
    assert "lucid-pool:" not in command("rgb.npy", "-s", "2", "--layout", "NHWC").stderr


def test_packed_numbers_that_stay_in_their_format_are_no_mistake(command, tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("x", data=np.ones((1, 1, 4, 4), "i2")).attrs["scale_factor"] = 0.5
    assert "stay packed" not in command("f.h5", "-s", "2").stderr
    assert "stay packed" in command("f.h5", "-s", "2", "-o", "x.npy").stderr


def test_notes_of_many_files_are_few_lines(command, tmp_path):
    for i in range(30):
        np.save(tmp_path / f"{i:02}.npy", np.ones((1, 1, 2, 2 + i % 15), "f4"))
        np.save(tmp_path / f"labels-{i:02}.npy", np.arange(4))
    done = command(".", "-s", "20", "--output-dir", "out", "-n")
    notes = [line for line in done.stderr.splitlines() if line.startswith("lucid-pool: ")]
    assert notes[:2] == [
        "lucid-pool: labels-00.npy and 29 more: left out: has shape (4,); expected 4 axes (--layout names them)",
        "lucid-pool: 00.npy and 1 more: planes grow, from 2x2 to 20x20",
    ]
    assert len(notes) <= 20
    np.save(tmp_path / "x.npy", np.ones((1, 1, 2, 2), "f4"))
    for i in range(25):
        (tmp_path / f"x-{i}.npy").symlink_to("x.npy")
        (tmp_path / f"x-{i}.pooled.npy").write_bytes(b"mine")
    done = command(*(f"x-{i}.npy" for i in range(25)), "-s", "1", "-n")
    assert done.stderr.splitlines()[-1] == "lucid-pool: 5 more notes, which --json has"


def test_long_errors_are_cut_and_names_escaped(command, tmp_path):
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for i in range(500):
            file[f"layer_{i:04}"] = np.zeros((1, 1, 2, 2))
    done = command("many.h5", "-s", "1", "-d", "y" * 300 + "\x1b[31m")
    assert done.returncode == 1
    assert len(done.stderr) < 400
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_and_version_that_nobody_takes(command):
    for flag in ("--help", "-h", "--version"):
        with open("/dev/full", "w") as full:
            done = command(flag, capture_output=False, stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 1
        assert done.stderr == "lucid-pool: standard output cannot be written: No space left on device\n"


def test_another_package_called_lucid_is_named_in_one_line(tmp_path):
    (tmp_path / "lucid").mkdir()
    (tmp_path / "lucid" / "__init__.py").write_text("__version__ = '0.3.10'")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import lucid_cli.main"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the package `lucid` is not the one that lucid-pool came with" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_for_outputs_is_made(command, x, tmp_path):
    assert command("x.npy", "-s", "2", "--output-dir", "new/folder", "-n").returncode == 0
    assert not (tmp_path / "new").exists()
    assert command("x.npy", "-s", "2", "--output-dir", "new/folder").returncode == 0
    assert (tmp_path / "new" / "folder" / "x.pooled.npy").exists()
    (tmp_path / "file").write_text("")
    assert command("x.npy", "-s", "2", "--output-dir", "file/folder").returncode == 2


def test_standard_output_that_takes_nothing(command, x):
    with open("/dev/full", "w") as full:
        done = command(
            "x.npy", "-s", "2", "--json", "-q", capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert done.stderr == "lucid-pool: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("name", "redirections", "status", "text"),
    [
        *slow(
            (
                "x.npy",
                "-o - >&-",
                1,
                "lucid-pool: x.npy: standard output cannot be written: Bad file descriptor\n",
            )
        ),
        ("x.h5", "-o - >&-", 1, "lucid-pool: x.h5: standard output cannot be written: Bad file descriptor\n"),
        ("x.npy", "--json -q >&-", 1, "lucid-pool: standard output cannot be written: Bad file descriptor\n"),
        ("x.h5", "<&- >&-", 0, None),
        ("x.h5", "2> /dev/full", 0, ""),
        *slow(
            ("x.npy", "2>&-", 0, ""),
            ("x.npy", "--preview 2> /dev/full", 0, ""),
            ("x.npy", "--preview <&- >&- 2>&-", 0, ""),
            ("x.h5", "--preview <&- >&- 2>&-", 0, ""),
        ),
    ],
)
def test_streams_that_the_shell_has_closed(name, redirections, status, text, x, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = x
    script = f"{COMMAND} {name} -s 2 -o y.h5 {redirections}; echo $? > status"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int((tmp_path / "status").read_text()) == status
    if text is not None:
        assert done.stderr == text
    if status == 0:
        with h5py.File(tmp_path / "y.h5") as file:
            assert [d.shape for d in file.values()] == [(4, 3, 2, 2)]


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        ("MemoryError", "memory ran out"),
        ("ImportError('a page') from ImportError('no room')", "cannot be loaded: no room"),
    ],
)
def test_too_little_memory_to_load_is_one_line(command, x, tmp_path, failure, text):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/numpy.py").write_text(f"raise {failure}")
    path = os.pathsep.join([str(tmp_path / "modules"), os.environ.get("PYTHONPATH", "")])
    done = command("x.npy", "-s", "2", env=os.environ | {"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (1, f"lucid-pool: {text}\n")


@pytest.mark.parametrize("args", [["x.npy"], ["x.npy", "-o", "y.npy", "-f"], ["x.npy", "--output-dir", "."]])
def test_what_may_not_be_read_is_no_mistake_of_the_command_line(tmp_path, x, monkeypatch, args):
    """An input fails when its turn comes, and the others are done; an output need not be read."""
    monkeypatch.chdir(tmp_path)
    np.save("y.npy", x)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert command_line.main([*args, "-s", "1"], standalone_mode=False).inputs == ("x.npy",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(command, x, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    done = command("x.npy", "-s", "2", "--output-dir", "locked")
    assert done.returncode == 1
    assert "is not writable" in done.stderr


def test_summary_and_names(command, tmp_path, x):
    done = command("x.npy", "-s", "2", "--output-dir", ".")
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == "x.npy → x.pooled.npy"
    assert lines[2].split() == [
        "x.npy",
        "4×3×20×16",
        "→",
        "4×3×2×2",
        "float32",
        "15.0",
        "KiB",
        "→",
        "192",
        "B",
        "80.0x",
    ]
    assert lines[3].startswith("read ")
    assert "\x1b" not in done.stderr
    assert command("x.npy", "-s", "2", "-q", "-o", "{stem}-{size}.npy").stderr == ""
    assert (tmp_path / "x-2x2.npy").exists()


def test_json_is_all_of_standard_output(command, x):
    done = command("x.npy", "gone.npy", "-s", "2", "--json", "-q")
    good, bad = map(json.loads, done.stdout.splitlines())
    assert good["schema"] == bad["schema"] == 1
    assert good["datasets"][0]["output_shape"] == [4, 3, 2, 2]
    assert bad == {
        "schema": 1,
        "source": "gone.npy",
        "error": "no such file; if it is to be the output, say -o gone.npy",
    }


def test_dry_run(command, x, tmp_path):
    done = command("x.npy", "-s", "2", "-n", "--max-memory", "1MiB")
    assert "dry run: buffers up to" in done.stderr
    assert "of 1.0 MiB" in done.stderr
    assert not (tmp_path / "x.pooled.npy").exists()


def test_environment(command, x, tmp_path, monkeypatch):
    def run(**options):
        with monkeypatch.context() as patch:
            for name, value in options.items():
                patch.setenv(f"LUCID_POOL_{name}", value)
            done = command("x.npy")
        assert done.returncode == 0, done.stderr

    run(SIZE="2 3", DTYPE="float64")
    assert np.load(tmp_path / "x.pooled.npy").dtype == "f8"
    assert np.load(tmp_path / "x.pooled.npy").shape[2:] == (2, 3)
    run(SIZE="1", CARRY="0", OUTPUT_DIR="a;b")
    assert (tmp_path / "a;b" / "x.pooled.npy").exists()
    run(SIZE="1;2x3", FLATTEN="1")
    assert np.load(tmp_path / "x.pooled.2x3.npy").shape == (4, 18)


@pytest.mark.parametrize(
    ("environment", "carry"),
    [
        ({"CARRY": "0"}, False),
        ({"NO_CARRY": "1"}, False),
        ({"NO_CARRY": "0"}, True),
        ({"NO_CARRY": ""}, True),
    ],
)
def test_a_flag_is_read_under_both_its_names(monkeypatch, environment, carry):
    for name, value in environment.items():
        monkeypatch.setenv(f"LUCID_POOL_{name}", value)
    assert command_line.main(["x.npy", "-s", "1"], standalone_mode=False).options.carry is carry
    told = command_line.main(["x.npy", "-s", "1", "--carry"], standalone_mode=False)
    assert told.options.carry


def test_a_plan_is_shown_at_once_whatever_the_size(command, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.ones((120, 8, 8, 8), "f4")
    done = command("x.h5", "-s", "1000000", "-n", "--max-memory", "8G", timeout=20)
    assert "120×8×8×8 → 120×8×1000000×1000000" in done.stderr


def test_version_and_help(command, x, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("LUCID_POOL_VERSION", "1")
        assert command("x.npy", "-s", "2", "-q").stdout == ""
    groups = [line for line in command("--help").stdout.splitlines() if line.endswith(" options:")]
    assert groups == [f"{name} options:" for name in ("Input", "Output", "Numbers", "Work", "Display")]
    assert re.fullmatch(r"lucid-pool 0\.1\.0 \((compiled|NumPy) kernel\)\n", command("--version").stdout)
    assert re.findall(r".*\[INPUT\].*", command("--help").stdout) == [
        "Usage: lucid-pool [OPTIONS] [INPUT]..."
    ]


def test_samples(command, tmp_path):
    done = command(
        SAMPLES / "photograph.npy", SAMPLES / "digits.h5", "--size", "4", "4", "--output-dir", tmp_path
    )
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "digits.pooled.h5") as file:
        assert file["layers/first"].shape[2:] == (4, 4)
        assert len(file["labels"]) == len(file["names"])


def test_names_that_command_terminals_are_escaped(command, tmp_path):
    assert printable("a\x1b[31m\n\udcff[b]") == "a\\x1b[31m\\n\\udcff[b]"
    with h5py.File(tmp_path / "[red]\x1b[2J.h5", "w") as file:
        file["[bold]\x1b]0;hi\x07"] = np.zeros((1, 1, 2, 2))
    done = command("[red]\x1b[2J.h5", "-s", "1", "-o", "y.h5")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stderr
    assert "[bold]\\x1b]0;hi\\x07" in done.stderr


def big_file(path, megabytes=2000):
    """A sparse array that takes seconds to pool and no disk."""
    with path.open("wb") as file:
        shape = (megabytes, 1, 512, 512)
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + megabytes * MIB)


MIB = 1 << 20


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), *slow((signal.SIGHUP, 129))]
)
def test_signals_end_it_soon_and_leave_nothing(number, status, tmp_path):
    big_file(tmp_path / "big.npy", 6000)
    process = subprocess.Popen(
        [COMMAND, "big.npy", "-s", "7", "-j", "2"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    while len(list(tmp_path.iterdir())) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert process.returncode == status
    assert error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["big.npy"]


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path, x):
    script = (
        f"set -o pipefail; {COMMAND} {' '.join(['x.npy'] * 1)} -s 2 --json -q | true; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(
        ["bash", "-c", f"cd {tmp_path}; {script}"], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() in ("0", "141")
    assert done.stderr == ""


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["x.npy", "-s", "2", "--json", "-q"]])
def test_nobody_reads_from_the_start(tmp_path, x, args):
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(
            [COMMAND, *args], cwd=tmp_path, stdout=theirs, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (141, b"")


def on_a_terminal(args, cwd, environment=None):
    """Run on a pseudo-terminal; everything written to it, and the status."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execve(COMMAND, [str(COMMAND), *args], {**os.environ, "TERM": "xterm", **(environment or {})})
    seen = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    os.close(terminal)
    return seen.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_terminal_that_can_nothing_gets_the_summary_alone(tmp_path, x):
    seen, status = on_a_terminal(["x.npy", "-s", "2"], tmp_path, {"TERM": "dumb"})
    assert status == 0
    assert seen.startswith("x.npy → x.pooled.npy\r\n")


@pytest.mark.slow
def test_progress_on_a_terminal(tmp_path):
    big_file(tmp_path / "big.npy", 1500)
    seen, status = on_a_terminal(["big.npy", "-s", "1"], tmp_path)
    assert status == 0
    assert "\x1b[" in seen
    assert "big.npy" in seen
    assert re.search(r"[KMG]iB of 1\.5 GiB, [\d.]+ [MG]iB/s", seen)
    assert not re.search(r"\d [KMG]B", seen.split("read ")[0])  # the summary has GB/s
    quiet, _ = on_a_terminal(["big.npy", "-s", "1", "-f", "--no-progress"], tmp_path, {"NO_COLOR": "1"})
    assert "\r" not in quiet.replace("\r\n", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss of children is comparable on Linux only")
@pytest.mark.parametrize("limit", [1, 64])
@pytest.mark.parametrize(
    ("shape", "size"), [((1, 1, 12_000, 12_000), 1), ((2_000_000, 1, 7, 7), 3), ((1, 1, 3, 40_000_000), 2)]
)
def test_memory_stays_bounded(tmp_path, limit, shape, size):
    base = peak_kib([sys.executable, "-c", "import numpy, h5py, click, rich"], tmp_path)
    with (tmp_path / "big.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + int(np.prod(shape)) * 4)
    peak = peak_kib([COMMAND, "big.npy", "-s", str(size), "--max-memory", f"{limit}MiB", "-q"], tmp_path)
    assert peak <= base + (limit + 64) * 1024


def peak_kib(args, cwd):
    """Largest resident memory of a command, in KiB.

    A process starts with the peak of the one that forked it, hence a small one in between.
    """
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-S", "-c", script, *map(str, args)]
    return int(subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout)


def test_failures_come_last_and_the_others_are_done(command, x, tmp_path):
    for i in range(30):
        np.save(tmp_path / f"{i}.npy", x)
    np.save(tmp_path / "7.npy", np.zeros(3))
    done = command(*(f"{i}.npy" for i in range(30)), "-s", "1", "--output-dir", ".")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-1] == "lucid-pool: 7.npy: has shape (3,); expected 4 axes (--layout names them)"
    assert lines[-3] == "… and 9 more (-v lists all)"
    assert lines[-2].startswith("29 files · read ")
    assert len(list(tmp_path.glob("*.pooled.npy"))) == 29
    listed = command(*(f"{i}.npy" for i in range(30)), "-s", "1", "--output-dir", ".", "-f", "-v")
    assert len(listed.stderr.splitlines()) == 1 + 29 + 2
    assert "blocks  memory" in listed.stderr.splitlines()[0].replace("   ", "  ").replace("   ", "  ")


def test_several_sizes(command, x, tmp_path):
    assert command("x.npy", "-s", "1", "--size", "2", "3", "--flatten").returncode == 0
    assert np.load(tmp_path / "x.pooled.1x1.npy").shape == (4, 3)
    assert np.load(tmp_path / "x.pooled.2x3.npy").shape == (4, 18)
    assert command("x.npy", "-s", "1", "-s", "2x3", "-o", "y.h5").returncode == 0
    with h5py.File(tmp_path / "y.h5") as file:
        assert {name: d.shape for name, d in file.items()} == {
            "data_1x1": (4, 3, 1, 1),
            "data_2x3": (4, 3, 2, 3),
        }
    twice = command("x.npy", "-s", "1", "-s", "1x1", "-o", "z.h5")
    assert (twice.returncode, "expected different sizes" in twice.stderr) == (2, True)


def test_a_misspelt_dataset_gets_a_suggestion(command):
    done = command(SAMPLES / "digits.h5", "-s", "1", "-d", "/layers/frist", "-o", "y.h5")
    assert done.returncode == 1
    assert "did you mean '/layers/first'? it has: /layers/first, /layers/second" in done.stderr


def test_preview_off_a_terminal_is_plain(command):
    done = command(SAMPLES / "digits.h5", "-s", "2", "--preview", "-o", "y.h5")
    assert done.returncode == 0, done.stderr
    assert "/layers/first, from lowest to highest: ' ' to '█'" in done.stderr
    assert "channel 0" in done.stderr
    assert "0 to 1.07" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("variable", [{"PYTHONIOENCODING": "ascii"}, *slow({"LC_ALL": "C"})])
def test_preview_off_a_terminal_that_knows_letters_alone(command, variable):
    args = [SAMPLES / "digits.h5", "-s", "2", "--preview", "-o", "z.h5"]
    plain = command(*args, env={**os.environ, **variable})
    assert plain.stderr.isascii()
    assert "\\u" not in plain.stderr
    assert "120x8x24x24 > 120x8x2x2" in plain.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "in_colour"),
    [
        ({"COLORTERM": "truecolor"}, True),
        ({"COLORTERM": "truecolor", "NO_COLOR": "1"}, False),
        ({"COLORTERM": "truecolor", "PYTHONIOENCODING": "ascii"}, False),
        ({"COLORTERM": "", "TERM": "xterm-256color"}, False),
        ({"COLORTERM": "", "TERM": "xterm"}, False),
    ],
)
@pytest.mark.parametrize("columns", [60, 80])
def test_preview_on_a_terminal(tmp_path, environment, in_colour, columns):
    args = [str(SAMPLES / "digits.h5"), "-s", "2", "--preview", "-o", "y.h5", "-f", "--no-progress"]
    seen, status = on_a_terminal(args, tmp_path, {"COLUMNS": str(columns), **environment})
    assert status == 0
    assert ("▀" in seen) == in_colour
    assert ("38;2;68;1;84" in seen) == in_colour  # the lowest value's colour
    lines = re.sub(r"\x1b\[[0-9;]*m", "", seen).splitlines()
    pictures = lines[next(i for i, line in enumerate(lines) if "from lowest to highest" in line) :]
    assert max(map(len, lines)) <= columns
    assert any("channel 0" in line for line in pictures)


def test_arrays_do_not_go_to_a_terminal(tmp_path, x):
    seen, status = on_a_terminal(["x.npy", "-s", "2", "-o", "-"], tmp_path)
    assert status == 2
    assert "standard output is a terminal" in seen
    seen, status = on_a_terminal(["-s", "2"], tmp_path)
    assert status == 2
    assert "Missing argument" in seen


@pytest.mark.slow
def test_completion_in_bash(tmp_path):
    cases = [
        (["f.h5", "-d", "/la"], "/layers/one /layers/two"),
        (["f.h5", "-s", "4", "4", "--dataset", "layers/t"], "layers/two"),
        (["f.h5", "-s", "1", "--drop", "layers/t"], "layers/two"),
        (["f.h5", "--comp"], "--compression"),
        (["f.h5", "--compression", "blosc-z"], "blosc-zstd blosc-zlib"),
        (["gone.h5", "-d", ""], ""),
        (["~/f.h5", "-d", "layers/o"], "layers/one"),
        (["$HOME/*.h5", "-d", "layers/o"], "layers/one"),
        # Bash makes three words of `--dataset=layers/o`.
        (["f.h5", "--dataset", "=", "layers/o"], "layers/one"),
    ]
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for name in ("one", "two", "two\nplain,tricks", "t\x1b[31m"):
            file[f"layers/{name}"] = np.zeros((1, 1, 2, 2))
        file["labels"] = [1]
    script = f"""
        shopt -u progcomp; compopt() {{ :; }}
        eval "$(_LUCID_POOL_COMPLETE=bash_source {COMMAND})"
    """
    for words, _ in cases:
        quoted = " ".join(f"'{word}'" for word in words)
        script += f"""
            COMP_WORDS=({COMMAND} {quoted}); COMP_CWORD={len(words)}; COMPREPLY=()
            _lucid_pool_completion {COMMAND}; echo "${{COMPREPLY[*]}}"
        """
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [expected for _, expected in cases], done.stderr


@pytest.mark.parametrize(
    ("shell", "number", "written"),
    [("zsh", "2", "plain\n{}\n_"), *slow(("fish", "--dataset=layers/o", "plain,{}"))],
)
def test_completion_keeps_the_option_that_a_name_is_written_with(shell, number, written, tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["layers/one"] = np.zeros((1, 1, 2, 2))
    words = "lucid-pool f.h5 --dataset=layers/o"
    names = {"_LUCID_POOL_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": number}
    done = subprocess.run(
        [COMMAND], cwd=tmp_path, env={**os.environ, **names}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == written.format("--dataset=layers/one").split()


@pytest.mark.parametrize(
    "output", [("-o", "{parent}/a/b/{stem}.npz"), ("-o", "{parent}/a/{stem}.npz"), ("--output-dir", "a/b")]
)
def test_a_mistake_leaves_no_folder(command, x, tmp_path, output):
    done = command("x.npy", "-s", "2", "--compression", "zstd", *output)
    assert done.returncode == 2
    assert "--compression is 'zstd'" in done.stderr
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").mkdir()
    assert command("x.npy", "-s", "2", "--compression", "zstd", *output).returncode == 2
    assert [path.name for path in (tmp_path / "a").iterdir()] == []


def test_a_folder_without_outputs_is_not_left(command, x, tmp_path):
    (tmp_path / "bad.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    assert command("bad.npy", "bad.npy", "-s", "2", "-o", "{parent}/a/b/{stem}.npy").returncode == 1
    assert not (tmp_path / "a").exists()
    assert command("bad.npy", "x.npy", "-s", "2", "-o", "{parent}/{stem}/b/y.npy").returncode == 1
    assert {path.name for path in tmp_path.iterdir()} == {"bad.npy", "x.npy", "x"}


def test_the_summary_says_what_was_carried_over(command, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.ones((2, 3, 4, 4), "f4")
        file["labels"] = np.arange(1000, dtype="i8")
    assert "\ncarried over: 1 array, 7.8 KiB\n" in command("x.h5", "-s", "1").stderr
    assert "carried over" not in command("x.h5", "-s", "1", "-f", "--no-carry").stderr


def test_completion_follows_dims(tmp_path):
    from types import SimpleNamespace

    from lucid_cli.completion import datasets

    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, shape in {"flat": (4, 6), "deep": (2, 2, 4, 6)}.items():
            file[name] = np.ones(shape)
        for name, length in {"lat": 4, "lon": 6}.items():
            file[name] = np.arange(length)
            file[name].make_scale(name)
        for axis, name in enumerate(("lat", "lon")):
            file["flat"].dims[axis].attach_scale(file[name])
    for params, names in [({}, ["deep"]), ({"layout": "HW"}, ["flat"]), ({"dims": "lat,lon"}, ["flat"])]:
        context = SimpleNamespace(params={"inputs": [str(tmp_path / "x.h5")], **params}, args=[])
        assert datasets(context, "") == names


def test_a_url_is_shown_with_both_of_its_slashes():
    """A path keeps one of them."""
    assert name_of(Path("http://host/a.zarr")) == "http://host/a.zarr"
    assert name_of(Path("file:///a.zarr")) == "file:///a.zarr"
    assert name_of(Path("/http:/a.zarr")) == "/http:/a.zarr"
