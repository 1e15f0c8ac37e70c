"""A plan carried out: its blocks read, pooled and written, its outputs put in place."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from lucid import forks
from lucid.formats.arrays import Array, ArraySpec, Pooled
from lucid.formats.contract import Carried, Sink, Source
from lucid.formats.regions import Region, shifted
from lucid.job_plan import ArrayPlan, JobPlan
from lucid.options import Options
from lucid.outputs import Target
from lucid.report import DatasetReport, OnProgress, Progress, Report, peak_memory_bytes
from lucid.run.blocks import Output, Seconds, run


@dataclass
class Watch:
    """Who is told how far an input is, and what the work took."""

    path: Path
    on_progress: OnProgress | None = None
    seconds: Seconds = field(default_factory=Seconds)
    total_bytes: int = 0
    done_bytes: int = 0
    #: Of other processes that worked on it.
    peak_memory_bytes: int = 0
    #: Notes for the user, one line each.
    notes: list[str] = field(default_factory=list)
    carried: Carried = field(default_factory=Carried)

    def note(self, sink: Sink) -> None:
        """Take over what an output that was begun, or only looked at, says of itself."""
        self.notes += sink.notes
        self.carried = Carried(*map(sum, zip(self.carried, sink.carried, strict=True)))

    def add(self, count: int) -> None:
        """Bytes of input were used up."""
        self.done_bytes = min(self.done_bytes + count, self.total_bytes)
        self.tell()

    def tell(self, more: int = 0) -> None:
        """Say how far it is, and so many bytes further in what is being done."""
        if self.on_progress is not None:
            done = min(self.done_bytes + more, self.total_bytes)
            self.on_progress(Progress(self.path, done, self.total_bytes))


def report_of(
    watch: Watch,
    options: Options,
    targets: Sequence[Target],
    datasets: Iterable[DatasetReport],
    begun: float,
    **others: Any,
) -> Report:
    """The report on an input whose work began at that time of `perf_counter`."""
    report = Report(
        source=watch.path,
        targets=tuple(target.path for target in targets),
        datasets=tuple(datasets),
        read_seconds=watch.seconds.read,
        pool_seconds=watch.seconds.pool,
        write_seconds=watch.seconds.write,
        total_seconds=time.perf_counter() - begun,
        threads=options.workers,
        max_memory=options.max_memory,
        peak_memory_bytes=max(peak_memory_bytes(), watch.peak_memory_bytes),
        dry_run=options.dry_run,
        notes=tuple(dict.fromkeys(watch.notes)),
        carried=watch.carried.items,
        carried_bytes=watch.carried.nbytes,
    )
    return replace(report, **others)


def carry_out(
    job: JobPlan,
    source: Source,
    watch: Watch,
    before_commit: Callable[[], None] | None = None,
    later: list[Any] | None = None,
) -> None:
    """Read, pool and write everything, and make the outputs appear, or leave that for `later`."""
    first = job.arrays[0][0].blocks if job.arrays else None
    is_alone = first is not None and len(job.arrays) == len(job.arrays[0]) == 1 and first.is_sequential
    with ExitStack() as stack:
        sinks: dict[Path, Sink] = {}
        for target in job.targets:
            sink = target.create(job.options, in_sequence=is_alone)
            sinks[target.path] = stack.enter_context(sink)
        for target in job.targets:
            sinks[target.path].begin(source, [array.pooled for array in job.of(target)])
            watch.note(sinks[target.path])
        _pool(job, source, sinks, watch)
        source.check_unchanged()
        if before_commit is not None:
            before_commit()
        with watch.seconds.clock("write"):
            for sink in sinks.values():
                sink.commit(later)


def _pool(job: JobPlan, source: Source, sinks: dict[Path, Sink], watch: Watch) -> None:
    def output(array: ArrayPlan) -> Output:
        return array.output(partial(sinks[array.target.path].write, array.pooled))

    in_sequence = any(sink.in_sequence for sink in sinks.values())
    by_offset = all(sink.by_offset for sink in sinks.values())
    for arrays in job.passes():
        overflows = 0
        blocks = arrays[0].blocks
        in_processes = forks.are_worth(blocks.spec.nbytes, blocks.workers) and source.is_locked(blocks.spec)
        steps = run(
            [output(array) for array in arrays],
            partial(_read, source),
            read_in_sequence=source.in_sequence,
            write_in_sequence=in_sequence or (in_processes and not by_offset),
            in_processes=in_processes,
        )
        with closing(steps):
            for step in steps:
                watch.add(step.input_bytes)
                watch.seconds.add(step.seconds)
                overflows += step.overflows
        if overflows:
            watch.notes.append(_overflow(arrays[0].pooled, overflows))


def _overflow(pooled: Pooled, count: int) -> str:
    what = f"{count} finite result{'s' * (count > 1)} of {pooled.source.name or 'the array'}"
    return f"{what} exceed {pooled.numbers} and became infinite; `dtype` float32 or float64 holds more"


def _read(source: Source, spec: ArraySpec, region: Region, buffer: Array) -> Array:
    """Read a region of a box, counted from the box's first cell."""
    return source.read(spec, shifted(region, spec.offset) if spec.offset else region, buffer)
