"""Stores behind a network: what is asked for, how often, how much at once, and what answers mean."""

import json
import time

import numpy as np
import pytest

import lucid
from lucid.errors import FileError, FormatError, LucidError

zarr = pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")
fsspec = pytest.importorskip("fsspec")

from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402

X = np.random.default_rng(0).standard_normal((24, 4, 12, 12)).astype("f4")
CHUNK_BYTES = 4 * 12 * 12 * 4


class Watched(MemoryFileSystem):
    """Files in memory that note who asks for what, and may fail."""

    protocol = "watched"
    #: Every key that was asked for, most of them at once, and what is answered in place of a file.
    asked: list[str] = []  # noqa: RUF012
    most, now = 0, 0
    wrong: dict[str, Exception | bytes] = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("watched://", "memory://"))

    def cat_file(self, path, start=None, end=None, **options):
        key = path.partition(".zarr/")[2]
        self.asked.append(key)
        Watched.now += 1
        Watched.most = max(Watched.most, Watched.now)
        time.sleep(0.01)  # long enough for others to come in between
        Watched.now -= 1
        answer = self.wrong.get(key)
        if isinstance(answer, Exception):
            raise answer
        return super().cat_file(path, start, end, **options) if answer is None else answer


@pytest.fixture
def far(tmp_path):
    """Makes a store, and pools it."""
    fsspec.register_implementation("watched", Watched, clobber=True)
    Watched.asked, Watched.wrong, Watched.most = [], {}, 0

    def pool(version=3, size=2, **options):
        array = {"chunks": (1, 4, 12, 12)} | options.pop("array", {})
        group = zarr.open_group(f"memory://{tmp_path.name}.zarr", mode="w", zarr_format=version)
        group.create_array("x", shape=X.shape, dtype="f4", **array)[...] = X
        return lucid.pool_file(
            f"watched://{tmp_path.name}.zarr", tmp_path / "o.zarr", size=size, overwrite=True, **options
        )

    yield pool
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}.zarr", recursive=True)


def means_of(report):
    return zarr.open_group(report.targets[0], mode="r")["x"][...]


@pytest.mark.parametrize(("version", "shards"), [(2, None), (3, None), (3, (8, 4, 12, 12))])
def test_all_chunks_of_a_block_are_asked_for_at_once_and_nothing_twice(far, version, shards):
    report = far(version, array={"shards": shards} if shards else {}, threads=1)
    assert np.array_equal(means_of(report), lucid.nn.functional.adaptive_avg_pool2d(X, 2))
    chunks = [key for key in Watched.asked if key[-1].isdigit()]
    # First it is seen whether they have these names; of shards, indices are read.
    assert len(chunks) == 1 + 3 * bool(shards) + len(X)
    assert Watched.most > 4
    # At the end, it is seen whether documents still say the same.
    documents = [key for key in Watched.asked if not key[-1].isdigit()]
    assert {documents.count(key) for key in documents} == {2}


def test_an_index_is_read_once_by_whoever_wants_it_first(far):
    """Blocks of one chunk each, all of one shard, begin at the same time."""
    options = {"array": {"shards": (24, 4, 12, 12)}, "threads": 6, "max_memory": 6 * 5 * CHUNK_BYTES}
    assert np.array_equal(means_of(far(**options)), lucid.nn.functional.adaptive_avg_pool2d(X, 2))
    # The name of the shard is looked for, its index is read, then blocks of a chunk.
    assert sum(key.startswith("x/c/") for key in Watched.asked) == 1 + 1 + len(X)


def test_more_is_under_way_where_reads_wait_and_within_the_memory(far):
    blocks_bytes = {n: far(threads=n, dry_run=True).datasets[0].blocks_bytes for n in (None, 1, 16)}
    assert blocks_bytes[None] == blocks_bytes[16] == 16 * blocks_bytes[1]
    report = far(threads=2, max_memory=16 * CHUNK_BYTES)
    assert report.datasets[0].blocks_bytes <= 16 * CHUNK_BYTES
    assert np.array_equal(means_of(report), lucid.nn.functional.adaptive_avg_pool2d(X, 2))


@pytest.mark.parametrize("chunks", [5, 8, 20, 40])
def test_memory_is_kept_for_chunks_that_are_read_once_before_more_reads_are_under_way(far, chunks):
    report = far(array={"chunks": (4, 4, 12, 12)}, max_memory=chunks * 4 * CHUNK_BYTES)
    asked = [key for key in Watched.asked if key[-1].isdigit()]
    assert len(asked) == 1 + len({*asked})
    assert np.array_equal(means_of(report), lucid.nn.functional.adaptive_avg_pool2d(X, 2))


def test_a_chunk_that_is_not_there_is_the_fill_value(far):
    Watched.wrong["x/c/3/0/0/0"] = FileNotFoundError("x/c/3/0/0/0")
    expected = lucid.nn.functional.adaptive_avg_pool2d(X, 2)
    expected[3] = 7
    assert np.array_equal(means_of(far(array={"fill_value": 7})), expected)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (OSError(5, "the server is tired"), FileError, "the server is tired"),
        (ValueError("500,\nmessage='no'"), FormatError, "500, message='no'"),
        (b"<html>not now</html>", FormatError, "no frame of zstd"),
    ],
)
def test_any_other_answer_is_an_error_of_one_line(far, tmp_path, answer, error, said):
    Watched.wrong["x/c/3/0/0/0"] = answer
    with pytest.raises(error, match=said) as raised:
        far()
    assert "array /x" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "o.zarr").exists()


def test_a_document_that_changes_meanwhile_is_an_error(far, tmp_path):
    def change(progress):
        Watched.wrong["x/zarr.json"] = json.dumps({"node_type": "array"}).encode()

    with pytest.raises(LucidError, match="changed while it was read"):
        far(on_progress=change)
    assert not (tmp_path / "o.zarr").exists()


def test_what_is_carried_over_is_asked_for_by_several_at_once(far, tmp_path):
    """Every array that goes along would wait for each of its files."""
    far(dry_run=True)
    group = zarr.open_group(f"memory://{tmp_path.name}.zarr", mode="a")
    for i in range(4):
        group.create_array(f"g/y{i}", data=np.arange(i + 1))
    report = lucid.pool_file(f"watched://{tmp_path.name}.zarr", tmp_path / "p.zarr", size=2)
    assert report.carried == 4
    for i in range(4):
        assert zarr.open_group(report.targets[0], mode="r")[f"g/y{i}"][...].tolist() == [*range(i + 1)]


@pytest.mark.parametrize("version", [2, 3])
def test_a_store_of_one_array_with_nothing_to_carry(tmp_path, version):
    zarr.save_array(f"memory://{tmp_path.name}.zarr", X, zarr_format=version)
    lucid.pool_file(f"memory://{tmp_path.name}.zarr", tmp_path / "o.zarr", size=2)
    expected = lucid.nn.functional.adaptive_avg_pool2d(X, 2)
    assert np.array_equal(zarr.open_array(tmp_path / "o.zarr", mode="r")[...], expected)
