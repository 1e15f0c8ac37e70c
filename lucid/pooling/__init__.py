"""The arithmetic: arrays in, arrays out.

`sums` is all of it in NumPy; `_kernel.c` is its compiled twin, with the same bits; `means` takes whichever is there.
"""

from importlib.util import find_spec


def kernel_name() -> str:
    """Which of the twins is used: "compiled", or "NumPy" where the package was installed without a C compiler.

    It loads neither.
    """
    return "NumPy" if find_spec("lucid.pooling._kernel") is None else "compiled"
