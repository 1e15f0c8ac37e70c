"""What `--resume` needs: a spool of means, and a journal of the blocks in it that are on disk.

Both lie beside the output, `.NAME.lucid-pool.spool` and `.NAME.lucid-pool.journal`. The journal's first
line says what is pooled, and how; each further line names blocks of one pass over the input,
written only after the spool was synced. A line cut off by a kill counts as not written. Outputs
are made from the spool when all blocks are there, so that a half-written file of any
format never matters. The journal is locked while it is in use.
"""

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from lucid.errors import FileError
from lucid.formats.contract import Array, Region, Resource
from lucid.formats.disk.files import claim, read_region, write_region

#: Seconds of work that a kill may cost.
SYNC_SECONDS = 1.0


class Journal(Resource):
    """An interrupted run that can be continued, or a new one."""

    def __init__(self, target: Path, facts: dict[str, Any], nbytes: int, *, restart: bool) -> None:
        self._journal_path, self._spool_path = paths(target)
        #: Blocks that need not be done again, for each pass over the input.
        self.done: dict[int, set[int]] = {}
        #: Whether outputs were being put in place when the run ended.
        self.is_committing = False
        self._noted: dict[int, list[int]] = {}
        self._last_sync = time.monotonic()
        self._journal = _open_locked(self._journal_path)
        self._spool = -1
        try:
            begun = self._read(facts, restart=restart)
            self._spool = os.open(self._spool_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            claim(self._spool, nbytes)
            if not begun:
                os.ftruncate(self._journal, 0)
                self._append(facts)
        except BaseException:
            self._close()
            raise

    def _read(self, facts: dict[str, Any], *, restart: bool) -> bool:
        """Take up what the journal says; False where there is nothing to continue."""
        text = os.pread(self._journal, os.fstat(self._journal).st_size, 0)
        lines = [_parsed(line) for line in text.split(b"\n")[:-1]]
        if not lines or None in lines or not self._spool_path.exists():
            return False
        old = lines[0]
        changed = [name for name in facts if old.get(name) != json.loads(json.dumps(facts[name]))]
        if changed:
            if restart:
                return False
            raise FileError(
                f"cannot be resumed: {' and '.join(changed)} changed since {self._journal_path} was begun; "
                "-f (overwrite=True) begins anew"
            )
        for line in lines[1:]:
            if line.get("committing"):
                self.is_committing = True
            else:
                self.done.setdefault(line["pass"], set()).update(line["blocks"])
        # What a kill cut off is overwritten by the next line.
        os.ftruncate(self._journal, text.rfind(b"\n") + 1)
        return True

    def write(self, offset: int, shape: tuple[int, ...], region: Region, values: Array) -> None:
        """Write a region of an array of means that begins at an offset of the spool."""
        write_region(self._spool, offset, shape, region, values)

    def read(self, offset: int, shape: tuple[int, ...], region: Region, itemsize: int, buffer: Array) -> None:
        """Read a region back."""
        read_region(self._spool, offset, shape, region, itemsize, buffer)

    def note(self, number: int, block: int) -> None:
        """A block of a pass is in the spool; now and then that is made to last."""
        self._noted.setdefault(number, []).append(block)
        if time.monotonic() - self._last_sync > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Make what was noted last: first the spool, then the journal that speaks of it."""
        if self._noted:
            _synced(self._spool)
            for number, blocks in self._noted.items():
                self.done.setdefault(number, set()).update(blocks)
                self._append({"pass": number, "blocks": blocks})
            self._noted.clear()
        self._last_sync = time.monotonic()

    def begin_commit(self) -> None:
        """From now on, outputs that are in place are this run's own."""
        self.sync()
        self._append({"committing": True})

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        try:
            os.pwrite(self._journal, data, os.fstat(self._journal).st_size)
        except OSError as error:
            raise FileError(f"journal cannot be written: {error.strerror}") from error
        _synced(self._journal)

    def remove(self) -> None:
        """The outputs are in place: nothing is left to resume."""
        with suppress(OSError):  # what is left says that all is done, and goes with the next run
            self._spool_path.unlink(missing_ok=True)
            self._journal_path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """Keep what is done; keep nothing where nothing is."""
        try:
            if self._journal_path.exists():
                self.sync()
                if not self.done:
                    self.remove()
        finally:
            self._close()

    def _close(self) -> None:
        os.close(self._journal)
        if self._spool >= 0:
            os.close(self._spool)


def paths(target: Path) -> tuple[Path, Path]:
    """Journal and spool of an output."""
    real = Path(os.path.realpath(target))
    stem = f".{real.name[:200]}.lucid-pool"
    return real.with_name(f"{stem}.journal"), real.with_name(f"{stem}.spool")


def _parsed(line: bytes) -> Any:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _synced(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise FileError(f"spool or journal cannot be written: {error.strerror}") from error


def _open_locked(path: Path) -> int:
    """Open a journal that no other process has."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise FileError(f"journal {path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise FileError(f"another process is at work on this output: {path} is locked") from None
        # The one that had it before may just have removed it.
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
        os.close(descriptor)
