"""Filters that results keep, and those that they do not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import lucid
from lucid.formats.hdf5.filters import filters_of, filters_of_results
from lucid.nn.functional import adaptive_avg_pool2d

plugins = pytest.importorskip("hdf5plugin", reason="the extra `filters` is not installed")

SZIP = {"compression": "szip", "compression_opts": ("nn", 32)}
LOSSLESS = {
    "gzip": {"compression": "gzip", "compression_opts": 7, "shuffle": True, "fletcher32": True},
    "lzf": {"compression": "lzf"},
    "szip": SZIP if h5py.h5z.filter_avail(4) else {},
    "blosc": plugins.Blosc(cname="zstd", clevel=3, shuffle=2),
    "blosc2": plugins.Blosc2(cname="lz4", clevel=4),
    "bitshuffle": plugins.Bitshuffle(),
    "bitshuffle-zstd": plugins.Bitshuffle(cname="zstd", clevel=2),
    "bzip2": plugins.BZip2(blocksize=3),
    "lz4": plugins.LZ4(nbytes=1024),
    "zstd": plugins.Zstd(clevel=7),
}
LOSSY = {
    "ZFP": plugins.Zfp(accuracy=0.01),
    "SZ": plugins.SZ(absolute=0.01),
    "SZ3": plugins.SZ3(absolute=0.01),
    "SPERR": plugins.Sperr(absolute=0.01),
    "scale-offset": {"scaleoffset": 2},
    "blosc2 that truncates": plugins.Blosc2(filters=plugins.Blosc2.TRUNC_PREC),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "u2", "i1", "f2"])
@pytest.mark.parametrize("size", [1, (3, 5)])
def test_lossless_filters_have_the_parameters_of_a_new_dataset(name, dtype, size, path, out, rng):
    x = rng.integers(0, 4, (40, 3, 32, 32)).astype(dtype)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=x, chunks=(2, 1, 16, 32), **dict(LOSSLESS[name]))
    report = lucid.pool_file(path, out, size=size)
    assert report.notes == ()
    with h5py.File(out) as file, h5py.File(path.with_name("z.h5"), "w") as other:
        means = file["x"]
        assert np.array_equal(means, adaptive_avg_pool2d(x, size))
        made = other.create_dataset("x", data=means[:], chunks=means.chunks, **dict(LOSSLESS[name]))
        assert filters_of(means.id.get_create_plist()) == filters_of(made.id.get_create_plist())
        for chunk in means.iter_chunks():
            at = tuple(s.start for s in chunk)
            assert means.id.read_direct_chunk(at) == made.id.read_direct_chunk(at)


@pytest.mark.parametrize("name", LOSSLESS)
def test_what_is_carried_over_as_a_named_type_keeps_its_filters(name, path, out):
    values = np.linspace(0, 9, 4000, dtype="f4").reshape(40, 100)
    with h5py.File(path, "w") as file:
        file["x"], file["type"] = np.ones((1, 1, 4, 4), "f4"), np.dtype("f4")
        file.create_dataset("y", data=values, dtype=file["type"], chunks=(20, 50), **dict(LOSSLESS[name]))
    lucid.pool_file(path, out, size=2)
    with h5py.File(path) as before, h5py.File(out) as after:
        assert np.array_equal(after["y"], values)
        assert after["y"].id.get_type().committed()
        one, other = (filters_of(file["y"].id.get_create_plist()) for file in (before, after))
        assert one == other
        assert after["y"].id.get_storage_size() == before["y"].id.get_storage_size()


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_filters_are_left_out_and_the_report_says_so(name, path, out, rng):
    x = rng.standard_normal((2, 3, 32, 32)).astype("f4").cumsum(-1)
    with h5py.File(path, "w") as file:
        for dataset in "ab":
            file.create_dataset(dataset, data=x, chunks=(1, 1, 32, 32), **dict(LOSSY[name]))
    with h5py.File(path) as file:
        right = adaptive_avg_pool2d(file["a"][:], 4)
    first = lucid.pool_file(path, out, size=4)
    assert first.notes == (f"{name} of /a, /b is left out: its parameters were chosen for other numbers",)
    with h5py.File(out) as file:
        assert filters_of(file["a"].id.get_create_plist()) == ()
        assert np.array_equal(file["a"], right)
    bytes_ = out.read_bytes()
    assert lucid.pool_file(path, out, size=4, compression="gzip", overwrite=True).notes == ()
    lucid.pool_file(path, out, size=4, overwrite=True)
    assert out.read_bytes() == bytes_


def test_lossless_filters_after_a_lossy_one_are_kept(path, out, rng):
    x = rng.integers(0, 9, (2, 3, 32, 32)).astype("f4")
    with h5py.File(path, "w") as file:
        for i in range(12):
            file.create_dataset(f"x{i}", data=x, scaleoffset=2, shuffle=True, compression="gzip")
    report = lucid.pool_file(path, out, size=4)
    assert len(report.notes) == 1
    assert "and 2 more is left out" in report.notes[0]
    with h5py.File(out) as file:
        assert filters_of(file["x0"].id.get_create_plist()) == ((2, 1, (4,)), (1, 1, (4,)))


@pytest.mark.parametrize(("chunks", "kept"), [((1, 1, 1, 1), None), ((1, 1, 3, 1), 2), ((2, 4, 4, 4), 32)])
def test_szip_takes_no_more_elements_at_once_than_a_chunk_has(chunks, kept):
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((1, 1, 16, 16))
    creation.set_filter(4, h5py.h5z.FLAG_OPTIONAL, (169, 32, 32, 32))
    filters = filters_of_results(creation, chunks)
    assert [one.values for one in filters] == ([] if kept is None else [(169, kept)])


def test_a_filter_that_nobody_knows_may_be_lossy():
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((1, 1, 16, 16))
    for code in (32012, 32022, 32023, 32999):
        creation.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    assert filters_of_results(creation, (1, 1, 2, 2)) == []
    assert [one.name for one in filters_of(creation) if one.fault] == [
        "JPEG-LS",
        "BitGroom",
        "Granular BitRound",
        "filter 32999",
    ]


def test_samples_added_later_are_what_they_would_be_in_the_source(path, out):
    x = np.ones((4, 1, 4, 4), "f4")
    times = {"n": h5py.h5d.FILL_TIME_NEVER, "i": h5py.h5d.FILL_TIME_IFSET, "a": h5py.h5d.FILL_TIME_ALLOC}
    with h5py.File(path, "w") as file:
        for name, time in times.items():
            creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            creation.set_chunk((3, 1, 4, 4))
            creation.set_fill_time(time)
            creation.set_fill_value(np.array(-1, "f4"))
            space = h5py.h5s.create_simple((4, 1, 4, 4), (h5py.h5s.UNLIMITED, 1, 4, 4))
            kind = h5py.h5t.IEEE_F32LE
            h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind, space, creation))[:] = x
    lucid.pool_file(path, out, size=2)
    with h5py.File(out, "a") as file:
        for name, time in times.items():
            assert file[name].id.get_create_plist().get_fill_time() == time
            file[name].resize(20, 0)
            assert np.all(file[name][:4] == 1)
            assert np.all(file[name][4:] == (0 if name == "n" else -1))


def test_the_command_says_in_a_line_what_it_left_out(path, out, rng):
    with h5py.File(path, "w") as file:
        file.create_dataset("x\x1b", data=rng.standard_normal((1, 1, 32, 32)), scaleoffset=2)
    command = [
        sys.executable,
        "-c",
        "from lucid_cli.main import main; main()",
        path,
        "-s",
        "2",
        "-o",
        out,
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    note = r"scale-offset of /x\x1b is left out: its parameters were chosen for other numbers"
    assert done.stderr.splitlines()[-1].endswith(f": {note}")
    assert json.loads(done.stdout)["notes"] == [note.replace(r"\x1b", "\x1b")]


def test_a_plugin_that_speaks_to_another_hdf5_is_told_of(tmp_path):
    other = pytest.importorskip("netCDF4", reason="it brings an HDF5 of its own")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.ones((2, 2, 4, 4), "f4"), chunks=True, **plugins.Blosc())
    script = "import sys, netCDF4, lucid; lucid.pool_file(*sys.argv[1:], size=2)"
    command = [sys.executable, "-c", script, tmp_path / "a.h5", tmp_path / "b.h5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    command = [sys.executable, "-m", "lucid_cli", tmp_path / "a.h5", "-s2", "-o", tmp_path / "c.h5"]
    places = os.environ | {
        "HDF5_PLUGIN_PATH": str(Path(other.__file__).parent / "plugins")
    }  # as its import says
    for_shell = subprocess.run(command, capture_output=True, text=True, check=False, env=places)
    assert for_shell.returncode == 0 or "leads there" in for_shell.stderr
    # With some wheels both are one, and all is well.
    assert done.returncode == 0 or "hdf5plugin was imported after another package" in done.stderr
    assert done.returncode == 0 or not (tmp_path / "b.h5").exists()
