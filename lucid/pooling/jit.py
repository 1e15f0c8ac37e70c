"""Whether compiled kernels are to be used: light enough to be asked before every call.

Numba takes 0.2 s to load, 0.3 s with a kernel from its cache, and a kernel a second or two to be
compiled, once on a machine. Arrays in memory are pooled in loops, where that is paid once: so a large one
is reason enough, and so are many small ones. A command has to earn it in one run, beside reading files:
float16 at 56x56 -> 4x4 breaks even at about 2**31 elements.
"""

import sys
from functools import cache
from importlib.util import find_spec

#: Elements of an array in memory from which Numba is worth loading, and of all arrays up to now.
PAYS, PAYS_IN_ALL = 1 << 22, 1 << 26
#: Elements of an array in a file from which it is, and of all.
PAYS_IN_FILES = 1 << 31


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
    return (
        "lucid.pooling.compiled.choice" in sys.modules or _files.add(elements) >= PAYS_IN_FILES
    ) and is_there()


@cache
def is_there() -> bool:
    """Whether compiled kernels can be loaded: the extra `fast` brings Numba."""
    if find_spec("numba") is None:
        return False
    try:
        import numba

        import lucid.pooling.compiled.choice  # noqa: F401
    except ImportError:  # a Numba that was made for another NumPy
        return False
    return not numba.config.DISABLE_JIT
