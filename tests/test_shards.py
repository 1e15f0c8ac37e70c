"""Shards joined are what one run writes, byte for byte; what does not belong together is refused."""

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lucid
from lucid.errors import ArgumentError, DatasetError, ExistsError, FileError, FormatError, LucidError
from lucid.formats.regions import regions_of, size_of

FILTERS = {
    "contiguous": {},
    "chunked": {"chunks": (4, 8, 6, 5)},
    "gzip": {"chunks": (4, 8, 6, 5), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"chunks": (3, 5, 6, 5), "compression": "lzf"},
    "unlimited": {"chunks": (4, 8, 6, 5), "maxshape": (None, 8, 6, 5)},
}


@pytest.fixture(params=[*FILTERS, "npy", "fortran"])
def source(request, tmp_path, rng):
    array = rng.standard_normal((1001, 8, 6, 5)).astype(np.float32)
    if request.param in FILTERS:
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            features = file.create_dataset("features", data=array, **FILTERS[request.param])
            features.attrs["layer"] = 4
            file.create_dataset("few/more", data=array[:90], **FILTERS[request.param])
            file["labels"] = np.arange(1001)
            file["first"] = features.ref
    else:
        path = tmp_path / "x.npy"
        np.save(path, np.asfortranarray(array) if request.param == "fortran" else array)
    return path


def shards_of(source, cuts, folder, **options):
    for start, stop in zip(cuts, [*cuts[1:], None], strict=True):
        name = folder / f"shard-{{slice}}-{{size}}{source.suffix}"
        yield from lucid.pool_file(source, name, slice=slice(start, stop), **options).targets


def single_and_merged(source, folder, cuts, **options):
    one, two = folder / f"one-{{size}}{source.suffix}", folder / f"two-{{size}}{source.suffix}"
    single = lucid.pool_file(source, one, **options).targets
    shards = list(shards_of(source, cuts, folder, **options))
    merged = lucid.merge_files(shards[::-1], two).targets
    return [path.read_bytes() for path in single], [path.read_bytes() for path in merged]


@pytest.mark.slow
@pytest.mark.parametrize("cuts", [[0], [0, 500], [0, 1, 7, 8, 333, 1000], range(0, 1001, 100)])
@pytest.mark.parametrize(
    "options", [{"size": 3}, {"sizes": [1, (2, 4)], "flatten": True}], ids=["one", "flat"]
)
def test_they_are_what_one_run_writes(source, tmp_path, cuts, options):
    single, merged = single_and_merged(source, tmp_path, list(cuts), **options)
    assert single == merged


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["none", "gzip:2", "lzf", "zstd", "blosc", "bitshuffle"])
def test_with_any_compression(tmp_path, rng, compression):
    if compression not in ("none", "gzip:2", "lzf"):
        pytest.importorskip("hdf5plugin")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=rng.standard_normal((3000, 8, 6, 5)), chunks=(16, 8, 6, 5))
    single, merged = single_and_merged(
        tmp_path / "x.h5", tmp_path, [0, 1600, 2001], size=4, compression=compression
    )
    assert single == merged


