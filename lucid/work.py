"""The way of one input through all the parts: opened, planned, pooled, written."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import lucid
from lucid.errors import DatasetError, ExistsError, FileError
from lucid.formats.contract import (
    Array,
    ArraySpec,
    Making,
    Pooled,
    Reading,
    Region,
    Sink,
    Source,
    shifted,
)
from lucid.formats.disk.journal import Journal
from lucid.formats.disk.journal import paths as journal_paths
from lucid.formats.meaning import texts_of
from lucid.formats.registry import Format, format_of_content, resolved, url_of
from lucid.formats.result import result_for
from lucid.formats.stream import STREAM, NpyStreamSink
from lucid.mean import Mean, coarsen, copy_from, output_of, passes_of, pooling_of, reports_of, rule_of
from lucid.naming import Size, Target, dataset_name, slice_name, targets_of
from lucid.nn.functional import resolve_size
from lucid.pooling.dtypes import numbers
from lucid.pooling.jit import Kernels, for_file
from lucid.pooling.windows import make_grid
from lucid.report import DatasetReport, OnProgress, Progress
from lucid.streaming.engine import Output, Seconds, run
from lucid.streaming.plan import make_plans


@dataclass(eq=False, repr=False)
class Work:
    """The options of a call, checked, and what was done so far."""

    sizes: list[Size]
    datasets: Sequence[str]
    layout: str
    flatten: bool
    dtype: str | None
    reading: Reading
    nan: str | None
    max_memory: int
    workers: int
    making: Making
    resume: bool
    dry_run: bool
    on_progress: OnProgress | None
    #: The samples to pool, None for all.
    part: slice | None = None
    skipped: bool = False
    seconds: Seconds = field(default_factory=Seconds)
    done: list[DatasetReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def pool_path(self, path: Path, output: Any) -> None:
        """Pool a file that can be read anywhere."""
        format_ = format_of_content(path)
        targets = self.targets(path, format_, output)
        continues = self.resume and journal_paths(targets[0].path)[0].exists() if targets else False
        if self.resume and not continues and not self.making.overwrite:
            self.skipped = all(target.path.exists() for target in targets)
        if self.skipped:
            return
        for target in targets:
            _refuse(path, target, overwrite=self.making.overwrite or continues)
        with format_.open(path, self.reading) as source:
            self.pool(source, targets, output)

    def targets(self, source: Path, format_: Format, output: Any) -> tuple[Target, ...]:
        """Where each size goes; a stream takes them all and is no file."""
        if hasattr(output, "write"):
            return ()
        return targets_of(source, format_, output, self.sizes, self.part)

    def pool(
        self,
        source: Source,
        targets: tuple[Target, ...],
        output: Any,
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        """Pool an open source into all targets, or into a stream."""
        specs, arrays = self.means_of(source, targets)
        if not self.dry_run and self.resume:
            facts = self._facts(source, specs, arrays)
            nbytes = sum(mean.pooled.nbytes for means in arrays for mean in means)
            with Journal(targets[0].path, facts, nbytes, restart=self.making.overwrite) as journal:
                self._write_by_journal(arrays, source, targets, journal)
        elif not self.dry_run:
            with ExitStack() as stack:
                sinks: dict[Path, Sink] = {}
                for target in targets:
                    sinks[target.path] = stack.enter_context(target.format.create(target.path, self.making))
                if not targets:
                    first = arrays[0][0].plan
                    alone = len(arrays) == len(self.sizes) == 1 and first.is_sequential
                    sinks[STREAM] = stack.enter_context(NpyStreamSink(output, self.making, in_sequence=alone))
                self._write(arrays, source, sinks, before_commit)
        for target in targets if self.dry_run else ():
            with target.format.create(target.path, self.making) as sink:
                mine = [mean.pooled for means in arrays for mean in means if mean.target == target.path]
                sink.refuse(source, mine)
                self.notes += sink.notes
        for means in arrays:
            self.done += reports_of(means)

    def means_of(
        self, source: Source, targets: tuple[Target, ...]
    ) -> tuple[list[ArraySpec], list[list[Mean]]]:
        """The arrays to be pooled, and each of them pooled to every size.

        Raises
        ------
        DatasetError
            No array has any of the samples wanted.

        """
        specs = list(source.choose(len(self.layout), self.datasets, self.layout.index("H")))
        self.notes += source.notes
        lengths = [spec.shape[0] for spec in specs]
        if self.part is not None and any(lengths) and not any(s.part(self.part).shape[0] for s in specs):
            raise DatasetError(f"has {max(lengths)} samples; expected some in slice {slice_name(self.part)}")
        shard = None if self.part is None else self.facts_of_shard(source, specs)
        return specs, [
            list(self.means(spec, targets, in_sequence=source.in_sequence, shard=shard)) for spec in specs
        ]

    def facts_of_shard(self, source: Source, specs: list[ArraySpec]) -> dict[str, Any]:
        """What shards must have in common to be joined."""
        options = {
            "sizes": self.sizes,
            "datasets": list(self.datasets),
            "layout": self.layout,
            "flatten": self.flatten,
            "dtype": self.dtype,
            "input_dtype": self.reading.input_numbers,
            "nan": self.nan,
            "missing": texts_of(self.reading.missing),
            "allow_external": self.reading.allow_external,
            "carry": self.making.carry,
            "compression": self.making.compression,
        }
        return {
            "source": str(resolved(source.path)),
            "signature": source.signature(specs),
            "options": options,
        }

    def means(
        self,
        spec: ArraySpec,
        targets: tuple[Target, ...],
        *,
        in_sequence: bool,
        shard: dict[str, Any] | None = None,
    ) -> Iterator[Mean]:
        """The array, or its part, pooled to every size."""
        h = self.layout.index("H")
        plane = spec.shape[h], spec.shape[h + 1]
        output_sizes = [resolve_size(size, plane) for size in self.sizes]
        grids = [make_grid(plane, size) for size in output_sizes]
        kinds = numbers(spec.numbers, self.dtype)
        for target in targets:
            result, note = result_for(kinds.result, target.path.suffix)
            kinds = numbers(spec.numbers, result)
            self.notes += [note] if note else []
        part = spec.part(self.part)
        plans = make_plans(
            part,
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
            provenance: dict[str, Any] = {
                "version": lucid.__version__,
                "source_shape": list(spec.shape),
                "source_dtype": spec.numbers,
                "layout": self.layout,
                "output_size": list(output_size),
                "nan": rule_of(spec, kinds.result, nan=self.nan).nan,
            }
            if spec.meaning is not None and spec.meaning.missing:
                provenance["missing"] = list(spec.meaning.missing)
            if shard is not None:
                stop = part.start + part.shape[0]
                own = {"slice": [part.start, stop], "dataset": spec.name, "size": i}
                provenance["shard"] = own | shard
            pooled = Pooled(
                spec,
                dataset_name(spec.name, size, several=several or holder is None),
                plan.output_shape,
                kinds.result_dtype,
                kinds.result,
                json.dumps(provenance),
                h,
                self.flatten,
                shard is not None,
                coarsen,
            )
            kernels = for_file(part.nbytes) if plan.is_whole else Kernels.NUMPYS
            pooling = pooling_of(spec, plan.grid, kinds, self.nan, kernels)
            yield Mean(pooling, plan, pooled, STREAM if holder is None else holder.path)

    def _write(
        self,
        arrays: list[list[Mean]],
        source: Source,
        sinks: dict[Path, Sink],
        before_commit: Callable[[], None] | None,
    ) -> None:
        """Read, pool and write everything, and make the outputs appear."""
        for path, sink in sinks.items():
            sink.begin(source, [mean.pooled for means in arrays for mean in means if mean.target == path])
            self.notes += sink.notes

        def output(mean: Mean) -> Output:
            return output_of(mean, partial(sinks[mean.target].write, mean.pooled))

        in_sequence = any(sink.in_sequence for sink in sinks.values())
        self._run(arrays, source, output, write_in_sequence=in_sequence)
        source.check_unchanged()
        if before_commit is not None:
            before_commit()
        with self.seconds.clock("write"):
            for sink in sinks.values():
                sink.commit()

    def _write_by_journal(
        self,
        arrays: list[list[Mean]],
        source: Source,
        targets: tuple[Target, ...],
        journal: Journal,
    ) -> None:
        """Pool into the journal's spool what is not there yet, then make the outputs from it."""
        every = [mean for means in arrays for mean in means]
        starts = accumulate((mean.pooled.nbytes for mean in every), initial=0)
        offsets = {(m.target, m.pooled.name): start for m, start in zip(every, starts, strict=False)}

        def output(mean: Mean) -> Output:
            at = offsets[mean.target, mean.pooled.name]
            return output_of(mean, partial(journal.write, at, mean.pooled.shape))

        if not journal.is_committing:
            self._run(arrays, source, output, journal=journal)
            source.check_unchanged()
            journal.begin_commit()
            making = self.making
        else:
            making = self.making._replace(overwrite=True)
        with self.seconds.clock("write"):
            for target in targets:
                with target.format.create(target.path, making) as sink:
                    chosen = [mean for mean in every if mean.target == target.path]
                    sink.begin(source, [mean.pooled for mean in chosen])
                    self.notes += sink.notes
                    for mean in chosen:
                        copy_from(journal, offsets[mean.target, mean.pooled.name], mean, sink)
                    sink.commit()
        journal.remove()

    def _run(
        self,
        arrays: list[list[Mean]],
        source: Source,
        output: Callable[[Mean], Output],
        *,
        journal: Journal | None = None,
        write_in_sequence: bool = False,
    ) -> None:
        """Read and pool every array, but for what the journal has."""
        passes = [one for means in arrays for one in passes_of(means) if 0 not in one[0].pooled.shape]
        total, done = sum(means[0].plan.spec.nbytes for means in passes), 0
        for number, means in enumerate(passes):
            skip = frozenset(journal.done.get(number, ())) if journal else frozenset()
            if skip:
                done += means[0].plan.spec.nbytes * len(skip) // sum(1 for _ in means[0].plan.blocks())
            steps = run(
                [output(mean) for mean in means],
                partial(_read_part, source),
                self.seconds,
                read_in_sequence=source.in_sequence,
                write_in_sequence=write_in_sequence,
                skip=skip,
            )
            with closing(steps):
                for step in steps:
                    done += step.input_bytes
                    if journal is not None and step.block is not None:
                        journal.note(number, step.block)
                    if self.on_progress is not None:
                        self.on_progress(Progress(source.path, min(done, total), total))

    def _facts(self, source: Source, specs: list[ArraySpec], arrays: list[list[Mean]]) -> dict[str, Any]:
        """What must be the same for work to be continued."""
        plans = [
            (mean.plan.lead, mean.plan.rows, mean.plan.cols, mean.plan.trail, mean.plan.row_slabs)
            for means in arrays
            for mean in means
        ]
        return {
            "version": lucid.__version__,
            "input": [str(resolved(source.path)), source.signature(specs)],
            "options": [
                [mean.pooled.provenance, mean.pooled.numbers, str(mean.target), mean.pooled.name]
                for means in arrays
                for mean in means
            ]
            + [self.flatten, self.making.carry, self.making.compression],
            "memory limit or threads": [plans, self.max_memory],
        }


def _read_part(source: Source, spec: ArraySpec, region: Region, buffer: Array) -> Array:
    """Read a region of a part, counted from its first sample."""
    return source.read(spec, shifted(region, spec.start) if spec.start else region, buffer)


def _refuse(source: Path, target: Target, *, overwrite: bool) -> None:
    path = target.path
    if path.exists() and source.samefile(path) and not overwrite:
        raise ExistsError(f"output {path} is the input itself; -f (overwrite=True) replaces it")
    if url_of(path) is not None and source == path:
        raise ExistsError(f"output {path} is the input itself, which cannot be replaced in one step there")
    if (source.is_dir() and source.resolve() in path.resolve().parents) or source in path.parents:
        raise FileError(f"output {path} lies within the input, which is never changed")
    target.format.refuse_existing(path, overwrite=overwrite)
