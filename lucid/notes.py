"""What the user should know of a plan before the work, a line each: what is probably a mistake, or is lost."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from lucid.backlog import Backlog
from lucid.compression import parse_compression
from lucid.formats.arrays import ArraySpec
from lucid.formats.choosing import name_list
from lucid.formats.registry import Format
from lucid.formats.result import gap_attribute, notes_on_software
from lucid.job_plan import JobPlan
from lucid.pooling.sums import result_of

#: Lengths of an axis of colours.
COLOURS = (3, 4)


def notes_on(plan: JobPlan, source_format: Format | None) -> Iterator[str]:
    """Notes on results and compressions that the software of outputs lacks, on planes that grow, on channels as width.

    Others are on numbers that go to another format, or into a pack, without the attributes that say what they mean.
    """
    options = plan.options
    results = {result_of(spec.numbers, options.reduce, options.dtype): None for spec in plan.specs}
    compression = parse_compression(options.compression)
    for suffix in dict.fromkeys(target.path.suffix for target in plan.targets):
        yield from notes_on_software(suffix, results, compression and compression.name)
    growths = Backlog(
        (array.result.source, array.pooling.grid)
        for array in plan.arrays()
        if any(axis.n_out > axis.n_in for axis in array.pooling.grid)
    )
    if growths:
        rows, cols = growths[0][1]
        change = f"{rows.n_in}x{cols.n_in} to {rows.n_out}x{cols.n_out}"
        yield f"{_subject(spec for spec, _ in growths)}planes grow, from {change}"
    specs = Backlog(s for s in plan.specs if s.shape[-1] in COLOURS and s.shape[-2] > s.shape[-1])
    if specs and options.layout.endswith("CHW") and options.dims is None:
        better = options.layout.removesuffix("CHW") + "HWC"
        yield (
            f"{_subject(specs)}the last axis of {specs[0].shape} is taken for the width; "
            f"if it holds channels, say `layout={better!r}`"
        )
    for target in plan.targets:
        if target.format != source_format:  # equal, but not the same in a process of its own
            way = f"from {source_format.name} to {target.format.name}" if source_format else "into a pack"
            if source_format and source_format.holds_many and options.carry and options.slice is None:
                yield f"attributes, labels and whatever else it holds are not carried {way}"
            if not target.format.marks_gaps:
                yield from _lost_scales(plan, way)


def _lost_scales(plan: JobPlan, way: str) -> Iterator[str]:
    """Lines where numbers go somewhere, without the attributes that say what they stand for."""
    names = Backlog(s.name for s in plan.specs if s.meaning and (s.meaning.scale, s.meaning.offset) != (1, 0))
    if names:
        yield (
            f"{name_list(names)}: numbers stay packed, and scale_factor and add_offset, which say what "
            f"they stand for, do not go {way}"
        )
    arrays = (one for one in plan.arrays() if not one.target.format.marks_gaps)
    names = Backlog(one.result.name for one in arrays if gap_attribute(one.result))
    if names and not plan.options.missing:
        yield f"{name_list(names)}: gaps are the fill value, and _FillValue, which says so, does not go {way}"


def _subject(specs: Iterable[ArraySpec]) -> str:
    """The first of some arrays, and how many more there are, to begin a line with; nothing for one without a name."""
    names = Backlog(name for name, _ in groupby(spec.name for spec in specs))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return names[0] and f"{names[0]}{more}: "
