"""Outputs that appear complete under their name or not at all, and names that no output may have."""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from functools import partial
from operator import methodcaller
from pathlib import Path

from lucid.errors import ExistsError, FileError, LucidError, NotFoundError, translate_errors
from lucid.formats.disk.renames import link_new, rename_new
from lucid.threads import for_each

#: Names of temporary files, as `Replacement` makes them.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp", re.DOTALL)
#: What file systems answer that know no fsync of folders, as CIFS, or none at all, as some in user space.
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EROFS)
#: What they answer to whoever would open a folder for it.
_NO_SYNC_OF_FOLDERS = (*_NO_SYNC, errno.EACCES, errno.EPERM, errno.EISDIR)


class Replacement:
    """A file that takes the place of another, or of none, in one step.

    It is written under a name of its own in the same folder, so that a rename makes it appear;
    before, its bytes are on disk, and after, the folder's entry is. While it is written it is
    locked: a file of such a name without a lock was left by a kill, and the next run removes it.
    """

    def __init__(self, target: Path, *, overwrite: bool) -> None:
        # A link stays a link: what it points to is replaced.
        self.target = link_target(target)
        self._overwrite = overwrite
        self.path = self.target.with_name(f".{short_name(self.target.name)}.{os.urandom(6).hex()}.tmp")
        self._pending = False
        #: A descriptor of its own, by which it is locked until it is in place or removed.
        self._lock = -1

    def create(self) -> int:
        """A descriptor of what is new, which is locked; of a file for reading and writing."""
        refuse_taken(self.target, overwrite=self._overwrite)
        # A signal may end the call when the file is there, and before anything that follows.
        self._pending = True
        while True:
            with translate_errors(f"output {self.target} cannot be created"):
                descriptor = self._make()
            with suppress(OSError):  # a file system without locks has no stale files removed either
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if self.path.exists():
                break
            os.close(descriptor)  # another run took it for stale in the moment before the lock
        self._lock = os.dup(descriptor)
        return descriptor

    def _make(self) -> int:
        """Make what is new under its temporary name; a file with the mode of what it replaces."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if self._overwrite and self.target.exists():
            os.fchmod(descriptor, stat.S_IMODE(os.stat(self.target).st_mode))
        return descriptor

    def commit(self, group: "list[Replacement] | None" = None) -> None:
        """Put it in its place, or add it to a `group` that somebody puts in place together.

        Where that is refused, what is finished is kept, and the error says where.
        """
        if group is not None:
            group.append(copy(self))
            self._pending, self._lock = False, -1
            return
        for error in put_in_place([self]).values():
            raise error

    def bring_to_disk(self) -> None:
        """Wait until all of it is on disk."""
        sync(self.path)

    def place(self) -> None:
        """Give it its name."""
        if self._overwrite:
            os.replace(self.path, self.target)
        else:
            link_new(self.path, self.target)
        self._pending = False

    @contextmanager
    def keep_if_refused(self) -> Iterator[None]:
        """Where the system refuses to go on, keep the finished work under a name that no run takes for stale."""
        try:
            yield
        except OSError as error:
            self._pending = False
            rescue = self.path.with_name(f"{self.path.name.removesuffix('.tmp')[1:]}.finished")
            try:
                rename_new(self.path, rescue)
            except OSError:
                rescue = self.path
            where = f"the finished work is {rescue}"
            if isinstance(error, FileExistsError):
                why = "exists by now; `overwrite=True` replaces it"
                raise ExistsError(f"output {self.target} {why}; {where}") from None
            why = f"cannot be put in place: {error.strerror}"
            raise FileError(f"output {self.target} {why}; {where}") from error

    def abort(self) -> None:
        """Remove the file unless it is in place."""
        if self._pending:
            self._pending = False
            self._remove()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _remove(self) -> None:
        with suppress(OSError):  # left unlocked, it is stale, and the next run removes it
            os.unlink(self.path)


#: Threads that wait for the disk together, so that it has all of a group's requests at once.
SYNC_THREADS = 8


def put_in_place(outputs: Sequence[Replacement]) -> dict[Replacement, LucidError]:
    """Put outputs in their places, all that takes waiting for the disk together; why not, of each that cannot be.

    No output gets its name before all its bytes are on disk, and when this returns the entries of folders are.
    """
    errors: dict[Replacement, LucidError] = {}

    def step(action: Callable[[Replacement], None], output: Replacement) -> None:
        try:
            with output.keep_if_refused():
                action(output)
        except LucidError as error:
            errors[output] = error

    for_each(partial(step, methodcaller("bring_to_disk")), outputs, workers=min(SYNC_THREADS, len(outputs)))
    for output in [output for output in outputs if output not in errors]:
        step(methodcaller("place"), output)
    for folder in {output.target.parent for output in outputs if output not in errors}:
        try:
            sync(folder)
        except OSError as error:
            why = f"is complete, but its folder is not on disk: {error.strerror}"
            neighbours = [output for output in outputs if output.target.parent == folder]
            errors = {output: FileError(f"output {output.target} {why}") for output in neighbours} | errors
    for output in outputs:
        output.abort()
    return errors


def sync(path: Path) -> None:
    """Bring a file, or the entries of a folder, to disk, where its file system knows how."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _flush(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (_NO_SYNC_OF_FOLDERS if path.is_dir() else _NO_SYNC):
            raise


