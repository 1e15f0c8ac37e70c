"""Where machine code of kernels is kept: light enough to be asked by commands that need none."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".o"


def folders() -> Iterator[Path]:
    """Beside Python's own code, else in the user's cache; or where Numba's variable says."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        yield Path(chosen)
        return
    yield Path(__file__).with_name("__pycache__")
    try:
        home = Path.home()
    except RuntimeError:  # none is known
        return
    caches = home / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    yield Path(os.environ.get("XDG_CACHE_HOME") or caches) / "lucid-pool"


def can_keep() -> bool:
    """Whether code can be kept for later processes."""
    for folder in folders():
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if folder.is_dir() and os.access(folder, os.W_OK):
            return True
    return False


def keep_some() -> bool:
    """Whether an earlier process kept some."""
    return any(next(folder.glob(f"*{SUFFIX}"), None) for folder in folders())
