"""`--preview`: channels of one sample before and after, as heat maps of half blocks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from lucid.formats.registry import format_of_content
from lucid.naming import Size, size_name
from lucid.nn.functional import NanRule, adaptive_avg_pool2d
from lucid.report import Report
from lucid_cli.messages import shown

#: Channels that are shown, and cells of a picture along each side at most.
CHANNELS, CELLS = 4, 24
#: Largest plane that is read for a picture.
PLANE_BYTES = 64 << 20
#: Colours from low to high, as in matplotlib's viridis (CC0).
COLOURS = np.array(
    [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=np.float64
)
SHADES = " ░▒▓█"


def show_preview(report: Report, to: Console, layout: str, sizes: Sequence[Size], nan: NanRule) -> None:
    """Pictures of the first dataset: each channel at the input's grid and at each size."""
    first = report.datasets[0]
    path = report.source
    with format_of_content(path).open(path, input_numbers="bfloat16") as source:
        spec = next(s for s in source.arrays(len(layout)) if s.name == first.name)
        h = layout.index("H")
        plane = spec.shape[h] * spec.shape[h + 1] * spec.dtype.itemsize
        if 0 in spec.shape or plane > PLANE_BYTES:
            to.print(Text("no preview: the planes are empty or too large", style="dim"))
            return
        channel_axis = layout.index("C") if "C" in layout else None
        made = Table(box=None, pad_edge=False, header_style="bold")
        made.add_column(f"{shown(first.name or path.name)}")
        for size in ("input", *map(size_name, sizes)):
            made.add_column(size)
        for channel in range(1 if channel_axis is None else min(CHANNELS, spec.shape[channel_axis])):
            at = [0] * len(spec.shape)
            if channel_axis is not None:
                at[channel_axis] = channel
            region = tuple(
                slice(0, n) if axis in (h, h + 1) else slice(at[axis], at[axis] + 1)
                for axis, n in enumerate(spec.shape)
            )
            cells = source.read(spec, region, np.empty(plane, np.uint8)).reshape(spec.shape[h : h + 2])
            values = _numbers(cells, spec.numbers)
            pooled = [adaptive_avg_pool2d(values[None], size, nan=nan)[0] for size in sizes]
            label = "" if channel_axis is None else f"channel {channel}"
            made.add_row(label, *(picture(each, values, to.is_terminal) for each in (values, *pooled)))
    to.print(made)


def _numbers(cells: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    if name == "bfloat16":
        return (cells.astype(np.uint32) << 16).view(np.float32)
    return cells.astype(np.float64 if cells.dtype.itemsize > 4 else np.float32)


def picture(values: np.ndarray[Any, Any], scale: np.ndarray[Any, Any], in_colour: bool) -> Text:
    """A plane as half blocks, two rows of cells a line; off a terminal as shades.

    The lowest and the highest value of `scale` have the ends of the colours; what is no number is
    left black.
    """
    rows, cols = (min(CELLS, n) for n in values.shape)
    cells = adaptive_avg_pool2d(values[None], (rows, cols))[0].astype(np.float64)
    finite = scale[np.isfinite(scale)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    share = np.clip((cells - low) / ((high - low) or 1.0), 0, 1)
    if not in_colour:
        shades = np.nan_to_num(share * (len(SHADES) - 1)).round().astype(int)
        return Text("\n".join("".join(SHADES[s] * 2 for s in row) for row in shades))
    if rows % 2:
        share = np.vstack([share, np.full((1, cols), -1.0)])
    text = Text()
    for top, bottom in zip(share[::2], share[1::2], strict=True):
        for upper, lower in zip(top, bottom, strict=True):
            style = Style(color=_colour(upper), bgcolor=None if lower < 0 else _colour(lower))
            text.append("▀", style)
        text.append("\n")
    text.rstrip()
    return text


def _colour(share: float) -> str:
    if not np.isfinite(share):
        return "#000000"
    position = share * (len(COLOURS) - 1)
    low = min(int(position), len(COLOURS) - 2)
    red, green, blue = (COLOURS[low] + (COLOURS[low + 1] - COLOURS[low]) * (position - low)).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
