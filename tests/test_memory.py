"""Peak memory: of a whole call beyond the interpreter and libraries, against `max_memory`."""

import gc
import io
import json
import subprocess
import sys
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from slow import slow

from lucid import backlog
from lucid.backlog import Table
from lucid.formats.hdf5.source import Hdf5Source
from lucid.formats.registry import format_of_content
from lucid.options import Options

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a peak on request")

#: Pools a small file, so that all is loaded, and then a large one; prints by how much memory grew at most.
SCRIPT = """
import sys
import lucid
from lucid.formats.hdf5.source import Hdf5Source
from lucid.run.process import _keep_freed_memory

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(name))

small, large, target, limit, size = sys.argv[1:]
size = (None, None) if size == "keep" else int(size)
_keep_freed_memory()
lucid.pool_file(small, target, overwrite=True, size=size, threads=1)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
lucid.pool_file(large, target, overwrite=True, size=size, threads=1, max_memory=int(limit))
print(status("VmHWM") - before)
"""
#: In chunks of 6.5 MB.
SHAPE, CHUNK_SAMPLES, CHUNK_BYTES = (200, 4, 64, 64), 100, 100 << 16
#: What a measurement may be off by.
MARGIN_BYTES = 3 << 20

FILTERS = {
    "none": {},
    "gzip": {"compression": "gzip", "compression_opts": 1},
    "shuffled gzip": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "checksum": {"fletcher32": True},
    "szip": {"compression": "szip"},
    "lzf": {"compression": "lzf"},
}


@pytest.mark.parametrize(
    "name",
    ["none", *slow(*(one for one in FILTERS if one != "none"))],
)
@pytest.mark.parametrize("size", ["1", *slow("keep")])
def test_a_chunk_takes_no_more_memory_than_planned(tmp_path, rng, name, size):
    """A limit with room for the copies of a chunk, and for its cells; what is as large as before is compressed, too.

    Without filters, only the cells that are wanted are read, so the limit may be less than a chunk.
    """
    paths = [tmp_path / file for file in ("small.h5", "large.h5", "y.h5")]
    for path, shape in zip(paths, ((2, 4, 8, 8), SHAPE), strict=False):
        with h5py.File(path, "w") as file:  # numbers that hardly compress: a chunk is as large encoded
            chunks = (min(CHUNK_SAMPLES, shape[0]), *shape[1:])
            file.create_dataset("x", data=rng.random(shape, np.float32), chunks=chunks, **FILTERS[name])
    with Hdf5Source(paths[1], Options()) as source:
        (spec,) = source.choose(())
    limit = (spec.chunk_copies + 1) * CHUNK_BYTES + (1 << 16) if spec.chunk_copies else CHUNK_BYTES // 4
    command = [sys.executable, "-c", SCRIPT, *map(str, paths), str(limit), size]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(run.stdout) <= limit + MARGIN_BYTES


#: Arrays of a file, more than a table holds in memory, and what of each may be held; as objects they took a kilobyte.
COUNT, BYTES_EACH = 2001, 150


def write_members(path):
    """An archive, or a safetensors file, of many arrays of four numbers each."""
    if path.suffix == ".npz":
        data = io.BytesIO()
        np.save(data, np.ones((1, 1, 2, 2), "f4"))
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(COUNT):
                archive.writestr(f"layer/{number:07}.npy", data.getvalue())
        return
    tensors = {
        f"layer/{i:07}": {"dtype": "F32", "shape": [1, 1, 2, 2], "data_offsets": [16 * i, 16 * i + 16]}
        for i in range(COUNT)
    }
    text = json.dumps(tensors).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + np.ones(4 * COUNT, "f4").tobytes())


@pytest.fixture
def few_held(monkeypatch):
    """Of lists and tables, a few items are in memory, so that thousands are many."""
    for name, most in {"HELD": 1 << 5, "FILE_BYTES": 1 << 12, "MOST_NAMES": 1 << 8}.items():
        monkeypatch.setattr(backlog, name, most)


@pytest.mark.usefixtures("few_held")
@pytest.mark.parametrize("suffix", [".safetensors", *slow(".npz")])
def test_what_a_file_of_many_arrays_holds_of_each(tmp_path, suffix):
    write_members(tmp_path / f"x{suffix}")
    format_ = format_of_content(tmp_path / f"x{suffix}")
    format_.open(tmp_path / f"x{suffix}", Options()).close()  # what it needs is loaded
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        with format_.open(tmp_path / f"x{suffix}", Options()) as source:
            specs = source.choose(())
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            assert len(specs) == COUNT
    finally:
        tracemalloc.stop()
    assert (after - before) / COUNT < BYTES_EACH


@pytest.mark.usefixtures("few_held")
def test_a_table_in_a_database_is_as_one_in_memory():
    names = [f"{number * 7919 % COUNT:05}" for number in range(COUNT)] + ["\udcff", "\uffff", "\U0001f600"]
    table = Table[int]()
    assert all(table.add(name, number) for number, name in enumerate(names))
    assert not any(table.add(name, -1) for name in (*names[:3], *names[-3:]))
    assert [*table] == [names.index(name) for name in sorted(names)]
    assert (table.get(names[5]), table.get(names[-1]), table.get("none")) == (5, len(names) - 1, None)
    assert names[0] in table
    assert "none" not in table


FREED = """
from lucid import forks
from lucid.run.process import _keep_freed_memory

def memory():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))

_keep_freed_memory()
chunks = [bytes([1]) * (1 << 20) for _ in range(32)]
end = [bytes(1 << 20)]
del chunks
before = memory()
for _ in forks.in_order(len, [b""], workers=1, in_flight=1):
    print(before - memory())
"""


def test_processes_have_the_memory_that_was_freed_before():
    run = subprocess.run([sys.executable, "-c", FREED], check=True, capture_output=True, text=True)
    assert int(run.stdout) > 24 << 20
