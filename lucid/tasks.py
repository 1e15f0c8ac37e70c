"""Every input with its outputs, settled before any work: whose names clash, what would be destroyed."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lucid.errors import ArgumentError, FileError, LucidError, NotFoundError
from lucid.formats.disk.replacement import remove_stale
from lucid.formats.registry import NPY, format_of_content, format_of_suffix
from lucid.formats.stream import STREAM
from lucid.inputs import Found, find_inputs, is_stream
from lucid.options import Options
from lucid.outputs import PARENT, SIZE, STEM, Target, is_folder, stem_of, suffix_of, targets_of

#: Hears of an input that fails, and why.
OnFailure = Callable[[str, LucidError], None]
#: Hears of a file of a folder that is left out, and why.
OnLeftOut = Callable[[str, str], None]


class Task(NamedTuple):
    """One input: what is read, where it goes, how much there is of it."""

    source: str
    #: Empty where the results go to standard output.
    targets: tuple[Target, ...]
    size_bytes: int
    #: Whether it is read once and in order.
    is_stream: bool = False
    #: Whether native code reads or writes it, which must not take the other inputs along.
    is_native: bool = False
    #: Whether it was found in a folder.
    is_found: bool = False
    #: Why its outputs may not be written, if so.
    conflict: str = ""

    @property
    def path(self) -> Path:
        """What outputs are named after."""
        return STREAM if self.is_stream else Path(self.source)


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
        alone = "pool one of them alone, with another -o"
        field = STEM if stem_of(one) != stem_of(other) else PARENT if one.parent != other.parent else None
        if field is None:
            return alone
        if self.output is not None:
            return alone if field in self.output else f"put {field} in its name"
        name = (self.folder or Path()) / PARENT / (STEM + (f".{SIZE}" if count > 1 else ""))
        return f"say -o '{name}{suffix_of(target.path)}'"


def settle(
    names: Sequence[str], options: Options, naming: Naming, on_failure: OnFailure, on_left_out: OnLeftOut
) -> list[Task]:
    """Every input with its outputs; nothing is made yet.

    Raises
    ------
    ArgumentError
        A name fits no format, or is the one name of several outputs.

    """
    tasks = []
    for found in find_inputs(names):
        if found.left_out:
            on_left_out(found.source, found.left_out)
            continue
        try:
            if found.error is not None:
                raise found.error
            tasks.append(_task_of(found, options, naming))
        except ArgumentError:
            raise
        except NotFoundError as error:
            on_failure(found.source, _as_output(error, found.source, names, naming))
        except LucidError as error:
            on_failure(found.source, error)
        except OSError as error:  # from a look at a path, as of a name too long
            on_failure(found.source, FileError(f"cannot be opened: {error.strerror}"))
    makers = _by_output(tasks)
    kept = []
    for task in tasks:
        maker = next((t for t in makers.get(os.path.realpath(task.source), ()) if t is not task), None)
        if maker is not None and task.is_found:
            on_left_out(task.source, f"it is the output of {maker.source}")
        else:
            kept.append(task)
    return list(_with_clashes(kept, naming))


def _task_of(found: Found, options: Options, naming: Naming) -> Task:
    source, path = found.source, Path(found.source)
    streams = is_stream(source)
    format_ = NPY if streams else format_of_content(path)
    size_bytes = 0 if streams else bytes_of(path)
    task = Task(source, (), size_bytes, streams, format_.is_native, found.place is not None)
    if naming.output == str(STREAM) or (streams and naming == (None, None)):
        return task
    folder = naming.folder and naming.folder / (found.place or "")
    targets = targets_of(STREAM if streams else path, format_, naming.output, options, folder)
    is_native = format_.is_native or any(target.format.is_native for target in targets)
    return task._replace(targets=targets, is_native=is_native)


def bytes_of(path: Path) -> int:
    """Size of a file; 0 if there is none, or it is a folder."""
    try:
        return 0 if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


def _as_output(error: NotFoundError, source: str, names: Sequence[str], naming: Naming) -> LucidError:
    """The error for an input that is not there; the last one may be meant as the output, as in cp."""
    if len(names) < 2 or source != names[-1] or naming != (None, None):
        return error
    if source.endswith("/"):
        return NotFoundError(f"{error}; if it is to take the outputs, say --output-dir {source}")
    try:
        format_of_suffix(Path(source))
    except ArgumentError:
        return error
    return NotFoundError(f"{error}; if it is to be the output, say -o {source}")


def _by_output(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    owners: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        for target in task.targets:
            owners[os.path.realpath(target.path)].append(task)
    return owners


def _with_clashes(tasks: Sequence[Task], naming: Naming) -> Iterator[Task]:
    """The tasks; those that would have one output say so."""
    owners = _by_output(tasks)
    for task in tasks:
        conflict = ""
        for target in task.targets:
            others = [other for other in owners[os.path.realpath(target.path)] if other is not task]
            if not others:
                continue
            other = others[0].source
            remedy = naming.remedy(target, task.path, others[0].path, count=len(task.targets))
            if naming.is_one_name:
                raise ArgumentError(
                    f"{task.source} and {other} would both be written to {target.path}; {remedy}"
                )
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            conflict = f"would be written to {target.path}, as {other}{more} would; {remedy}"
        yield task._replace(conflict=conflict)


def prepare(tasks: Sequence[Task], options: Options, naming: Naming, inputs: Sequence[str]) -> list[Task]:
    """Make the folders of outputs, and clear them of what killed runs left; say what may not be written.

    Raises
    ------
    ArgumentError
        The folder for outputs cannot be made.

    """
    if naming.folder is not None and not options.dry_run:
        try:
            naming.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(f"--output-dir {naming.folder} cannot be made: {error.strerror}") from error
    if not options.dry_run:
        clear(tasks, makes=naming.makes_folders)
    named = [*inputs, *(task.source for task in tasks)]
    sources = {os.path.realpath(source): Path(source) for source in named if not is_stream(source)}
    return [
        task if task.conflict else task._replace(conflict=_conflict(task, options, naming, sources))
        for task in tasks
    ]


def _conflict(task: Task, options: Options, naming: Naming, sources: Mapping[str, Path]) -> str:
    """Why the outputs of a task may not be written, if so."""
    try:
        for target in task.targets:
            other = sources.get(os.path.realpath(target.path))
            if other is not None:
                target.refuse_input(other)
            if not (naming.makes_folders and options.dry_run and not target.path.parent.exists()):
                target.refuse_existing(overwrite=options.overwrite or options.resume)
    except LucidError as error:
        return str(error)
    except OSError as error:  # from a look at a path, as of a name too long
        return f"output {error.filename} cannot be written: {error.strerror}"
    return ""


def clear(tasks: Iterable[Task], *, makes: bool = False) -> None:
    """Remove what killed runs left in the folders of outputs, or make those that are not there."""
    for folder in {target.path.parent for task in tasks for target in task.targets}:
        if makes and not folder.exists():
            with suppress(OSError):  # it is an error of its inputs, which name it
                folder.mkdir(parents=True, exist_ok=True)
        remove_stale(folder.resolve())
