"""What comes out: which arrays are pooled, and which file or stream, and in it which name, takes each."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from lucid.errors import ArgumentError, FileError
from lucid.formats.contract import Sink
from lucid.formats.registry import ARCHIVE, NPY, Format, format_of_suffix, url_of
from lucid.formats.stream import STREAM, NpyStreamSink
from lucid.options import Options, Size, size_name, slice_name

FilePath: TypeAlias = str | os.PathLike[str]

SIZE, STEM, SLICE, PARENT = "{size}", "{stem}", "{slice}", "{parent}"


@dataclass(frozen=True)
class Target:
    """One output, a file or a stream: its format, and the numbers of the sizes that it takes."""

    path: Path
    format: Format
    sizes: tuple[int, ...]
    stream: BinaryIO | None = None

    def create(self, options: Options, *, in_sequence: bool = False, joins: bool = False) -> Sink:
        """The output in the making; `in_sequence`, a stream is written as the means come."""
        if self.stream is not None:
            return NpyStreamSink(self.stream, options, in_sequence=in_sequence)
        return self.format.create(self.path, options, joins=joins)

    def refuse_existing(self, *, overwrite: bool) -> None:
        """Raise unless it may be written."""
        if self.stream is None:
            self.format.refuse_existing(self.path, overwrite=overwrite)

    def refuse_input(self, source: Path) -> None:
        """Raise if it is an input, lies within one, or has one within it: an input is never changed."""
        if self.stream is not None:
            return
        is_same = (
            source == self.path
            if url_of(self.path)
            else self.path.exists() and is_same_file(source, self.path)
        )
        if is_same:
            raise FileError(f"output {self.path} is an input, which is never changed; name another with -o")
        if (
            source.is_dir() and source.resolve() in self.path.resolve().parents
        ) or source in self.path.parents:
            raise FileError(f"output {self.path} lies within the input, which is never changed")
        if url_of(source) is None and self.path.is_dir() and self.path.resolve() in source.resolve().parents:
            raise FileError(f"output {self.path} is a folder that holds the input, which is never changed")

    def name_of(self, dataset: str, size: Size) -> str:
        """The name of an array of means: that of its source, with the size where there are several."""
        base = dataset or "/data"
        return f"{base}_{size_name(size)}" if len(self.sizes) > 1 or self.stream is not None else base


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def targets_of(
    source: Path, source_format: Format, output: FilePath | BinaryIO | None, options: Options
) -> tuple[Target, ...]:
    """The outputs of a source; `{stem}`, `{parent}`, `{size}` and `{slice}` in `output` are filled in.

    Raises
    ------
    ArgumentError
        The suffix names no format, or several sizes would go to a file that holds one array.

    """
    sizes, every = options.pairs, tuple(range(len(options.pairs)))
    if not isinstance(output, str | os.PathLike | None):
        return (Target(STREAM, NPY, every, output),)
    # A default name keeps the source's suffix, which need not name the format it has.
    text = default_output(source, source_format, options) if output is None else os.fspath(output)
    text = text.replace(PARENT, str(source.parent)).replace(STEM, stem_of(source))
    if options.slice is not None:
        text = text.replace(SLICE, slice_name(options.slice))
    keeps = output is None or (source.suffix != "" and Path(text).suffix == source.suffix)
    format_ = source_format if keeps else format_of_suffix(Path(text))
    if SIZE in text:
        names = [text.replace(SIZE, size_name(size)) for size in sizes]
        return tuple(Target(Path(name), format_, (i,)) for i, name in enumerate(names))
    if len(sizes) > 1 and not format_.holds_many:
        raise ArgumentError(f"output {text} holds one array; put {SIZE} in its name for {len(sizes)} sizes")
    return (Target(Path(text), format_, every),)


def default_output(source: Path, format_: Format, options: Options, folder: Path | None = None) -> str:
    """`NAME.pooled.EXT` beside the source or in a folder; one for each size where a file holds one array."""
    suffix = suffix_of(source) or format_.suffixes[0]
    each = f".{SIZE}" if len(options.pairs) > 1 and not format_.holds_many else ""
    each += "" if options.slice is None else f".{SLICE}"
    return str((folder or source.parent) / f"{stem_of(source)}.pooled{each}{suffix}")


def stem_of(source: Path) -> str:
    """The name of a source without its suffix."""
    return "stdin" if source == STREAM else source.name.removesuffix(suffix_of(source))


def suffix_of(source: Path) -> str:
    """`.h5`; of a store in an archive both, `.zarr.zip`."""
    return "".join(source.suffixes[-2:]) if source.suffixes[-2:] == [".zarr", ARCHIVE] else source.suffix
