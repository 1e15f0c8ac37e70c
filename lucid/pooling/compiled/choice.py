"""Which compiled kernel pools a problem: a function of shapes, steps and number types."""

import zlib
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding
import numpy as np
import numpy.typing as npt

from lucid.pooling.compiled.channels import channels_last
from lucid.pooling.compiled.emission import SIZES
from lucid.pooling.compiled.planar import REGISTERS, planar
from lucid.pooling.compiled.runs import global_run, run
from lucid.pooling.compiled.sums import REGISTER
from lucid.pooling.compiled.wide import wide
from lucid.pooling.dtypes import Numbers
from lucid.pooling.kernels import RUN_BYTES, numpy_lanes
from lucid.pooling.windows import Cuts, Ints

Array = npt.NDArray[Any]

#: Bytes of cells, and of means, that stay in the level-2 cache beside what is read.
CACHED = 1 << 17
#: Most bytes of scratch in a call: what needs more, as rows of millions of cells do, NumPy does in tiles.
MOST_SCRATCH = 8 << 20
#: Rows of windows from which planes are taken one by one, if they are wide: with fewer, adding up columns
#: number by number takes longer than laying planes side by side: 28x28 -> 14x14 11.1 ms, so 5.1 ms;
#: float64 at 56x56 -> 7x7, with 8 rows, 16 ms and 24 ms.
FINE_ROWS = 8

#: Whether machine code in its cache is still good Numba asks the file of a function, but not the files
#: of what that calls: so a kernel is made for a version of them all, and does nothing for 0.
VERSION = zlib.crc32(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))) | 1


@cache
def _converts(source: str) -> bool:
    """Whether the processor has instructions for these elements: float16 would need a library."""
    if source != "float16":
        return True
    features = llvmlite.binding.get_host_cpu_features()
    return bool(features.get("f16c") or features.get("neon"))


class Problem(NamedTuple):
    """What is to be pooled: elements, windows, and where they lie."""

    #: Elements of the source, of sums, of quotients, and of the result.
    names: tuple[str, str, str, str]
    order: str
    #: (planes, height, width, inner), and steps in bytes.
    shape: tuple[int, ...]
    source_steps: tuple[int, ...]
    out_steps: tuple[int, ...]
    #: Starts and stops of windows, and parts of each.
    rows: tuple[Ints, Ints]
    cols: tuple[Ints, Ints]
    parts: tuple[int, int]

    @property
    def sizes(self) -> list[int]:
        """Bytes of each of the `names`."""
        return [SIZES[name] for name in self.names]

    @property
    def windows(self) -> tuple[int, int]:
        """Windows along rows and columns."""
        return len(self.rows[0]), len(self.cols[0])

    @property
    def lanes(self) -> int:
        """Sums in a register."""
        return REGISTER // self.sizes[1]


class Task(NamedTuple):
    """A kernel, and what it needs beside the problem."""

    kernel: Any
    #: Rows of windows that are pooled before their means are written.
    group: int
    #: Numbers that it needs room for, and their type.
    scratch: Sequence[tuple[int, str]]
    #: Whether the means can be stored where they belong, or only in C order.
    in_place: bool

    @property
    def scratch_bytes(self) -> int:
        """Memory that it takes beside the means."""
        return sum(count * np.dtype(dtype).itemsize for count, dtype in self.scratch)


def means(
    numbers: Numbers, order: str, exact: bool, source: Array, out: Array, rows: Cuts, cols: Cuts
) -> npt.NDArray[np.bool_] | None:
    """Store the means of whole windows, or return None where this is left to NumPy.

    Parameters
    ----------
    exact
        Whether sums of equal cells are exact.
    source
        (planes, height, width, inner): the cells that those windows cover.
    out
        (planes, rows, columns, inner), any strides.

    Returns
    -------
    Which planes have sums that are not finite: what was stored for them does not count.

    """
    if not source.dtype.isnative or not _converts(numbers.source):
        return None
    problem, task = planned(numbers, order, source.shape, _steps(source), _steps(out), rows, cols)
    if task is None or not (task.in_place or out.nbytes <= MOST_SCRATCH):
        return None
    target = out if task.in_place else np.empty(out.shape, out.dtype)
    failed = np.zeros(len(source), np.bool_)
    task.kernel(
        (source.ctypes.data, *problem.source_steps),
        (target.ctypes.data, *_steps(target)),
        (source.shape[0], source.shape[2], source.shape[3]),
        problem.rows,
        problem.cols,
        problem.parts,
        task.group,
        exact,
        failed,
        tuple([_aligned(count, dtype) for count, dtype in task.scratch]),
    )
    if target is not out:
        out[...] = target
    return failed


