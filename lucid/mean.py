"""An array pooled to a size: where `pooling`, the plan and what comes out of them meet."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lucid.formats.contract import (
    Array,
    ArraySpec,
    Pooled,
    Region,
    Sink,
    fitted_chunks,
    shape_of,
    size_of,
)
from lucid.formats.disk.journal import Journal
from lucid.formats.meaning import meaning_of, reduction_of
from lucid.formats.result import fill_of
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.pooling.average import Accumulator, Pooling, SlabSums, Span
from lucid.pooling.dtypes import Numbers, numbers
from lucid.pooling.jit import Kernels
from lucid.pooling.stacks import stacks
from lucid.pooling.windows import Grid
from lucid.report import DatasetReport
from lucid.streaming.engine import Output
from lucid.streaming.plan import Plan, share_blocks


class Mean(NamedTuple):
    """One array pooled to one size: the arithmetic, the blocks, what comes out and where."""

    pooling: Pooling
    plan: Plan
    pooled: Pooled
    target: Path


class RuleFields(NamedTuple):
    """What the arithmetic has to know of an array, but for its windows."""

    source: str
    result: str
    reduce: str
    skip_nan: bool
    missing: tuple[int | float, ...]
    min_valid: float
    fill: int | float

    @property
    def nan(self) -> str:
        """The rule for NaN by its name."""
        return "skip" if self.skip_nan else "propagate"


def rule_of(
    spec: ArraySpec, result: str, *, nan: str | None = None, reduce: str = "mean", min_valid: float = 0.0
) -> RuleFields:
    """How an array is pooled, by the options and by what its file says of the numbers."""
    meaning = spec.meaning or meaning_of({}, spec.numbers, nan=nan)
    return RuleFields(
        source=meaning.numbers,
        result=result,
        reduce=reduction_of(meaning, reduce),
        skip_nan=meaning.skip_nan,
        missing=meaning.missing,
        min_valid=min_valid,
        fill=fill_of(meaning, result),
    )


def pooling_of(spec: ArraySpec, grid: Grid, kinds: Numbers, nan: str | None, kernels: Kernels) -> Pooling:
    """The arithmetic of an array. Missing cells are NaN in it, see `Pool`, until it knows them itself."""
    rule = rule_of(spec, kinds.result, nan=nan)
    if rule.missing:
        return Pooling(grid, numbers("float64", kinds.result), skip_nan=True, kernels=Kernels.NUMPYS)
    return Pooling(grid, kinds, rule.skip_nan, kernels=kernels)


def coarsen(plane: Array, size: tuple[int, int]) -> Array:
    """Means of coordinates at a size: where the output cells are."""
    means: Array = adaptive_avg_pool2d(plane[None, None], size, nan="skip")[0, 0]
    return means


def output_of(mean: Mean, write: Callable[[Region, Array], None]) -> Output:
    """What the engine is to do for an array, and where its means go."""
    missing = rule_of(mean.pooled.source, mean.pooled.numbers).missing
    return Output(mean.plan, Pool(mean.pooling, mean.plan.lead_axes, missing), write, mean.pooled.dtype)


def passes_of(means: list[Mean]) -> list[list[Mean]]:
    """All sizes in one pass over the array, or each in its own where planes exceed the memory."""
    return [means] if share_blocks([mean.plan for mean in means]) else [[mean] for mean in means]


def reports_of(means: list[Mean]) -> Iterator[DatasetReport]:
    """What was done to an array, size by size."""
    costs = [mean.plan.costs for mean in means]
    shared = share_blocks([mean.plan for mean in means])
    for mean, own in zip(means, costs, strict=True):
        spec, pooled = mean.plan.spec, mean.pooled
        others = sum(c.output_bytes for c in costs) - own.output_bytes if shared else 0
        yield DatasetReport(
            spec.name,
            spec.shape,
            spec.numbers,
            mean.target,
            pooled.name,
            pooled.stored_shape,
            pooled.numbers,
            spec.nbytes,
            pooled.nbytes,
            mean.plan.workers * (own.total_bytes + others),
            sum(1 for _ in mean.plan.blocks()) if pooled.nbytes else 0,
            spec.chunks[0] if spec.chunks else 1,
            fitted_chunks(pooled)[0],
        )


def copy_from(journal: Journal, offset: int, mean: Mean, sink: Sink) -> None:
    """Copy an array of means from the spool, block by block, as it was planned."""
    pooled = mean.pooled
    for block in mean.plan.blocks() if pooled.nbytes else ():
        values = np.empty(shape_of(block.region), pooled.dtype)
        flat = values.reshape(-1).view(np.uint8)
        journal.read(offset, pooled.shape, block.region, pooled.dtype.itemsize, flat)
        sink.write(pooled, block.region, values)


class Pool:
    """`Pooling` for arrays of any rank, as the engine wants it."""

    def __init__(self, pooling: Pooling, height_axis: int, missing: tuple[int | float, ...] = ()) -> None:
        self._pooling, self._height_axis, self._missing = pooling, height_axis, missing

    def _valid(self, cells: Array) -> Array:
        """The cells with NaN for missing ones."""
        if not self._missing:
            return cells
        valid = cells.astype(np.float64)
        valid[np.isin(cells, np.array(self._missing).astype(cells.dtype))] = np.nan
        return valid

    def means(self, cells: Array, out: Array, rows: Span, cols: Span) -> None:
        cells = self._valid(cells)
        for planes, means in stacks(cells, out, self._height_axis):
            self._pooling.means(planes, means, rows, cols)

    def sums(self, cells: Array, row_slabs: Span, col_slabs: Span) -> list[SlabSums]:
        return self._pooling.slab_sums(_four(self._valid(cells), self._height_axis), row_slabs, col_slabs)

    def total(self, shape: tuple[int, ...], rows: Span, cols: Span) -> "Total":
        h = self._height_axis
        sums = Accumulator(self._pooling, rows, cols, size_of(shape[:h]), size_of(shape[h + 2 :]))
        return Total(sums, h)


class Total:
    """Sums over pieces, as the engine wants them."""

    def __init__(self, sums: Accumulator, height_axis: int) -> None:
        self._sums, self._height_axis = sums, height_axis

    def add(self, slabs: list[SlabSums]) -> None:
        self._sums.add(slabs)

    def means(self, out: Array) -> None:
        self._sums.means(_four(out, self._height_axis))


def _four(array: Array, height_axis: int) -> Array:
    """(planes, height, width, inner) in the array's own order of axes, so that pieces agree."""
    lead, trail = array.shape[:height_axis], array.shape[height_axis + 2 :]
    plane = array.shape[height_axis : height_axis + 2]
    return array.reshape(size_of(lead), *plane, size_of(trail))
