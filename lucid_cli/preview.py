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

from lucid.formats.contract import ArraySpec, Source
from lucid.formats.registry import format_of_content
from lucid.nn.functional import adaptive_avg_pool2d, pooled
from lucid.options import Options
from lucid.report import Report
from lucid.sizes import resolve, size_name
from lucid_cli.messages import shown

Floats = npt.NDArray[Any]

#: Channels that are shown, and cells of a picture along its longer side: four fit 80 columns.
CHANNELS, CELLS = 4, 16
#: Largest plane that is read for a picture.
PLANE_BYTES = 64 << 20
#: Colours from low to high, as in matplotlib's viridis (CC0).
COLOURS = np.array(
    [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=np.float64
)
#: Shades from low to high, of blocks and of ASCII.
BLOCKS, SIGNS = " ░▒▓█", " .:-=+*#%@"


class Ink(NamedTuple):
    """What a terminal can show: as many colours as there are, or a scale of shades."""

    in_colour: bool
    shades: str

    @classmethod
    def of(cls, to: Console) -> "Ink":
        """Fewer than 2**24 colours would make steps that look like edges."""
        takes_all = to.encoding.lower().startswith("utf")
        return cls(
            to.color_system == "truecolor" and takes_all and not to.no_color, BLOCKS if takes_all else SIGNS
        )


def show_preview(report: Report, to: Console, options: Options, read: Callable[..., list[Floats]]) -> None:
    """Pictures of the first dataset: channels side by side, the input above its poolings.

    `read` calls `planes_of` where the file can do no harm.
    """
    path, dataset = report.source, report.datasets[0].name
    planes = read(planes_of, path, dataset, options, options=options)
    if not planes:
        to.print(Text("no preview: its planes are empty or too large", style="dim"))
        return
    ink = Ink.of(to)
    sizes = [resolve(size, planes[0].shape) for size in options.pairs]
    labels = ["input", *map(size_name, sizes)]
    heads = [_head(plane, f"channel {i}" if "C" in options.layout else "") for i, plane in enumerate(planes)]
    width = max(picture(planes[0], planes[0], ink).plain.find("\n"), *map(len, "\n".join(heads).split("\n")))
    planes = planes[: max(1, (to.width - max(map(len, labels))) // (width + 2))]
    ends = "dark to bright" if ink.in_colour else f"'{ink.shades[0]}' to '{ink.shades[-1]}'"
    to.print(Text(f"{shown(dataset or path.name)}, from lowest to highest: {ends}", "bold"))
    pictures = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
    pictures.add_column("")
    for head in heads[: len(planes)]:
        pictures.add_column(head)
    pictures.add_row(labels[0], *(picture(plane, plane, ink) for plane in planes))
    for size, label in zip(sizes, labels[1:], strict=True):
        results = [
            pooled(plane[None], size, options.reduce, options.nan or "propagate")[0] for plane in planes
        ]
        # Sums have a range of their own.
        scales = results if options.reduce == "sum" else planes
        pairs = zip(results, planes, scales, strict=True)
        pictures.add_row(label, *(picture(result, plane, ink, scale) for result, plane, scale in pairs))
    to.print(pictures)


def _head(plane: Floats, name: str) -> str:
    """What stands above a plane: its name, its lowest and its highest value."""
    low, high = _range(plane)
    return f"{name}\n{low:.3g} to {high:.3g}".strip()


def planes_of(path: Path, dataset: str, options: Options) -> list[Floats]:
    """The first channels of the first sample of a dataset; none where they are empty or too large."""
    with format_of_content(path).open(path, options) as source:
        spec = next(s for s in source.arrays(len(options.layout)) if s.name == dataset)
        h = options.height_axis
        if 0 in spec.shape or spec.shape[h] * spec.shape[h + 1] * spec.dtype.itemsize > PLANE_BYTES:
            return []
        return list(_planes(source, spec, options.layout))


def _planes(source: Source, spec: ArraySpec, layout: str) -> Iterator[Floats]:
    """The first channels of the first sample."""
    count = min(CHANNELS, spec.shape[layout.index("C")]) if "C" in layout else 1
    for channel in range(count):
        region = tuple(
            slice(0, n) if axis in "HW" else slice(channel, channel + 1) if axis == "C" else slice(0, 1)
            for axis, n in zip(layout, spec.shape, strict=True)
        )
        h = layout.index("H")
        nbytes = spec.shape[h] * spec.shape[h + 1] * spec.dtype.itemsize
        cells = source.read(spec, region, np.empty(nbytes, np.uint8)).reshape(spec.shape[h : h + 2])
        if spec.numbers == "bfloat16":
            yield (cells.astype(np.uint32) << 16).view(np.float32)
        else:
            yield cells.astype(np.float64 if cells.dtype.itemsize > 4 else np.float32)


def picture(values: Floats, plane: Floats, ink: Ink, scale: Floats | None = None) -> Text:
    """Values as half blocks, two rows of cells a line, in the proportions of `plane`; else as shades.

    The lowest and the highest value of `scale`, by default the plane, have the ends of the colours; what is no
    number is black.
    """
    longest = max(plane.shape)
    rows, cols = (max(1, min(n, round(n * CELLS / longest))) for n in plane.shape)
    if values.shape[0] > rows or values.shape[1] > cols:
        few = min(rows, values.shape[0]), min(cols, values.shape[1])
        values = adaptive_avg_pool2d(values[None], few)[0]
    low, high = _range(plane if scale is None else scale)
    share = np.clip((values.astype(np.float64) - low) / ((high - low) or 1.0), 0, 1)
    # A coarse grid fills the same area with larger cells.
    share = share[np.arange(rows)[:, None] * share.shape[0] // rows, np.arange(cols) * share.shape[1] // cols]
    if not ink.in_colour:
        shades = np.nan_to_num(share * (len(ink.shades) - 1)).round().astype(int)
        return Text("\n".join("".join(ink.shades[s] * 2 for s in row) for row in shades))
    text = Text()
    for top in range(0, rows, 2):
        for col in range(cols):
            below = None if top + 1 == rows else _colour(share[top + 1, col])
            text.append("▀", Style(color=_colour(share[top, col]), bgcolor=below))
        text.append("\n" if top + 2 < rows else "")
    return text


def _range(values: Floats) -> tuple[float, float]:
    """The lowest and the highest number."""
    finite = values[np.isfinite(values)].astype(np.float64)
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _colour(share: float) -> str:
    if not np.isfinite(share):
        return "#000000"
    position = share * (len(COLOURS) - 1)
    low = min(int(position), len(COLOURS) - 2)
    red, green, blue = (COLOURS[low] + (COLOURS[low + 1] - COLOURS[low]) * (position - low)).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
