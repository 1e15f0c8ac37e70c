"""Pooling in memory: beside PyTorch on the same array, layout and threads, and beside reading the array once."""

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from bars import at_least, at_most
from shapes import ELEMENTS, Case, draw
from timing import BURST, Work, geometric_mean, in_turns

from lucid.nn.functional import adaptive_avg_pool2d
from lucid.pooling import means
from lucid.pooling.dtypes import storage
from lucid.pooling.means import Pooling
from lucid.pooling.stacks import stacks
from lucid.pooling.sums import Rule, result_of
from lucid.pooling.windows import make_grid

#: Where all arrays lie, one after the other. A virtual machine gives memory that is freed back to its host, and whoever
#: is given it next waits for the host, whichever of the two calls that is.
ROOM = torch.empty(ELEMENTS[1] * 9, dtype=torch.uint8)
MISSING = {"float32": -9999.0, "uint8": 0.0, "int16": -9999.0}


class Variant(NamedTuple):
    """A number type, threads and memory order, with the least ratio that we want of it on average."""

    dtype: str
    threads: int
    channels_last: bool
    bar: float

    def __str__(self) -> str:
        order = ", channels-last" if self.channels_last else ""
        return f"{self.dtype}{order}, {self.threads} thread{'s' * (self.threads > 1)}"


VARIANTS = (
    Variant("float32", 1, False, 3.0),
    Variant("float32", 2, False, 2.7),
    Variant("float32", 2, True, 1.3),
    Variant("float64", 2, False, 1.3),
    Variant("float16", 2, False, 2.0),
    Variant("bfloat16", 2, False, 2.5),
    Variant("uint8", 2, False, 5.0),
)
#: The least ratio of any single shape, of the read bandwidth (float32, one thread), and the most for skipping.
LOWEST, BANDWIDTH, SKIPPING = 0.75, 0.6, 1.3
MICROSECONDS, CALLS = 15, 500
#: Bytes of an array that no cache of today's processors holds from one call to the next.
LARGE = 32_000_000

Array = np.ndarray[Any, Any]


class Timed(NamedTuple):
    """Least seconds of us, of PyTorch, and of reading the array, and its size."""

    ours: float
    theirs: float
    read: float
    nbytes: int

    @property
    def ratio(self) -> float:
        """How many times as fast we are."""
        return self.theirs / self.ours


