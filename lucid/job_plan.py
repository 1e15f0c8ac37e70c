"""`plan`: options and an open source, to arrays, sizes, blocks and outputs.

The one planning function: of pooling, of a dry run, of a shard, of joining shards. It reads shapes and
nothing else, and all that it says is arithmetic, so it answers at once whatever the sizes are.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import lucid
from lucid.dims import Plane, plane_of
from lucid.errors import ArgumentError, DatasetError, named
from lucid.formats.arrays import Array, ArraySpec, Pooled
from lucid.formats.contract import Source
from lucid.formats.meaning import check_sums, meaning_of, reduction_of
from lucid.formats.regions import Region, size_of
from lucid.formats.registry import resolved
from lucid.formats.result import fill_of, result_for
from lucid.kinds import slice_name
from lucid.missing import parse_missing
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.options import Options
from lucid.outputs import Target
from lucid.pooling.dtypes import FLOATS, storage
from lucid.pooling.means import Columns, Pooling, Total, columns
from lucid.pooling.stacks import stacks
from lucid.pooling.sums import Rule, result_of
from lucid.pooling.windows import Span, make_grid
from lucid.report import DatasetReport
from lucid.run.blocking import Plan, make_plans, share_blocks
from lucid.run.blocks import Output
from lucid.sizes import resolve

#: What a shard holds: of arrays, by name, a box of their first axes.
Regions = Mapping[str, Region]


#: Blocks under way where reads wait for a network.
FAR_READS = 8


class ArrayPlan(NamedTuple):
    """One array, or a box of it, pooled to one size: the arithmetic, the blocks, what comes out and where."""

    pooling: Pooling
    blocks: Plan
    pooled: Pooled
    target: Target
    #: The number of the size.
    size: int

    def named(self, name: str, options: Options) -> "ArrayPlan":
        """The same plan for an array of another name."""
        spec = self.pooled.source._replace(name=name)
        pooled = self.pooled._replace(source=spec, name=self.target.name_of(name, options.pairs[self.size]))
        return self._replace(blocks=self.blocks._replace(spec=spec), pooled=pooled)

    def output(self, write: Callable[[Region, Array], None]) -> Output:
        """What the engine is to do, and where the means go."""
        return Output(self.blocks, Pool(self.pooling, self.blocks.lead_axes), write, self.pooled.dtype)


@dataclass(frozen=True)
class JobPlan:
    """All that is to be done for one input."""

    path: Path
    options: Options
    targets: tuple[Target, ...]
    #: The arrays of the source that were chosen, whole.
    specs: Sequence[ArraySpec]
    #: What is pooled: every array, at every size.
    arrays: Sequence[Sequence[ArrayPlan]]
    #: Whether the source is a stream, which gives what it has once and in order.
    in_sequence: bool = False

    def every(self) -> Iterator[ArrayPlan]:
        """All arrays of means."""
        for sizes in self.arrays:
            yield from sizes

    def of(self, target: Target) -> list[ArrayPlan]:
        """The arrays of means that go to one output."""
        return [array for array in self.every() if array.target is target]

    def passes(self) -> list[Sequence[ArrayPlan]]:
        """All sizes of an array in one pass over it, or each in its own where planes exceed the memory."""
        found: list[Sequence[ArrayPlan]] = []
        for sizes in self.arrays:
            shared = share_blocks([array.blocks for array in sizes])
            found += [sizes] if shared else [[array] for array in sizes]
        return [arrays for arrays in found if 0 not in arrays[0].pooled.shape]

    @property
    def input_bytes(self) -> int:
        """Bytes to be read, over all passes."""
        return sum(arrays[0].blocks.spec.nbytes for arrays in self.passes())

    def within(self, regions: Regions, targets: tuple[Target, ...], facts: dict[str, Any]) -> "JobPlan":
        """The plan of a shard: these boxes to these outputs. `facts` are those that all shards share."""
        specs = [spec for spec in self.specs if spec.name in regions]
        boxes = [spec.box(regions[spec.name]) for spec in specs]
        arrays = [
            _plans_of(self.options, spec, box, targets, facts, in_sequence=self.in_sequence)
            for spec, box in zip(specs, boxes, strict=True)
        ]
        return replace(self, targets=targets, arrays=arrays)

    def only(self, targets: Sequence[Target]) -> "JobPlan":
        """The plan of some of the outputs."""
        kept = [[array for array in sizes if array.target in targets] for sizes in self.arrays]
        return replace(self, targets=tuple(targets), arrays=kept)

    def reports(self) -> Iterator[DatasetReport]:
        """What is done to every array, size by size."""
        for sizes in self.arrays:
            costs = [array.blocks.costs for array in sizes]
            is_shared = share_blocks([array.blocks for array in sizes])
            for array, own in zip(sizes, costs, strict=True):
                spec, pooled, blocks = array.blocks.spec, array.pooled, array.blocks
                others = sum(c.output_bytes for c in costs) - own.output_bytes if is_shared else 0
                yield DatasetReport(
                    name=spec.name,
                    input_shape=spec.shape,
                    input_dtype=spec.numbers,
                    target=array.target.path,
                    output_name=pooled.name,
                    output_shape=pooled.stored_shape,
                    output_dtype=pooled.numbers,
                    input_bytes=spec.nbytes,
                    output_bytes=pooled.nbytes,
                    blocks_bytes=blocks.workers * (own.total_bytes + others),
                    blocks=blocks.block_count,
                    input_chunk=spec.chunks[0] if spec.chunks else 1,
                    output_chunk=pooled.chunks[0],
                )


def plan(source: Source, options: Options, targets: tuple[Target, ...]) -> JobPlan:
    """What is to be done for an open source.

    Raises
    ------
    DatasetError
        An array that was named is not there; no array has any of the samples wanted.
    MemoryLimitError
        Not even the smallest block fits the memory.

    """
    if source.is_far and options.threads is None:
        options = replace(options, threads=max(FAR_READS, options.workers))
    job = choose(source, options, targets)
    source.notes += dict.fromkeys(_notes(job))
    if options.slice is not None:
        return job.within(_regions_of(job.specs, options.slice), targets, facts_of(source, job))
    # A file may have a hundred thousand arrays that differ in their names alone.
    alike: dict[ArraySpec, list[ArrayPlan]] = {}
    every = []
    for spec in job.specs:
        plans = alike.get(unnamed := spec._replace(name=""))
        if plans is None:
            plans = _plans_of(options, spec, spec, targets, None, in_sequence=job.in_sequence)
            alike[unnamed] = plans
        every.append([array.named(spec.name, options) for array in plans])
    return replace(job, specs=[sizes[0].pooled.source for sizes in every if sizes], arrays=every)


def choose(source: Source, options: Options, targets: tuple[Target, ...]) -> JobPlan:
    """The arrays that are pooled, not yet planned."""
    specs = list(source.choose(options.datasets))
    if not options.datasets:
        # Some formats oblige files to hold a dataset though there is nothing for it.
        specs = [spec for spec in specs if 0 not in plane_in(spec, options)[1]] or specs
    for spec in specs:
        if (options.flatten or options.slice is not None) and plane_in(spec, options)[0].height_axis == 0:
            name = "flatten" if options.flatten else "slice"
            raise ArgumentError(f"`{name}` needs the first axis, which is pooled in {spec.name}")
    return JobPlan(source.path, options, targets, specs, (), source.in_sequence)


def facts_of(source: Source, job: JobPlan) -> dict[str, Any]:
    """What shards must have in common to be joined: the source as it is now, and the options."""
    return {
        "source": str(resolved(source.path)),
        "signature": source.signature(job.specs),
        "options": job.options.result(),
    }


def _regions_of(specs: Sequence[ArraySpec], samples: slice) -> Regions:
    lengths = [spec.shape[0] for spec in specs]
    regions = {}
    for spec in specs:
        start, stop, _ = samples.indices(spec.shape[0])
        regions[spec.name] = (slice(start, max(start, stop)),)
    if any(lengths) and not any(region[0].stop > region[0].start for region in regions.values()):
        raise DatasetError(f"has {max(lengths)} samples; expected some in slice {slice_name(samples)}")
    return regions


def _plans_of(
    options: Options,
    spec: ArraySpec,
    box: ArraySpec,
    targets: tuple[Target, ...],
    facts: dict[str, Any] | None,
    *,
    in_sequence: bool,
) -> list[ArrayPlan]:
    """An array, or a box of it, pooled to every size."""
    (h, is_swapped), plane = plane_in(spec, options)
    sizes = [size[::-1] if is_swapped else size for size in options.pairs]
    output_sizes = [resolve(size, plane) for size in sizes]
    rule = rule_of(spec, options, targets)
    if spec.meaning is not None and options.reduce == "sum":
        for size in output_sizes:
            check_sums(spec.meaning, plane, size)
    dtype = storage(rule.result)
    plans = make_plans(
        box,
        [make_grid(plane, size) for size in output_sizes],
        h,
        dtype.itemsize,
        max_memory=options.max_memory,
        workers=options.workers + in_sequence,
        whole_planes=in_sequence,
    )
    arrays = []
    for number, blocks in enumerate(plans):
        target = next((target for target in targets if number in target.sizes), None)
        if target is None:
            continue
        numbers = options.result(only="numbers")
        provenance: dict[str, Any] = {
            "version": lucid.__version__,
            "operation": numbers.pop("reduce"),
            "source_shape": list(spec.shape),
            "source_dtype": spec.numbers,
            "layout": options.layout,
            "output_size": list(output_sizes[number]),
            **numbers,
            "nan": "skip" if rule.skip_nan else "propagate",
            "missing": list(rule.missing),
        }
        if facts is not None:
            region = [[a, a + n] for a, n in zip(box.offset, box.shape, strict=False)]
            provenance["shard"] = {"dataset": spec.name, "size": number, "region": region} | facts
        pooled = Pooled(
            source=spec,
            name=target.name_of(spec.name, options.pairs[number]),
            shape=blocks.output_shape,
            dtype=dtype,
            numbers=rule.result,
            provenance=json.dumps(provenance),
            height_axis=h,
            flat=options.flatten,
            is_shard=facts is not None,
            coarsen=coarsen,
            reduce=options.reduce,
        )
        arrays.append(ArrayPlan(Pooling(blocks.grid, rule), blocks, pooled, target, number))
    return arrays


def plane_in(spec: ArraySpec, options: Options) -> tuple[Plane, tuple[int, int]]:
    """Which two axes of an array are pooled, and their lengths."""
    names = options.names
    with named(f"dataset {spec.name}"):
        plane = Plane(options.height_axis) if names is None else plane_of(spec.dims, names)
    h = plane.height_axis
    return plane, (spec.shape[h], spec.shape[h + 1])


def rule_of(spec: ArraySpec, options: Options, targets: Sequence[Target] = ()) -> Rule:
    """What is done with the cells of an array, by the options and by what its file says of the numbers."""
    missing = parse_missing(options.missing)
    meaning = spec.meaning or meaning_of({}, spec.numbers, missing=missing, nan=options.nan)
    result = result_of(spec.numbers, options.reduce, options.dtype_name)
    for target in targets:
        result, _ = result_for(result, target.path.suffix)
    return Rule(
        source=meaning.numbers,
        result=result,
        reduce=reduction_of(meaning, options.reduce),
        skip_nan=meaning.skip_nan,
        missing=meaning.missing,
        min_valid=options.min_valid,
        fill=0 if result in FLOATS else int(fill_of(meaning, result)),
    )


def _notes(job: JobPlan) -> Iterator[str]:
    """A line where results are of another type than was wanted."""
    for spec in job.specs:
        wanted = result_of(spec.numbers, job.options.reduce, job.options.dtype_name)
        for target in job.targets:
            _, note = result_for(wanted, target.path.suffix)
            if note is not None:
                yield note


def coarsen(planes: Array, size: tuple[int, int]) -> Array:
    """Means of coordinates (planes, height, width) at a size: where the output cells are."""
    means: Array = adaptive_avg_pool2d(planes, size, nan="skip")
    return means


class Pool:
    """`Pooling` for arrays of any rank, as the engine wants it."""

    def __init__(self, pooling: Pooling, height_axis: int) -> None:
        self._pooling, self._height_axis = pooling, height_axis

    def means(self, cells: Array, out: Array, rows: Span, cols: Span) -> int:
        every = stacks(cells, out, self._height_axis)
        return sum(self._pooling.means(planes, results, rows, cols) for planes, results in every)

    def columns(self, cuts: Iterable[Array]) -> Columns:
        return columns((self._four(cells) for cells in cuts), self._pooling.rule)

    def total(self, rows: Span, cols: Span) -> "_Total":
        return _Total(Total(self._pooling, rows, cols), self._four)

    def _four(self, array: Array) -> Array:
        """(planes, height, width, inner) in the array's own order of axes, so that strips agree."""
        h = self._height_axis
        return array.reshape(size_of(array.shape[:h]), *array.shape[h : h + 2], size_of(array.shape[h + 2 :]))


class _Total(NamedTuple):
    """`Total` for results of any rank."""

    total: Total
    four: Callable[[Array], Array]

    def add(self, columns: Columns, left: int) -> None:
        self.total.add(columns, left)

    def finish(self, out: Array) -> int:
        return self.total.finish(self.four(out))
