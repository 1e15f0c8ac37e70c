"""Whether compiled kernels are to be used: light enough to be asked before every call.

Loading them takes 0.04 s. Once on a machine, the first of a kind is compiled by Numba, in 1 to 3 s. Arrays
in memory are pooled in loops, where that is paid once: so a large one is reason enough, and so are
many small ones. A command has to earn it in one run: 4 GB of float32 at 56x56 -> 4x4 took 0.59 s with
NumPy's kernels, 0.45 s with compiled ones.
"""

import os
import sys
from functools import cache
from importlib.util import find_spec

#: Elements of an array in memory that kernels are worth loading and compiling for, and of all until now.
PAYS, PAYS_IN_ALL = 1 << 20, 1 << 26
#: Elements of all arrays in files from which they are, and from which they are though every process has to
#: compile them, for want of a place where machine code could be kept.
PAYS_IN_FILES, PAYS_UNKEPT = 1 << 29, 1 << 33


class Counter:
    """Elements that were pooled in this process; threads may lose a race for a few."""

    def __init__(self) -> None:
        self.elements = 0

    def add(self, elements: int) -> int:
        """Count, and tell how many there were until now."""
        self.elements += elements
        return self.elements


_arrays, _files = Counter(), Counter()


def pays(elements: int) -> bool:
    """Whether compiled kernels are loaded already, or worth loading for an array of so many elements."""
    return (
        "lucid.pooling.compiled.choice" in sys.modules
        or elements >= PAYS
        or _arrays.add(elements) >= PAYS_IN_ALL
    ) and is_there()


def pays_in_file(elements: int) -> bool:
    """The same for an array in a file."""
    until_now = _files.add(elements)
    if "lucid.pooling.compiled.choice" in sys.modules:
        return is_there()
    if until_now < PAYS_IN_FILES or not is_there():
        return False
    from lucid.pooling.compiled import machine

    return machine.has_a_place() or until_now >= PAYS_UNKEPT


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
