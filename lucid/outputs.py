"""Which file or stream takes each array of means, under which name, and whether that may be written."""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

from lucid.errors import ArgumentError, FileError, LucidError, translate_errors
from lucid.formats.contract import Sink
from lucid.formats.disk.names import is_same_file, refuse_existing
from lucid.formats.disk.replacement import remove_stale
from lucid.formats.paths import ARCHIVE, real_path, url_of
from lucid.formats.registry import FORMATS, NPY, Format, format_of_suffix, suffix_of
from lucid.formats.stream import STREAM, NpyStreamSink
from lucid.kinds import slice_name
from lucid.options import Options
from lucid.report import Watch, failure_note
from lucid.sizes import Size, size_name

FilePath: TypeAlias = str | os.PathLike[str]

SIZE, STEM, SLICE, PARENT = "{size}", "{stem}", "{slice}", "{parent}"
FIELD = re.compile(r"\{[^{}]*\}")
#: What default names have in them, and folders as inputs are searched without.
MARK = ".pooled"


@dataclass(frozen=True)
class Target:
    """One output, a file or a stream: its format, and the numbers of the sizes that it takes."""

    path: Path
    format: Format
    sizes: tuple[int, ...]
    #: The stream in place of a file; None for standard output, since a target goes to other processes.
    stream: BinaryIO | None = None

    @classmethod
    def of_stream(cls, options: Options, stream: BinaryIO | None = None) -> "Target":
        """The output that is a stream, by default standard output."""
        return cls(STREAM, NPY, tuple(range(len(options.sizes))), stream)

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream."""
        return self.path == STREAM

    def create(self, options: Options, *, in_sequence: bool = False) -> Sink:
        """The output while it is written; `in_sequence`, a stream is written as the means come."""
        if self.is_stream:
            return NpyStreamSink(self.stream or sys.stdout.buffer, options, in_sequence=in_sequence)
        return self.format.create(self.path, options)

    def refuse(self, inputs: Iterable[Path], options: Options, *, makes_folder: bool = False) -> None:
        """Raise unless it may be written, beside these inputs; `makes_folder` says that its folder will be made.

        What is at a URL only its store can tell.
        """
        for path in inputs:
            self.refuse_input(path)
        marks = self.format.root_files
        if self.is_stream or (self.format.has_urls and url_of(self.path) is not None):
            return
        with translate_errors(f"output {self.path} cannot be written"):  # as under a name too long
            if not makes_folder or self.path.parent.exists():
                overwrite = options.overwrite or options.resume
                marks = () if self.path.suffix == ARCHIVE else marks
                refuse_existing(self.path, overwrite=overwrite, marks=marks)

    def refuse_input(self, source: Path) -> None:
        """Raise if it is an input, lies within one, or has one within it: an input is never changed."""
        if self.is_stream:
            return
        own, other = real_path(self.path), real_path(source)
        if own == other or is_same_file(source, self.path):
            raise FileError(f"output {self.path} is an input, which is never changed; name another `target`")
        if other in own.parents:
            raise FileError(f"output {self.path} lies within the input, which is never changed")
        if own in other.parents and os.path.isdir(self.path):
            raise FileError(f"output {self.path} is a folder that holds the input, which is never changed")

    def name_of(self, dataset: str, size: Size) -> str:
        """The name of an array of means: that of its source, with the size where there are several."""
        base = dataset or "/data"
        return f"{base}_{size_name(size)}" if len(self.sizes) > 1 or self.is_stream else base


def settle(targets: Sequence[Target], inputs: Sequence[Path], options: Options, watch: Watch) -> None:
    """Raise unless outputs may be written, and clear their folders of what killed runs left.

    A dry run makes a note of what would be raised, and clears nothing.
    """
    watch.targets = tuple(target.path for target in targets)
    for target in targets:
        try:
            target.refuse(inputs, options)
        except LucidError as error:
            if not options.dry_run:
                raise
            watch.notes.append(failure_note(error))
    if not options.dry_run:
        for folder in {real_path(target.path).parent for target in targets if not target.is_stream}:
            remove_stale(folder)


class Naming(NamedTuple):
    """Where outputs go: to a template or standard output, or under default names to a folder."""

    output: str | None
    folder: Path | None

    @classmethod
    def of(cls, output: FilePath | None, folder: str | None = None) -> "Naming":
        """The naming that an output, which may be a folder, and a folder for outputs stand for."""
        text = None if output is None else os.fspath(output)
        if text is not None and is_folder(text):
            text, folder = None, text
        return cls(text, None if folder is None else Path(folder))

    @property
    def makes_folders(self) -> bool:
        """Whether the folders of outputs are made."""
        return self.folder is not None or PARENT in (self.output or "")

    @property
    def is_one_name(self) -> bool:
        """Whether every input would be written to one output."""
        return self.output is not None and not (STEM in self.output or PARENT in self.output)

    def targets(
        self, source: Path, source_format: Format, options: Options, inner_folder: str = ""
    ) -> tuple[Target, ...]:
        """The outputs of a source; `{stem}`, `{parent}`, `{size}` and `{slice}` in their name are filled in.

        With default names they are in the folder of the source, or in an inner folder of another one.
        """
        every = tuple(range(len(options.sizes)))
        if self.output is None:
            suffix = suffix_of(source) or source_format.suffixes[0]
            each = f".{SIZE}" if len(every) > 1 and not source_format.holds_many else ""
            stem = STEM + MARK + each + ("" if options.slice is None else f".{SLICE}")
            folder = source.parent if self.folder is None else self.folder / inner_folder
            names = [os.path.join(folder, one + suffix) for one in _fill_template(stem, source, options)]
        else:
            names = _fill_template(self.output, source, options)
        # A default name keeps the source's suffix, which need not name the format it has.
        keeps = self.output is None or (source.suffix != "" and Path(names[0]).suffix == source.suffix)
        format_ = source_format if keeps else format_of_suffix(Path(names[0]))
        if len(names) > 1:
            return tuple(Target(Path(name), format_, (i,)) for i, name in enumerate(names))
        if len(every) > 1 and not format_.holds_many:
            raise ArgumentError(
                f"output {names[0]} holds one array; put {SIZE} in its name for {len(every)} sizes"
            )
        return (Target(Path(names[0]), format_, every),)

    def remedy(self, target: Target, one: Path, other: Path, *, count: int) -> str:
        """What keeps two inputs from having one output, where each has so many of them."""
        field = STEM if stem_of(one) != stem_of(other) else PARENT if one.parent != other.parent else None
        if field is None or field in (self.output or ""):
            return "pool one of them alone, with another -o"
        if self.output is not None:
            return f"put {field} in its name"
        name = (self.folder or Path()) / PARENT / (STEM + (f".{SIZE}" if count > 1 else ""))
        return f"say -o '{name}{suffix_of(target.path)}'"


def _fill_template(text: str, source: Path, options: Options) -> list[str]:
    """The names that a template stands for: one for each size if it says `{size}`."""
    fields = {STEM: stem_of(source), PARENT: str(source.parent), SIZE: ""}
    if options.slice is not None:
        fields[SLICE] = slice_name(options.slice)
    for field in FIELD.findall(text):
        if field not in fields:
            raise ArgumentError(f"output {text} holds {field}; expected {', '.join(fields)}, or no braces")
    names = []
    for size in options.sizes if SIZE in text else options.sizes[:1]:
        fields[SIZE] = size_name(size)
        names.append(FIELD.sub(lambda match: fields[match[0]], text))
    return names


def is_folder(output: str) -> bool:
    """Whether an output is a folder for outputs: one that is there, or a name with a slash at the end.

    What has the suffix of a format is an output, as `a.zarr/` is; but where the format is of files, not with a slash.
    """
    has_slash = output.endswith(os.sep)
    suffixes = tuple(s for f in FORMATS if f.root_files or not has_slash for s in f.suffixes)
    is_output = output.rstrip(os.sep).lower().endswith(suffixes)
    return not is_output and (has_slash or os.path.isdir(output))


def stem_of(source: Path) -> str:
    """The name of a source without its suffix."""
    return "stdin" if source == STREAM else source.name.removesuffix(suffix_of(source))
