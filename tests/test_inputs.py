"""Inputs as they are found, where the system lets one see less than all."""

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

import lucid
from lucid.batches import Batch
from lucid.errors import FileError
from lucid.inputs import LeftOutError
from lucid.options import Options
from lucid.outputs import Naming


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
    batch = Batch(["in"], Naming(None, None), Options(sizes=(1,)))
    where = "in/shut/b.npy" if folder else "in/shut"
    assert {task.source: task.error and str(task.error) for task in batch} == {
        "in/a.npy": None,
        "in/c.npy": "it is a link to nothing",
        where: f"{'cannot be opened' if folder else 'folder cannot be read'}: Permission denied",
    }
    assert [task.source for task in batch if isinstance(task.error, LeftOutError)] == ["in/c.npy"]


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
    batch = Batch(["in/a.npy"], Naming("in/shut/{parent}/{stem}.npy", None), options)
    if not dry_run:
        batch.prepare()
    (task,) = batch
    assert str(task.error) == "output in/shut/in/a.npy cannot be written: Permission denied"


def test_what_the_system_refuses_to_read_costs_itself_only(tmp_path, monkeypatch):
    """As files of /proc do that can be opened and not read."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.npy", "b"):
        np.save(name, np.ones((1, 1, 2, 2), "f4"))
    Path("b.npy").rename("b")
    unreadable, own = Path("b").open("rb"), os.pread  # noqa: SIM115

    def pread(descriptor, *args):
        if os.path.sameopenfile(descriptor, unreadable.fileno()):
            raise OSError(errno.EINVAL, "Invalid argument")
        return own(descriptor, *args)

    monkeypatch.setattr(os, "pread", pread)
    with unreadable:
        batch = Batch(["."], Naming(None, None), Options(sizes=(1,)))
    errors = {task.source: task.error and str(task.error) for task in batch}
    assert errors == {"a.npy": None, "b": "cannot be opened: Invalid argument"}
