"""Peak memory: of a whole call beyond the interpreter and libraries, against `max_memory`."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from lucid.formats.hdf5.source import Hdf5Source
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

small, large, target, limit = sys.argv[1:]
_keep_freed_memory()
lucid.pool_file(small, target, overwrite=True, size=1, threads=1)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
lucid.pool_file(large, target, overwrite=True, size=1, threads=1, max_memory=int(limit))
print(status("VmHWM") - before)
"""
#: In chunks of 6.5 MB.
SHAPE, CHUNK_SAMPLES, CHUNK_BYTES = (200, 4, 64, 64), 100, 100 << 16
#: What a measurement may be off by.
MARGIN_BYTES = 4 << 20

FILTERS = {
    "gzip": {"compression": "gzip", "compression_opts": 1},
    "shuffled gzip": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "checksum": {"fletcher32": True},
    "szip": {"compression": "szip"},
    "lzf": {"compression": "lzf"},
}


@pytest.mark.parametrize(
    "name",
    [
        "szip",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("shuffled gzip", "gzip", "checksum", "lzf")),
    ],
)
def test_decoding_a_chunk_takes_no_more_memory_than_planned(tmp_path, rng, name):
    """A limit with room for the copies of a chunk, and for its cells."""
    paths = [tmp_path / file for file in ("small.h5", "large.h5", "y.h5")]
    for path, shape in zip(paths, ((2, 4, 8, 8), SHAPE), strict=False):
        with h5py.File(path, "w") as file:  # numbers that hardly compress: a chunk is as large encoded
            chunks = (min(CHUNK_SAMPLES, shape[0]), *shape[1:])
            file.create_dataset("x", data=rng.random(shape, np.float32), chunks=chunks, **FILTERS[name])
    with Hdf5Source(paths[1], Options()) as source:
        (spec,) = source.choose(())
    limit = (spec.chunk_copies + 1) * CHUNK_BYTES + (1 << 16)
    command = [sys.executable, "-c", SCRIPT, *map(str, paths), str(limit)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(run.stdout) <= limit + MARGIN_BYTES
