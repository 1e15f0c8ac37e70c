"""Every input with its outputs, settled before any work: whose names clash, what would be destroyed."""

import os
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lucid.backlog import Backlog
from lucid.errors import ArgumentError, FileError, LucidError, NotFoundError
from lucid.formats.disk.files import remove_stale
from lucid.formats.registry import NPY, format_of_content, format_of_suffix
from lucid.formats.stream import STREAM
from lucid.inputs import Found, find_inputs, is_stream
from lucid.options import Options
from lucid.outputs import PARENT, SIZE, STEM, FilePath, Target, is_folder, stem_of, suffix_of, targets_of

#: Bytes of a file that is small: to pool it takes less than to begin and to end its output.
SMALL_BYTES = 1 << 20
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

    @property
    def is_small(self) -> bool:
        """Whether it is a file that is best pooled along with others."""
        return bool(self.targets) and 0 < self.size_bytes <= SMALL_BYTES


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


def clear(tasks: Iterable[Task], *, makes: bool = False) -> None:
    """Remove what killed runs left in the folders of outputs, or make those that are not there."""
    for folder in {target.path.parent for task in tasks for target in task.targets}:
        if makes and not folder.exists():
            with suppress(OSError):  # it is an error of its inputs, which name it
                folder.mkdir(parents=True, exist_ok=True)
        remove_stale(folder.resolve())


class Paths:
    """Which paths are those of several inputs and outputs.

    Of each path a number is remembered, by which it may be one of several. Only those are compared by name.
    """

    def __init__(self) -> None:
        self._folder = self._real_folder = ""
        self._inputs, self._outputs = array("q"), array("q")
        #: Of paths that are compared: whose outputs they are, and which input has it.
        self._owners: dict[str, list[Task]] = defaultdict(list)
        self._sources: dict[str, Path] = {}
        #: Inputs that were found in a folder and are the outputs of others: of which ones.
        self.makers: dict[str, str] = {}

    def add(self, task: Task) -> None:
        """Note the paths of a task."""
        if not task.is_stream:
            self._inputs.append(hash(self._real(task.source)))
        self._outputs.extend(hash(self._real(target.path)) for target in task.targets)

    def compare(self, tasks: Iterable[Task], names: Iterable[str]) -> None:
        """Find paths that are one, of these tasks and of what was named as inputs."""
        named = {os.path.realpath(name): Path(name) for name in names if not is_stream(name)}
        inputs = np.array([*map(hash, named), *self._inputs], np.int64)
        outputs = np.sort(np.array(self._outputs, np.int64))
        again = outputs[1:][outputs[1:] == outputs[:-1]]
        known = {*again.tolist(), *outputs[np.isin(outputs, inputs)].tolist()}
        for task in tasks if known else ():
            path = self._real(task.source)
            if hash(path) in known and not task.is_stream:
                self._sources[path] = task.path
            for target in task.targets:
                path = self._real(target.path)
                if hash(path) in known:
                    self._owners[path].append(task)
        for task in tasks if self._sources else ():
            owners = self._owners.get(self._real(task.source), ()) if task.is_found else ()
            maker = next((owner.source for owner in owners if owner.source != task.source), None)
            if maker is not None:
                self.makers[task.source] = maker
        for path, owners in self._owners.items():
            self._owners[path] = [owner for owner in owners if owner.source not in self.makers]
        self._sources = {path: one for path, one in self._sources.items() if str(one) not in self.makers}
        self._sources |= named

    def input_at(self, target: Target) -> Path | None:
        """The input that is where an output would be."""
        return self._sources.get(self._real(target.path))

    def clash_of(self, task: Task, naming: Naming) -> str:
        """Why a task cannot have its output, if others would have it, too.

        Raises
        ------
        ArgumentError
            It is the one name of all outputs.

        """
        conflict = ""
        for target in task.targets:
            owners = self._owners.get(self._real(target.path), ())
            others = [other for other in owners if other.source != task.source]
            if not others:
                continue
            remedy = naming.remedy(target, task.path, others[0].path, count=len(task.targets))
            if naming.is_one_name:
                raise ArgumentError(
                    f"{task.source} and {others[0].source} would both be written to {target.path}; {remedy}"
                )
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            conflict = f"would be written to {target.path}, as {others[0].source}{more} would; {remedy}"
        return conflict

    def _real(self, path: FilePath) -> str:
        """A path without links; that of the folder is found once for all that follow each other in it."""
        folder, name = os.path.split(path)
        if name in ("", os.curdir, os.pardir) or os.path.islink(path):  # noqa: PTH114
            return os.path.realpath(path)
        if folder != self._folder or not self._real_folder:
            self._folder, self._real_folder = folder, os.path.realpath(folder)
        return os.path.join(self._real_folder, name)


