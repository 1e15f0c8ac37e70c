"""`plan`: options and an open source, to arrays, sizes, blocks and outputs.

The one planning function: of pooling, of a dry run, of a shard, of joining shards. It reads what describes arrays, such
as shapes and attributes, never their cells. All else is arithmetic, so it answers at once whatever the sizes are.
"""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from lucid.backlog import Backlog
from lucid.blocking import Blocking, blockings
from lucid.errors import DatasetError, FileError
from lucid.formats.arrays import ArraySpec, Meaning, ResultSpec
from lucid.formats.choosing import note_lines
from lucid.formats.contract import FAR_READS, Source
from lucid.formats.meaning import check_sums, meaning_by, reduction_of
from lucid.formats.paths import real_path
from lucid.formats.regions import Region, size_of
from lucid.formats.result import chunks_of, fill_of, result_for
from lucid.kinds import slice_name
from lucid.options import Options
from lucid.outputs import Target
from lucid.pooling.dtypes import FLOATS, storage
from lucid.pooling.means import Pooling
from lucid.pooling.sums import Rule, result_of
from lucid.pooling.windows import make_grid
from lucid.report import DatasetReport
from lucid.sizes import Size, resolve, size_name
from lucid.version import __version__

#: What a shard holds: a region of the first axes of each array, by its number among those that are chosen.
Regions: TypeAlias = Mapping[int, Region]
#: Bytes of an array, more than any file system holds. With headers they still count in 64 bits.
MOST_BYTES = 1 << 60


class Plane(NamedTuple):
    """The two axes that are pooled: the first of them, their lengths, and whether it is the second one named."""

    height_axis: int
    lengths: tuple[int, int]
    is_swapped: bool = False

    def resolve(self, size: Size) -> tuple[int, int]:
        """The lengths that a size gives to these axes."""
        return resolve(size[::-1] if self.is_swapped else size, self.lengths)


class ArrayPlan(NamedTuple):
    """One array of means: the arithmetic, what comes out and where."""

    pooling: Pooling
    result: ResultSpec
    target: Target
    #: The number of the size.
    size: int
    #: The first cell of the region of the source; () for the whole array.
    offset: tuple[int, ...] = ()
    #: The number of its source among all arrays that were chosen.
    source_index: int = 0


class Pass(NamedTuple):
    """One array, or a region of it, streamed once: its blocks, and the arrays of means that are made of them."""

    blocks: Blocking
    arrays: Sequence[ArrayPlan]


@dataclass(frozen=True)
class JobPlan:
    """All that is to be done for one input."""

    options: Options
    #: The outputs that are to be made.
    targets: tuple[Target, ...]
    #: The arrays of the source that were chosen, whole.
    specs: Sequence[ArraySpec]
    #: How arrays are pooled, once for all that differ in their names alone: a hundred thousand may.
    groups: Sequence[Sequence[Pass]]
    #: Which arrays are pooled, by their numbers in `specs`, and the number of the group that each is of.
    indices: Sequence[int]
    group_numbers: Sequence[int]

    def only(self, targets: tuple[Target, ...]) -> "JobPlan":
        """The same for some of its outputs."""

        def kept(one: Pass) -> Pass:
            arrays = [array for array in one.arrays if array.target in targets]
            return Pass(one.blocks._replace(grids=tuple(array.pooling.grid for array in arrays)), arrays)

        groups = [[one for one in map(kept, passes) if one.arrays] for passes in self.groups]
        return replace(self, targets=targets, groups=groups)

    @property
    def passes(self) -> Iterator[Pass]:
        """How they are pooled, array by array."""
        for position in range(len(self.indices)):
            yield from self._passes_at(position)

    def _passes_at(self, position: int) -> Iterator[Pass]:
        """Those of one array: of its group, under its name."""
        index = self.indices[position]
        spec = self.specs[index]
        for blocks, group_arrays in self.groups[self.group_numbers[position]]:
            arrays = []
            for array in group_arrays:
                sizes = array.target.sizes
                name = array.target.name_of(spec.name, self.options.sizes[array.size])
                number = position * len(sizes) + sizes.index(array.size)
                result = array.result._replace(source=spec, name=name, number=number)
                arrays.append(array._replace(result=result, source_index=index))
            yield Pass(blocks._replace(spec=blocks.spec._replace(name=spec.name, handle=spec.handle)), arrays)

    def arrays(self, target: Target | None = None) -> Iterator[ArrayPlan]:
        """The arrays of means, all or those that go to one output."""
        for one in self.passes:
            yield from (array for array in one.arrays if target in (None, array.target))

    def array(self, index: int, size: int) -> ArrayPlan | None:
        """The means of one array of the source at one size, if they are to be made."""
        passes = self._passes_at(bisect_left(self.indices, index))
        return next((array for one in passes for array in one.arrays if array.size == size), None)

    def results_of(self, target: Target) -> Sequence[ResultSpec]:
        """What goes to one output."""
        return Backlog(array.result for array in self.arrays(target))

    @property
    def is_sequential(self) -> bool:
        """Whether it is one array to be pooled as its cells come, in one pass."""
        return [blocks.is_sequential for blocks, _ in islice(self.passes, 2)] == [True]

    @property
    def input_bytes(self) -> int:
        """Bytes to be read, over all passes."""
        group_bytes = [sum(blocks.spec.nbytes for blocks, _ in passes) for passes in self.groups]
        return sum(group_bytes[number] for number in self.group_numbers)

    def reports(self) -> Iterator[DatasetReport]:
        """What is done to every array, size by size."""
        for blocks, arrays in self.passes:
            spec = blocks.spec
            for array in arrays:
                yield DatasetReport(
                    name=spec.name,
                    input_shape=spec.shape,
                    input_dtype=spec.numbers,
                    target=array.target.path,
                    output_name=array.result.name,
                    output_shape=array.result.stored_shape,
                    output_dtype=array.result.numbers,
                    input_bytes=spec.nbytes,
                    output_bytes=array.result.nbytes,
                    blocks_bytes=blocks.peak_bytes,
                    blocks=blocks.block_count,
                    input_chunk=spec.chunks[0] if spec.chunks else 1,
                    output_chunk=chunks_of(array.result)[0],
                )


