"""Which compiled kernel pools a problem: a function of shapes, steps and number types."""

import ctypes
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lucid.pooling.compiled import machine
from lucid.pooling.compiled.sizes import PART_BYTES, REGISTER, REGISTERS, SIZES
from lucid.pooling.dtypes import Numbers
from lucid.pooling.kernels import RUN_BYTES, numpy_lanes
from lucid.pooling.rules import adds_equals_exactly
from lucid.pooling.windows import Cuts, Ints

Array = npt.NDArray[Any]

#: Integers of a call, and where among them the cells, the means and the flags are told.
WORDS, SOURCE, TARGET, FAILED = 28, 0, 5, 23
#: Bytes of cells, and of means, that stay in the level-2 cache beside what is read.
CACHED = 1 << 17
#: Most bytes of scratch in a call: what needs more, as rows of millions of cells do, NumPy does in tiles.
MOST_SCRATCH = 8 << 20
#: Most columns of a window that are added for a vector of windows at once.
MOST_EVEN = 8
#: Rows of windows from which planes are taken one by one, if they are wide: with fewer, adding up columns
#: number by number takes longer than laying planes side by side: float64 at 56x56 -> 7x7, with 8 rows, 16 ms
#: and 24 ms. Added for a vector of windows they take less: 1024x1024 -> 256x256 10 ms, side by side 23 ms.
FINE_ROWS = 8


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
    #: (count, starts, stops) of rows and of columns, as kernels take them.
    listed: tuple[int, ...]
    parts: tuple[int, int]
    #: Whether sums of equal cells are exact.
    exact: bool

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

    recipe: machine.Recipe
    #: Rows of windows that are pooled before their means are written.
    group: int
    #: Bytes that it needs to work in: one place after the other.
    scratch: tuple[int, ...]
    #: Whether the means can be stored where they belong, or only in C order.
    in_place: bool


class Plan(NamedTuple):
    """A problem, the task that solves it, and what both put into the list that a kernel is given."""

    problem: Problem
    task: Task
    constants: tuple[int, ...]


class Call:
    """One run of a kernel, with all that it is given but room to work in."""

    def __init__(self, plan: Plan, kernel: machine.Call, words: Any, out: Array | None) -> None:
        self._plan, self._kernel, self._words = plan, kernel, words
        #: Where means are copied to that the kernel cannot store where they belong.
        self._out = out

    @property
    def is_in_place(self) -> bool:
        """Whether the kernel stores the means where they belong."""
        return self._out is None

    def moved(self, source: int, out: int) -> "Call":
        """The same for other arrays of the same geometry, so many bytes behind these."""
        words = (ctypes.c_int64 * WORDS).from_buffer_copy(self._words)
        words[SOURCE] += source
        words[TARGET] += out
        return Call(self._plan, self._kernel, words, None)

    def __call__(self) -> npt.NDArray[np.bool_] | None:
        """Store the means; flags of planes whose sums are not finite and whose means do not count, if any."""
        words, task = self._words, self._plan.task
        if self._out is not None:
            target = np.empty(self._out.shape, self._out.dtype)
            words[TARGET : TARGET + 5] = [_address(target), *target.strides]
        planes = self._plan.problem.shape[0]
        room = np.zeros(planes + sum(task.scratch) + REGISTER, np.uint8)
        flags = _address(room)
        # Vectors that cross a register's worth of bytes take twice as long.
        place = flags + planes + -(flags + planes) % REGISTER
        words[FAILED:WORDS] = [flags, *accumulate(task.scratch[:-1], initial=place)]
        self._kernel(ctypes.addressof(words))
        if self._out is not None:
            self._out[...] = target
        failed = room[:planes]
        # Not `any`, whose way through NumPy takes 0.04 ms when caches are cold.
        return failed.view(np.bool_) if 1 in failed.tobytes() else None


def prepared(
    numbers: Numbers,
    order: str,
    source: Array,
    out: Array,
    rows: Cuts,
    cols: Cuts,
    *,
    may_compile: bool,
) -> Call | None:
    """A call that stores the means of whole windows, or None where this is left to NumPy.

    The arrays have to be kept until it has run.

    Parameters
    ----------
    source
        (planes, height, width, inner): the cells that those windows cover.
    out
        (planes, rows, columns, inner), any strides.
    may_compile
        Whether a kernel is compiled that is worth it for so many cells; else it has to be there.

    """
    if not source.dtype.isnative or (numbers.source == "float16" and not machine.converts_halves()):
        return None
    plan = planned(numbers, order, source.shape, source.strides, out.strides, rows, cols)
    kernel = plan and machine.kernel(plan.task.recipe, source.size if may_compile else 0)
    if not (plan and kernel):
        return None
    steps = plan.problem.source_steps, plan.problem.out_steps
    words = (ctypes.c_int64 * WORDS)(
        *(_address(source), *steps[0], _address(out), *steps[1]), *plan.constants
    )
    return Call(plan, kernel, words, None if plan.task.in_place else out)