@given(data=st.data())
def test_wherever_it_is_cut(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")
    n = data.draw(st.integers(0, 12))
    cuts = [0, *sorted(data.draw(st.sets(st.integers(1, 12), max_size=4)))]
    cuts = [cut for cut in cuts if cut < max(n, 1)]
    chunks = data.draw(st.one_of(st.none(), st.tuples(*(st.integers(1, m) for m in (max(n, 1), 3, 4, 5)))))
    with h5py.File(folder / "x.h5", "w") as file:
        values = np.random.default_rng(n).standard_normal((n, 3, 4, 5))
        # An axis of no length has no chunks, unless it may grow.
        longest = None if chunks is None else (None,) * 4
        file.create_dataset("x", data=values, chunks=chunks, maxshape=longest, compression=chunks and "gzip")
    single, merged = single_and_merged(folder / "x.h5", folder, cuts, size=2)
    assert single == merged


def test_a_shard_is_a_file_of_its_samples(source, tmp_path):
    whole = lucid.pool_file(source, tmp_path / f"whole{source.suffix}", size=2).targets[0]
    shard = lucid.pool_file(source, size=2, slice=slice(80, 200)).targets[0]
    assert shard.name == f"x.pooled.80-200{source.suffix}"
    if source.suffix == ".npy":
        assert np.array_equal(np.load(shard), np.load(whole)[80:200])
        assert np.array_equal(np.load(shard, mmap_mode="r"), np.load(whole)[80:200])
        return
    with h5py.File(shard) as part, h5py.File(whole) as file:
        assert np.array_equal(part["features"], file["features"][80:200])
        assert np.array_equal(part["few/more"], file["few/more"][80:200])
        assert "labels" not in part
        assert part["features"].attrs["layer"] == 4
        assert json.loads(part["few/more"].attrs["lucid_pool"])["shard"]["region"] == [[80, 90]]


def test_a_merge_needs_no_memory_for_chunks_of_the_source(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=np.ones((4, 8, 256, 256)), chunks=(4, 8, 256, 256), compression="gzip")
    shards = list(shards_of(tmp_path / "x.h5", [0, 2], tmp_path, size=4))
    merged = lucid.merge_files(shards, tmp_path / "y.h5", max_memory=1 << 20).targets[0]
    single = lucid.pool_file(tmp_path / "x.h5", tmp_path / "z.h5", size=4).targets[0]
    assert merged.read_bytes() == single.read_bytes()


def test_a_merge_compresses_in_its_own_memory(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=np.ones((4, 8, 8, 8), "f4"), chunks=(2, 8, 8, 8), compression="gzip")
    shards = list(shards_of(tmp_path / "x.h5", [0, 2], tmp_path, size=4))
    processes = []
    monkeypatch.setattr("lucid.forks.pay_off", lambda _, workers: bool(processes.append(workers)))
    monkeypatch.setattr("lucid.forks.PROCESS_BYTES", 0)
    chunk_bytes = 4 * 8 * 4 * 4 * 4
    lucid.merge_files(shards, tmp_path / "y.h5", threads=100, max_memory=3 * 8 * chunk_bytes)
    assert processes == [3]


def test_a_merge_takes_the_values_that_pooling_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.ones((4, 1, 2, 2), np.float32))
    shards = list(shards_of(tmp_path / "x.npy", [0, 2], tmp_path, size=1))
    report = lucid.merge_files(shards, "y.npy", max_memory="1MiB", threads="2")
    assert (report.max_memory, report.threads) == (1 << 20, 2)
    for keywords, words in (
        ({"max_memory": "much"}, "`max_memory` is 'much'; expected a number of bytes"),
        ({"threads": 0}, "`threads` is 0; expected an integer of at least 1"),
        ({"overwrite": 1}, "`overwrite` is 1; expected True or False"),
        ({"on_progress": 5}, "`on_progress` is 5; expected a function"),
        ({"size": 1}, "a merge takes no `size`: the shards know it"),
        ({"thread": 1}, "`thread` is no option; did you mean `threads`?"),
    ):
        with pytest.raises(LucidError, match=words):
            lucid.merge_files(shards, "z.npy", **keywords)
    for shards in ((), 5, [5]):
        with pytest.raises(LucidError, match="; expected "):
            lucid.merge_files(shards, "z.npy")
    assert not Path("z.npy").exists()