def section(seed: int, each: int, repeats: int) -> Iterator[str]:
    """All of it."""
    cases = draw(seed, each)
    table = {variant: [_beside_torch(variant, case, repeats) for case in cases] for variant in VARIANTS}
    yield from _averages(cases, table)
    yield from _numpy_core(cases[each // 2 :: each], 1)
    yield from _skipping(cases, repeats)
    yield from _small_calls()
    yield from _shape_by_shape(cases, table)


def _beside_torch(variant: Variant, case: Case, repeats: int, burst: int = BURST) -> Timed:
    x, tensor = _arrays(case.shape, variant)
    torch.set_num_threads(variant.threads)
    work = (
        lambda: adaptive_avg_pool2d(x, case.size, threads=variant.threads),
        lambda: torch.nn.functional.adaptive_avg_pool2d(_cast(tensor), case.size),
        _reading(x),
    )
    return Timed(*in_turns(*work, repeats=repeats, burst=burst), x.nbytes)


def _cast(tensor: torch.Tensor) -> torch.Tensor:
    """PyTorch pools no integers: its users cast first."""
    return tensor if tensor.is_floating_point() else tensor.float()


def _reading(x: Array) -> Work:
    """NumPy's `sum` of the same bytes as float32: the sum of another type is bound by its arithmetic."""
    return ROOM.numpy()[: x.nbytes // 4 * 4].view(np.float32).sum


def _arrays(shape: tuple[int, ...], variant: Variant) -> tuple[Array, torch.Tensor]:
    """The same numbers for both, in the same memory order."""
    n, c, h, w = shape
    kind = getattr(torch, variant.dtype)
    numbers = ROOM[: prod(shape) * kind.itemsize].view(kind)
    tensor = numbers.view(n, h, w, c).permute(0, 3, 1, 2) if variant.channels_last else numbers.view(shape)
    chance = torch.Generator().manual_seed(0)
    if kind.is_floating_point:
        tensor.normal_(generator=chance)
    else:
        tensor.random_(1, 100, generator=chance)
    if variant.dtype == "bfloat16":
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16), tensor
    return tensor.numpy(), tensor


def _averages(cases: list[Case], table: dict[Variant, list[Timed]]) -> Iterator[str]:
    yield f"`adaptive_avg_pool2d` beside PyTorch's on {len(cases)} shapes, PyTorch's time over ours. `read` is the time that"
    yield "NumPy takes for the `sum` of the same bytes as float32, on one thread, over ours. Every call of a burst reads the same array, so what"
    yield "fits a cache comes from there.\n"
    yield "| elements | geometric mean | bar | of arrays ≥ 32 MB | lowest | bar | shape of the lowest | read | bar |"
    yield "|---|--:|--:|--:|--:|--:|---|--:|--:|"
    for variant, times in table.items():
        mean = geometric_mean(t.ratio for t in times)
        lowest, case = min(zip((t.ratio for t in times), cases, strict=True))
        large = [t.ratio for t in times if t.nbytes >= LARGE]
        read = geometric_mean(t.read / t.ours for t in times)
        yield (
            f"| {variant} | {mean:.2f} | {at_least(mean, variant.bar)} | {f'{geometric_mean(large):.2f}' if large else '–'} "
            f"| {lowest:.2f} | {at_least(lowest, LOWEST)} | {case} "
            f"| {read:.2f} | {at_least(read, BANDWIDTH if variant is VARIANTS[0] else None)} |"
        )
    yield ""


def _shape_by_shape(cases: list[Case], table: dict[Variant, list[Timed]]) -> Iterator[str]:
    slower = [
        f"{cases[i]} ({variant}: {t.ratio:.2f})"
        for variant, times in table.items()
        for i, t in enumerate(times)
        if t.ratio < 1
    ]
    yield f"**Slower than PyTorch**: {'; '.join(slower) or 'none of these'}.\n"
    yield "<details><summary>Shape by shape</summary>\n"
    yield f"| array | {' | '.join(map(str, table))} |\n|---|{'--:|' * len(table)}"
    for i, case in enumerate(cases):
        yield f"| {case} | {' | '.join(f'{times[i].ratio:.2f}' for times in table.values())} |"
    yield "\n</details>\n"


def _numpy_core(cases: list[Case], repeats: int) -> Iterator[str]:
    yield "### Without a C compiler\n"
    yield "The same ratios where the package was installed without one: the same bits, by NumPy alone.\n"
    yield "| elements | geometric mean | lowest | shape of the lowest | read |\n|---|--:|--:|---|--:|"
    compiled, means.kernel = means.kernel, None
    try:
        for variant in VARIANTS:
            times = [_beside_torch(variant, case, repeats, burst=1) for case in cases]
            lowest, case = min(zip((t.ratio for t in times), cases, strict=True))
            mean, read = (
                geometric_mean(t.ratio for t in times),
                geometric_mean(t.read / t.ours for t in times),
            )
            yield f"| {variant} | {mean:.2f} | {lowest:.2f} | {case} | {read:.2f} |"
    finally:
        means.kernel = compiled
    yield ""


def _skipping(cases: list[Case], repeats: int) -> Iterator[str]:
    yield "### Cells that count as nothing\n"
    yield "Time over that of means without such a rule, of the array without such cells, one thread.\n"
    yield "| rule | no such cell | 5 % of the cells | a quarter of each plane, in one block | bar for each | highest | shape of the highest |"
    yield "|---|--:|--:|--:|--:|--:|---|"
    for dtype in ("float32", "float64", "float16"):
        yield _skipping_row(f'nan="skip", {dtype}', cases, dtype, np.nan, repeats)
    for dtype, value in MISSING.items():
        yield _skipping_row(f"missing={value:g}, {dtype}", cases, dtype, value, repeats)
    yield ""


def _skipping_row(name: str, cases: list[Case], dtype: str, value: float, repeats: int) -> str:
    plain = Rule(dtype, result_of(dtype, "mean"))
    skips = plain._replace(skip_nan=True) if np.isnan(value) else plain._replace(missing=(value,))
    ratios = []
    for case in cases:
        x, _ = _arrays(case.shape, Variant(dtype, 1, False, 0))
        sprinkled, block = x.copy(), x.copy()
        sprinkled[np.random.default_rng(0).random(x.shape, np.float32) < 0.05] = value
        block[:, :, : case.shape[2] // 2, : case.shape[3] // 2] = value
        works = [_pooling(x, case, plain), *(_pooling(cells, case, skips) for cells in (x, sprinkled, block))]
        base, *seconds = in_turns(*works, repeats=repeats, burst=2)
        ratios.append([s / base for s in seconds])
    highest, case = max((max(each), case) for each, case in zip(ratios, cases, strict=True))
    means_of = [geometric_mean(column) for column in zip(*ratios, strict=True)]
    columns = " | ".join(f"{mean:.2f}" for mean in means_of)
    return f"| {name} | {columns} | {at_most(max(means_of), SKIPPING)} | {highest:.2f} | {case} |"


def _pooling(x: Array, case: Case, rule: Rule) -> Work:
    """What the functions of arrays do on one thread, for rules that they have no argument for."""
    pooling = Pooling(make_grid(case.shape[2:], case.size), rule)

    def work() -> None:
        out = np.empty((*case.shape[:2], *case.size), storage(rule.result))
        for cells, results in stacks(x, out, 2):
            pooling.means(cells, results, (0, case.size[0]), (0, case.size[1]))

    return work


def _small_calls() -> Iterator[str]:
    yield "### Small arrays\n"
    yield f"Microseconds a call, float32, one thread: the least of many runs of {CALLS} calls.\n"
    yield "| call | lucid | PyTorch | bar |\n|---|--:|--:|--:|"
    torch.set_num_threads(1)
    for case in (Case((1, 512, 7, 7), (1, 1)), Case((1, 3, 8, 8), (2, 2))):
        x = np.random.default_rng(0).standard_normal(case.shape, np.float32)
        ours, theirs = in_turns(
            _many(lambda: adaptive_avg_pool2d(x, case.size, threads=1)),
            _many(lambda: torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x), case.size)),
            repeats=60,
        )
        ours, theirs = (seconds / CALLS * 1e6 for seconds in (ours, theirs))
        yield f"| {case} | {ours:.1f} | {theirs:.1f} | {at_most(ours, round(max(MICROSECONDS, theirs)))} |"
    yield ""


def _many(work: Work) -> Work:
    """A call so often that the clock does not count."""

    def calls() -> None:
        for _ in range(CALLS):
            work()

    return calls
