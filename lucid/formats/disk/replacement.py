"""Outputs that appear complete under their name or not at all."""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path

from lucid.errors import ExistsError, FileError, LucidError, translate_errors
from lucid.formats.disk.names import link_target, refuse_taken, short_name
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

    def give_name(self) -> None:
        """Let it take the place of what has its name."""
        if self._overwrite:
            os.replace(self.path, self.target)
        else:
            link_new(self.path, self.target)
        self._pending = False

    def rescue(self, error: OSError) -> LucidError:
        """Where the system refuses to go on, keep the finished work under a name that no run takes for stale."""
        self._pending = False
        rescue = self.path.with_name(f"{self.path.name.removesuffix('.tmp')[1:]}.finished")
        try:
            rename_new(self.path, rescue)
        except OSError:
            rescue = self.path
        where = f"the finished work is {rescue}"
        if isinstance(error, FileExistsError):
            why = "exists by now; `overwrite=True` replaces it"
            return ExistsError(f"output {self.target} {why}; {where}")
        return FileError(f"output {self.target} cannot be put in place: {error.strerror}; {where}")

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

    def bring_to_disk(output: Replacement) -> None:
        try:
            output.bring_to_disk()
        except OSError as error:
            errors[output] = output.rescue(error)

    for_each(bring_to_disk, outputs, workers=min(SYNC_THREADS, len(outputs)))
    for output in outputs:
        try:
            if output not in errors:
                output.give_name()
        except OSError as error:
            errors[output] = output.rescue(error)
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
