"""What every campaign holds, and what it returns."""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
Campaign = Callable[..., Figures]


class ViolationError(AssertionError):
    """A promise that was not kept, or a campaign that showed nothing."""


def require(truth: bool, text: str) -> None:
    if not truth:
        raise ViolationError(text)


def require_both(counts: dict[str, int], *outcomes: str) -> None:
    """A campaign that always ends in the same way shows nothing of the others."""
    require(all(counts[name] > 0 for name in outcomes), f"only one of the outcomes was seen: {counts}")


def check_line(error: BaseException) -> None:
    require("\n" not in str(error), f"not one line: {error!s}")


def check_words(done: subprocess.CompletedProcess[str]) -> None:
    require(done.returncode in (0, 1), f"status {done.returncode}: {done.stderr}")
    require("Traceback" not in done.stderr, done.stderr)
    require(done.stderr.count("\n") == done.returncode, f"not one line: {done.stderr!r}")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp())
    try:
        yield made
    finally:
        shutil.rmtree(made)