def plan(source: Source, options: Options, targets: tuple[Target, ...]) -> JobPlan:
    """What is to be done for an open source."""
    specs = choose(source, options)
    if options.threads is None and any(spec.is_far for spec in specs):
        options = replace(options, threads=max(FAR_READS, options.workers))
    if options.slice is not None:
        regions = slice_regions(specs, options, options.slice)
        return plan_shard(specs, options, targets, regions, facts_of(source, specs, options))
    groups, numbers, group_numbers = list[list[Pass]](), dict[ArraySpec, int](), list[int]()
    for spec in specs:
        # What an array has in common with others that are pooled as it is.
        number = numbers.setdefault(spec._replace(name="", handle=None), len(groups))
        if number == len(groups):
            groups.append(_passes(options, spec, spec, targets, whole_planes=source.in_sequence))
        group_numbers.append(number)
    return JobPlan(options, targets, specs, groups, range(len(specs)), group_numbers)


def plan_shard(
    specs: Sequence[ArraySpec],
    options: Options,
    targets: tuple[Target, ...],
    regions: Regions,
    facts: dict[str, Any],
) -> JobPlan:
    """What is to be done for some regions of arrays; `facts` are those that all shards share."""
    groups = []
    for index, region in regions.items():
        spec = specs[index]
        groups.append(_passes(options, spec, spec.within(region), targets, facts))
    return JobPlan(options, targets, specs, groups, [*regions], range(len(groups)))


def choose(source: Source, options: Options) -> Sequence[ArraySpec]:
    """The arrays that are pooled; of those that nobody named, only the ones that can be."""
    specs, errors = Backlog[ArraySpec](), dict[str, DatasetError]()
    for spec in source.choose(options.datasets):
        if options.missing:
            # Where a file says nothing of its numbers, the option does, to outputs as well.
            spec = spec._replace(meaning=_meaning_in(spec, options))
        try:
            plane = plane_in(spec, options)
            for size in map(plane.resolve, options.sizes):
                if spec.meaning is not None and options.reduce == "sum":
                    check_sums(spec.name, spec.meaning, plane.lengths, size)
        except DatasetError as error:
            errors[spec.name] = error
            continue
        specs.append(spec)
    if errors and (options.datasets or not specs):
        raise next(iter(errors.values()))
    source.notes += [f"{error}, so it was left out" for error in errors.values()]
    for doubt, names in source.doubts.items():
        source.notes += note_lines({doubt: Backlog(name for name in names if name not in errors)})
    return specs


def facts_of(source: Source, specs: Sequence[ArraySpec], options: Options) -> dict[str, Any]:
    """What shards must have in common to be joined: the source as it is now, and the options."""
    return {
        "source": str(real_path(source.path)),
        "signature": source.signature(specs),
        "options": options.result(),
    }


def slice_regions(specs: Sequence[ArraySpec], options: Options, samples: slice) -> Regions:
    """The samples of each array; one whose first axis is pooled has none, and is whole in the first slice."""
    regions: dict[int, Region] = {}
    most = 0
    for index, spec in enumerate(specs):
        if plane_in(spec, options).height_axis:
            start, stop, _ = samples.indices(spec.shape[0])
            regions[index] = (slice(start, max(start, stop)),)
            most = max(most, spec.shape[0])
        elif not samples.start:
            regions[index] = ()
    divided = [*filter(None, regions.values())]
    if not divided:
        raise DatasetError(f"dataset {specs[0].name}: `slice` needs the first axis, which is pooled")
    if most and all(region.start == region.stop for (region,) in divided):
        raise DatasetError(f"has {most} samples; expected some in slice {slice_name(samples)}")
    return regions


