"""The engine knows arrays and functions only: here it pools a list."""

import numpy as np
import pytest

from lucid.formats.arrays import ArraySpec
from lucid.pooling.windows import make_grid
from lucid.run.blocking import make_plan
from lucid.run.blocks import Output, run


class Sums:
    """Pooling to 1x1 as plain sums."""

    def means(self, cells, out, rows, cols):
        out[...] = cells.sum((2, 3), keepdims=True)
        return 1

    def columns(self, cuts):
        return sum(cells.sum((2, 3), keepdims=True) for cells in cuts)

    def total(self, rows, cols):
        class Total:
            value = 0

            def add(self, columns, left):
                self.value = self.value + columns

            def finish(self, out):
                out[...] = self.value
                return 1

        return Total()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("shape", [(9, 5, 6, 7), (1, 1, 700, 800)])
def test_every_block_is_read_pooled_and_written(workers, shape, rng):
    x = rng.integers(0, 9, shape).astype(np.int64)
    spec = ArraySpec("x", shape, x.dtype, "int64")
    plan = make_plan(spec, make_grid(shape[2:], (1, 1)), 2, 8, max_memory=1 << 21, workers=workers)
    out = np.zeros(plan.output_shape, np.int64)

    def read(spec, region, buffer):
        cells = x[region]
        view = buffer[: cells.nbytes].view(x.dtype).reshape(cells.shape)
        view[...] = cells
        return view

    def write(region, means):
        out[region] = means

    steps = list(run([Output(plan, Sums(), write, out.dtype)], read))
    assert sum(step.input_bytes for step in steps) == x.nbytes
    assert sum(step.overflows for step in steps) == plan.block_count
    assert np.array_equal(out, x.sum((2, 3), keepdims=True))
