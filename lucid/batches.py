"""Every input with its outputs, settled before any work: whose names clash, what would be destroyed."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lucid.backlog import Backlog
from lucid.clashes import Clashes
from lucid.errors import ArgumentError, FileError, LucidError, NotFoundError
from lucid.formats.disk.replacement import remove_stale
from lucid.formats.registry import format_of_suffix
from lucid.inputs import Found, LeftOutError, find_inputs
from lucid.options import Options
from lucid.tasks import Naming, Task, task_of


class Batch:
    """Every input in order, with its outputs, or why it is not pooled; a million take no more memory than a thousand.

    The tasks wait in a temporary file. Nothing is made yet.

    Raises
    ------
    ArgumentError
        A name fits no format, or is the one name of several outputs.

    """

    def __init__(self, names: Sequence[str], naming: Naming, options: Options) -> None:
        self._names, self._naming, self._options = names, naming, options
        self._tasks = Backlog[Task]()
        self._folders = set[Path]()
        #: Bytes of all inputs.
        self.size_bytes = 0
        #: Inputs that are read or written by native code, go to standard output, or are small.
        self.native = self.to_stream = self.small = 0
        self._clashes = Clashes(naming)
        for found in find_inputs(names):
            self._add(self._task_of(found))
        self._clashes.compare(self._tasks, names)

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        for task in self._tasks:
            yield self._checked(task) if task.error is None else task

    def _task_of(self, found: Found) -> Task:
        error = found.error
        try:
            if error is None:
                return task_of(found, self._options, self._naming)
        except ArgumentError:
            raise
        except NotFoundError as reason:
            error = self._as_output(reason, found.source)
        except LucidError as reason:
            error = reason
        except OSError as reason:  # from a look at a path, as of a name too long
            error = FileError(f"cannot be opened: {reason.strerror}")
        return Task(found.source, error=error)

    def _add(self, task: Task) -> None:
        self._tasks.append(task)
        if task.error is None:
            self._clashes.add(task)
            self._folders.update(target.path.parent for target in task.targets)
            self.size_bytes += task.size_bytes
            self.native += task.is_native
            self.to_stream += not task.targets
            self.small += task.is_small

    def prepare(self) -> None:
        """Make the folders of outputs, where they are made, and clear them of what killed runs left.

        Raises
        ------
        ArgumentError
            The folder for outputs cannot be made.

        """
        folder = self._naming.folder
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ArgumentError(f"--output-dir {folder} cannot be made: {error.strerror}") from error
        for folder in self._folders if self._naming.makes_folders else ():
            with suppress(OSError):  # it is an error of its inputs, which name it
                folder.mkdir(parents=True, exist_ok=True)
        self.clear()

    def clear(self) -> None:
        """Remove what killed runs left in the folders of outputs."""
        for folder in self._folders:
            remove_stale(folder.resolve())

    def _checked(self, task: Task) -> Task:
        """A task, with what keeps it from its outputs, which in a dry run is only told."""
        if maker := self._clashes.makers.get(task.source):
            return task._replace(error=LeftOutError(f"it is the output of {maker}"))
        conflict = self._clashes.conflict_of(task) or self._conflict(task)
        if conflict and not self._options.dry_run:
            return task._replace(error=FileError(conflict))
        return task._replace(conflict=conflict)

    def _conflict(self, task: Task) -> str:
        """Why the outputs of a task may not be written, if so."""
        options, makes = self._options, self._naming.makes_folders and self._options.dry_run
        try:
            for target in task.targets:
                other = self._clashes.input_at(target)
                if other is not None:
                    target.refuse_input(other)
                if not (makes and not target.path.parent.exists()):
                    target.refuse_existing(overwrite=options.overwrite or options.resume)
        except LucidError as error:
            return str(error)
        except OSError as error:  # from a look at the folder
            return f"output {target.path} cannot be written: {error.strerror}"
        return ""

    def _as_output(self, error: NotFoundError, source: str) -> LucidError:
        """The error for an input that is not there; the last one may be meant as the output, as in cp."""
        if len(self._names) < 2 or source != self._names[-1] or self._naming != (None, None):
            return error
        if source.endswith("/"):
            return NotFoundError(f"{error}; if it is to take the outputs, say --output-dir {source}")
        try:
            format_of_suffix(Path(source))
        except ArgumentError:
            return error
        return NotFoundError(f"{error}; if it is to be the output, say -o {source}")
