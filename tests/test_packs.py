"""`--pack`: many inputs to one output."""

import gc
import json
import re
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from slow import slow

import lucid
from lucid.errors import ArgumentError, DTypeError, FileError, FormatError, LucidError, ShapeError
from lucid.formats.arrays import ArraySpec, ResultSpec
from lucid.formats.npy import NpySource
from lucid.formats.registry import format_of_suffix
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.options import Options

SUFFIXES = (".h5", ".safetensors", ".npz", ".zarr")


@pytest.fixture
def arrays(rng):
    return {
        "a": rng.standard_normal((2, 3, 8, 8)).astype("f4"),
        "sub/b": rng.integers(0, 99, (4, 3, 6, 6)),
        "c/l1": rng.standard_normal((2, 3, 8, 8)).astype("f4"),
        "c/l2": rng.standard_normal((5, 1, 4, 4)),
        "d": rng.standard_normal((9, 3, 8, 8)).astype("f4"),
    }


@pytest.fixture
def folder(tmp_path, arrays, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in/sub").mkdir(parents=True)
    np.save("in/a.npy", arrays["a"])
    np.save("in/sub/b.npy", arrays["sub/b"])
    np.savez("in/c.npz", l1=arrays["c/l1"], l2=arrays["c/l2"], labels=np.arange(3))
    with h5py.File("in/d.h5", "w") as file:
        file.create_dataset("x", data=arrays["d"], chunks=(2, 3, 8, 8), compression="gzip")
    return tmp_path


def there():
    """The names in the folder."""
    return sorted(path.name for path in Path().iterdir())


def read(path):
    """All arrays of a file, by names without the first slash."""
    suffix = path.rpartition(".")[2]
    if suffix == "safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    if suffix == "npz":
        with np.load(path) as archive:
            return dict(archive)
    if suffix == "zarr":
        import zarr

        return {
            name.strip("/"): one[...]
            for name, one in zarr.open_group(path, mode="r").members(max_depth=None)
            if hasattr(one, "shape")
        }
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, one: found.update({name: one[()]}) if isinstance(one, h5py.Dataset) else None
        )
    return found


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_array_under_its_name(folder, arrays, suffix):
    report = lucid.pack_files("in", f"out{suffix}", size=2)
    assert {d.name.strip("/") for d in report.datasets} == set(arrays)
    stored = read(f"out{suffix}")
    assert set(stored) == set(arrays)
    for name, array in arrays.items():
        expected = adaptive_avg_pool2d(array, 2)
        assert stored[name].dtype == expected.dtype
        assert np.array_equal(stored[name], expected)
    assert there() == ["in", f"out{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes_do_not_depend_on_memory_and_threads(folder, suffix):
    seen = set()
    for i, options in enumerate([{"threads": 1}, {"max_memory": 10_000, "threads": 3}]):
        lucid.pack_files("in", f"out{i}{suffix}", size=[1, 2], **options)
        stored = read(f"out{i}{suffix}")
        seen.add(tuple(sorted((name, values.tobytes()) for name, values in stored.items())))
    assert len(seen) == 1


def test_several_sizes_and_named_files(folder):
    lucid.pack_files(["in/a.npy", "in/d.h5"], "out.npz", sizes=[1, 2])
    assert sorted(read("out.npz")) == ["a_1x1", "a_2x2", "d_1x1", "d_2x2"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_that_clash_are_refused_before_any_work(folder, suffix):
    np.savez("in/a.npz", x=np.ones((1, 1, 2, 2)))
    with pytest.raises(ArgumentError, match=r"in/a.npy and in/a.npz would both be /a in the pack"):
        lucid.pack_files("in", f"out{suffix}", size=1)
    Path("in/a.npz").unlink()
    np.save("in/sub.npy", np.ones((1, 1, 2, 2)))
    if suffix in (".h5", ".zarr"):
        with pytest.raises(
            ArgumentError, match=r"in/sub.npy would be an array /sub in the pack, and in/sub/b.npy lie"
        ):
            lucid.pack_files("in", f"out{suffix}", size=1)
        assert there() == ["in"]
    else:
        lucid.pack_files("in", f"out{suffix}", size=1)
        assert {"sub", "sub/b"} < set(read(f"out{suffix}"))


@pytest.mark.parametrize("name", ["in/a.npy", "in/sub/b.npy"])
def test_an_input_that_changes_is_an_error_and_nothing_is_left(folder, monkeypatch, name):
    own = NpySource.read

    def read_and_change(self, *args):
        if str(self.path) == name:
            with open(self.path, "ab") as file:
                file.write(b"more")
        return own(self, *args)

    monkeypatch.setattr(NpySource, "read", read_and_change)
    with pytest.raises(FormatError, match=f"{name}: changed while it was read"):
        lucid.pack_files("in", "out.safetensors", size=1)
    assert there() == ["in"]


def test_an_input_that_was_replaced_between_the_passes(folder, monkeypatch):
    from lucid import job_plan

    own = job_plan.plan

    def plan(*args):
        result = own(*args)
        np.save("in/a.npy", np.ones((7, 3, 8, 8)))
        return result

    monkeypatch.setattr(job_plan, "plan", plan)
    with pytest.raises(FormatError, match=r"in/a\.npy: changed while it was read"):
        lucid.pack_files("in", "out.h5", size=1)
    assert there() == ["in"]


def test_of_an_input_that_fails_no_pack_is_made(folder):
    np.save("in/complex.npy", np.ones((1, 1, 2, 2), complex))
    with pytest.raises(DTypeError, match=r"in/complex\.npy: .*complex"):
        lucid.pack_files(["in/complex.npy", "in/a.npy"], "out.h5", size=1)
    np.save("in/empty.npy", np.ones((1, 1, 0, 2), "f4"))
    with pytest.raises(ShapeError, match=r"in/empty\.npy: planes of 0x2 have no cells"):
        lucid.pack_files(["in/a.npy", "in/empty.npy"], "out.h5", size=1)
    (folder / "in" / "z.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(FormatError, match=r"in/z\.npy: "):
        lucid.pack_files("in", "out.h5", size=1)
    with pytest.raises(LucidError):
        lucid.pack_files("nothing", "out.h5", size=1)
    assert there() == ["in"]


def test_the_pack_is_no_input_of_itself(folder, arrays):
    for _ in range(2):
        lucid.pack_files("in", "in/pack.npz", size=1, overwrite=True)
        assert set(read("in/pack.npz")) == set(arrays)
    with pytest.raises(
        FileError, match=r"in/pack\.npz: output in/pack\.npz is an input, which is never changed"
    ):
        lucid.pack_files(["in/pack.npz", "in/a.npy"], "in/pack.npz", size=1, overwrite=True)


@pytest.mark.parametrize(
    ("target", "options", "text"),
    [
        ("out.npy", {}, "holds one array; a pack is one of .h5, "),
        ("out.h5", {"resume": True}, "`resume` is for one input"),
        ("out.h5", {"slice": slice(0, 1)}, "`slice` is for one input"),
        ("out", {}, "names no format"),
    ],
)
def test_what_cannot_be_a_pack(folder, target, options, text):
    with pytest.raises(ArgumentError, match=text):
        lucid.pack_files("in", target, size=1, **options)
    assert there() == ["in"]


@pytest.mark.parametrize(
    ("sources", "keywords", "text"),
    [
        ([], {}, "`sources` is []; expected paths of files"),
        (None, {}, "`sources` is None; expected paths of files"),
        ([b"in"], {}, "`sources` is [b'in']; expected paths of files"),
        ("in", {"on_progress": 3}, "`on_progress` is 3; expected a function"),
    ],
)
def test_arguments_of_other_types(folder, sources, keywords, text):
    with pytest.raises(LucidError, match=f"^{re.escape(text)}$"):
        lucid.pack_files(sources, "out.npz", size=1, **keywords)


class TestCommand:
    def test_report_and_what_is_left_out(self, command, folder, arrays):
        np.save("in/labels.npy", np.arange(3))
        done = command("in", "-s", "2", "--pack", "out.h5", "--json")
        assert done.returncode == 0, done.stderr
        left_out, report = map(json.loads, done.stdout.splitlines())
        assert (left_out["source"], left_out["skipped"]) == ("in/labels.npy", True)
        assert (report["source"], report["targets"]) == ("in", ["out.h5"])
        assert [d["output_name"].strip("/") for d in report["datasets"]] == sorted(arrays)
        assert "in/labels.npy: left out: has shape (3,)" in done.stderr
        assert "are not carried into a pack" in done.stderr

    def test_dry_run_writes_nothing_and_knows_conflicts(self, command, folder):
        done = command("in", "-s", "2", "--pack", "out.zarr", "-n")
        assert (done.returncode, there()) == (0, ["in"])
        assert "nothing written" in done.stderr
        (folder / "out.h5").write_text("old")
        assert (
            "the run would fail: output out.h5 exists already"
            in command("in", "-s", "2", "--pack", "out.h5", "-n").stderr
        )
        done = command("in", "-s", "2", "--pack", "out.h5")
        assert (done.returncode, (folder / "out.h5").read_text()) == (1, "old")
        assert command("in", "-s", "2", "--pack", "out.h5", "-f", "-q").returncode == 0

    def test_every_failure_is_named(self, command, folder):
        for name in ("x.npy", "y.npz"):
            (folder / "in" / name).write_bytes(b"PK nonsense")
        done = command("in", "-s", "2", "--pack", "out.h5", "-q")
        assert (done.returncode, there()) == (1, ["in"])
        lines = done.stderr.splitlines()
        assert [line.split(": ")[1] for line in lines] == ["in/x.npy", "in/y.npz", "out.h5"]
        assert lines[-1] == "lucid-pool: out.h5: is not made, since 2 of its inputs failed"

    @pytest.mark.parametrize(
        ("args", "text"),
        [
            (["-o", "x.h5"], "choose it or --output"),
            (["--output-dir", "x"], "choose it or --output-dir"),
            (["--resume"], "--resume is for one input at a time; a pack is made whole"),
            (["--slice", "0:1"], "--slice is for one input at a time"),
            (["--dask", "local"], "choose it or --dask"),
            (["--preview"], "choose it or --preview"),
            (["--merge"], "--merge takes no --pack"),
        ],
    )
    def test_what_does_not_go_with_it(self, command, folder, args, text):
        done = command("in", "-s", "2", "--pack", "out.h5", *args)
        assert (done.returncode, there()) == (2, ["in"])
        assert text in done.stderr


@pytest.mark.parametrize(
    ("suffix", "count", "most_bytes_each"),
    [
        (".safetensors", 400, 120),
        *slow((".npz", 3000, 120), (".safetensors", 1500, 120), (".zarr", 250, 350)),
    ],
)
def test_what_an_output_holds_of_each_array_while_it_is_written(tmp_path, suffix, count, most_bytes_each):
    spec = ArraySpec("/x", (1, 1, 2, 2), dtype=np.dtype("f4"), numbers="float32")
    arrays = [
        ResultSpec(spec, f"/{i:09}", (1, 1, 1, 1), spec.dtype, spec.numbers, '{"version": "1"}', number=i)
        for i in range(count)
    ]
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 2, 2), "f4"))
    if suffix == ".zarr":
        pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")
        format_of_suffix(Path("x.zarr")).create(
            tmp_path / "y.zarr", Options()
        ).close()  # it loads what it needs
    tracemalloc.start()
    try:
        with (
            NpySource(tmp_path / "x.npy", Options()) as source,
            format_of_suffix(Path(f"x{suffix}")).create(tmp_path / f"x{suffix}", Options()) as sink,
        ):
            before, _ = tracemalloc.get_traced_memory()
            sink.begin(source, arrays)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            for array in arrays:
                sink.write(array, (slice(0, 1),) * 4, np.ones((1, 1, 1, 1), "f4"))
            gc.collect()
            written, _ = tracemalloc.get_traced_memory()
            sink.commit()
    finally:
        tracemalloc.stop()
    # A place; zipfile's description alone would take 500.
    assert (max(after, written) - before) / len(arrays) < most_bytes_each
    assert len(read(str(tmp_path / f"x{suffix}"))) == len(arrays)
