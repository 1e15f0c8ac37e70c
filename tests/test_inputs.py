"""Inputs as they are found, where the system lets one see less than all."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

import lucid
from lucid.batches import Batch
from lucid.errors import FileError
from lucid.options import Options
from lucid.tasks import Naming


@pytest.fixture(params=[0o000, 0o444], ids=["locked", "names only"])
def folder(monkeypatch, request):
    """A folder of two files and a link to nothing, one of them behind a door; root becomes somebody else."""
    place = tempfile.TemporaryDirectory()  # pytest's own are closed to others
    monkeypatch.chdir(place.name)
    shut = Path("in/shut")
    shut.mkdir(parents=True)
    for name in ("in/a.npy", "in/shut/b.npy"):
        np.save(name, np.ones((1, 1, 2, 2), "f4"))
    Path("in/c.npy").symlink_to("nothing")
    for path in (Path(place.name), Path("in")):
        path.chmod(0o777)
    lucid.pack_files("in/a.npy", "out.npz", size=1)  # what is loaded on use is loaded as root
    Path("out.npz").unlink()
    user = os.geteuid()
    shut.chmod(request.param)
    if user == 0:
        os.seteuid(65534)
    yield request.param
    os.seteuid(user)
    shut.chmod(0o700)
    place.cleanup()


def test_what_cannot_be_entered_is_a_failure_and_the_others_are_done(folder):
    batch = Batch(Naming(None, None), Options(sizes=(1,)), ["in"])
    failures, left_out = {}, {}
    batch.settle(lambda name, error: failures.update({name: str(error)}), left_out.__setitem__)
    assert [task.source for task in batch] == ["in/a.npy"]
    where = "in/shut/b.npy" if folder else "in/shut"
    assert failures == {
        where: f"{'cannot be opened' if folder else 'folder cannot be read'}: Permission denied"
    }
    assert left_out == {"in/c.npy": "it is a link to nothing"}


def test_the_functions_say_so_too(folder):
    with pytest.raises(FileError, match=r"^in/shut/b\.npy: cannot be opened: Permission denied$"):
        lucid.pool_file("in/shut/b.npy", "out.npy", size=1)
    with pytest.raises(FileError, match=r"^in/shut/b\.npy: cannot be opened: Permission denied$"):
        lucid.pack_files(["in/a.npy", "in/shut/b.npy"], "out.npz", size=1)
    with pytest.raises(FileError, match=r"Permission denied$"):
        lucid.pack_files("in", "out.npz", size=1)
    with pytest.raises(FileError, match=r"in/shut.* cannot be written"):
        lucid.pool_file("in/a.npy", "in/shut/out.npy", size=1)


@pytest.mark.parametrize("dry_run", [False, True])
def test_outputs_behind_it(folder, dry_run):
    options = Options(sizes=(1,), dry_run=dry_run)
    batch = Batch(Naming("in/shut/{parent}/{stem}.npy", None), options, ["in/a.npy"])
    failures = {}
    batch.settle(lambda name, error: failures.update({name: str(error)}), failures.__setitem__)
    batch.prepare(lambda name, error: failures.update({name: str(error)}))
    failures |= {task.source: task.conflict for task in batch}
    assert failures == {"in/a.npy": "output in/shut/in/a.npy cannot be written: Permission denied"}
