"""Whether compiled kernels are to be used: light enough to be asked before every call.

Numba takes 0.2 s to load, 0.3 s with a kernel from its cache, and a kernel a second or two to be
compiled, once on a machine. Arrays in memory are pooled in loops, where that is paid once; a command has
to earn it in one run, beside reading a file: float16 at 56x56 -> 4x4 breaks even at about 2**31 elements.
"""

import sys
from functools import cache
from importlib.util import find_spec

#: Elements of an array in memory from which Numba is worth loading.
PAYS = 1 << 22
#: Elements of an array in a file from which it is.
PAYS_IN_FILES = 1 << 31


def pays(elements: int, least: int = PAYS) -> bool:
    """Whether compiled kernels are loaded already, or there and worth loading."""
    return (elements >= least or "lucid.pooling.compiled.choice" in sys.modules) and is_there()


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