def _flush(descriptor: int) -> None:
    """Wait until an open file is on disk; macOS's fsync alone may leave it in the drive's own memory."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined,unused-ignore]
    except (AttributeError, OSError):  # on Linux, and on file systems that have no such thing
        os.fsync(descriptor)


def remove_stale(folder: Path) -> None:
    """Remove temporary files and folders in a folder that no run has locked any more."""
    try:
        names = [name for name in os.listdir(folder) if _TEMPORARY.fullmatch(name)]
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    import shutil  # seldom needed

                    shutil.rmtree(folder / name)
                else:
                    os.unlink(folder / name)
            finally:
                os.close(descriptor)


def refuse_existing(target: Path, *, overwrite: bool, marks: tuple[str, ...] = ()) -> None:
    """Raise unless an output may be made under that name; a folder of files holds one of `marks`."""
    mode = _mode(target)
    if stat.S_ISDIR(mode):
        if not marks:
            raise FileError(
                f"output {target} is a folder; expected a file name, or {target}/ for files in it"
            )
        if not is_marked(target, marks):
            raise FileError(f"output {target} is a folder of other files, which is not replaced")
    elif mode:
        if marks:
            raise FileError(f"output {target} is no folder; expected one, or a name that is free")
        if not stat.S_ISREG(mode):
            raise FileError(f"output {target} is a pipe or a device; expected a regular file")
    refuse_taken(target, overwrite=overwrite)
    folder = link_target(target).parent
    if not stat.S_ISDIR(_mode(folder)):
        raise NotFoundError(f"output {target} cannot be written: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"output {target} cannot be written: folder {folder} is not writable")


def _mode(path: Path) -> int:
    """Kind and permissions of what is there, or 0; an error where nobody may look, as `Path` has it before 3.14."""
    try:
        return os.stat(path).st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return 0
        raise


def refuse_taken(target: Path, *, overwrite: bool) -> None:
    """Raise if there is something under the name of an output that may not be replaced."""
    if os.path.lexists(target) and not overwrite:
        raise ExistsError(f"output {target} exists already; `overwrite=True` replaces it")


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def link_target(path: Path) -> Path:
    """What a link leads to; any other path as it is."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def is_marked(folder: Path, marks: tuple[str, ...]) -> bool:
    """Whether a folder holds one of the files that tell its format."""
    return any(os.path.isfile(folder / mark) for mark in marks)  # it never raises


def short_name(name: str) -> str:
    """What of a name leaves room for more: file systems have 255 bytes for it."""
    while len(os.fsencode(name)) > 200:
        name = name[:-1]
    return name
