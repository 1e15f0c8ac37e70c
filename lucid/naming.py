"""Names of outputs: which file, and in it which dataset, takes which size."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lucid.errors import ArgumentError
from lucid.formats.registry import ARCHIVE, Format, format_of_suffix

#: A size as it was asked for: rows and columns, None for those that are kept.
Size = tuple[int | None, int | None]

SIZE, STEM, SLICE = "{size}", "{stem}", "{slice}"


class Target(NamedTuple):
    """One output file, its format, and the numbers of the sizes that it takes."""

    path: Path
    format: Format
    sizes: tuple[int, ...]


def size_name(size: Size) -> str:
    """A size as it stands in names: 4x5, keepx1."""
    return "x".join("keep" if n is None else str(n) for n in size)


def slice_name(part: slice) -> str:
    """Some samples as they stand in names: 0-1000, 5000-end."""
    return f"{part.start or 0}-{'end' if part.stop is None else part.stop}"


def dataset_name(name: str, size: Size, *, several: bool) -> str:
    """The name of a dataset of means: that of its source, with the size where there are several."""
    base = name or "/data"
    return f"{base}_{size_name(size)}" if several else base


def default_output(
    source: Path,
    format_: Format,
    sizes: Sequence[Size],
    folder: Path | None = None,
    part: slice | None = None,
) -> str:
    """`NAME.pooled.EXT` beside the source or in a folder; one for each size where a file holds one array."""
    suffix = suffix_of(source) or format_.suffixes[0]
    each = f".{SIZE}" if len(sizes) > 1 and not format_.holds_many else ""
    each += "" if part is None else f".{SLICE}"
    return str((folder or source.parent) / f"{stem_of(source)}.pooled{each}{suffix}")


def stem_of(source: Path) -> str:
    """The name of a source without its suffix."""
    return "stdin" if str(source) == "-" else source.name.removesuffix(suffix_of(source))


def suffix_of(source: Path) -> str:
    """`.h5`; of a store in an archive both, `.zarr.zip`."""
    return "".join(source.suffixes[-2:]) if source.suffixes[-2:] == [".zarr", ARCHIVE] else source.suffix


def targets_of(
    source: Path,
    source_format: Format,
    output: str | None,
    sizes: Sequence[Size],
    part: slice | None = None,
) -> tuple[Target, ...]:
    """The output files of a source; `{stem}`, `{size}` and `{slice}` in `output` are filled in.

    Raises
    ------
    ArgumentError
        The suffix names no format, or several sizes would go to a file that holds one array.

    """
    # A default name keeps the source's suffix, which need not name the format it has.
    text = default_output(source, source_format, sizes, part=part) if output is None else output
    text = text.replace(STEM, stem_of(source))
    text = text if part is None else text.replace(SLICE, slice_name(part))
    format_ = source_format if Path(text).suffix == source.suffix != "" else None
    if output is None:
        format_ = source_format
    format_ = format_ or format_of_suffix(Path(text))
    if SIZE in text:
        return tuple(
            Target(Path(text.replace(SIZE, size_name(size))), format_, (i,)) for i, size in enumerate(sizes)
        )
    if len(sizes) > 1 and not format_.holds_many:
        raise ArgumentError(f"output {text} holds one array; put {SIZE} in its name for {len(sizes)} sizes")
    return (Target(Path(text), format_, tuple(range(len(sizes)))),)
