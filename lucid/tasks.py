"""One input and its outputs: what is read, where it goes, under which names."""

from pathlib import Path
from typing import NamedTuple

from lucid.errors import LucidError
from lucid.formats.registry import NPY, format_of_content
from lucid.formats.stream import STREAM
from lucid.inputs import Input, is_stream
from lucid.options import Options
from lucid.outputs import PARENT, SIZE, STEM, Target, is_folder, stem_of, suffix_of, targets_of

#: Bytes of a file that is small: to pool it takes less than to begin and to end its output.
SMALL_BYTES = 1 << 20


class Task(NamedTuple):
    """One input: what is read, where it goes, how much there is of it."""

    source: str
    #: Empty where the results go to standard output.
    targets: tuple[Target, ...] = ()
    size_bytes: int = 0
    #: Whether it is read once and in order.
    is_stream: bool = False
    #: Whether native code reads or writes it, which must not take the other inputs along.
    is_native: bool = False
    #: Whether it was found in a folder.
    is_found: bool = False
    #: Why it is not pooled, if so; if it has outputs, they conflict with others, which a dry run only tells.
    error: LucidError | None = None

    @property
    def path(self) -> Path:
        """What outputs are named after."""
        return STREAM if self.is_stream else Path(self.source)

    @property
    def is_small(self) -> bool:
        """Whether it is best done along with others: a small file, or nothing to do."""
        return self.error is not None or (bool(self.targets) and 0 < self.size_bytes <= SMALL_BYTES)


class Naming(NamedTuple):
    """Where outputs go: to a template or standard output, or under default names to a folder."""

    output: str | None
    folder: Path | None

    @classmethod
    def of(cls, output: str | None, folder: str | None) -> "Naming":
        """Of an output and a folder as the shell has them."""
        if output is not None and is_folder(output):
            output, folder = None, output
        return cls(output, None if folder is None else Path(folder))

    @property
    def makes_folders(self) -> bool:
        """Whether the folders of outputs are made."""
        return self.folder is not None or PARENT in (self.output or "")

    @property
    def is_one_name(self) -> bool:
        """Whether every input would be written to one output."""
        return self.output is not None and not (STEM in self.output or PARENT in self.output)

    def remedy(self, target: Target, one: Path, other: Path, *, count: int) -> str:
        """What keeps two inputs from having one output, where each has so many of them."""
        field = STEM if stem_of(one) != stem_of(other) else PARENT if one.parent != other.parent else None
        if field is None or field in (self.output or ""):
            return "pool one of them alone, with another -o"
        if self.output is not None:
            return f"put {field} in its name"
        name = (self.folder or Path()) / PARENT / (STEM + (f".{SIZE}" if count > 1 else ""))
        return f"say -o '{name}{suffix_of(target.path)}'"


def task_of(input_: Input, options: Options, naming: Naming) -> Task:
    """An input with its outputs."""
    source, path = input_.source, Path(input_.source)
    streams = is_stream(source)
    format_ = NPY if streams else format_of_content(path)
    targets: tuple[Target, ...] = ()
    if naming.output != str(STREAM) and not (streams and naming == (None, None)):
        folder = naming.folder and naming.folder / (input_.place or "")
        targets = targets_of(STREAM if streams else path, format_, naming.output, options, folder)
    return Task(
        source,
        targets,
        size_bytes=0 if streams else bytes_of(path),
        is_stream=streams,
        is_native=format_.is_native or any(target.format.is_native for target in targets),
        is_found=input_.is_found,
    )


def bytes_of(path: Path) -> int:
    """Size of a file; 0 if there is none, or it is a folder."""
    try:
        return 0 if path.is_dir() else path.stat().st_size
    except OSError:
        return 0