@lru_cache(maxsize=64)  # the blocks of a stream have few shapes
def planned(
    numbers: Numbers,
    order: str,
    shape: tuple[int, ...],
    source_steps: tuple[int, ...],
    out_steps: tuple[int, ...],
    rows: Cuts,
    cols: Cuts,
) -> tuple[Problem, Task | None]:
    """A problem in the terms of the kernels, and the one for it."""
    lane, width = numbers.accumulator.name, shape[2]
    down, across = (rows.starts, rows.stops), (cols.starts, cols.stops)
    parts = (1, 1) if order == "chain" else (rows.parts, cols.parts)
    if order == "run":
        # Each row of windows is a run of the cells of a flattened plane.
        down, across = (rows.starts * width, rows.stops * width), (cols.starts, cols.starts + 1)
        parts = -(-rows.longest * width * numbers.accumulator.itemsize // RUN_BYTES), 1
    one_part = parts[0] * parts[1] == 1
    quotient = "float32" if numbers.result == lane == "float32" and one_part else "float64"
    names = numbers.source, lane, quotient, numbers.result
    problem = Problem(names, order, shape, source_steps, out_steps, down, across, parts)
    return problem, choose(problem)


def _aligned(count: int, dtype: str) -> Array:
    """Numbers from where a register's worth of bytes starts: vectors that cross that take twice as long."""
    size = np.dtype(dtype).itemsize
    memory = np.empty(count * size + REGISTER, np.uint8)
    start = -memory.ctypes.data % REGISTER
    return memory[start : start + count * size].view(dtype)


def _steps(array: Array) -> tuple[int, ...]:
    """Strides, those of axes of one element as if the array was contiguous there."""
    steps, inside = [], array.itemsize
    for length, stride in zip(reversed(array.shape), reversed(array.strides), strict=True):
        steps.append(inside if length == 1 else stride)
        inside = steps[-1] * length
    return tuple(reversed(steps))


def choose(problem: Problem) -> Task | None:
    """The kernel for a problem, by its shapes and steps alone."""
    for task in _candidates(problem):
        if task.scratch_bytes <= MOST_SCRATCH:
            return task
    return None


def _candidates(problem: Problem) -> Iterator[Task]:
    """Kernels that can do it, the fastest first."""
    planes, _, width, inner = problem.shape
    step = problem.source_steps
    is_row = step[2] == problem.sizes[0]
    is_plane = is_row and step[1] == width * step[2]
    if inner > 1:
        yield from _channels_last(problem)
    elif problem.order == "run":
        yield from _run(problem) if is_plane else ()
    else:
        is_wide = problem.order == "separable" and width >= problem.lanes
        if is_plane and planes >= REGISTERS * problem.lanes and not (is_wide and not _is_fine(problem)):
            yield _planar(problem)
        if is_wide and is_row:
            yield _wide(problem)


def _is_fine(problem: Problem) -> bool:
    """Whether windows are so small that numbers are better laid side by side than added one by one."""
    return int((problem.rows[1] - problem.rows[0]).max()) < FINE_ROWS


def _planar(problem: Problem) -> Task:
    (_, lane, quotient, _), lanes = problem.names, REGISTERS * problem.lanes
    n_rows, n_cols = problem.windows
    starts, stops = problem.rows
    width, item = problem.shape[2], problem.sizes[3]
    cells = int(stops[-1] - starts[0]) * width
    in_place = problem.out_steps[2] == item
    group = 1
    if not in_place or problem.out_steps[1] == n_cols * item:
        group = CACHED // max(cells * REGISTERS * REGISTER // n_rows, n_cols * lanes * problem.sizes[2])
        group = min(max(group, 1), n_rows)
    last = np.minimum(np.arange(0, n_rows, group) + group, n_rows) - 1
    tallest = int((stops[last] - starts[::group]).max())
    kernel = planar(VERSION, *problem.names, problem.order)
    scratch = [
        ((tallest * width + lanes) * lanes, lane),
        ((group * n_cols + lanes) * lanes, quotient),
        (2 * problem.parts[0] * problem.parts[1] * lanes, "float64"),
    ]
    return Task(kernel, group, scratch, in_place)


def _wide(problem: Problem) -> Task:
    _, lane, quotient, _ = problem.names
    n_cols, lanes = problem.windows[1], problem.lanes
    scratch = [
        (problem.shape[2] + lanes, lane),
        (n_cols + lanes, quotient),
        (2 * problem.parts[0] * problem.parts[1] * n_cols, "float64"),
        (n_cols + lanes, quotient),
    ]
    return Task(wide(VERSION, *problem.names), 1, scratch, problem.out_steps[2] == problem.sizes[3])


def _run(problem: Problem) -> Iterator[Task]:
    lanes = numpy_lanes(np.dtype(problem.names[1]))
    if not lanes:
        return
    is_one = problem.windows[0] == 1 and problem.parts[0] == 1
    if is_one and problem.shape[0] >= lanes and problem.out_steps[0] == problem.sizes[3]:
        yield Task(global_run(VERSION, *problem.names, lanes), 1, [(lanes * lanes, problem.names[1])], True)
    yield Task(run(VERSION, *problem.names, lanes), 1, [(2 * problem.parts[0], "float64")], True)


def _channels_last(problem: Problem) -> Iterator[Task]:
    inner, per_register = problem.shape[3], problem.lanes
    source_bytes, _, quotient_bytes, item = problem.sizes
    fitting = [
        lanes
        for lanes in (4 * per_register, per_register, per_register // 2, per_register // 4)
        if lanes <= inner
    ]
    numpys = numpy_lanes(np.dtype(problem.names[1])) if problem.order == "run" else 1
    if not fitting or not numpys or problem.source_steps[3] != source_bytes:
        return
    if problem.order == "run" and problem.source_steps[1] != problem.shape[2] * problem.source_steps[2]:
        return
    lanes, (n_rows, n_cols) = fitting[0], problem.windows
    padded = -(-inner // lanes) * lanes
    in_place = item in problem.out_steps[2:]
    stays = problem.out_steps[3] == item or not in_place
    group = 1
    if not stays and problem.out_steps[1] == n_cols * item:
        group = min(max(CACHED // (n_cols * padded * quotient_bytes), 1), n_rows)
    kernel = channels_last(VERSION, *problem.names, problem.order, lanes, numpys, stays)
    scratch = [
        (numpys * padded, problem.names[1]),
        (0 if stays else (group * n_cols + per_register) * padded, problem.names[2]),
        (2 * problem.parts[0] * problem.parts[1] * padded, "float64"),
    ]
    yield Task(kernel, group, scratch, in_place)
