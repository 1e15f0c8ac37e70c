"""`pool_file`: one input to its outputs, where all the parts meet."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import lucid
from lucid.errors import ArgumentError, DatasetError, ExistsError, FormatError
from lucid.formats.base import Array, ArraySpec, Making, Pooled, Region, Sink, Source, size_of
from lucid.formats.compression import parse_compression
from lucid.formats.files import refuse_existing
from lucid.formats.pipe import STREAM, NpyStreamSink, NpyStreamSource, Spool, Stream
from lucid.formats.registry import NPY, Format, format_of_content, format_of_start
from lucid.naming import Size, Target, dataset_name, size_name, targets_of
from lucid.nn.functional import (
    NanRule,
    OutputSize,
    adaptive_avg_pool2d,
    check_dimension,
    check_threads,
    resolve_size,
)
from lucid.parallel import available_cpus
from lucid.pooling.average import Accumulator, Pooling, SlabSums, Span
from lucid.pooling.dtypes import FLOATS, numbers
from lucid.pooling.stacks import stacks
from lucid.pooling.windows import make_grid
from lucid.report import DatasetReport, OnProgress, Progress, Report, peak_memory_bytes
from lucid.streaming.engine import Output, Seconds, run
from lucid.streaming.plan import Plan, make_plans, share_blocks

DEFAULT_MAX_MEMORY = 256 << 20

FilePath: TypeAlias = str | os.PathLike[str]


def pool_file(
    source: FilePath | BinaryIO,
    target: FilePath | BinaryIO | None = None,
    *,
    size: OutputSize | list[OutputSize],
    datasets: Sequence[str] = (),
    layout: str = "NCHW",
    flatten: bool = False,
    dtype: str | None = None,
    input_dtype: str | None = None,
    nan: NanRule = "propagate",
    carry: bool = True,
    compression: str = "keep",
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
        A `.npy` or HDF5 file, told apart by content; or a binary stream of one, or of several
        `.npy` arrays one after another.
    target
        The output; its suffix picks the format, `{stem}` and `{size}` are filled in. By default
        `NAME.pooled.EXT` beside the source, in the source's format. Or a binary stream, which
        takes `.npy` arrays.
    size
        As `output_size` of `lucid.nn.AdaptiveAvgPool2d`; or a list of several, for all of which the
        input is read once. Each has a `.npy` file or an HDF5 dataset with the size in its name.
    datasets
        HDF5 paths or glob patterns of what to pool; by default all datasets of numbers with
        as many axes as `layout`.
    layout
        One letter for each axis, with "HW" in them: "NCHW", "NHWC", "CHW", "NTCHW", …
    flatten
        Write each pooled dataset as (N, everything else).
    dtype
        dtype of the means: "float16", "bfloat16", "float32" or "float64".
    input_dtype
        "bfloat16" if two-byte void elements of a `.npy` file are that.
    nan
        As in `lucid.nn.functional.adaptive_avg_pool2d`.
    carry
        HDF5: carry over unchanged what is not pooled.
    compression
        HDF5: "keep" as the source has it, "none", "gzip", "lzf", "zstd", "blosc-lz4", …, with a
        level after a colon.
    max_memory
        Bytes that the buffers may take, whatever the shapes.
    threads
        By default the CPUs that this process may use.
    overwrite
        Replace existing targets.
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
    _check_options(layout, dtype, input_dtype, nan, max_memory, flatten=flatten)
    parse_compression(compression)
    workers = available_cpus() if threads is None else check_threads(threads)
    sizes = [_pair(one) for one in (size if isinstance(size, list) else [size])]
    names = [size_name(one) for one in sizes]
    if len(set(names)) < len(names) or not names:
        raise ArgumentError(f"`size` is {', '.join(names) or 'empty'}; expected different sizes")
    work = _Work(
        sizes=sizes,
        datasets=datasets,
        layout=layout,
        flatten=flatten,
        dtype=dtype,
        input_dtype=input_dtype,
        nan=nan,
        max_memory=max_memory,
        workers=workers,
        making=Making(overwrite=overwrite, carry=carry, compression=compression, workers=workers),
        dry_run=dry_run,
        on_progress=on_progress,
    )
    output = target if target is None or hasattr(target, "write") else os.fspath(target)
    if not isinstance(source, str | os.PathLike):
        work.pool_stream(Stream(source), output)
    else:
        work.pool_path(Path(source), output)
    return Report(
        Path(source) if isinstance(source, str | os.PathLike) else STREAM,
        tuple(dict.fromkeys(d.target for d in work.done)),
        tuple(work.done),
        work.seconds.read,
        work.seconds.pool,
        work.seconds.write,
        time.perf_counter() - start,
        workers,
        max_memory,
        peak_memory_bytes(),
        dry_run,
    )


def _pair(size: OutputSize) -> Size:
    both = size if isinstance(size, tuple | list) else (size, size)
    if len(both) != 2:
        raise ArgumentError(f"`size` is {size!r}; expected one or two dimensions")
    rows, cols = (None if n is None else check_dimension(n) for n in both)
    return rows, cols


def _check_options(
    layout: str, dtype: str | None, input_dtype: str | None, nan: str, max_memory: int, *, flatten: bool
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
    if flatten and layout.startswith("H"):
        raise ArgumentError(f"`flatten` keeps the first axis, which `layout` {layout!r} has pooled")
    if dtype is not None and dtype not in FLOATS:
        raise ArgumentError(f"`dtype` is {dtype!r}; expected one of {', '.join(FLOATS)}")
    if input_dtype not in (None, "bfloat16"):
        raise ArgumentError(f"`input_dtype` is {input_dtype!r}; expected 'bfloat16'")
    if nan not in ("propagate", "skip"):
        raise ArgumentError(f"`nan` is {nan!r}; expected 'propagate' or 'skip'")
    if max_memory < 1:
        raise ArgumentError(f"`max_memory` is {max_memory}; expected a number of bytes")


def _chosen(specs: tuple[ArraySpec, ...], patterns: Sequence[str]) -> list[ArraySpec]:
    """The arrays that any pattern matches; every pattern must match one."""
    if not patterns:
        return list(specs)
    names = [spec.name for spec in specs]
    for pattern in patterns:
        if not any(fnmatchcase(name, _absolute(pattern)) for name in names):
            listed = ", ".join(names) if names != [""] else "one array without a name"
            from difflib import get_close_matches  # takes 3 ms to load

            close = get_close_matches(_absolute(pattern), names, 1)
            hint = f"did you mean {close[0]!r}? it has: " if close else "it has "
            raise DatasetError(f"has no dataset {pattern!r} that can be pooled; {hint}{listed}")
    return [s for s in specs if any(fnmatchcase(s.name, _absolute(p)) for p in patterns)]


def _absolute(pattern: str) -> str:
    return pattern if pattern.startswith("/") else f"/{pattern}"


@dataclass(frozen=True)
class _Mean:
    """One array pooled to one size: the arithmetic, the blocks, what comes out and where."""

    pooling: Pooling
    plan: Plan
    pooled: Pooled
    target: Path


@dataclass
class _Work:
    """The options of a call, checked, and what was done so far."""

    sizes: list[Size]
    datasets: Sequence[str]
    layout: str
    flatten: bool
    dtype: str | None
    input_dtype: str | None
    nan: str
    max_memory: int
    workers: int
    making: Making
    dry_run: bool
    on_progress: OnProgress | None
    seconds: Seconds = field(default_factory=Seconds)
    done: list[DatasetReport] = field(default_factory=list)

    def pool_path(self, path: Path, output: Any) -> None:
        """Pool a file that can be read anywhere."""
        format_ = format_of_content(path)
        targets = self._targets(path, format_, output)
        for target in targets:
            _refuse(path, target.path, overwrite=self.making.overwrite)
        with format_.open(path, input_numbers=self.input_dtype) as source:
            self._pool(source, targets, output)

    def pool_stream(self, stream: Stream, output: Any) -> None:
        """Pool what a stream brings: an HDF5 file, or `.npy` arrays to its end."""
        start = stream.peek(8)
        if start and format_of_start(start) not in (NPY, None):
            self._pool_spooled(lambda spool: stream.copy_to(spool.file, None), output)
            return
        if not start:
            raise FormatError("is empty; expected a .npy array or an HDF5 file")
        index = 0
        while stream.peek(1):
            source = NpyStreamSource(stream, index, input_numbers=self.input_dtype)
            self._pool_array(stream, source, output)
            if self.dry_run:
                return
            index += 1

    def _pool_array(self, stream: Stream, source: NpyStreamSource, output: Any) -> None:
        """Pool one array of a stream as it comes, or from a spool if that cannot be."""

        def check_end() -> None:
            if not hasattr(output, "write") and stream.peek(1):
                raise FormatError("holds several arrays; write them to standard output, -o -")

        targets = self._targets(STREAM, NPY, output)
        for target in targets:
            refuse_existing(target.path, overwrite=self.making.overwrite)
        (spec,) = source.arrays(len(self.layout))
        plans = [mean.plan for mean in self._means(spec, targets, in_sequence=True)]
        streams = share_blocks(plans) and all(plan.is_sequential for plan in plans) and plans[0].workers > 1
        if streams or self.dry_run:
            self._pool(source, targets, output, check_end)
        else:
            self._pool_spooled(source.spool, output, check_end, name=source.name)

    def _pool_spooled(
        self,
        fill: Callable[[Spool], None],
        output: Any,
        before_commit: Callable[[], None] | None = None,
        *,
        name: str = "",
    ) -> None:
        spool = Spool()
        try:
            fill(spool)
            spool.file.flush()
            format_ = format_of_content(spool.path)
            targets = self._targets(STREAM, format_, output)
            for target in targets:
                refuse_existing(target.path, overwrite=self.making.overwrite)
            with format_.open(spool.path, input_numbers=self.input_dtype) as source:
                spool.forget()
                self._pool(source, targets, output, before_commit)
            if name:
                self.done[-len(self.sizes) :] = [
                    replace(done, name=name) for done in self.done[-len(self.sizes) :]
                ]
        finally:
            spool.close()

    def _targets(self, source: Path, format_: Format, output: Any) -> tuple[Target, ...]:
        """Where each size goes; a stream takes them all and is no file."""
        if hasattr(output, "write"):
            return ()
        return targets_of(source, format_, output, self.sizes)

    def _pool(
        self,
        source: Source,
        targets: tuple[Target, ...],
        output: Any,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        specs = _chosen(source.arrays(len(self.layout)), self.datasets)
        arrays = [list(self._means(spec, targets, in_sequence=source.in_sequence)) for spec in specs]
        if not self.dry_run:
            with ExitStack() as stack:
                sinks: dict[Path, Sink] = {}
                for target in targets:
                    sinks[target.path] = stack.enter_context(target.format.create(target.path, self.making))
                if not targets:
                    first = arrays[0][0].plan
                    alone = len(arrays) == len(self.sizes) == 1 and first.is_sequential
                    sinks[STREAM] = stack.enter_context(NpyStreamSink(output, self.making, in_sequence=alone))
                self._write(arrays, source, sinks, before_commit)
        for means in arrays:
            self.done += _reports(means)

    def _means(self, spec: ArraySpec, targets: tuple[Target, ...], *, in_sequence: bool) -> Iterator[_Mean]:
        """The array pooled to every size."""
        h = self.layout.index("H")
        plane = spec.shape[h], spec.shape[h + 1]
        output_sizes = [resolve_size(size, plane) for size in self.sizes]
        grids = [make_grid(plane, size) for size in output_sizes]
        kinds = numbers(spec.numbers, self.dtype)
        plans = make_plans(
            spec,
            grids,
            h,
            kinds.result_dtype.itemsize,
            max_memory=self.max_memory,
            workers=self.workers + in_sequence,
            whole_planes=in_sequence,
        )
        for i, (size, output_size, plan) in enumerate(zip(self.sizes, output_sizes, plans, strict=True)):
            holder = next((t for t in targets if i in t.sizes), None)
            several = holder is not None and len(holder.sizes) > 1
            provenance = {
                "version": lucid.__version__,
                "source_shape": list(spec.shape),
                "source_dtype": spec.numbers,
                "layout": self.layout,
                "output_size": list(output_size),
                "nan": self.nan,
            }
            pooled = Pooled(
                spec,
                dataset_name(spec.name, size, several=several or holder is None),
                plan.output_shape,
                kinds.result_dtype,
                kinds.result,
                json.dumps(provenance),
                h,
                self.flatten,
                partial(_coarsen, output_size),
            )
            pooling = Pooling(plan.grid, kinds, self.nan == "skip")
            yield _Mean(pooling, plan, pooled, STREAM if holder is None else holder.path)

    def _write(
        self,
        arrays: list[list[_Mean]],
        source: Source,
        sinks: dict[Path, Sink],
        before_commit: Callable[[], None] | None,
    ) -> None:
        """Read, pool and write everything, and make the outputs appear."""
        for path, sink in sinks.items():
            sink.begin(source, [mean.pooled for means in arrays for mean in means if mean.target == path])
        passes = [one for means in arrays for one in _passes(means) if 0 not in one[0].pooled.shape]
        total, done = sum(means[0].pooled.source.nbytes for means in passes), 0
        for means in passes:
            outputs = [_output(mean, sinks[mean.target]) for mean in means]
            for used in run(
                outputs,
                source.read,
                self.seconds,
                read_in_sequence=source.in_sequence,
                write_in_sequence=any(sinks[mean.target].in_sequence for mean in means),
            ):
                done += used
                if self.on_progress is not None:
                    self.on_progress(Progress(source.path, min(done, total), total))
        if before_commit is not None:
            before_commit()
        with self.seconds.clock("write"):
            for sink in sinks.values():
                sink.commit()


def _coarsen(output_size: tuple[int, int], coordinates: Array, axis: int) -> Array:
    """Means of coordinates over the windows of an axis: where the output cells are."""
    means: Array = adaptive_avg_pool2d(coordinates[None, None], (1, output_size[axis]))[0, 0]
    return means


def _refuse(source: Path, target: Path, *, overwrite: bool) -> None:
    if target.exists() and source.samefile(target) and not overwrite:
        raise ExistsError(f"output {target} is the input itself; -f (overwrite=True) replaces it")
    refuse_existing(target, overwrite=overwrite)


def _passes(means: list[_Mean]) -> list[list[_Mean]]:
    """All sizes in one pass over the array, or each in its own where planes exceed the memory."""
    return [means] if share_blocks([mean.plan for mean in means]) else [[mean] for mean in means]


def _output(mean: _Mean, sink: Sink) -> Output:
    def write(region: Region, values: Array) -> None:
        sink.write(mean.pooled, region, values)

    return Output(mean.plan, _Pool(mean.pooling, mean.plan.lead_axes), write, mean.pooled.dtype)


def _reports(means: list[_Mean]) -> Iterator[DatasetReport]:
    costs = [mean.plan.costs for mean in means]
    shared = share_blocks([mean.plan for mean in means])
    for mean, own in zip(means, costs, strict=True):
        spec, pooled = mean.pooled.source, mean.pooled
        others = sum(c.output_bytes for c in costs) - own.output_bytes if shared else 0
        yield DatasetReport(
            spec.name,
            spec.shape,
            spec.numbers,
            mean.target,
            pooled.name,
            pooled.stored_shape,
            pooled.numbers,
            spec.nbytes,
            pooled.nbytes,
            mean.plan.workers * (own.total_bytes + others),
            sum(1 for _ in mean.plan.blocks()) if pooled.nbytes else 0,
        )


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
