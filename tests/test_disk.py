"""The last step on file systems of their own mind: hard links and fsync that are refused."""

import errno
import fcntl
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import lucid
from lucid.errors import ExistsError, FileError
from lucid.formats.disk import renames
from lucid.formats.disk.files import CheckedFile
from lucid.formats.disk.folders import FolderReplacement
from lucid.formats.disk.replacement import Replacement, remove_stale

REFUSALS = [errno.EACCES, errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EXDEV]


def refusing(number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.fixture
def pooled(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 3, 4, 4), "f4"))

    def pool(**options):
        lucid.pool_file(tmp_path / "a.npy", tmp_path / "b.npy", size=1, **options)
        assert np.all(np.load(tmp_path / "b.npy") == 1)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "b.npy"]

    return pool


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u6f22", "\U0001f600", "\udcff"], ids=ascii)
@pytest.mark.parametrize("resume", [False, True])
def test_names_as_long_as_a_name_can_be(tmp_path, monkeypatch, letter, resume):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.ones((1, 1, 2, 2), "f4"))
    name = letter * (251 // len(os.fsencode(letter))) + ".npy"
    lucid.pool_file("x.npy", name, size=1, resume=resume)
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", name}


@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
@pytest.mark.parametrize("knows_flags", [True, False])
def test_links_that_are_refused(pooled, monkeypatch, number, knows_flags):
    monkeypatch.setattr(os, "link", refusing(number))
    if not knows_flags:
        monkeypatch.setattr(renames, "_rename", lambda *_: False)
    pooled()
    pooled(overwrite=True)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS], ids=errno.errorcode.get)
def test_fsync_that_is_not_known(pooled, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", refusing(number))
    pooled()


def test_fsync_that_fails_is_told(pooled, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    with pytest.raises(FileError, match="cannot be put in place: Input/output error; the finished work is "):
        pooled()
    (kept,) = tmp_path.glob("b.npy.*.finished")
    assert np.all(np.load(kept) == 1)


def test_all_files_of_a_folder_are_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced, own = [], os.fsync

    def fsync(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        assert (tmp_path / "x").exists() == (len(synced) > 4)
        own(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    folder = FolderReplacement(tmp_path / "x", overwrite=False)
    folder.create()
    (folder.path / "b").mkdir()
    for name in ("a", "b/c"):
        (folder.path / name).write_text("text")
    folder.commit()
    paths = [tmp_path / name for name in ("x", "x/a", "x/b", "x/b/c")]
    assert sorted(synced[:4]) == sorted(path.stat().st_ino for path in paths)
    assert synced[4:] == [tmp_path.stat().st_ino]


@pytest.mark.parametrize("without_links", [False, True])
def test_a_name_that_is_taken_meanwhile_is_not_replaced(tmp_path, monkeypatch, without_links):
    if without_links:
        monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    file = Replacement(tmp_path / "x", overwrite=False)
    os.write(file.create(), b"work of hours")
    (tmp_path / "x").write_text("another's")
    with pytest.raises(ExistsError, match=r"exists by now; .* the finished work is "):
        file.commit()
    file.abort()
    assert (tmp_path / "x").read_text() == "another's"
    (kept,) = tmp_path.glob("x.*.finished")
    assert kept.read_text() == "work of hours"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_rename_that_is_refused_for_good_keeps_the_work(tmp_path, monkeypatch, overwrite):
    for name in ("link", "rename", "replace"):
        monkeypatch.setattr(os, name, refusing(errno.EACCES))
    monkeypatch.setattr(renames, "_rename", lambda *_: False)
    file = Replacement(tmp_path / "x", overwrite=overwrite)
    os.write(file.create(), b"work of hours")
    with pytest.raises(FileError, match="cannot be put in place: Permission denied; the finished work is "):
        file.commit()
    file.abort()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["work of hours"]


@pytest.mark.parametrize("kind", [Replacement, FolderReplacement])
@pytest.mark.parametrize("is_slow", [False, True])
def test_what_another_run_takes_for_stale_before_it_is_locked_is_made_again(
    tmp_path, monkeypatch, kind, is_slow
):
    other, is_locked = threading.Thread(target=remove_stale, args=[tmp_path]), threading.Event()
    own = fcntl.flock

    def flock(descriptor, flags):
        if threading.current_thread() is not other and not is_locked.is_set():
            other.start()
            is_locked.wait()
            if not is_slow:
                other.join()
        own(descriptor, flags)
        if threading.current_thread() is other:
            is_locked.set()
            time.sleep(0.1 * is_slow)

    monkeypatch.setattr(fcntl, "flock", flock)
    output = kind(tmp_path / "x", overwrite=False)
    output.create()
    other.join()
    output.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_that_another_run_takes_for_stale_before_it_is_opened_is_made_again(tmp_path, monkeypatch):
    own, others = Path.mkdir, [remove_stale]

    def mkdir(path):
        own(path)
        for other in others:
            others.clear()
            other(tmp_path)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    output = FolderReplacement(tmp_path / "x", overwrite=False)
    output.create()
    output.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_place_beyond_the_largest_file_is_an_error_kept_for_the_end(tmp_path):
    descriptor = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    file = CheckedFile(descriptor)
    assert file.seek(-1) == -1  # the system has the same word for both
    assert file.error is not None
    assert file.error.errno == errno.EFBIG
    os.close(descriptor)
