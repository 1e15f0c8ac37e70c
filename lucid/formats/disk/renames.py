"""Renames that a file system may not know: into a name that must be free, and of two names for each other."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

_AT_FDCWD = -100
#: Flags of the system's own rename: take no name that is taken; let two names change places.
_EXCLUSIVE, _SWAP = (4, 2) if sys.platform == "darwin" else (1, 2)


def link_new(path: Path, target: Path) -> None:
    """Give a file a name that must be free, and take the old one away.

    A hard link fails if the name was taken meanwhile, where a rename would destroy what has it. File
    systems such as FAT have none, and shares refuse them in ways of their own; there it is renamed.
    """
    try:
        os.link(path, target)
    except OSError:
        rename_new(path, target)
    else:
        with suppress(OSError):  # left unlocked, it is stale, and the next run removes it
            os.unlink(path)


def rename_new(path: Path, target: Path) -> None:
    """Rename unless the name is taken; a plain rename would replace a file or an empty folder."""
    if not _rename(path, target, _EXCLUSIVE):
        # Nothing closes the gap between the look and the rename there.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        os.rename(path, target)


def exchange(path: Path, target: Path) -> None:
    """Let two folders change places; where the system cannot, the name is free for a moment."""
    if not _rename(path, target, _SWAP):
        old_path = path.with_suffix(".old")  # which no run takes for stale
        os.rename(target, old_path)
        try:
            os.rename(path, target)
        except OSError:
            os.rename(old_path, target)
            raise
        os.rename(old_path, path)


def _rename(path: Path, target: Path, flags: int) -> bool:
    """Rename with flags, for which Python has no call; whether system and file system know them."""
    import ctypes  # seldom needed

    libc, old, new = ctypes.CDLL(None, use_errno=True), os.fsencode(path), os.fsencode(target)
    if hasattr(libc, "renameat2"):
        status = libc.renameat2(_AT_FDCWD, old, _AT_FDCWD, new, flags)
    elif hasattr(libc, "renamex_np"):
        status = libc.renamex_np(old, new, flags)
    else:
        return False
    number = ctypes.get_errno() if status else 0
    if number == errno.EEXIST:
        raise FileExistsError(number, os.strerror(number), str(target))
    # Whatever else it says of flags, a plain rename has the last word.
    return number == 0
