"""Make the test vectors, from the definition in exact fractions.

    python tests/vectors/make.py            writes vectors.json and vectors.bin beside this file
    python tests/vectors/make.py --check    fails unless they are as this would write them

docs/vectors.md says what they are, and how software of others uses them.
"""

import json
import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from oracle import adaptive_avg_pool2d, window  # noqa: E402  (the path is set above)

#: Significant bits and the exponents of the smallest and the largest normal number.
FLOATS = {
    "float16": (11, -14, 15),
    "bfloat16": (8, -126, 127),
    "float32": (24, -126, 127),
    "float64": (53, -1022, 1023),
}
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def rounded(value: Fraction | float, dtype: str) -> float:
    """The nearest number of a float type, ties to even, in integers only."""
    if isinstance(value, float):
        return value
    digits, least, most = FLOATS[dtype]
    if value == 0:
        return 0.0
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > size
    step = Fraction(2) ** (max(exponent, least) - digits + 1)
    nearest = round(value / step) * step
    return math.copysign(math.inf, value) if abs(nearest) >= Fraction(2) ** (most + 1) else float(nearest)


def stored(values: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers as they lie in the file: little-endian, bfloat16 as the upper half of a float32."""
    if dtype == "bfloat16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2")
    return values.astype(np.dtype(dtype).newbyteorder("<"))


def mean(x: np.ndarray, size: tuple[int, int], dtype: str) -> np.ndarray:
    """Correctly rounded means."""
    exact = adaptive_avg_pool2d(x, size)
    return np.array([rounded(value, dtype) for value in exact.ravel()], np.float64).reshape(exact.shape)


def largest(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maxima; a NaN in a window is its maximum, as in PyTorch."""
    out = np.empty((*x.shape[:-2], *size), x.dtype)
    for place in np.ndindex(*out.shape):
        rows, cols = window(place[-2], x.shape[-2], size[0]), window(place[-1], x.shape[-1], size[1])
        values = [x[(*place[:-2], r, c)] for r in rows for c in cols]
        nans = [value for value in values if value != value]
        out[place] = nans[0] if nans else max(values)
    return out


#: A name, the type of the input, the input, the output's size.
Case = tuple[str, str, np.ndarray, tuple[int, int]]


def sizes() -> Iterator[Case]:
    """Sampled sizes up to 16 on both axes, every length met on each; sums are exact in float32 in any order."""
    rng = np.random.default_rng(1)
    pairs = [(n, m) for n in range(1, 17) for m in range(1, 17)]
    rows, cols = rng.permutation(pairs).tolist(), rng.permutation(pairs).tolist()
    for (height, out_height), (width, out_width) in zip(rows[:112], cols[:112], strict=True):
        x = rng.integers(-1024, 1025, (1, 1, height, width)) / 64
        name = f"size {height}x{width} to {out_height}x{out_width}"
        yield name, "float32", x, (out_height, out_width)


def traps() -> Iterator[Case]:
    """Lengths where bounds computed as floats, i * (n_in / n_out), are wrong, in double or in single precision."""
    kinds = {(True, False): 4, (False, True): 4, (True, True): 8}
    for n_in in range(5, 128):
        for n_out in range(3, n_in):
            exact = [(w.start, w.stop) for w in (window(i, n_in, n_out) for i in range(n_out))]
            kind = (
                float_bounds(n_in, n_out, np.float64) != exact,
                float_bounds(n_in, n_out, np.float32) != exact,
            )
            if kinds.get(kind, 0) > 0:
                kinds[kind] -= 1
                x = (np.arange(n_in) ** 2 % 61).reshape(1, 1, 1, n_in)
                name = f"floats give other windows {n_in} to {n_out}"
                yield name, "float32", x, (1, n_out)
                yield f"{name}, rows", "float32", x.reshape(1, 1, n_in, 1), (n_out, 1)


def float_bounds(n_in: int, n_out: int, dtype: type[np.floating]) -> list[tuple[int, int]]:
    """Bounds of windows as they must not be computed."""
    scale = dtype(n_in) / dtype(n_out)
    return [(math.floor(dtype(i) * scale), math.ceil(dtype(i + 1) * scale)) for i in range(n_out)]


def types() -> Iterator[Case]:
    """Every type, over its whole range; several samples and channels."""
    rng = np.random.default_rng(2)
    shape, size = (2, 3, 5, 7), (3, 4)
    yield "every type", "bool", rng.integers(0, 2, shape).astype(bool), size
    for dtype in INTEGERS:
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
        x[0, 0, :2], x[0, 1, :2] = info.max, info.min
        yield "every type", dtype, x, size
    for dtype in FLOATS:
        yield "every type", dtype, rng.integers(-64, 65, shape) / 16, size


def specials() -> Iterator[Case]:
    """What is not finite, what is nearly not, and ties."""
    changes = {
        "a NaN stays in its windows": {(0, 0): math.nan, (3, 5): math.nan},
        "an Inf stays in its windows": {(1, 1): math.inf, (5, 7): -math.inf},
        "Inf less Inf is NaN": {(0, 0): math.inf, (1, 1): -math.inf},
    }
    for dtype, (digits, least, most) in FLOATS.items():
        for name, cells in changes.items():
            x = np.arange(48.0).reshape(1, 1, 6, 8) % 7
            for place, value in cells.items():
                x[0, 0][place] = value
            yield name, dtype, x, (3, 3)
        biggest = float((2 - Fraction(2) ** (1 - digits)) * Fraction(2) ** most)
        yield "finite means of sums that overflow", dtype, np.full((1, 1, 4, 4), biggest), (2, 3)
        tiny = float(Fraction(2) ** (least - digits + 1))
        yield "the least numbers", dtype, np.array([[[[0, 0, 0, 1, 1, 1, 3, 2]]]]) * tiny, (1, 4)
        ulp = float(Fraction(2) ** (1 - digits))
        yield "ties", dtype, np.array([[[[1, 1 + ulp, 1 + ulp, 1 + 2 * ulp]]]]), (1, 2)
        yield "longer outputs than inputs", dtype, np.array([[[[1, 2, 4], [8, 16, 32]]]]), (5, 7)
        yield "constants", dtype, np.full((1, 1, 7, 9), 0.2998046875), (3, 2)
    yield "nothing but samples", "float32", np.zeros((0, 3, 4, 4)), (2, 2)


def build() -> tuple[str, bytes]:
    """The text and the bytes of the two files."""
    data = bytearray()
    lines = []

    def placed(values: np.ndarray, dtype: str) -> dict[str, object]:
        entry = {"dtype": dtype, "shape": list(values.shape), "offset": len(data)}
        data.extend(stored(values, dtype).tobytes())
        return entry

    for group in (sizes, traps, types, specials):
        for name, dtype, values, size in group():
            x, result = values, "float64" if dtype[-2:] in ("32", "64") else "float32"
            if dtype in FLOATS:  # as the type has them
                held = [
                    rounded(Fraction(v) if math.isfinite(v) else float(v), dtype) for v in x.ravel().tolist()
                ]
                x, result = np.array(held, np.float64).reshape(x.shape), dtype
            case = {"group": group.__name__, "name": name, "output_size": list(size)}
            case |= {"input": placed(x, dtype), "mean": placed(mean(x, size, result), result)}
            lines.append(json.dumps(case | {"max": placed(largest(x, size), dtype)}, separators=(",", ":")))
    text = '{"version":1,"data":"vectors.bin","cases":[\n' + ",\n".join(lines) + "\n]}\n"
    return text, bytes(data)


def main() -> None:
    """Write the files, or compare them."""
    text, data = build()
    for name, content in (("vectors.json", text.encode()), ("vectors.bin", data)):
        if "--check" not in sys.argv:
            (HERE / name).write_bytes(content)
        elif (HERE / name).read_bytes() != content:
            raise SystemExit(f"{name} is not what make.py makes")


if __name__ == "__main__":
    main()