def _passes(
    options: Options,
    spec: ArraySpec,
    region_spec: ArraySpec,
    targets: tuple[Target, ...],
    facts: dict[str, Any] | None = None,
    *,
    whole_planes: bool = False,
) -> list[Pass]:
    """An array, or a region of it for a shard, pooled to every size that an output takes."""
    plane = plane_in(spec, options)
    h = plane.height_axis
    rule = rule_of(spec, options, targets)
    arrays = []
    for number, pair in enumerate(options.sizes):
        target = next((target for target in targets if number in target.sizes), None)
        if target is None:
            continue
        size = plane.resolve(pair)
        provenance = _provenance(options, spec, size, rule)
        if facts is not None:
            region = [[a, a + n] for a, n in zip(region_spec.offset, region_spec.shape, strict=False)]
            provenance["shard"] = {"dataset": spec.name, "size": number, "region": region} | facts
        result = ResultSpec(
            source=spec,
            name=target.name_of(spec.name, pair),
            shape=(*region_spec.shape[:h], *size, *region_spec.shape[h + 2 :]),
            dtype=storage(rule.result),
            numbers=rule.result,
            provenance=json.dumps(provenance),
            height_axis=h,
            flat=options.flatten,
            is_shard=facts is not None,
            reduce=options.reduce,
            most_chunk_bytes=target.format.most_chunk_bytes,
        )
        if result.nbytes > MOST_BYTES:
            raise FileError(f"`size` {size_name(size)} gives more than a file can hold")
        arrays.append(
            ArrayPlan(
                Pooling(make_grid(plane.lengths, size), rule), result, target, number, region_spec.offset
            )
        )
    # A stranger's shard may claim sizes that there are not.
    every = _blockings(options, region_spec, arrays, whole_planes=whole_planes) if arrays else []
    if len(every) == 1:
        return [Pass(every[0], arrays)]
    return [Pass(blocks, [array]) for blocks, array in zip(every, arrays, strict=True)]


def _blockings(
    options: Options, spec: ArraySpec, arrays: Sequence[ArrayPlan], *, whole_planes: bool
) -> list[Blocking]:
    """How an array is streamed, by as many workers as have room for what decoding and pooling take, or by one."""
    # Without room for a chunk's cells beside it, they would be read some rows at a time.
    copies = spec.chunk_copies + 1 if spec.chunk_copies else 0
    chunk_bytes = copies * size_of(spec.chunks or ()) * spec.dtype.itemsize
    every = blockings(
        spec,
        [array.pooling.grid for array in arrays],
        arrays[0].result.height_axis,
        arrays[0].result.dtype.itemsize,
        max_memory=options.max_memory,
        workers=options.workers_for(chunk_bytes),
        whole_planes=whole_planes,
    )
    for number, blocks in enumerate(every):
        cells = blocks.input_bytes // spec.dtype.itemsize if blocks.is_whole else 0
        working_bytes = max(array.pooling.working_bytes(cells) for array in arrays)
        room = options.max_memory // max(1, blocks.block_bytes + working_bytes)
        every[number] = blocks._replace(workers=max(1, min(blocks.workers, room)))
    return every


def _provenance(options: Options, spec: ArraySpec, size: tuple[int, int], rule: Rule) -> dict[str, Any]:
    """What an output says of itself."""
    numbers = options.result(only="numbers")
    return {
        "version": __version__,
        "operation": numbers.pop("reduce"),
        "source_shape": list(spec.shape),
        "source_dtype": spec.numbers,
        "layout": options.layout,
        "output_size": list(size),
        **numbers,
        "nan": "skip" if rule.skip_nan else "propagate",
        "missing": list(rule.missing),
    }


def plane_in(spec: ArraySpec, options: Options) -> Plane:
    """Which two axes of an array are pooled, by the layout or by their names; an error where these cannot be."""
    h, is_swapped = options.height_axis, False
    if options.dims is not None:
        first, second = map(spec.dims.index, options.dims)
        if abs(first - second) != 1:
            axes, names = ", ".join(spec.dims), " and ".join(options.dims)
            raise DatasetError(f"dataset {spec.name}: has axes {axes}; {names} are not side by side")
        h, is_swapped = min(first, second), first > second
    if options.flatten and h == 0:
        raise DatasetError(f"dataset {spec.name}: `flatten` needs the first axis, which is pooled")
    return Plane(h, (spec.shape[h], spec.shape[h + 1]), is_swapped)


def rule_of(spec: ArraySpec, options: Options, targets: Sequence[Target] = ()) -> Rule:
    """What is done with the cells of an array, by the options and by what its file says of the numbers."""
    meaning = _meaning_in(spec, options)
    result = result_of(spec.numbers, options.reduce, options.dtype)
    for target in targets:
        result = result_for(result, target.path.suffix)
    return Rule(
        source=meaning.numbers,
        result=result,
        reduce=reduction_of(meaning, options.reduce),
        skip_nan=meaning.skip_nan,
        missing=meaning.missing,
        min_valid=options.min_valid,
        fill=0 if result in FLOATS else int(fill_of(meaning, result)),
    )


def _meaning_in(spec: ArraySpec, options: Options) -> Meaning:
    """What the numbers of an array mean, by its file or, where that says nothing, by the options alone."""
    return spec.meaning or meaning_by(options, {}, spec.numbers)
