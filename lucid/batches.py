"""Every input with its outputs, settled before any work: whose names clash, what would be destroyed."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from lucid.backlog import Backlog, Table
from lucid.errors import ArgumentError, FileError, LucidError, NotFoundError, translate_errors
from lucid.formats.disk.replacement import remove_stale
from lucid.formats.paths import folds_case
from lucid.formats.registry import format_of_suffix
from lucid.inputs import LeftOutError, Task, find_inputs
from lucid.options import Options
from lucid.outputs import FilePath, Naming


class Batch:
    """Every input in order, with its outputs, or why it is not pooled; a million take no more memory than a thousand.

    The tasks wait in a temporary file, and nothing is made yet. A name that fits no format, or is that of all outputs,
    is an ArgumentError.
    """

    def __init__(self, names: Sequence[str], naming: Naming, options: Options) -> None:
        self._names, self._naming, self._options = names, naming, options
        self._tasks = Backlog[Task]()
        self._folders = set[Path]()
        #: Folders that this batch made, inner ones first.
        self._new_folders: list[Path] = []
        self._clashes = Clashes(naming)
        #: `bytes` of all inputs, and how many are `native`, are `small` or go `to_stream`, to standard output.
        self.totals = Counter[str]()
        for task in map(self._add_targets, find_inputs(names)):
            self._tasks.append(task)
            self._clashes.add(task)
            if task.error is None:
                self._folders.update(target.path.parent for target in task.targets if not target.is_stream)
                self.totals["bytes"] += task.size_bytes
                self.totals.update(native=task.is_native, small=task.is_small, to_stream=task.is_to_stream)
        for task in self._tasks if naming.is_one_name else ():
            if (conflict := self._clashes.conflict_of(task)) and not self._clashes.maker_of(task):
                raise ArgumentError(f"{task.source} {conflict}")

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        for task in self._tasks:
            yield self._check_outputs(task) if task.error is None else task

    def _add_targets(self, task: Task) -> Task:
        if task.error is not None:
            return task
        try:
            with translate_errors("cannot be opened"):  # as under a name too long
                return task.with_targets(self._options, self._naming)
        except ArgumentError:
            raise
        except LucidError as error:
            return task._replace(error=self._as_output(error, task.source))

    def prepare(self) -> None:
        """Make the folders of outputs, where they are made, and clear them of what killed runs left."""
        output_dir = self._naming.folder
        if output_dir is not None:
            with translate_errors(f"--output-dir {output_dir} cannot be made", error_type=ArgumentError):
                self._make(output_dir)
        for folder in self._folders if self._naming.makes_folders else ():
            with suppress(OSError):  # it is an error of its inputs, which name it
                self._make(folder)
        self.clear()

    def _make(self, folder: Path) -> None:
        self._new_folders = [
            *(path for path in (folder, *folder.parents) if not path.exists()),
            *self._new_folders,
        ]
        folder.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Remove the new folders that hold no output."""
        for folder in self._new_folders:
            with suppress(OSError):  # one that holds something is kept
                folder.rmdir()

    def clear(self) -> None:
        """Remove what killed runs left in the folders of outputs."""
        for folder in self._folders:
            remove_stale(folder.resolve())

    def _check_outputs(self, task: Task) -> Task:
        """A task, with what keeps it from its outputs."""
        if maker := self._clashes.maker_of(task):
            return task._replace(targets=(), error=LeftOutError(f"it is the output of {maker.source}"))
        makes_folder = self._naming.makes_folders and self._options.dry_run
        try:
            if conflict := self._clashes.conflict_of(task):
                raise FileError(conflict)
            for target in task.targets:
                inputs = [*self._clashes.inputs_at(target.path), task.opened_path]
                target.refuse(inputs, self._options, makes_folder=makes_folder)
        except LucidError as error:
            return task._replace(error=error)
        return task

    def _as_output(self, error: LucidError, source: str) -> LucidError:
        """The error for an input; with a hint where the last one is not there and may be meant as the output."""
        is_last = len(self._names) > 1 and source == self._names[-1] and self._naming == (None, None)
        if is_last and isinstance(error, NotFoundError):
            if source.endswith("/"):
                return NotFoundError(f"{error}; if it is to take the outputs, say --output-dir {source}")
            with suppress(ArgumentError):
                format_of_suffix(Path(source))
                return NotFoundError(f"{error}; if it is to be the output, say -o {source}")
        return error


class Clashes:
    """Which outputs are those of several inputs, or inputs themselves."""

    def __init__(self, naming: Naming) -> None:
        self._naming = naming
        #: The first task of each output by its real path, and the others of those that have several.
        self._first, self._others = Table[Task](), defaultdict[str, list[Task]](list)
        #: Inputs that were named, by their real paths.
        self.inputs: dict[str, Path] = {}
        #: The tasks of an output of several that are not left out, once all were added.
        self._rivals: dict[str, list[Task]] = {}
        self._folds_case = lru_cache(64)(lambda folder: folds_case(Path(folder)))

    def real_path(self, path: FilePath) -> str:
        """A path without links, in one case where the file system knows no case."""
        real = os.path.realpath(path)
        return real.casefold() if self._folds_case(os.path.dirname(real)) else real

    def add(self, task: Task) -> None:
        """Note the paths of a task; one that was named is an input, whatever is wrong with it."""
        if not (task.is_stream or task.is_from_folder):
            self.inputs[self.real_path(task.source)] = task.path
        for path in (self.real_path(target.path) for target in task.targets if not target.is_stream):
            owner = task._replace(targets=())
            if not self._first.add(path, owner):
                self._others[path].append(owner)

    def _owners(self, path: str) -> list[Task]:
        """The tasks that have a path as their output."""
        first = self._first.get(path)
        return [first, *self._others.get(path, ())] if first else []

    def maker_of(self, task: Task) -> Task | None:
        """The other input of which a file of a folder is the output."""
        owners = self._owners(self.real_path(task.source)) if task.is_from_folder else []
        return next((owner for owner in owners if owner.source != task.source), None)

    def inputs_at(self, target: Path) -> list[Path]:
        """Inputs that an output may be, lie in, or hold."""
        if not self.inputs:
            return []
        path = self.real_path(target)
        paths = [path, *map(str, Path(path).parents)]
        if os.path.isdir(path):
            paths += [other for other in self.inputs if other.startswith(path + os.sep)]
        return [self.inputs[one] for one in paths if one in self.inputs]

    def conflict_of(self, task: Task) -> str:
        """Why a task cannot have its outputs, if others would have them, too."""
        for target in task.targets if self._others else ():
            path = self.real_path(target.path)
            if path in self._others and path not in self._rivals:
                self._rivals[path] = [owner for owner in self._owners(path) if not self.maker_of(owner)]
            others = [rival for rival in self._rivals.get(path, ()) if rival.source != task.source]
            if others:
                more = f" and {len(others) - 1} more" if len(others) > 1 else ""
                remedy = self._naming.remedy(target, task.path, others[0].path, count=len(task.targets))
                return f"would be written to {target.path}, as {others[0].source}{more} would; {remedy}"
        return ""
