"""`plan`: options and an open source, to arrays, sizes, blocks and outputs.

The one planning function: of pooling, of a dry run, of a shard, of joining shards. It reads shapes and
nothing else, and all that it says is arithmetic, so it answers at once whatever the sizes are.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import lucid
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

#: What a shard holds: a box of the first axes of each array, by name.
Regions: TypeAlias = Mapping[str, Region]
#: What means are of: the dataset of the source, and the number of the size.
Key: TypeAlias = tuple[str, int]
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
    #: The first cell of the box of the source; () for the whole array.
    offset: tuple[int, ...] = ()

    @property
    def key(self) -> Key:
        """What they are means of."""
        return self.result.source.name, self.size


class Pass(NamedTuple):
    """One array, or a box of it, streamed once: its blocks, and the arrays of means that are made of them."""

    blocks: Blocking
    arrays: Sequence[ArrayPlan]

    def for_spec(self, spec: ArraySpec, options: Options, counts: Counter[Path]) -> "Pass":
        """The same for an array that differs in its name and place; `counts` those of each output so far."""
        arrays = []
        for array in self.arrays:
            name = array.target.name_of(spec.name, options.sizes[array.size])
            result = array.result._replace(source=spec, name=name, number=counts[array.target.path])
            counts[array.target.path] += 1
            arrays.append(array._replace(result=result))
        box = self.blocks.spec._replace(name=spec.name, handle=spec.handle)
        return Pass(self.blocks._replace(spec=box), arrays)


@dataclass(frozen=True)
class JobPlan:
    """All that is to be done for one input."""

    options: Options
    targets: tuple[Target, ...]
    #: The arrays of the source that were chosen, whole.
    specs: Sequence[ArraySpec]
    #: Gives the passes of one of them, or of one that is alike: a hundred thousand may differ in their names alone.
    passes_of: Callable[[ArraySpec], Iterable[Pass]]

    @property
    def passes(self) -> Iterator[Pass]:
        """How they are pooled, array by array."""
        counts = Counter[Path]()
        for spec in self.specs:
            for one in self.passes_of(spec):
                yield one.for_spec(spec, self.options, counts)

    def all_arrays(self) -> Iterator[ArrayPlan]:
        """All arrays of means."""
        for one in self.passes:
            yield from one.arrays

    def arrays_of(self, target: Target) -> Iterator[ArrayPlan]:
        """The arrays of means that go to one output."""
        return (array for array in self.all_arrays() if array.target is target)

    def results_of(self, target: Target) -> Sequence[ResultSpec]:
        """What goes to one output."""
        return Backlog(array.result for array in self.arrays_of(target))

    @property
    def input_bytes(self) -> int:
        """Bytes to be read, over all passes."""
        return sum(one.blocks.spec.nbytes for spec in self.specs for one in self.passes_of(spec))

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
        facts = facts_of(source, specs, options)
        return plan_shard(specs, options, targets, _regions_of(specs, options, options.slice), facts)
    alike: dict[ArraySpec, list[Pass]] = {}
    for spec in specs:
        bare_spec = _bare_spec(spec)
        if bare_spec not in alike:
            alike[bare_spec] = _passes(options, spec, spec, targets, whole_planes=source.in_sequence)
    return JobPlan(options, targets, specs, lambda spec: alike[_bare_spec(spec)])


def _bare_spec(spec: ArraySpec) -> ArraySpec:
    """What an array has in common with others that are pooled as it is."""
    return spec._replace(name="", handle=None)


def plan_shard(
    specs: Sequence[ArraySpec],
    options: Options,
    targets: tuple[Target, ...],
    regions: Regions,
    facts: dict[str, Any],
) -> JobPlan:
    """What is to be done for some regions of arrays; `facts` are those that all shards share."""
    passes = {
        spec.name: _passes(options, spec, spec.within(regions[spec.name]), targets, facts)
        for spec in specs
        if spec.name in regions
    }
    return JobPlan(options, targets, specs, lambda spec: passes.get(spec.name, ()))


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


def _regions_of(specs: Sequence[ArraySpec], options: Options, samples: slice) -> Regions:
    """The samples of each array; one whose first axis is pooled has none, and is whole in the first slice."""
    lengths = {spec.name: spec.shape[0] for spec in specs if plane_in(spec, options).height_axis}
    if not lengths:
        raise DatasetError(f"dataset {specs[0].name}: `slice` needs the first axis, which is pooled")
    regions: dict[str, Region] = {}
    for name, length in lengths.items():
        start, stop, _ = samples.indices(length)
        regions[name] = (slice(start, max(start, stop)),)
    most = max(lengths.values())
    if most and not any(region.stop > region.start for (region,) in regions.values()):
        raise DatasetError(f"has {most} samples; expected some in slice {slice_name(samples)}")
    return regions | {spec.name: () for spec in specs if not samples.start and spec.name not in lengths}


def _passes(
    options: Options,
    spec: ArraySpec,
    box: ArraySpec,
    targets: tuple[Target, ...],
    facts: dict[str, Any] | None = None,
    *,
    whole_planes: bool = False,
) -> list[Pass]:
    """An array, or a box of it for a shard, pooled to every size that an output takes."""
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
            region = [[a, a + n] for a, n in zip(box.offset, box.shape, strict=False)]
            provenance["shard"] = {"dataset": spec.name, "size": number, "region": region} | facts
        result = ResultSpec(
            source=spec,
            name=target.name_of(spec.name, pair),
            shape=(*box.shape[:h], *size, *box.shape[h + 2 :]),
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
            ArrayPlan(Pooling(make_grid(plane.lengths, size), rule), result, target, number, box.offset)
        )
    # A stranger's shard may claim sizes that there are not.
    every = _blockings(options, box, arrays, whole_planes=whole_planes) if arrays else []
    if len(every) == 1:
        return [Pass(every[0], arrays)]
    return [Pass(blocks, [array]) for blocks, array in zip(every, arrays, strict=True)]


def _blockings(
    options: Options, box: ArraySpec, arrays: Sequence[ArrayPlan], *, whole_planes: bool
) -> list[Blocking]:
    """How an array is streamed, by as many workers as have room for what decoding and pooling take, or by one."""
    # Without room for a chunk's cells beside it, they would be read some rows at a time.
    copies = box.chunk_copies + 1 if box.chunk_copies else 0
    chunk_bytes = copies * size_of(box.chunks or ()) * box.dtype.itemsize
    every = blockings(
        box,
        [array.pooling.grid for array in arrays],
        arrays[0].result.height_axis,
        arrays[0].result.dtype.itemsize,
        max_memory=options.max_memory,
        workers=options.workers_for(chunk_bytes),
        whole_planes=whole_planes,
    )
    for number, blocks in enumerate(every):
        cells = blocks.input_bytes // box.dtype.itemsize if blocks.is_whole else 0
        working_bytes = max(array.pooling.working_bytes(cells) for array in arrays)
        room = options.max_memory // max(1, blocks.block_bytes + working_bytes)
        every[number] = blocks._replace(workers=max(1, min(blocks.workers, room)))
    return every


def _provenance(options: Options, spec: ArraySpec, size: tuple[int, int], rule: Rule) -> dict[str, Any]:
    """What an output says of itself."""
    numbers = options.result(only="numbers")
    return {
        "version": lucid.__version__,
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