class Calls:
    """Calls for parts of arrays of one geometry, made for two that may be gone."""

    def __init__(self, calls: list[Call], source: Array, out: Array) -> None:
        self._calls, self._source, self._out = calls, _address(source), _address(out)

    def moved(self, source: Array, out: Array) -> list[Call]:
        """The same for these, which have to be kept until all have run."""
        behind = _address(source) - self._source, _address(out) - self._out
        return [call.moved(*behind) for call in self._calls]


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


@lru_cache(maxsize=64)  # the blocks of a stream have few shapes
def planned(
    numbers: Numbers,
    order: str,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    out_strides: tuple[int, ...],
    rows: Cuts,
    cols: Cuts,
) -> Plan | None:
    """The kernel for elements of that shape, and all that it is told but where they are."""
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
    out_shape, item = (shape[0], len(rows), len(cols), shape[3]), SIZES[numbers.result]
    steps = _steps(shape, strides, SIZES[numbers.source]), _steps(out_shape, out_strides, item)
    listed = *_listed(*down), *_listed(*across)
    exact = numbers.adds_equals_exactly or adds_equals_exactly(rows, cols, order)
    problem = Problem(names, order, shape, *steps, down, across, listed, parts, exact)
    task = choose(problem)
    if task is None or not (task.in_place or prod(out_shape) * item <= MOST_SCRATCH):
        return None
    return Plan(problem, task, (shape[0], *shape[2:], *listed, *parts, task.group, exact))


def _listed(starts: Ints, stops: Ints) -> tuple[int, int, int]:
    """How many intervals, and where their edges are."""
    assert starts.flags.c_contiguous
    assert stops.flags.c_contiguous
    return len(starts), _address(starts), _address(stops)


def _steps(shape: tuple[int, ...], strides: tuple[int, ...], inside: int) -> tuple[int, ...]:
    """Strides, those of axes of one element as if the array was contiguous there."""
    steps = []
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        steps.append(inside if length == 1 else stride)
        inside = steps[-1] * length
    return tuple(reversed(steps))


def choose(problem: Problem) -> Task | None:
    """The kernel for a problem, by its shapes and steps alone."""
    for task in _candidates(problem):
        if sum(task.scratch) <= MOST_SCRATCH:
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
        as_rows = is_wide and (_even_step(problem) > 0 or not _is_fine(problem))
        if is_plane and planes >= REGISTERS * problem.lanes and not as_rows:
            yield _planar(problem)
        if is_wide and is_row:
            yield _wide(problem)


def _even_step(problem: Problem) -> int:
    """Columns of a window where all have as many, one beside the other, and few of them; else 0."""
    starts, stops = problem.cols
    step = int(stops[0] - starts[0])
    is_even = step * len(starts) == int(stops[-1] - starts[0]) and bool((stops - starts == step).all())
    return step if is_even and 1 < step <= MOST_EVEN and problem.parts == (1, 1) else 0


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
    scratch = _room(
        (tallest * width + lanes) * lanes * SIZES[lane],
        (group * n_cols + lanes) * lanes * SIZES[quotient],
        problem.parts[0] * problem.parts[1] * lanes * PART_BYTES[lane],
    )
    return Task(("planar:planar", *problem.names, problem.order), group, scratch, in_place)


def _wide(problem: Problem) -> Task:
    _, lane, quotient, _ = problem.names
    n_cols, lanes = problem.windows[1], problem.lanes
    step = _even_step(problem)
    scratch = _room(
        (problem.shape[2] + max(step, 1) * lanes) * SIZES[lane],
        (n_cols + lanes) * SIZES[quotient],
        problem.parts[0] * problem.parts[1] * n_cols * PART_BYTES[lane],
        (n_cols + lanes) * SIZES[quotient],
    )
    return Task(("wide:wide", *problem.names, step), 1, scratch, problem.out_steps[2] == problem.sizes[3])


def _run(problem: Problem) -> Iterator[Task]:
    lane = problem.names[1]
    lanes = numpy_lanes(np.dtype(lane))
    if not lanes:
        return
    is_one = problem.windows[0] == 1 and problem.parts[0] == 1
    if is_one and problem.shape[0] >= lanes and problem.out_steps[0] == problem.sizes[3]:
        vectors = lanes * lanes * SIZES[lane]
        yield Task(("runs:global_run", *problem.names, lanes), 1, _room(vectors), True)
    yield Task(("runs:run", *problem.names, lanes), 1, _room(problem.parts[0] * PART_BYTES[lane]), True)


def _channels_last(problem: Problem) -> Iterator[Task]:
    inner, per_register = problem.shape[3], problem.lanes
    source_bytes, lane_bytes, quotient_bytes, item = problem.sizes
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
    scratch = _room(
        numpys * padded * lane_bytes,
        0 if stays else (group * n_cols + per_register) * padded * quotient_bytes,
        problem.parts[0] * problem.parts[1] * padded * PART_BYTES[problem.names[1]],
    )
    recipe = "channels:channels_last", *problem.names, problem.order, lanes, numpys, stays
    yield Task(recipe, group, scratch, in_place)


def _room(*sizes: int) -> tuple[int, ...]:
    """Bytes of four places to work in, each starting with a register."""
    return *(-(-size // REGISTER) * REGISTER for size in sizes), *(0,) * (4 - len(sizes))
