"""What is probably a mistake in a plan that can be carried out: a line each."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from lucid.errors import LucidError
from lucid.formats.contract import ArraySpec, Source
from lucid.job_plan import JobPlan

#: Lengths of an axis of colours.
COLOURS = (3, 4)
#: Arrays up to which those of other ranks are looked for: who has more does not look at each.
FEW_ARRAYS = 1000


def probable_mistakes(job: JobPlan, source: Source) -> Iterator[str]:
    """What somebody may want to know before the work."""
    yield from _growing(job)
    yield from _channels_last(job)
    if not job.options.datasets and not source.in_sequence and len(job.specs) <= FEW_ARRAYS:
        yield from _left_out(job, source)


def _growing(job: JobPlan) -> Iterator[str]:
    """Planes that pooling makes larger."""
    h = job.options.height_axis
    grown = []
    for array in job.every():
        plane, size = array.blocks.spec.shape[h : h + 2], array.pooled.shape[h : h + 2]
        if size[0] > plane[0] or size[1] > plane[1]:
            grown.append((array.blocks.spec, f"{plane[0]}x{plane[1]} to {size[0]}x{size[1]}"))
    if grown:
        yield f"{_called([spec for spec, _ in grown])}planes grow, from {grown[0][1]}"


def _channels_last(job: JobPlan) -> Iterator[str]:
    """Arrays whose last axis, taken for the width, is as long as an axis of colours."""
    layout = job.options.layout
    if not layout.endswith("CHW"):
        return
    specs = [s for s in job.specs if s.shape[-1] in COLOURS and s.shape[-2] > s.shape[-1]]
    if specs:
        better = layout.removesuffix("CHW") + "HWC"
        yield (
            f"{_called(specs)}the last axis of {specs[0].shape} is taken for the width; "
            f"if it holds channels, say `layout={better!r}`"
        )


def _left_out(job: JobPlan, source: Source) -> Iterator[str]:
    """Arrays of the pooled planes that are not pooled, for having another rank."""
    h, rank = job.options.height_axis, len(job.options.layout)
    planes = {spec.shape[h : h + 2] for spec in job.specs}
    others: list[ArraySpec] = []
    for other in (rank - 1, rank + 1):
        with suppress(LucidError):  # there is none, or it cannot be pooled in any case
            others += [
                spec
                for spec in source.arrays(other)
                if any(spec.shape[i : i + 2] in planes for i in range(other - 1))
            ]
    if others:
        axes = len(others[0].shape)
        yield (
            f"{_called(others)}left out for having {axes} axes, though of the same planes; "
            f"a `layout` of {axes} letters pools it"
        )


def _called(specs: Sequence[ArraySpec]) -> str:
    """The first of some arrays, and how many more there are, to begin a line with; nothing for one without a name."""
    names = list(dict.fromkeys(spec.name for spec in specs))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return names[0] and f"{names[0]}{more}: "
