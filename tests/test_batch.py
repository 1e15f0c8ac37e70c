"""Many small files at once: groups in processes, outputs put in place together, memory that does not grow."""

import errno
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import lucid
from lucid import backlog
from lucid.backlog import HELD, Backlog
from lucid.batches import Batch, Clashes
from lucid.formats.disk import replacement
from lucid.formats.disk.folders import FolderReplacement
from lucid.formats.disk.replacement import Replacement, put_in_place
from lucid.options import Options
from lucid.outputs import Naming
from lucid.run.process import Process
from lucid.workers import GROUP, MANY, workers_for


def make(folder, count, shape=(2, 3, 4, 4)):
    folder.mkdir()
    for i in range(count):
        np.save(folder / f"f{i:05}.npy", np.full(shape, i, "f4"))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


class TestPutInPlace:
    @pytest.fixture
    def outputs(self, tmp_path):
        made = []
        for i in range(5):
            made.append(Replacement(tmp_path / f"x{i}", overwrite=i % 2 == 0))
            os.close(made[-1].create())
        return made

    def test_no_name_before_all_bytes_are_on_disk(self, outputs, tmp_path, monkeypatch):
        calls = []
        monkeypatch.setattr(replacement, "sync", lambda path: calls.append(("sync", Path(path).name)))
        for name in ("link_new", "os.replace"):
            owner = replacement if name == "link_new" else os
            own = getattr(owner, name.split(".")[-1])

            def traced(path, target, own=own):
                calls.append(("place", Path(target).name))
                own(path, target)

            monkeypatch.setattr(owner, name.split(".")[-1], traced)
        assert put_in_place(outputs) == {}
        kinds = [kind for kind, _ in calls]
        assert kinds == ["sync"] * 5 + ["place"] * 5 + ["sync"]
        assert calls[-1] == ("sync", tmp_path.name)
        assert names_in(tmp_path) == [f"x{i}" for i in range(5)]

    def test_what_fails_is_its_own(self, outputs, tmp_path, monkeypatch):
        own = replacement.sync

        def sync(path):
            if path == outputs[1].path:
                raise OSError(errno.EIO, "broken")
            own(path)

        monkeypatch.setattr(replacement, "sync", sync)
        (tmp_path / "x3").write_text("another's")
        errors = put_in_place(outputs)
        assert set(errors) == {outputs[1], outputs[3]}
        assert "cannot be put in place: broken; the finished work is" in str(errors[outputs[1]])
        assert "exists by now" in str(errors[outputs[3]])
        assert (tmp_path / "x3").read_text() == "another's"
        assert {"x0", "x2", "x4"} < set(names_in(tmp_path))

    def test_a_folder_that_is_not_on_disk_is_told_of_all_in_it(self, outputs, tmp_path, monkeypatch):
        own = replacement.sync

        def sync(path):
            if path == tmp_path:
                raise OSError(errno.EIO, "broken")
            own(path)

        monkeypatch.setattr(replacement, "sync", sync)
        errors = put_in_place(outputs)
        assert set(errors) == set(outputs)
        assert all("is complete, but its folder is not on disk" in str(error) for error in errors.values())

    def test_what_waits_is_not_taken_for_stale(self, tmp_path):
        group = []
        for output in (
            Replacement(tmp_path / "x", overwrite=False),
            FolderReplacement(tmp_path / "y", overwrite=False),
        ):
            descriptor = output.create()
            output.commit(group)
            output.abort()
            if descriptor >= 0:
                os.close(descriptor)
        before = names_in(tmp_path)
        replacement.remove_stale(tmp_path)
        assert names_in(tmp_path) == before
        assert len(before) == 2
        assert put_in_place(group) == {}
        assert names_in(tmp_path) == ["x", "y"]


def test_backlog_of_any_length():
    backlog = Backlog()
    assert repr(Backlog([1, "a"])) == "[1, 'a']"
    assert repr(Backlog(range(HELD + 1))).endswith(f"{HELD - 1}, …]")
    for i in range(2 * HELD + 3):
        backlog.append((i, str(i)))
    assert len(backlog) == 2 * HELD + 3
    for _ in range(2):
        assert [i for i, _ in backlog] == list(range(2 * HELD + 3))
    assert sum(1 for _ in zip(backlog, backlog, strict=True)) == len(backlog)
    for copy in (backlog, pickle.loads(pickle.dumps(backlog)), Backlog(backlog)):
        assert [copy[i][0] for i in (-1, 0, HELD, HELD - 1, 2 * HELD)] == [
            2 * HELD + 2,
            0,
            HELD,
            HELD - 1,
            2 * HELD,
        ]
        assert [i for i, _ in copy[HELD - 2 : HELD + 4 : 2]] == [HELD - 2, HELD, HELD + 2]
        with pytest.raises(IndexError):
            copy[2 * HELD + 3]
        copy.append((7, "7"))
        assert (len(copy), copy[-1]) == (2 * HELD + 4, (7, "7"))
        assert [*copy][: 2 * HELD + 3] == [*backlog][: 2 * HELD + 3]
    assert [*pickle.loads(pickle.dumps(Backlog("ab")))] == ["a", "b"]


