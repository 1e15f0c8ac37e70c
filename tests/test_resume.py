"""`resume`: what a run had done survives it; only what is this run's counts as done, and nothing else is replaced."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import lucid
import lucid.formats.registry
from lucid.errors import ArgumentError, ExistsError, FileError, FormatError
from lucid.formats.arrays import ArraySpec
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.outputs import Target
from lucid.shards import folder, spans
from lucid.shards.folder import ShardFolder
from lucid.shards.spans import region_steps

COMMAND = Path(sys.executable).parent / "lucid-pool"


class StopError(Exception):
    """What stands for a kill, here where it can be caught."""


@pytest.fixture
def x(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(spans, "SPAN_BYTES", 40_000)
    array = rng.standard_normal((40, 4, 12, 12)).astype("f4")
    np.save("x.npy", array)
    np.save("one.npy", array.reshape(1, 160, 12, 12))
    np.save("last.npy", array.transpose(0, 2, 3, 1).copy())
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("x", data=array, chunks=(1, 4, 12, 12), compression="gzip")
        file.create_dataset(
            "one", data=array.reshape(1, 160, 12, 12), chunks=(1, 8, 12, 12), compression="lzf"
        )
        for i in range(30):
            file[f"small/{i}"] = array[:2] + i
        file["labels"] = np.arange(40)
    return array


OPTIONS = {"sizes": [(2, 3), (1, 1)], "max_memory": 40_000, "threads": 1, "resume": True}


def interrupted(source, target, after, **options):
    """Run until so many shards are there."""

    def stop(_):
        if len(shards_of(target)) >= after:
            raise StopError

    with pytest.raises(StopError):
        lucid.pool_file(source, target, **{**OPTIONS, **options}, on_progress=stop)


def shards_of(target):
    """Shards and when they were written."""
    (folder,) = list(Path().glob(f".{str(target).partition('{')[0]}*.shards")) or [Path("none")]
    return {path: path.stat().st_mtime_ns for path in folder.glob("[0-9]*")}


def hidden(folder):
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("x.npy", "y-{size}.npy"),
        ("x.h5", "y.h5"),
        ("x.npy", "y.h5"),
        ("x.h5", "y.zarr"),
        ("one.npy", "y-{size}.npy"),
    ],
)
@pytest.mark.parametrize("flatten", [False, True])
def test_an_interrupted_run_is_continued_to_the_same_bytes(source, target, flatten, x, tmp_path):
    if target.endswith(".zarr"):
        pytest.importorskip("zarr")
    options = {**OPTIONS, "flatten": flatten}
    golden = lucid.pool_file(source, f"golden-{target}", **{**options, "resume": False}).targets
    interrupted(source, target, 2, flatten=flatten)
    before = shards_of(target)
    # Another memory limit and another number of threads take up what was left.
    report = lucid.pool_file(
        source, target, **{**options, "max_memory": 1 << 20, "threads": 2}, on_progress=lambda _: kept(before)
    )
    assert not report.skipped
    for one, other in zip(report.targets, golden, strict=True):
        assert bytes_of(one) == bytes_of(other)
    assert not hidden(tmp_path)
    assert lucid.pool_file(source, target, **options).skipped


def kept(before):
    assert all(not path.exists() or path.stat().st_mtime_ns == time_ns for path, time_ns in before.items())


def bytes_of(path):
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_one_sample_of_many_channels_goes_on(x, tmp_path):
    lucid.pool_file("one.npy", "golden.npy", size=3)
    interrupted("one.npy", "y.npy", 1, sizes=[3])
    (shard,) = shards_of("y.npy")
    assert np.load(shard).shape[0] == 1
    assert 1 < np.load(shard).shape[1] < 160
    lucid.pool_file("one.npy", "y.npy", size=3, resume=True)
    assert Path("y.npy").read_bytes() == Path("golden.npy").read_bytes()


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_samples_of_many_channels_are_divided(x, tmp_path, suffix):
    array = np.random.default_rng(0).standard_normal((3, 160, 12, 12)).astype("f4")
    np.save("many.npy", array)
    with h5py.File("many.h5", "w") as file:
        file["x"] = array
    lucid.pool_file(f"many{suffix}", "golden.npy", size=3)
    interrupted(f"many{suffix}", "y.npy", 4, sizes=[3])
    lucid.pool_file(f"many{suffix}", "y.npy", size=3, resume=True)
    assert np.array_equal(np.load("golden.npy"), adaptive_avg_pool2d(array, 3))
    assert Path("y.npy").read_bytes() == Path("golden.npy").read_bytes()


def test_what_cannot_be_divided_is_said(x, tmp_path):
    np.save("plane.npy", np.ones((1, 1, 200, 300)))
    report = lucid.pool_file("plane.npy", size=2, resume=True)
    assert report.notes == (
        "is one plane or chunk, which cannot be divided: an interrupted run keeps nothing",
    )
    assert not lucid.pool_file("x.npy", size=2, resume=True).notes


def test_a_slice_goes_on_too(x, tmp_path):
    slices = {"slice": slice(3, 35), "sizes": [2]}
    lucid.pool_file("x.h5", "golden.h5", **{**OPTIONS, **slices, "resume": False})
    interrupted("x.h5", "y.h5", 1, **slices)
    lucid.pool_file("x.h5", "y.h5", **{**OPTIONS, **slices})
    assert Path("y.h5").read_bytes() == Path("golden.h5").read_bytes()
    with pytest.raises(ExistsError, match="it is not this run's"):
        lucid.pool_file("x.h5", "y.h5", **{**OPTIONS, "sizes": [2], "slice": slice(3, 34)})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda: os.utime("x.npy"), "input"),
        (lambda: np.save("x.npy", np.zeros((40, 4, 12, 12), "f8")), "input"),
        ({"sizes": [(2, 3), (1, 2)]}, "`size`"),
        ({"nan": "skip"}, "`nan`"),
        ({"dtype": "float64"}, "`dtype`"),
        ({"flatten": True}, "`flatten`"),
        ({"carry": False}, "`carry`"),
        ("version", "version"),
    ],
)
def test_only_the_same_work_is_continued(change, word, x, tmp_path, monkeypatch):
    interrupted("x.npy", "y.h5", 2)
    options = dict(OPTIONS)
    if callable(change):
        change()
    elif change == "version":
        monkeypatch.setattr("lucid.job_plan.__version__", "9.9")
    else:
        options |= change
    before = shards_of("y.h5")
    with pytest.raises(FileError, match="cannot be resumed: ") as raised:
        lucid.pool_file("x.npy", "y.h5", **options)
    assert word in str(raised.value)
    assert "\n" not in str(raised.value)
    assert shards_of("y.h5") == before
    assert not Path("y.h5").exists()
    lucid.pool_file("x.npy", "y.h5", **options, overwrite=True)
    assert Path("y.h5").exists()
    assert not hidden(tmp_path)


@pytest.mark.parametrize("damage", [lambda chunk: os.truncate(chunk, 5), os.unlink])
def test_a_zarr_shard_with_damaged_chunks_is_made_again(damage, x, tmp_path):
    pytest.importorskip("zarr")
    lucid.pool_file("x.npy", "golden.zarr", size=3)
    interrupted("x.npy", "y.zarr", 2, sizes=[3])
    damage(next(path for path in min(shards_of("y.zarr")).rglob("c/*/*/*/*") if path.is_file()))
    _, *others = sorted(shards_of("y.zarr").items())  # not to be made again
    lucid.pool_file("x.npy", "y.zarr", **{**OPTIONS, "sizes": [3]}, on_progress=lambda _: kept(dict(others)))
    assert bytes_of(Path("y.zarr")) == bytes_of(Path("golden.zarr"))


def test_a_damaged_zarr_shard_of_other_options_is_not_replaced(x):
    pytest.importorskip("zarr")
    interrupted("x.npy", "y.zarr", 2, sizes=[3])
    for path in min(shards_of("y.zarr")).rglob("c/*/*/*/*"):
        path.unlink()
    with pytest.raises(FileError, match=r"cannot be resumed: .* is of other `size`"):
        lucid.pool_file("x.npy", "y.zarr", **{**OPTIONS, "sizes": [2]})


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_outputs_of_other_options_and_trash_are_no_outputs_of_this_run(suffix, x, tmp_path):
    source, target = f"x{suffix}", Path(f"y{suffix}")
    datasets = () if suffix == ".npy" else ["x"]
    lucid.pool_file(source, target, size=4, datasets=datasets)
    for content in (target.read_bytes(), b"trash", b""):
        target.write_bytes(content)
        for _ in range(2):
            with pytest.raises(
                ExistsError, match=rf"output y\{suffix} .*it is not this run's; `overwrite=True` replaces it"
            ):
                lucid.pool_file(source, target, size=1, datasets=datasets, resume=True)
            plan = lucid.pool_file(source, target, size=1, datasets=datasets, resume=True, dry_run=True)
            assert plan.datasets[0].output_shape[-2:] == (1, 1)
            assert any(
                "the run would fail: " in note and "it is not this run's" in note for note in plan.notes
            )
        assert target.read_bytes() == content
    lucid.pool_file(source, target, size=1, datasets=datasets, resume=True, overwrite=True)
    assert lucid.pool_file(source, target, size=1, datasets=datasets, resume=True).skipped


@pytest.mark.parametrize("target", ["y.h5", "y.npy"])
def test_a_strangers_file_at_the_name_of_the_output_is_never_replaced(target, x):
    interrupted("x.npy", target, 2, sizes=[2])
    before = shards_of(target)
    Path(target).write_text("precious")
    for _ in range(2):
        with pytest.raises(ExistsError, match="it is not this run's"):
            lucid.pool_file("x.npy", target, **{**OPTIONS, "sizes": [2]})
        assert Path(target).read_text() == "precious"
    assert shards_of(target) == before


def test_a_link_to_nothing_is_not_replaced(x):
    Path("y.npy").symlink_to("gone.npy")
    text = "output y.npy is a link to nothing: it is not this run's; `overwrite=True` replaces it"
    with pytest.raises(ExistsError, match=text):
        lucid.pool_file("x.npy", "y.npy", size=2, resume=True)
    lucid.pool_file("x.npy", "y.npy", size=2, resume=True, overwrite=True)
    assert Path("gone.npy").is_file()


def test_a_strangers_file_that_comes_while_shards_are_made(x):
    with pytest.raises(ExistsError, match="exists"):
        lucid.pool_file("x.npy", "y.h5", **OPTIONS, on_progress=lambda _: Path("y.h5").write_text("precious"))
    assert Path("y.h5").read_text() == "precious"


def test_of_several_outputs_those_that_are_there_are_left_alone(x, tmp_path):
    first, second = lucid.pool_file("x.npy", "y-{size}.npy", **OPTIONS).targets
    wanted = second.read_bytes()
    stamp = first.stat().st_mtime_ns
    second.unlink()
    lucid.pool_file("x.npy", "y-{size}.npy", **OPTIONS)
    assert second.read_bytes() == wanted
    assert first.stat().st_mtime_ns == stamp
    assert not hidden(tmp_path)


def test_a_shard_that_was_cut_off_is_no_shard(x):
    interrupted("x.npy", "y.npy", 2, sizes=[2])
    shard = sorted(shards_of("y.npy"))[0]
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(FileError, match=r"cannot be resumed: .* is cut off"):
        lucid.pool_file("x.npy", "y.npy", size=2, resume=True)


def test_what_else_lies_in_the_folder_stays(x, tmp_path):
    interrupted("x.npy", "y.npy", 1, sizes=[2])
    folder = tmp_path / ".y.npy.shards"
    (folder / "notes.txt").write_text("mine")
    lucid.pool_file("x.npy", "y.npy", size=2, resume=True)
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]


def test_another_process_at_work_is_told(x):
    npy = next(f for f in lucid.formats.registry.FORMATS if f.name == "npy")
    with (
        ShardFolder(Target(Path("y.npy"), npy, (0,))),
        pytest.raises(FileError, match="another run is at work"),
    ):
        lucid.pool_file("x.npy", "y.npy", size=2, resume=True)
    assert not Path("y.npy").exists()


def test_a_run_that_did_nothing_leaves_nothing(x, tmp_path):
    Path("x.npy").write_bytes(Path("x.npy").read_bytes()[:-5000])
    before = set(tmp_path.iterdir())
    with pytest.raises(FormatError):
        lucid.pool_file("x.npy", "y.npy", **{**OPTIONS, "sizes": [1]})
    assert set(tmp_path.iterdir()) == before


def test_overflows_in_shards_are_told(x):
    np.save("large.npy", np.full((40, 4, 12, 12), 1e6, "f4"))
    report = lucid.pool_file("large.npy", "y.npy", size=1, dtype="float16", resume=True)
    assert [note.partition(" of ")[0] for note in report.notes] == ["160 finite results"]


def test_streams_cannot_be_resumed(x):
    with Path("x.npy").open("rb") as file, pytest.raises(ArgumentError, match="`resume` needs files"):
        lucid.pool_file(file, "y.npy", size=1, resume=True)


def test_shards_are_of_many_small_arrays_or_of_a_region_of_one(x):
    interrupted("x.h5", "y.h5", 5, sizes=[2])
    names = []
    for path in sorted(shards_of("y.h5")):
        with h5py.File(path) as file:
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    facts = json.loads(provenance(sorted(shards_of("y.h5"))[0]))
    assert facts["shard"]["region"][0][0] == 0
    assert facts["shard"]["options"]["sizes"] == [[2, 2]]
    assert len(names) >= 5


def provenance(path):
    with h5py.File(path) as file:
        found = []
        file.visititems(lambda _, item: found.append(item.attrs.get("lucid_pool")))
    return next(text for text in found if text)


@pytest.mark.parametrize(
    ("shape", "chunks", "output_chunks", "steps"),
    [
        ((1000, 1, 10, 10), None, (1,), [40, 1]),
        ((1000, 1, 10, 10), (7, 1, 10, 10), (7,), [42, 1]),
        ((1000, 1, 10, 10), (300, 1, 10, 10), (300,), [300, 1]),
        ((1000, 1, 10, 10), None, (16,), [48, 1]),
        ((1000, 1, 10, 10), (5, 1, 10, 10), (500,), [40, 1]),
        ((3, 1, 10, 10), None, (9,), [3, 1]),
        ((5, 100, 10, 10), None, (1, 1), [1, 40]),
        ((5, 100, 10, 10), (2, 8, 10, 10), (2, 8), [2, 24]),
        ((0, 0, 10, 10), None, (1, 1), [1, 1]),
    ],
)
def test_spans_are_whole_chunks(shape, chunks, output_chunks, steps):
    spec = ArraySpec("x", shape, np.dtype("u1"), "uint8", chunks)
    assert region_steps(spec, 2, output_chunks, 4000, is_flat=False) == steps


def test_a_span_is_planned_when_its_turn_comes(x, monkeypatch):
    monkeypatch.setattr(spans, "SPAN_BYTES", 64)
    np.save("many.npy", np.ones((9000, 1, 4, 4), "f4"))
    planned = []
    real = folder.plan_shard
    monkeypatch.setattr(folder, "plan_shard", lambda *args: planned.append(real(*args)) or planned[-1])

    def stop_after(count):
        def stop(_):
            if len(shards_of("y.npy")) >= count:
                raise StopError

        with pytest.raises(StopError):
            lucid.pool_file("many.npy", "y.npy", size=2, resume=True, threads=1, on_progress=stop)

    stop_after(1)
    assert len(planned) == 1
    # Those that are there are planned to see whether they are this run's.
    stop_after(3)
    assert len(planned) <= 4


@pytest.mark.slow
def test_killed_and_continued(tmp_path):
    shape = (3000, 1, 512, 512)
    with (tmp_path / "big.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + (3000 << 20))
        file.seek(2000 << 20)
        file.write(np.ones(9999, "f4").tobytes())
    command = [COMMAND, "big.npy", "-s", "7", "--resume", "-q"]
    process = subprocess.Popen(command, cwd=tmp_path)
    folder = tmp_path / ".big.pooled.npy.shards"
    while not (folder.exists() and len(list(folder.glob("[0-9]*.npy"))) > 1):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sorted(p.name for p in tmp_path.iterdir()) == [folder.name, "big.npy"]
    done = subprocess.run(
        [*command, "-j", "1", "--max-memory", "64M"], cwd=tmp_path, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    x = np.load(tmp_path / "big.npy", mmap_mode="r")
    read = np.load(tmp_path / "big.pooled.npy")
    assert np.array_equal(read[1995:2005], adaptive_avg_pool2d(x[1995:2005], 7))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.npy", "big.pooled.npy"]


def test_a_dry_run_says_how_much_is_done_and_refuses_what_the_run_would(x):
    interrupted("x.npy", "y.h5", 2, **OPTIONS)
    notes = lucid.pool_file("x.npy", "y.h5", dry_run=True, **OPTIONS).notes
    assert any(" shards are done already" in note for note in notes)
    others = OPTIONS | {"sizes": [(3, 3)]}
    with pytest.raises(FileError, match=r"cannot be resumed: .* is of other `size`"):
        lucid.pool_file("x.npy", "y.h5", **others)
    notes = lucid.pool_file("x.npy", "y.h5", dry_run=True, **others).notes
    assert any("cannot be resumed: " in note for note in notes)
    assert shards_of("y.h5")


def test_a_run_without_resume_leaves_no_shards_of_an_earlier_one(x):
    interrupted("x.npy", "y.h5", 2, **OPTIONS)
    lucid.pool_file("x.npy", "y.h5", **OPTIONS | {"resume": False})
    assert not ShardFolder.path_of(Target(Path("y.h5"), lucid.formats.registry.NPY, (0,))).exists()
