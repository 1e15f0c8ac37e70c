"""What several test files share."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from warm import Warm

with suppress(ImportError):
    # Before netCDF4 is: its wheels bring some of the same filters, for another build of HDF5.
    import hdf5plugin  # noqa: F401

# A shell that runs the tests in its background has commands ignore these, which they would hand on to the command.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# `-m hypothesis --hypothesis-profile long` runs what has examples with many more.
settings.register_profile("quick", deadline=None, max_examples=20, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=200)
settings.load_profile("quick")

Result = subprocess.CompletedProcess[str]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.h5"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "y.h5"


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm | None]:
    """What runs the command without loading it anew, if this system forks well."""
    if sys.platform != "linux":
        yield None
        return
    with closing(Warm()) as server:
        yield server


@pytest.fixture
def command(tmp_path: Path, warm: Warm | None) -> Callable[..., Result]:
    """Run the command in an empty folder; the installed one where it is to have an environment or streams of its own."""
    executable = Path(sys.executable).parent / "lucid-pool"

    def run(*args: object, timeout: float = 120, **options: object) -> Result:
        words = list(map(str, args))
        if warm and not options:
            return warm.run(words, tmp_path, timeout)
        merged = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": timeout, **options}
        return subprocess.run([executable, *words], check=False, **merged)

    return run
