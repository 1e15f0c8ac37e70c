"""How many bytes things have, for kernels and for those who make room for them."""

import numpy as np

#: Elements in memory, by the names of `pooling.dtypes`.
SIZES = {
    "bool": 1,
    **{f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
}
#: A register of the widest kind.
REGISTER = 64
#: Registers of planes that lie side by side: with one, the loops around the sums took a third of the time.
REGISTERS = 2
#: A sum of parts, by lane: float64, and for sums of float64 what rounding dropped.
PART_BYTES = {"float32": 8, "float64": 16}
#: A number in the list of what a kernel is to do.
WORD = np.dtype(np.int64).itemsize
#: Bytes that come into a cache at once.
LINE = 64
