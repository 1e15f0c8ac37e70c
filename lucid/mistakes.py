"""What is probably a mistake in a plan that can be carried out: a line each."""

from collections.abc import Iterator, Sequence

from lucid.formats.arrays import ArraySpec
from lucid.formats.choosing import listed
from lucid.job_plan import JobPlan

#: Lengths of an axis of colours.
COLOURS = (3, 4)
#: Names of formats whose arrays say of themselves which value marks gaps.
_MARKING = ("HDF5", "Zarr")


def probable_mistakes(job: JobPlan) -> Iterator[str]:
    """What the user may want to know before the work."""
    yield from _growing(job)
    yield from _channels_last(job)


def lost_scales(job: JobPlan, way: str) -> Iterator[str]:
    """Lines where numbers go somewhere, without the attributes that say what they stand for."""
    packed = [s.name for s in job.specs if s.meaning and (s.meaning.scale, s.meaning.offset) != (1, 0)]
    if packed:
        yield (
            f"{listed(packed)}: numbers stay packed, and scale_factor and add_offset, which say what "
            f"they stand for, do not go {way}"
        )
    marked = [a.pooled.name for a in job.every() if a.pooled.mark and a.target.format.name not in _MARKING]
    if marked and not job.options.missing:
        yield f"{listed(marked)}: gaps are the fill value, and _FillValue, which says so, does not go {way}"


def _growing(job: JobPlan) -> Iterator[str]:
    """Planes that pooling makes larger."""
    grown = []
    for array in job.every():
        rows, cols = array.pooling.grid
        if rows.n_out > rows.n_in or cols.n_out > cols.n_in:
            text = f"{rows.n_in}x{cols.n_in} to {rows.n_out}x{cols.n_out}"
            grown.append((array.pooled.source, text))
    if grown:
        yield f"{_called([spec for spec, _ in grown])}planes grow, from {grown[0][1]}"


def _channels_last(job: JobPlan) -> Iterator[str]:
    """Arrays whose last axis, taken for the width, is as long as an axis of colours."""
    layout = job.options.layout
    if not layout.endswith("CHW") or job.options.dims is not None:
        return
    specs = [s for s in job.specs if s.shape[-1] in COLOURS and s.shape[-2] > s.shape[-1]]
    if specs:
        better = layout.removesuffix("CHW") + "HWC"
        yield (
            f"{_called(specs)}the last axis of {specs[0].shape} is taken for the width; "
            f"if it holds channels, say `layout={better!r}`"
        )


def _called(specs: Sequence[ArraySpec]) -> str:
    """The first of some arrays, and how many more there are, to begin a line with; nothing for one without a name."""
    names = list(dict.fromkeys(spec.name for spec in specs))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return names[0] and f"{names[0]}{more}: "