class TestManySmallFiles:
    COUNT = MANY + GROUP + 3

    @pytest.fixture
    def folder(self, tmp_path):
        make(tmp_path / "in", self.COUNT)
        return tmp_path

    def test_they_are_what_one_by_one_gives_in_order(self, command, folder):
        (folder / "in" / "f00003.npy").write_bytes(b"\x93NUMPY")
        np.save(folder / "in" / "f00004.npy", np.zeros(3))
        (folder / "in" / "f00004.txt").write_text("features")
        with h5py.File(folder / "in" / "f00005.h5", "w") as file:
            file["x"] = np.ones((2, 3, 4, 4), "f4")
        done = command("in", "-s", "2", "--output-dir", "out", "--json")
        assert done.returncode == 1, done.stderr
        objects = [json.loads(line) for line in done.stdout.splitlines()]
        assert [Path(one["source"]).name for one in objects] == names_in(folder / "in")
        assert [Path(one["source"]).name for one in objects if "error" in one] == ["f00003.npy"]
        assert [Path(one["source"]).name for one in objects if one.get("skipped")] == [
            "f00004.npy",
            "f00004.txt",
        ]
        assert len(names_in(folder / "out")) == self.COUNT - 1
        lucid.pool_file(folder / "in" / "f00007.npy", folder / "one.npy", size=2)
        assert (folder / "out" / "f00007.pooled.npy").read_bytes() == (folder / "one.npy").read_bytes()
        assert f"{self.COUNT - 1:,} files" in done.stderr
        assert {one["max_memory"] for one in objects if "threads" in one} == {256 << 20}
        assert done.stderr.splitlines()[-1].startswith("lucid-pool: in/f00003.npy: ")

    def test_existing_outputs_fail_alone_and_f_replaces_them(self, command, folder):
        (folder / "out").mkdir()
        (folder / "out" / "f00009.pooled.npy").write_text("old")
        done = command("in", "-s", "2", "--output-dir", "out", "-q")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "f00009.npy: output out/f00009.pooled.npy exists already; -f replaces it" in done.stderr
        assert (folder / "out" / "f00009.pooled.npy").read_text() == "old"
        assert len(names_in(folder / "out")) == self.COUNT
        assert command("in", "-s", "2", "--output-dir", "out", "-q", "-f").returncode == 0
        assert np.all(np.load(folder / "out" / "f00009.pooled.npy") == 9)

    def test_resume_skips_what_is_complete(self, command, folder):
        assert command("in", "-s", "2", "--output-dir", "out", "-q").returncode == 0
        times = {path: path.stat().st_mtime_ns for path in (folder / "out").iterdir()}
        (folder / "out" / "f00011.pooled.npy").unlink()
        done = command("in", "-s", "2", "--output-dir", "out", "--resume")
        assert done.returncode == 0, done.stderr
        assert f"outputs of {self.COUNT - 1} inputs were complete already" in done.stderr
        assert all(
            path.stat().st_mtime_ns == time for path, time in times.items() if "f00011" not in path.name
        )
        assert np.all(np.load(folder / "out" / "f00011.pooled.npy") == 11)

    def test_a_crash_costs_one_input(self, command, folder):
        """The process dies where it reads one of them, and the others of its group are done again."""
        code = (
            "import os, sys; from lucid.formats.npy import NpySource; own = NpySource.read\n"
            "def read(self, *args):\n"
            "    if self.path.name == 'f00020.npy': os.abort()\n"
            "    return own(self, *args)\n"
            "NpySource.read = read; from lucid_cli.main import main; main()"
        )
        args = [sys.executable, "-c", code, "in", "-s", "2", "--output-dir", "out", "-q"]
        done = subprocess.run(args, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("lucid-pool: in/f00020.npy: crashed the process that read it")
        assert done.stderr.count("\n") == 1
        assert len(names_in(folder / "out")) == self.COUNT - 1

    def test_memory_that_is_too_little_for_several_is_enough_for_one(self, command, folder):
        assert (
            command("in", "-s", "2", "--output-dir", "out", "-q", "--max-memory", "500", "-j", "4").returncode
            == 0
        )
        assert len(names_in(folder / "out")) == self.COUNT

    def test_no_room_for_the_list_of_inputs_is_one_line(self, command, tmp_path):
        make(tmp_path / "in", HELD + 1)
        code = (
            "import tempfile, lucid.backlog as b; b.FILE_BYTES = 1; tempfile.TemporaryFile = lambda **_: open('/dev/full', 'wb+')\n"
            "from lucid_cli.main import main; main()"
        )
        args = [sys.executable, "-c", code, "in", "-s", "2", "--output-dir", "out"]
        done = subprocess.run(args, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert (
            done.stderr
            == "lucid-pool: a temporary file (TMPDIR) cannot be written: No space left on device\n"
        )


class TestConflicts:
    """Of very many paths, most wait in a database."""

    def settled(self, folder, names, output=None, **options):
        names = [str(folder / name) for name in names]
        tasks = list(Batch(names, Naming.of(output, None), Options(size=1, **options)))
        refused = [(Path(task.source).name, str(task.error)) for task in tasks if task.error]
        return len(tasks) - len(refused), refused

    @pytest.mark.parametrize("most", [1, 1 << 12], ids=["in a database", "in memory"])
    def test_only_what_is_one_path_is_a_conflict(self, tmp_path, monkeypatch, most):
        monkeypatch.setattr(backlog, "MOST_NAMES", most)
        make(tmp_path / "a", 3)
        make(tmp_path / "b", 3)
        assert self.settled(tmp_path, ["a", "b"]) == (6, [])
        (tmp_path / "c").symlink_to("a")
        count, refused = self.settled(tmp_path, ["a/f00001.npy", "c/f00001.npy", "b"])
        assert count == 3
        assert [name for name, _ in refused] == ["f00001.npy"] * 2
        assert all("would be written to" in why for _, why in refused)

    def test_chains_of_outputs(self, tmp_path):
        make(tmp_path / "a", 1)
        for name in ("f00000_s.npy", "f00000_s_s.npy"):
            np.save(tmp_path / "a" / name, np.ones((1, 1, 2, 2)))
        count, refused = self.settled(tmp_path, ["a"], "{parent}/{stem}_s.npy", overwrite=True)
        assert count == 1
        assert [name for name, _ in refused] == ["f00000_s.npy", "f00000_s_s.npy"]


SHAPE = (1, 16, 32, 32)


@pytest.mark.slow
def test_twenty_thousand_files_in_constant_memory(command, tmp_path):
    """The command's own memory, less what its libraries take, does not grow with the number of inputs."""
    make(tmp_path / "in", 20_000, (1, 1, 4, 4))
    peaks = {}
    for pattern in ("f00[01]*", "f*"):  # two thousand, and all
        (tmp_path / "few").mkdir(exist_ok=True)
        for path in (tmp_path / "in").glob(pattern):
            (tmp_path / "few" / path.name).unlink(missing_ok=True)
            os.link(path, tmp_path / "few" / path.name)
        code = (
            "import sys; from lucid_cli.main import run\n"
            "from lucid.report import peak_memory_bytes\n"
            "status = run(sys.argv[1:]); print(peak_memory_bytes()); sys.exit(status)"
        )
        args = [sys.executable, "-c", code, "few", "-s", "1", "--output-dir", "out", "-f"]
        done = subprocess.run(args, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks[pattern] = int(done.stdout)
    assert len(names_in(tmp_path / "out")) == 20_000
    # The names of one folder, and sixteen bytes for each input.
    assert peaks["f*"] - peaks["f00[01]*"] < 12 << 20, peaks
    done = command("few", "-s", "1", "--output-dir", "out", "--resume")
    assert "outputs of 20,000 inputs were complete already" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [False, True])
def test_kills_at_any_time_leave_whole_outputs_only(command, tmp_path, whole_group):
    make(tmp_path / "in", 1500)
    args = [sys.executable, "-m", "lucid_cli", "in", "-s", "2", "--output-dir", "out", "-q", "-f"]
    chance = random.Random(3)
    stood = set()
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT) * 4:
        left = [*(tmp_path / "out").glob(".*")]
        process = subprocess.Popen(args, cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL)
        while any(path.exists() for path in left):  # what a killed run left goes first
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(chance.uniform(0.3, 2.0))
        (os.killpg if whole_group else os.kill)(process.pid, number)
        process.wait()
        time.sleep(0.3)  # until its processes are gone, too
        for path in (tmp_path / "out").glob("[!.]*"):
            values = np.load(path)
            assert values.shape == (2, 3, 2, 2)
            assert np.all(values == int(path.name[1:6]))
            stood.add(path.name)
        if number != signal.SIGKILL:
            deadline = (
                time.monotonic() + 20
            )  # its processes end after it where there is little of the processor
            while list((tmp_path / "out").glob(".*")):
                assert time.monotonic() < deadline
                time.sleep(0.05)
    assert command("in", "-s", "2", "--output-dir", "out", "-q", "-f").returncode == 0
    assert len(names_in(tmp_path / "out")) == 1500
    assert len(stood) > 100


@pytest.mark.parametrize(
    ("names", "output", "text"),
    [
        (["in.zarr/a"], "in.zarr", "output in.zarr is a folder that holds the input, which is never changed"),
        (
            ["x.npy", "in.zarr"],
            "in.zarr/{stem}.npy",
            "output in.zarr/x.npy lies within the input, which is never changed",
        ),
        (
            ["in.zarr"],
            "in.zarr/a/{stem}.npy",
            "output in.zarr/a/in.npy lies within the input, which is never changed",
        ),
        (["x.npy"], "hard.npy", "output hard.npy is an input, which is never changed"),
    ],
)
def test_no_output_destroys_an_input_that_it_holds_or_lies_in(tmp_path, monkeypatch, names, output, text):
    zarr = pytest.importorskip("zarr")
    monkeypatch.chdir(tmp_path)
    zarr.open_group("in.zarr", mode="w").create_array("a", data=np.ones((1, 1, 2, 2)))
    np.save("x.npy", np.ones((1, 1, 2, 2)))
    Path("hard.npy").hardlink_to("x.npy")
    first, *_ = Batch(names, Naming.of(output, None), Options(size=1, overwrite=True))
    assert str(first.error).startswith(text)


def test_a_glob_on_the_second_day_pools_no_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    every = ["a.b.npy", "a.b.pooled.2x2.npy", "a.b.pooled.npy", "a.npy", "a.pooled.npy", "c.pooled.npy"]
    for name in every:
        np.save(name, np.ones((1, 1, 4, 4), "f4"))

    def left_out(names):
        batch = Batch(names, Naming(None, None), Options(sizes=(1,)))
        return [task.source for task in batch if "file of this name" in str(task.error)]

    assert left_out(every) == ["a.b.pooled.2x2.npy", "a.b.pooled.npy", "a.pooled.npy"]
    assert left_out(["a.pooled.npy"]) == left_out(["a.b.npy", "a.pooled.npy", "c.pooled.npy"]) == []


@pytest.mark.slow
def test_each_process_does_one_call_at_a_time(tmp_path, monkeypatch):
    """Files that have too little memory beside others are pooled by themselves, while groups are under way."""
    (tmp_path / "in").mkdir()
    for i in range(40):
        with h5py.File(tmp_path / f"in/{i:02}.h5", "w") as file:
            x = np.full((40, 4, 16, 16), i, "f4")
            file.create_dataset("x", data=x, chunks=x.shape, compression="gzip")
    monkeypatch.setattr("lucid.workers.GROUP", 1)
    busy, own_call, own_items = set(), Process.call, Batch.__iter__

    def call(self, *arguments, **others):
        assert self not in busy
        busy.add(self)
        try:
            return own_call(self, *arguments, **others)
        finally:
            busy.remove(self)

    def slow_items(self):
        for task in own_items(self):
            time.sleep(0.01)
            yield task

    monkeypatch.setattr(Process, "call", call)
    monkeypatch.setattr(Batch, "__iter__", slow_items)
    options = Options(size=1, max_memory=400_000, threads=4)
    batch = Batch([str(tmp_path / "in")], Naming(None, tmp_path), options)
    with workers_for(batch, options, None) as workers:
        outcomes = [outcome for _, outcome in workers.pool_all(batch, None)]
    assert [outcome.targets[0].name for outcome in outcomes] == [f"{i:02}.pooled.h5" for i in range(40)]


def test_who_else_has_an_output_is_asked_once_for_each(tmp_path, monkeypatch):
    """Of 400 folders with a file of the same name, it took eight seconds."""
    monkeypatch.chdir(tmp_path)
    sources = [f"{number}/x.npy" for number in range(40)]
    for source in sources:
        Path(source).parent.mkdir()
        np.save(source, np.ones((1, 1, 2, 2)))
    asked, maker_of = [], Clashes.maker_of
    monkeypatch.setattr(Clashes, "maker_of", lambda *args: asked.append(args[1].source) or maker_of(*args))
    every = [*Batch(sources, Naming(None, Path("out")), Options(sizes=[1]))]
    assert all("would be written to" in str(task.error) for task in every)
    assert len(asked) <= 3 * len(sources)
