"""`--preview`: channels of one sample before and after, as heat maps of half blocks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from lucid.formats.arrays import ArraySpec
from lucid.formats.contract import Source
from lucid.formats.regions import Region
from lucid.formats.registry import format_of_content
from lucid.job_plan import plane_in, rule_of
from lucid.nn.functional import adaptive_avg_pool2d, pooled
from lucid.options import Options
from lucid.pooling.dtypes import storage, widened
from lucid.report import Report
from lucid.sizes import resolve, size_name
from lucid_cli.messages import shown

Floats = npt.NDArray[np.float64]

#: Channels that are shown, and cells of a picture along its longer side: four fit 80 columns.
CHANNELS, CELLS = 4, 16
#: Largest plane that is read for a picture, as float64.
PLANE_BYTES = 256 << 20
#: Colours from low to high, as in matplotlib's viridis (CC0).
COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float64)
#: Shades from low to high, of blocks and of ASCII.
BLOCKS, SIGNS = " ░▒▓█", " .:-=+*#%@"


class Channel(NamedTuple):
    """A channel of a sample: its lowest and highest value, and the pictures of it and of its poolings.

    Cells of pictures are 0 for the lowest value to 1 for the highest, NaN for what is no number.
    """

    low: float
    high: float
    #: By what stands beside them: "input", and the sizes.
    pictures: dict[str, Floats]


def show_preview(report: Report, to: Console, options: Options, read: Callable[..., list[Channel]]) -> None:
    """Pictures of the first dataset: channels side by side, the input above its poolings.

    `read` calls `channels_of` where the file can do no harm.
    """
    path, dataset = report.source, report.datasets[0].name
    channels = read(channels_of, path, dataset, options, options=options)
    if not channels:
        to.print(Text("no preview: its planes are empty or too large", style="dim"))
        return
    has_names = options.names is None and "C" in options.layout
    heads = [f"channel {i}\n" * has_names + f"{c.low:.3g} to {c.high:.3g}" for i, c in enumerate(channels)]
    # Fewer than 2**24 colours would make steps that look like edges.
    takes_all = to.encoding.lower().startswith("utf")
    in_colour = to.color_system == "truecolor" and takes_all and not to.no_color
    shades = BLOCKS if takes_all else SIGNS
    ends = "dark to bright" if in_colour else f"'{shades[0]}' to '{shades[-1]}'"
    labels = channels[0].pictures
    width = max(labels["input"].shape[1] * (1 if in_colour else 2), *map(len, "\n".join(heads).split("\n")))
    count = max(1, (to.width - max(map(len, labels))) // (width + 2))
    to.print(Text(f"{shown(dataset or path.name)}, from lowest to highest: {ends}", "bold"))
    table = Table("", *heads[:count], box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
    for label in labels:
        pictures = [channel.pictures[label] for channel in channels[:count]]
        table.add_row(label, *(_coloured(one) if in_colour else _shaded(one, shades) for one in pictures))
    to.print(table)


def channels_of(path: Path, dataset: str, options: Options) -> list[Channel]:
    """The first channels of the first sample of a dataset; none where they are empty or too large."""
    with format_of_content(path).open(path, options) as source:
        names = (dataset,) if dataset else ()
        spec = source.choose(names)[0]
        _, (height, width) = plane_in(spec, options)
        if 0 in spec.shape or height * width * 8 > PLANE_BYTES:
            return []
        return [_channel(source, spec, region, options) for region in _regions(spec, options)]


def _regions(spec: ArraySpec, options: Options) -> Iterator[Region]:
    """The first planes of the first sample, one for each channel."""
    (h, _), plane = plane_in(spec, options)
    region = [slice(0, 1)] * len(spec.shape)
    region[h : h + 2] = [slice(0, length) for length in plane]
    axis = options.layout.find("C") if options.names is None else -1
    for channel in range(min(CHANNELS, spec.shape[axis]) if axis >= 0 else 1):
        if axis >= 0:
            region[axis] = slice(channel, channel + 1)
        yield tuple(region)


def _channel(source: Source, spec: ArraySpec, region: Region, options: Options) -> Channel:
    """A plane pooled as the run pools it, and its pictures."""
    (_, is_swapped), plane = plane_in(spec, options)
    rule = rule_of(spec, options)
    buffer = np.empty(plane[0] * plane[1] * spec.dtype.itemsize, np.uint8)
    cells = source.read(spec, region, buffer).reshape(plane)
    values = widened(cells.astype(storage(spec.numbers)).view(storage(rule.source)), rule.source)
    values[np.isin(values, rule.missing)] = np.nan
    values = values.T if is_swapped else values
    nan = "skip" if rule.skips else "propagate"
    low, high = _range(values)
    pictures = {"input": _picture(values, values.shape, low, high, nan)}
    for size in (resolve(pair, values.shape) for pair in options.pairs):
        result = pooled(values[None], size, rule.reduce, nan)[0]
        # Sums have a range of their own.
        ends = _range(result) if rule.reduce == "sum" else (low, high)
        pictures[size_name(size)] = _picture(result, values.shape, *ends, nan)
    return Channel(low, high, pictures)


def _range(values: Floats) -> tuple[float, float]:
    """The lowest and the highest number."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _picture(values: Floats, plane: tuple[int, ...], low: float, high: float, nan: Any) -> Floats:
    """Values from 0 to 1 on a few cells, in the proportions of the plane."""
    rows, cols = (max(1, min(n, round(n * CELLS / max(plane)))) for n in plane)
    if values.shape[0] > rows or values.shape[1] > cols:
        few = min(rows, values.shape[0]), min(cols, values.shape[1])
        values = adaptive_avg_pool2d(values[None], few, nan=nan)[0]
    share = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
    # A coarse grid fills the same area with larger cells.
    coarse: Floats = share[
        np.arange(rows)[:, None] * share.shape[0] // rows, np.arange(cols) * share.shape[1] // cols
    ]
    return coarse


def _shaded(picture: Floats, shades: str) -> Text:
    """A picture of two signs for each cell."""
    numbers = np.nan_to_num(picture * (len(shades) - 1)).round().astype(int)
    return Text("\n".join("".join(shades[number] * 2 for number in row) for row in numbers))


def _coloured(picture: Floats) -> Text:
    """A picture of half blocks, two rows of cells a line; what is no number is black."""
    position = np.nan_to_num(picture) * (len(COLOURS) - 1)
    below = np.minimum(position.astype(int), len(COLOURS) - 2)
    colours = COLOURS[below] + (COLOURS[below + 1] - COLOURS[below]) * (position - below)[..., None]
    colours[np.isnan(picture)] = 0
    names = [["#{:02x}{:02x}{:02x}".format(*colour) for colour in row] for row in colours.astype(int)]
    text = Text()
    for top in range(0, len(names), 2):
        lower = names[top + 1] if top + 1 < len(names) else [None] * len(names[top])
        for upper, under in zip(names[top], lower, strict=True):
            text.append("▀", Style(color=upper, bgcolor=under))
        text.append("\n" if top + 2 < len(names) else "")
    return text
