"""`pool_file`: one input file to one output file, where all the parts meet."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias

import lucid
from lucid.errors import ArgumentError, DatasetError, ExistsError
from lucid.formats.base import Array, ArraySpec, Pooled, Region, Sink, Source, size_of
from lucid.formats.files import refuse_existing
from lucid.formats.registry import format_of_content, format_of_suffix
from lucid.nn.functional import NanRule, OutputSize, check_threads, resolve_size
from lucid.parallel import available_cpus
from lucid.pooling.average import Accumulator, Pooling, SlabSums, Span
from lucid.pooling.dtypes import FLOATS, numbers
from lucid.pooling.stacks import stacks
from lucid.pooling.windows import make_grid
from lucid.streaming.engine import Seconds, run
from lucid.streaming.plan import Plan, make_plan

DEFAULT_MAX_MEMORY = 256 << 20
#: Bytes of cells that a thread holds converted and half summed, beside its blocks.
SMALLEST_TILE = 1 << 14


@dataclass(frozen=True)
class Progress:
    """How far a file is: bytes of input used up, of how many."""

    source: Path
    done_bytes: int
    total_bytes: int


OnProgress: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True)
class DatasetReport:
    """What was done, or would be, to one dataset."""

    name: str
    input_shape: tuple[int, ...]
    input_dtype: str
    output_shape: tuple[int, ...]
    output_dtype: str
    input_bytes: int
    output_bytes: int
    blocks_bytes: int


@dataclass(frozen=True)
class Report:
    """What was done, or would be, to one file. Seconds of steps are added over threads."""

    source: Path
    target: Path
    datasets: tuple[DatasetReport, ...]
    read_seconds: float
    pool_seconds: float
    write_seconds: float
    total_seconds: float
    threads: int
    max_memory: int
    peak_memory_bytes: int
    dry_run: bool

    @property
    def input_bytes(self) -> int:
        """Bytes of all pooled datasets before."""
        return sum(d.input_bytes for d in self.datasets)

    @property
    def output_bytes(self) -> int:
        """Bytes of all pooled datasets after."""
        return sum(d.output_bytes for d in self.datasets)


def default_target(source: Path, folder: Path | None = None) -> Path:
    """`NAME.pooled.EXT` beside the source, or in a folder."""
    suffix = source.suffix or format_of_content(source).suffixes[0]
    name = f"{source.stem}.pooled{suffix}"
    return (folder or source.parent) / name


def pool_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    *,
    size: OutputSize,
    datasets: Sequence[str] = (),
    layout: str = "NCHW",
    dtype: str | None = None,
    input_dtype: str | None = None,
    nan: NanRule = "propagate",
    max_memory: int = DEFAULT_MAX_MEMORY,
    threads: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
) -> Report:
    """Pool the spatial axes of the arrays in a file, and write them to another.

    Parameters
    ----------
    source
        A `.npy` or HDF5 file, told apart by content.
    target
        The output; its suffix picks the format. By default `NAME.pooled.EXT` beside the source,
        in the source's format.
    size
        As `output_size` of `lucid.nn.AdaptiveAvgPool2d`.
    datasets
        HDF5 paths or glob patterns of what to pool; by default all datasets of numbers with
        as many axes as `layout`. The rest is carried over.
    layout
        One letter for each axis, with "HW" in them: "NCHW", "NHWC", "CHW", "NTCHW", …
    dtype
        dtype of the means: "float16", "bfloat16", "float32" or "float64".
    input_dtype
        "bfloat16" if two-byte void elements of a `.npy` file are that.
    nan
        As in `lucid.nn.functional.adaptive_avg_pool2d`.
    max_memory
        Bytes that the buffers may take, whatever the shapes.
    threads
        By default the CPUs that this process may use.
    overwrite
        Replace an existing target.
    dry_run
        Plan and report, write nothing.
    on_progress
        Called from this thread as the work goes on.

    Returns
    -------
    A `Report`: shapes, bytes, seconds.

    Raises
    ------
    LucidError
        One of `lucid.errors`; its text is one line that says what is wrong. No output is left.

    """
    start = time.perf_counter()
    source_path = Path(source)
    _check_options(layout, dtype, input_dtype, nan, max_memory)
    workers = available_cpus() if threads is None else check_threads(threads)
    source_format = format_of_content(source_path)
    target_path = default_target(source_path) if target is None else Path(target)
    # A default name keeps the source's suffix, which need not name the format it has.
    target_format = (
        source_format
        if target is None or target_path.suffix == source_path.suffix
        else format_of_suffix(target_path)
    )
    _refuse_target(source_path, target_path, overwrite=overwrite)
    seconds = Seconds()
    with source_format.open(source_path, input_numbers=input_dtype) as opened:
        specs = _chosen(opened.arrays(len(layout)), datasets)
        jobs = [_Job.make(spec, size, layout, dtype, nan, max_memory, workers) for spec in specs]
        if not dry_run:
            with target_format.create(target_path, overwrite=overwrite) as sink:
                _run_all(jobs, opened, sink, seconds, on_progress)
    return Report(
        source_path,
        target_path,
        tuple(job.report() for job in jobs),
        seconds.read,
        seconds.pool,
        seconds.write,
        time.perf_counter() - start,
        workers,
        max_memory,
        _peak_memory_bytes(),
        dry_run,
    )


def _check_options(
    layout: str, dtype: str | None, input_dtype: str | None, nan: str, max_memory: int
) -> None:
    if (
        "HW" not in layout
        or len(set(layout)) != len(layout)
        or not layout.isalpha()
        or layout != layout.upper()
    ):
        raise ArgumentError(
            f"`layout` is {layout!r}; expected different capital letters with HW in them, such as NCHW"
        )
    if dtype is not None and dtype not in FLOATS:
        raise ArgumentError(f"`dtype` is {dtype!r}; expected one of {', '.join(FLOATS)}")
    if input_dtype not in (None, "bfloat16"):
        raise ArgumentError(f"`input_dtype` is {input_dtype!r}; expected 'bfloat16'")
    if nan not in ("propagate", "skip"):
        raise ArgumentError(f"`nan` is {nan!r}; expected 'propagate' or 'skip'")
    if max_memory < 1:
        raise ArgumentError(f"`max_memory` is {max_memory}; expected a number of bytes")


def _refuse_target(source: Path, target: Path, *, overwrite: bool) -> None:
    if target.exists() and source.samefile(target) and not overwrite:
        raise ExistsError(f"output {target} is the input itself; -f (overwrite=True) replaces it")
    refuse_existing(target, overwrite=overwrite)


def _chosen(specs: tuple[ArraySpec, ...], patterns: Sequence[str]) -> list[ArraySpec]:
    """The arrays that any pattern matches; every pattern must match one."""
    if not patterns:
        return list(specs)
    names = [spec.name for spec in specs]
    for pattern in patterns:
        if not any(fnmatchcase(name, _absolute(pattern)) for name in names):
            listed = ", ".join(names) if names != [""] else "one array without a name"
            raise DatasetError(f"has no dataset {pattern!r} that can be pooled; it has {listed}")
    return [s for s in specs if any(fnmatchcase(s.name, _absolute(p)) for p in patterns)]


def _absolute(pattern: str) -> str:
    return pattern if pattern.startswith("/") else f"/{pattern}"


@dataclass(frozen=True)
class _Job:
    """One array: how it is pooled, how it is streamed, what comes out."""

    pooling: Pooling
    plan: Plan
    pooled: Pooled

    @classmethod
    def make(
        cls,
        spec: ArraySpec,
        size: OutputSize,
        layout: str,
        dtype: str | None,
        nan: str,
        max_memory: int,
        workers: int,
    ) -> "_Job":
        height_axis = layout.index("H")
        height, width = spec.shape[height_axis : height_axis + 2]
        output_size = resolve_size(size, (height, width))
        grid = make_grid((height, width), output_size)
        kinds = numbers(spec.numbers, dtype)
        itemsize = kinds.result_dtype.itemsize
        plan = make_plan(spec, grid, height_axis, itemsize, max_memory=max_memory, workers=workers)
        provenance = json.dumps(
            {
                "version": lucid.__version__,
                "source_shape": list(spec.shape),
                "source_dtype": spec.numbers,
                "layout": layout,
                "output_size": list(output_size),
                "nan": nan,
            }
        )
        pooled = Pooled(
            spec, spec.name or "/data", plan.output_shape, kinds.result_dtype, kinds.result, provenance
        )
        return cls(Pooling(grid, kinds, nan == "skip"), plan, pooled)

    def report(self) -> DatasetReport:
        spec, pooled = self.pooled.source, self.pooled
        return DatasetReport(
            spec.name,
            spec.shape,
            spec.numbers,
            pooled.shape,
            pooled.numbers,
            spec.nbytes,
            pooled.nbytes,
            self.plan.peak_bytes,
        )


def _run_all(
    jobs: list[_Job],
    source: Source,
    sink: Sink,
    seconds: Seconds,
    on_progress: OnProgress | None,
) -> None:
    total, done = sum(job.pooled.source.nbytes for job in jobs), 0
    sink.begin(source, [job.pooled for job in jobs])
    for job in jobs:
        if 0 in job.pooled.shape:
            continue

        def write(region: Region, means: Array, pooled: Pooled = job.pooled) -> None:
            sink.write(pooled, region, means)

        pool = _Pool(job.pooling, job.plan.lead_axes)
        steps = run(job.plan, source.read, pool, write, output_dtype=job.pooled.dtype, seconds=seconds)
        for used in steps:
            done += used
            if on_progress is not None:
                on_progress(Progress(source.path, min(done, total), total))
    start = time.perf_counter()
    sink.commit()
    seconds.write += time.perf_counter() - start


class _Pool:
    """`Pooling` for arrays of any rank, as the engine wants it."""

    def __init__(self, pooling: Pooling, height_axis: int) -> None:
        self._pooling, self._height_axis = pooling, height_axis

    def means(self, cells: Array, out: Array, rows: Span, cols: Span) -> None:
        for planes, means in stacks(cells, out, self._height_axis):
            self._pooling.means(planes, means, rows, cols)

    def sums(self, cells: Array, row_slabs: Span, col_slabs: Span) -> list[SlabSums]:
        return self._pooling.slab_sums(_four(cells, self._height_axis), row_slabs, col_slabs)

    def total(self, shape: tuple[int, ...], rows: Span, cols: Span) -> "_Total":
        h = self._height_axis
        sums = Accumulator(self._pooling, rows, cols, size_of(shape[:h]), size_of(shape[h + 2 :]))
        return _Total(sums, h)


class _Total:
    """Sums over pieces, as the engine wants them."""

    def __init__(self, sums: Accumulator, height_axis: int) -> None:
        self._sums, self._height_axis = sums, height_axis

    def add(self, slabs: list[SlabSums]) -> None:
        self._sums.add(slabs)

    def means(self, out: Array) -> None:
        self._sums.means(_four(out, self._height_axis))


def _four(array: Array, height_axis: int) -> Array:
    """(planes, height, width, inner) in the array's own order of axes, so that pieces agree."""
    lead, trail = array.shape[:height_axis], array.shape[height_axis + 2 :]
    plane = array.shape[height_axis : height_axis + 2]
    return array.reshape(size_of(lead), *plane, size_of(trail))


def _peak_memory_bytes() -> int:
    """Largest resident memory of this process."""
    try:
        # ru_maxrss would count what the parent held when it forked.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
