"""`--preview`: channels of one sample before and after, as heat maps of half blocks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from lucid.errors import LucidError
from lucid.formats.registry import format_of_content
from lucid.job_plan import plan, plane_in
from lucid.kinds import NanRule
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.options import Options
from lucid.outputs import Target
from lucid.pooling.dtypes import FLOATS, Array, Floats, storage, widened
from lucid.pooling.means import Pooling
from lucid.pooling.sums import REDUCTIONS
from lucid.report import Report
from lucid.run.process import Process
from lucid.sizes import size_name
from lucid_cli.streams import printable

#: Channels that are shown, and cells of a picture along its longer side: four fit 80 columns.
CHANNELS, CELLS = 4, 16
#: Largest plane that is read for a picture, as float64.
PLANE_BYTES = 256 << 20
#: Colours from low to high, as in matplotlib's viridis (CC0).
COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float64)
#: Shades from low to high, of blocks and of ASCII.
BLOCKS, SIGNS, NO_NUMBER = " ░▒▓█", " .:-=+*#%@", "?"


class Channel(NamedTuple):
    """A channel of a sample: its lowest and highest value, and the pictures of it and of its poolings.

    Cells of pictures are 0 for the lowest value to 1 for the highest, NaN for what is no number.
    """

    low: float
    high: float
    #: By what stands beside them: "input", and the sizes.
    pictures: dict[str, Floats]


def show_previews(
    reports: Iterable[Report], to: Console, options: Options
) -> Iterator[tuple[Path, Exception]]:
    """Pictures of the first dataset of every input, read where it can do no harm; yield those that fail."""
    with Process() as process:
        for report in reports:
            path, dataset = report.source, report.datasets[0].name
            target = report.datasets[0].target
            try:
                channels = process.call(channels_of, path, dataset, target, options, options=options)
            except (LucidError, MemoryError) as error:
                yield path, error
            else:
                show_preview(dataset or path.name, channels, options, to)


def show_preview(name: str, channels: list[Channel], options: Options, to: Console) -> None:
    """Pictures of an array: channels side by side, the input above its poolings."""
    if not channels:
        to.print(Text("no preview: its planes are empty or too large", style="dim"))
        return
    has_names = options.dims is None and "C" in options.layout
    heads = [f"channel {i}\n" * has_names + f"{c.low:.3g} to {c.high:.3g}" for i, c in enumerate(channels)]
    # Fewer than 2**24 colours would make steps that look like edges.
    takes_all = to.encoding.lower().startswith("utf")
    in_colour = to.color_system == "truecolor" and takes_all and not to.no_color
    shades = BLOCKS if takes_all else SIGNS
    ends = "dark to bright" if in_colour else f"'{shades[0]}' to '{shades[-1]}'"
    labels = channels[0].pictures
    width = max(labels["input"].shape[1] * (1 if in_colour else 2), *map(len, "\n".join(heads).split("\n")))
    count = max(1, (to.width - max(map(len, labels))) // (width + 2))
    to.print(Text(f"{printable(name)}, from lowest to highest: {ends}", "bold"))
    table = Table("", *heads[:count], box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
    for label in labels:
        pictures = [channel.pictures[label] for channel in channels[:count]]
        table.add_row(
            label, *(_half_blocks(picture) if in_colour else _signs(picture, shades) for picture in pictures)
        )
    to.print(table)


def channels_of(path: Path, dataset: str, target: Path, options: Options) -> list[Channel]:
    """The first channels of the first sample of a dataset; none where they are empty or too large."""
    format_ = format_of_content(path)
    options = replace(options, datasets=(dataset,) if dataset else ())
    sizes = tuple(range(len(options.sizes)))
    with format_.open(path, options) as source:
        arrays = list(plan(source, options, (Target(target, format_, sizes),)).arrays())
        spec = arrays[0].result.source
        h, plane, is_swapped = plane_in(spec, options)
        if 0 in spec.shape or plane[0] * plane[1] * 8 > PLANE_BYTES:
            return []
        region = [slice(0, 1)] * len(spec.shape)
        region[h : h + 2] = [slice(0, length) for length in plane]
        axis = options.layout.find("C") if options.dims is None else -1
        channels = []
        for i in range(min(CHANNELS, spec.shape[axis]) if axis >= 0 else 1):
            if axis >= 0:
                region[axis] = slice(i, i + 1)
            buffer = np.empty(plane[0] * plane[1] * spec.dtype.itemsize, np.uint8)
            cells = source.read(spec, tuple(region), buffer).reshape(plane)
            poolings = [array.pooling for array in arrays]
            channels.append(_channel(cells, poolings, is_swapped=is_swapped))
        return channels


def _channel(cells: Array, poolings: Sequence[Pooling], *, is_swapped: bool) -> Channel:
    """A plane as the file has it, pooled as the run pools it, and the pictures of both."""
    rule = poolings[0].rule
    nan: NanRule = "skip" if rule.skips else "propagate"
    values = _numbers(cells, rule.source, rule.missing, is_swapped=is_swapped)
    ends = _range(values)
    pictures = {"input": _picture(values, values.shape, ends, nan)}
    for pooling in poolings:
        rows, cols = (axis.n_out for axis in pooling.grid)
        rule = pooling.rule
        means = np.empty((1, rows, cols, 1), storage(rule.result))
        pooling.means(cells[None, ..., None], means, (0, rows), (0, cols))
        gaps = (rule.fill,) if rule.missing and rule.result not in FLOATS else ()
        result = _numbers(means[0, ..., 0], rule.result, gaps, is_swapped=is_swapped)
        result_ends = ends if REDUCTIONS[rule.reduce].is_among_cells else _range(result)
        pictures[size_name(result.shape)] = _picture(result, values.shape, result_ends, nan)
    return Channel(*ends, pictures)


def _numbers(cells: Array, numbers: str, gaps: Sequence[float], *, is_swapped: bool) -> Floats:
    """A plane, its axes in the order that the user named, NaN where it holds nothing."""
    values = widened(cells.T if is_swapped else cells, numbers)
    values[np.isin(values, gaps)] = np.nan
    return values


def _range(values: Floats) -> tuple[float, float]:
    """The lowest and the highest number."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _picture(values: Floats, plane: tuple[int, ...], ends: tuple[float, float], nan: NanRule) -> Floats:
    """Values from 0 to 1 on a few cells, in the proportions of the plane; a coarse grid has larger cells."""
    shape = [max(1, min(n, round(n * CELLS / max(plane)))) for n in plane]
    if np.any(np.greater(values.shape, shape)):
        values = adaptive_avg_pool2d(values[None], np.minimum(shape, values.shape).tolist(), nan=nan)[0]
    low, high = ends
    rows, cols = (np.arange(count) * n // count for count, n in zip(shape, values.shape, strict=True))
    coarse: Floats = np.clip((values - low) / ((high - low) or 1.0), 0, 1)[np.ix_(rows, cols)]
    return coarse


def _signs(picture: Floats, shades: str) -> Text:
    """A picture of two signs for each cell, which are others for what is no number."""
    numbers = np.nan_to_num(picture * (len(shades) - 1), nan=len(shades)).round().astype(int)
    return Text("\n".join("".join((shades + NO_NUMBER)[number] * 2 for number in row) for row in numbers))


def _half_blocks(picture: Floats) -> Text:
    """A picture of half blocks, two rows of cells a line; what is no number is black."""
    stops = np.linspace(0, 1, len(COLOURS))
    colours = np.stack([np.interp(np.nan_to_num(picture), stops, shade) for shade in COLOURS.T], -1)
    colours[np.isnan(picture)] = 0
    names = [["#{:02x}{:02x}{:02x}".format(*colour) for colour in row] for row in colours.astype(int)]
    lines = zip_longest(names[::2], names[1::2], fillvalue=[None] * len(names[0]))
    halves = (
        [("▀", Style(color=upper, bgcolor=lower)) for upper, lower in zip(*line, strict=True)]
        for line in lines
    )
    return Text("\n").join(Text.assemble(*line) for line in halves)