class TestWhatDoesNotBelongTogether:
    @pytest.fixture
    def source(self, tmp_path, rng):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["x"] = rng.standard_normal((30, 2, 4, 4))
        return tmp_path / "x.h5"

    def refused(self, shards, target, text, error=FormatError):
        before = sorted(p.name for p in target.parent.iterdir())
        with pytest.raises(error) as raised:
            lucid.merge_files(shards, target)
        assert text in str(raised.value)
        assert "\n" not in str(raised.value)
        assert sorted(p.name for p in target.parent.iterdir()) == before

    def test_gaps_and_overlaps(self, source, tmp_path):
        a, b, c = shards_of(source, [0, 10, 20], tmp_path, size=2)
        lap = lucid.pool_file(source, tmp_path / "lap.h5", size=2, slice=slice(5, 20)).targets[0]
        target = tmp_path / "y.h5"
        self.refused([a, c], target, "no shard holds samples 10:20 of /x")
        self.refused([b, c], target, "no shard holds samples 0:10 of /x")
        self.refused([a, b], target, "no shard holds samples 20:30 of /x")
        self.refused([a, lap, c], target, f"shards {a} and {lap} both hold sample 5 of /x")
        self.refused([a, a, b, c], target, "both hold sample 0")
        self.refused([], target, "`shards` is []; expected paths of files", ArgumentError)

    def test_other_options_sources_and_versions(self, source, tmp_path, monkeypatch):
        a, b = shards_of(source, [0, 10], tmp_path, size=2)
        target = tmp_path / "y.h5"
        other = lucid.pool_file(source, tmp_path / "o.h5", size=3, slice=slice(10, 30)).targets[0]
        self.refused([a, other], target, f"shard: {other} is of other `size`")
        copy = tmp_path / "copy.h5"
        shutil.copyfile(source, copy)
        other = lucid.pool_file(copy, tmp_path / "p.h5", size=2, slice=slice(10, 30)).targets[0]
        self.refused([a, other], target, f"shard: {other} is of other source and input, or it changed")
        self.refused([source], target, f"shard {source}: is no shard; `slice` makes them")
        self.refused([a, tmp_path / "gone"], target, f"shard {tmp_path / 'gone'}: no such file", LucidError)
        self.refused([a, b], a, "is an input, which is never changed", FileError)
        self.refused([a, b], source, "is an input, which is never changed", FileError)
        (tmp_path / "z.h5").write_text("mine")
        self.refused([a, b], tmp_path / "z.h5", "exists already", ExistsError)
        with pytest.raises(LucidError, match="is an input, which is never changed"):
            lucid.merge_files([a, b], a, overwrite=True)
        monkeypatch.setattr("lucid.job_plan.__version__", "9.0")
        self.refused([a, b], target, f"shard: {a} is of other version")

    def test_of_several_sizes_the_missing_one_is_named(self, tmp_path):
        np.save(tmp_path / "x.npy", np.ones((4, 1, 4, 4), "f4"))
        shards = [
            lucid.pool_file(
                tmp_path / "x.npy", tmp_path / "a-{slice}-{size}.npy", sizes=[1, (2, 4)], slice=samples
            ).targets[0]
            for samples in (slice(0, 2), slice(2, 4))
        ]
        text = "no shard holds samples 0:4 of the array at size 2x4"
        self.refused(shards, tmp_path / "y-{size}.npy", text)

    def test_a_dry_run_says_what_the_run_says(self, tmp_path):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["x"], file["labels"] = np.ones((4, 2, 3, 3)), np.arange(4)
        shards = [tmp_path / f"{n}.h5" for n in range(2)]
        for n, shard in enumerate(shards):
            lucid.pool_file(tmp_path / "x.h5", shard, size=1, drop="lables", slice=slice(2 * n, 2 * n + 2))
        plan, report = (lucid.merge_files(shards, tmp_path / "y.h5", dry_run=dry) for dry in (True, False))
        note = "nothing that is carried over has a name that `drop` says: lables"
        assert plan.notes == report.notes == (note,)
        assert (plan.carried, plan.carried_bytes) == (report.carried, report.carried_bytes) == (1, 32)

    def test_a_dry_run_shows_conflicts_and_touches_nothing(self, source, tmp_path):
        shards = list(shards_of(source, [0, 10], tmp_path, size=2))
        target = tmp_path / "y.h5"
        target.write_text("mine")
        stale = tmp_path / f".y.h5.{'0' * 12}.tmp"
        stale.touch()
        report = lucid.merge_files(shards, target, dry_run=True)
        assert report.notes == (
            f"the run would fail: output {target} exists already; `overwrite=True` replaces it",
        )
        assert [one.output_shape for one in report.datasets] == [(30, 2, 2, 2)]
        assert (target.read_text(), stale.exists()) == ("mine", True)

    def test_a_source_that_changed_or_went(self, source, tmp_path):
        shards = list(shards_of(source, [0, 10], tmp_path, size=2))
        with h5py.File(source, "r+") as file:
            file["x"][3] = 0
        os.utime(source, ns=(1, 1))
        self.refused(shards, tmp_path / "y.h5", f"{shards[0]} is of other input, or it changed")
        with h5py.File(source, "w") as file:
            file["x"] = np.ones((5, 2, 4, 4))
        self.refused(shards[1:], tmp_path / "y.h5", f"shard: {shards[1]} is of other input, or it changed")
        source.unlink()
        self.refused(shards, tmp_path / "y.h5", f"source {source}: no such file", LucidError)

    @pytest.mark.parametrize("damage", [lambda chunk: os.truncate(chunk, 5), os.unlink])
    @pytest.mark.parametrize("version", [2, 3])
    def test_zarr_shards_with_damaged_chunks(self, tmp_path, damage, version):
        zarr = pytest.importorskip("zarr")
        array = np.ones((4, 2, 4, 4), "f4")
        zarr.create_array(tmp_path / "x.zarr", name="x", data=array, chunks=(1, 2, 4, 4), zarr_format=version)
        shards = list(shards_of(tmp_path / "x.zarr", [0, 2], tmp_path, size=2))
        lucid.merge_files(shards, tmp_path / "y.zarr")
        assert "lucid_pool_files" not in zarr.open_array(tmp_path / "y.zarr/x").attrs
        again = lucid.pool_file(shards[0], tmp_path / "z.zarr", size=1)
        assert "lucid_pool_files" not in zarr.open_array(again.targets[0] / "x").attrs
        damage(next(path for path in sorted(shards[1].rglob("*0*")) if path.is_file()))
        text = f"shard: {shards[1]} has chunks of /x that are missing or damaged"
        self.refused(shards, tmp_path / "w.zarr", text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            '{"version": 1, "shard": 5}',
            '{"version": "0.1.0", "shard": {"region": [[0, -1]]}}',
            '{"source": "x.h5", "shard": {"options": {}, "size": 0, "region": [["a", "b"]]}}',
            '{"source": "x.h5", "shard": {"options": {}, "size": 0, "region": 5}}',
            '{"source": "x.h5", "shard": {"options": [], "size": 0, "region": [[0, 30]]}}',
        ],
    )
    def test_provenance_that_lies(self, source, tmp_path, text):
        with h5py.File(source, "r+") as file:
            file["x"].attrs["lucid_pool"] = text
        self.refused([source], tmp_path / "y.h5", "is no shard")

    @pytest.mark.parametrize("samples", [[0], [0, 1]])
    def test_an_array_without_samples_in_a_slice(self, tmp_path, samples):
        zarr = pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")
        group = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=3)
        for count in range(3):
            shape = {"shape": (count, 1, 4, 4), "chunks": (1, 1, 2, 2), "shards": (2, 1, 4, 4)}
            group.create_array(str(count), dtype="f4", **shape)[...] = 1
        single = lucid.pool_file(tmp_path / "x.zarr", tmp_path / "one.zarr", size=2).targets[0]
        merged = lucid.merge_files(
            [*shards_of(tmp_path / "x.zarr", samples, tmp_path, size=2)], tmp_path / "y.zarr"
        )
        read, right = (zarr.open_group(path, mode="r") for path in (merged.targets[0], single))
        assert {name: array.shape for name, array in read.arrays()} == {
            str(count): (count, 1, 2, 2) for count in range(3)
        }
        for name, array in right.arrays():
            assert array.metadata == read[name].metadata
            assert np.all(read[name][...] == 1)

    def test_slices_without_samples(self, source, tmp_path):
        with pytest.raises(DatasetError, match="has 30 samples; expected some in slice 40-end"):
            lucid.pool_file(source, size=2, slice=slice(40, None))
        for wrong in (slice(3, 3), slice(-5, None), slice(0, 9, 2)):
            with pytest.raises(ArgumentError, match="`slice` is"):
                lucid.pool_file(source, size=2, slice=wrong)
        with pytest.raises(ArgumentError, match="`slice` needs the first axis, which is pooled in `layout`"):
            lucid.pool_file(source, size=2, layout="HWC", slice=slice(0, 1))


@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4), most=st.integers(0, 200))
def test_regions_are_runs_that_cover_all(shape, most):
    cells = np.arange(size_of(shape)).reshape(shape)
    runs = [cells[region].ravel().tolist() for region in regions_of(tuple(shape), most)]
    assert [cell for run in runs for cell in run] == cells.ravel().tolist()
    assert all(len(run) <= max(1, most) for run in runs)
