"""Blocks are read, pooled and written: every cell once, by any number of workers, whole or by columns."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from slow import slow

from lucid.errors import MemoryLimitError
from lucid.execution import carry_out
from lucid.formats.arrays import ArraySpec
from lucid.formats.contract import Sink, Source
from lucid.formats.registry import NPY
from lucid.job_plan import plan
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.options import Options
from lucid.outputs import Target
from lucid.report import Watch


class ArraySource(Source):
    """An array in memory."""

    def __init__(self, array, options):
        super().__init__(Path("x"), options)
        self.array = array

    def choose(self, patterns):
        return (ArraySpec("x", self.array.shape, self.array.dtype, self.array.dtype.name),)

    def read(self, spec, region, buffer):
        cells = self.array[region]
        view = buffer[: cells.nbytes].view(cells.dtype).reshape(cells.shape)
        view[...] = cells
        return view

    def check_unchanged(self):
        pass

    def close(self):
        pass


class ArraySink(Sink):
    """One that keeps what is written, in memory."""

    def begin(self, source, pooled):
        self.arrays = {one.name: np.zeros(one.shape, one.dtype) for one in pooled}

    def write(self, pooled, region, values):
        self.arrays[pooled.name][region] = values

    def commit(self, group=None):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("in_sequence", [False, True])
@pytest.mark.parametrize("shape", [(9, 5, 6, 7), (1, 1, 700, 800)])
def test_every_block_is_read_pooled_and_written(workers, in_sequence, shape, rng, monkeypatch):
    x = rng.standard_normal(shape)
    options = Options(sizes=[1, (2, 3)], max_memory=1 << 20, threads=workers)
    sink = ArraySink(Path("y.npz"), options)
    sink.in_sequence = in_sequence
    monkeypatch.setattr(Target, "create", lambda *_, **__: sink)
    source, target = ArraySource(x, options), Target(Path("y.npz"), NPY, (0, 1))
    job, watch = plan(source, options, (target,)), Watch(source=Path("x"))
    carry_out(job, source, watch)
    assert watch.done_bytes == job.input_bytes == x.nbytes * len(list(job.passes))
    for size, name in ((1, "x_1x1"), ((2, 3), "x_2x3")):
        assert np.array_equal(sink.arrays[name], adaptive_avg_pool2d(x, size))


@pytest.mark.parametrize(("reduce", "max_memory"), [("mean", 1 << 20), ("max", 3 << 20)])
@pytest.mark.parametrize("size", [1, *slow(((1, "keep"),), ((3, 1),))])
@pytest.mark.parametrize("dtype", ["uint8", *slow("float64", "int64")])
def test_regions_of_columns_take_no_more_memory_than_planned(dtype, size, reduce, max_memory, monkeypatch):
    """What NumPy makes of the cells counts, too: it is many times what is read."""
    x = np.ones((1, 1, 400, 3000) if dtype == "uint8" and size != 1 else (1, 1, 1200, 1000), dtype)
    x = np.broadcast_to(x, (1, 3, *x.shape[2:]))
    options = Options(sizes=[size], max_memory=max_memory, threads=2, missing=[3], reduce=reduce)
    sink = ArraySink(Path("y.npz"), options)
    monkeypatch.setattr(Target, "create", lambda *_, **__: sink)
    source, target = ArraySource(x, options), Target(Path("y.npz"), NPY, (0,))
    job = plan(source, options, (target,))
    tracemalloc.start()
    try:
        carry_out(job, source, Watch(source=Path("x")))
        assert tracemalloc.get_traced_memory()[1] - sink.arrays["x"].nbytes <= max_memory
    finally:
        tracemalloc.stop()
    assert (sink.arrays["x"] == 1).all()


@pytest.mark.parametrize("dtype", ["uint8", "float64", "int64"])
def test_numpy_alone_takes_no_more_memory_than_planned(dtype, monkeypatch):
    """There are fewer workers than with the kernel, whose arithmetic takes nothing; it has no integers of 64 bits."""
    x = np.broadcast_to(np.ones((1, 1, 64, 64), dtype), (40, 16, 64, 64))
    options = Options(sizes=[4], max_memory=32 << 20, threads=4, missing=[3])
    sink = ArraySink(Path("y.npz"), options)
    monkeypatch.setattr(Target, "create", lambda *_, **__: sink)
    source, target = ArraySource(x, options), Target(Path("y.npz"), NPY, (0,))
    ((blocks, _),) = plan(source, options, (target,)).passes
    assert blocks.workers == (1 if dtype == "int64" else 4)
    monkeypatch.setattr("lucid.pooling.means.kernel", None)
    job = plan(source, options, (target,))
    ((blocks, _),) = job.passes
    assert blocks.workers == 1
    tracemalloc.start()
    try:
        carry_out(job, source, Watch(source=Path("x")))
        # Cells are read into maps, which are not traced.
        taken = tracemalloc.get_traced_memory()[1] - sink.arrays["x"].nbytes
        assert taken + blocks.workers * blocks.input_bytes <= options.max_memory
    finally:
        tracemalloc.stop()
    assert (sink.arrays["x"] == 1).all()


@pytest.mark.parametrize(
    ("copies", "chunks_of_memory", "workers"),
    [
        (0, 4, 2),
        (2, 6.1, 2),
        (2, 5, 1),
        (5, 12.1, 2),
        (5, 6.1, 1),
        (5, 5, 0),
        (3, 8.1, 2),
        (3, 7, 1),
        (3, 3, 0),
    ],
)
def test_workers_have_room_for_what_filters_take(copies, chunks_of_memory, workers):
    """There are fewer, so that a chunk is decoded once; where one has no room, the limit that it needs is named."""
    spec = ArraySpec("x", (900, 4, 64, 64), np.dtype("f4"), "float32", (100, 4, 64, 64), copies)
    source = ArraySource(np.broadcast_to(np.float32(1), spec.shape), Options())
    source.choose = lambda _: (spec,)
    options = Options(sizes=[1], max_memory=int(chunks_of_memory * (100 << 16)), threads=2)
    if not workers:
        with pytest.raises(
            MemoryLimitError, match=r"needs `max_memory` of at least \d+ bytes, for its chunks of 6553600 b"
        ):
            plan(source, options, (Target(Path("y"), NPY, (0,)),))
        return
    ((blocks, _),) = plan(source, options, (Target(Path("y"), NPY, (0,)),)).passes
    assert (blocks.workers, blocks.is_whole) == (workers, True)


@pytest.mark.parametrize("side", [2048, 512])
def test_blocks_that_fill_the_memory_leave_room_for_what_filters_take(side):
    spec = ArraySpec("x", (4, 1, 8192, 8192), np.dtype("f4"), "float32", (1, 1, side, side), 5)
    source = ArraySource(np.broadcast_to(np.float32(1), spec.shape), Options())
    source.choose = lambda _: (spec,)
    options = Options(sizes=[64], max_memory=256 << 20, threads=2)
    ((blocks, _),) = plan(source, options, (Target(Path("y"), NPY, (0,)),)).passes
    assert blocks.workers == 2
    assert blocks.peak_bytes <= options.max_memory < 2 * blocks.peak_bytes
    assert blocks.chunk_bytes == 5 * side * side * 4


def test_a_single_block_needs_no_thread(monkeypatch):
    x = np.ones((2, 3, 4, 5))
    options = Options(sizes=[1], threads=4)
    sink = ArraySink(Path("y.npz"), options)
    monkeypatch.setattr(Target, "create", lambda *_, **__: sink)
    monkeypatch.setattr("lucid.threads.threading.Thread", None)
    source, target = ArraySource(x, options), Target(Path("y.npz"), NPY, (0,))
    carry_out(plan(source, options, (target,)), source, Watch(source=Path("x")))
    assert sink.arrays["x"].tolist() == np.ones((2, 3, 1, 1)).tolist()