class Batch:
    """Every input with its outputs, settled before any work; a million take no more memory than a thousand.

    The tasks wait in a temporary file. Of each path a number of eight bytes is remembered, from which follows
    where two paths may be the same; only those are looked at by name.
    """

    def __init__(self, naming: Naming, options: Options, names: Sequence[str]) -> None:
        self._naming, self._options, self._names = naming, options, names
        self._tasks = Backlog[Task]()
        #: Bytes of all inputs.
        self.size_bytes = 0
        #: Inputs that are read or written by native code, go to standard output, or are small.
        self.native = self.to_stream = self.small = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    def settle(self, on_failure: OnFailure, on_left_out: OnLeftOut) -> None:
        """Find the inputs, name their outputs, and say which of them cannot be; nothing is made yet.

        Raises
        ------
        ArgumentError
            A name fits no format, or is the one name of several outputs.

        """
        every, paths = Backlog[Task](), Paths()
        for found in find_inputs(self._names):
            if found.left_out:
                on_left_out(found.source, found.left_out)
                continue
            try:
                if found.error is not None:
                    raise found.error
                task = _task_of(found, self._options, self._naming)
            except ArgumentError:
                raise
            except NotFoundError as error:
                on_failure(found.source, _as_output(error, found.source, self._names, self._naming))
            except LucidError as error:
                on_failure(found.source, error)
            except OSError as error:  # from a look at a path, as of a name too long
                on_failure(found.source, FileError(f"cannot be opened: {error.strerror}"))
            else:
                every.append(task)
                paths.add(task)
        paths.compare(every, self._names)
        for task in every:
            maker = paths.makers.get(task.source)
            if maker is not None:
                on_left_out(task.source, f"it is the output of {maker}")
            else:
                self._add(task._replace(conflict=paths.clash_of(task, self._naming)))
        self._paths = paths

    def _add(self, task: Task) -> None:
        self._tasks.append(task)
        self.size_bytes += task.size_bytes
        self.native += task.is_native
        self.to_stream += not task.targets
        self.small += task.is_small

    def prepare(self, on_conflict: OnFailure) -> None:
        """Make the folders of outputs, and clear them of what killed runs left; say what may not be written.

        A dry run keeps such inputs, with the conflict.

        Raises
        ------
        ArgumentError
            The folder for outputs cannot be made.

        """
        naming, options = self._naming, self._options
        if naming.folder is not None and not options.dry_run:
            try:
                naming.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ArgumentError(
                    f"--output-dir {naming.folder} cannot be made: {error.strerror}"
                ) from error
        if not options.dry_run:
            clear(self, makes=naming.makes_folders)
        every, self._tasks = self._tasks, Backlog()
        self.size_bytes = self.native = self.to_stream = self.small = 0
        for task in every:
            conflict = task.conflict or self._conflict(task)
            if conflict and not options.dry_run:
                on_conflict(task.source, FileError(conflict))
            else:
                self._add(task._replace(conflict=conflict))

    def _conflict(self, task: Task) -> str:
        """Why the outputs of a task may not be written, if so."""
        options, makes = self._options, self._naming.makes_folders and self._options.dry_run
        try:
            for target in task.targets:
                other = self._paths.input_at(target)
                if other is not None:
                    target.refuse_input(other)
                if not (makes and not target.path.parent.exists()):
                    target.refuse_existing(overwrite=options.overwrite or options.resume)
        except LucidError as error:
            return str(error)
        except OSError as error:  # from a look at a path, as of a name too long
            return f"output {error.filename} cannot be written: {error.strerror}"
        return ""
