"""Every input with its outputs, settled before any work: whose names clash, what would be destroyed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lucid.backlog import Backlog
from lucid.clashes import Paths
from lucid.errors import ArgumentError, FileError, LucidError, NotFoundError
from lucid.formats.disk.replacement import remove_stale
from lucid.formats.registry import format_of_suffix
from lucid.inputs import find_inputs
from lucid.options import Options
from lucid.tasks import Naming, Task, task_of

#: Hears of an input that fails, and why.
OnFailure = Callable[[str, LucidError], None]
#: Hears of a file of a folder that is left out, and why.
OnLeftOut = Callable[[str, str], None]


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
                task = task_of(found, self._options, self._naming)
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
        except OSError as error:  # from a look at the folder
            return f"output {target.path} cannot be written: {error.strerror}"
        return ""


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
        if makes:
            with suppress(OSError):  # it is an error of its inputs, which name it
                folder.mkdir(parents=True, exist_ok=True)
        remove_stale(folder.resolve())
