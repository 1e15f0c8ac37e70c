"""The arithmetic: arrays in, arrays out.

`sums` is all of it in NumPy; `_kernel.c` is its compiled twin, with the same bits; `means` takes whichever is there.
"""

from importlib import import_module


def kernel_name() -> str:
    """Which of the twins is used: "compiled", or "NumPy" where the kernel was not compiled or cannot be loaded."""
    try:
        import_module("lucid.pooling._kernel")
    except ImportError:
        return "NumPy"
    return "compiled"
