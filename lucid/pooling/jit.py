"""Which kernels are to be used: light enough to be asked before every call.

Loading compiled ones takes 0.04 s. Once on a machine, the first of a kind is compiled by Numba, in 1 to
3 s. Arrays in memory are pooled in loops, where that is paid once: so a large one is reason enough, and so
are many small ones. A command has to earn it in one run. NumPy's kernels and compiled ones took 0.59 s and
0.45 s for 4 GB of float32 at 56x56 -> 4x4, 0.16 s and 0.17 s for 256 MiB of it; float64 at 28x28 -> 9x9 took
1.5 s and 0.6 s, 0.24 s and 0.20 s.
"""

import os
import sys
from enum import Enum, auto
from functools import cache
from importlib.util import find_spec

#: Elements of an array in memory that kernels are worth loading and compiling for, and of all until now.
PAYS, PAYS_IN_ALL = 1 << 20, 1 << 26
#: Bytes of all arrays in files until now that kernels are worth loading for, if some are kept; worth
#: compiling, if they can be kept; and worth compiling in every process anew.
LOADING_PAYS, COMPILING_PAYS, ALWAYS_PAYS = 1 << 28, 1 << 31, 1 << 35


class Kernels(Enum):
    """Which of the kernels, whose means have the same bits."""

    NUMPYS = auto()
    #: Compiled ones whose code is there already, else NumPy's.
    KEPT = auto()
    #: Compiled ones, once they are worth compiling.
    COMPILED = auto()


class Counter:
    """What was pooled in this process; threads may lose a race for a little."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, amount: int) -> int:
        """Count, and tell how much there was until now."""
        self.total += amount
        return self.total


_elements, _bytes_in_files = Counter(), Counter()


def for_array(elements: int) -> Kernels:
    """Those for an array in memory of so many elements."""
    pays = _are_loaded() or elements >= PAYS or _elements.add(elements) >= PAYS_IN_ALL
    return Kernels.COMPILED if pays and is_there() else Kernels.NUMPYS


def for_file(nbytes: int) -> Kernels:
    """Those for an array of so many bytes in a file."""
    until_now = _bytes_in_files.add(nbytes)
    if until_now < LOADING_PAYS and not _are_loaded():
        return Kernels.NUMPYS
    from lucid.pooling.compiled import places

    if until_now >= COMPILING_PAYS and (until_now >= ALWAYS_PAYS or places.can_keep()):
        found = Kernels.COMPILED
    elif _are_loaded() or places.keep_some():
        found = Kernels.KEPT
    else:
        return Kernels.NUMPYS
    return found if is_there() else Kernels.NUMPYS


def _are_loaded() -> bool:
    return "lucid.pooling.compiled.choice" in sys.modules


@cache
def is_there() -> bool:
    """Whether compiled kernels can be had: the extra `fast` brings Numba, whose variables are heeded."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0" or not (find_spec("numba") and find_spec("llvmlite")):
        return False
    try:
        import lucid.pooling.compiled.choice  # noqa: F401
    except ImportError:  # the library is not for this system
        return False
    return True
