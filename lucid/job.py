"""`pool_file`: one input, a file or a stream, to its outputs."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from lucid import job_plan
from lucid.arguments import EXECUTOR, PROGRESS, SOURCE, TARGET, options_of, takes_options
from lucid.errors import ArgumentError, ExistsError, FormatError, about, translate_errors
from lucid.execution import carry_out, rehearse
from lucid.formats.contract import Source
from lucid.formats.disk.replacement import Replacement
from lucid.formats.disk.spool import Spool
from lucid.formats.registry import EXPECTED, MAGIC_BYTES, NPY, Format, format_of_content, format_of_start
from lucid.formats.stream import STREAM, NpyStreamSource, Stream
from lucid.inputs import is_pipe, leave_out_earlier
from lucid.job_plan import JobPlan
from lucid.notes import notes_on
from lucid.options import Options
from lucid.outputs import FilePath, Naming, Target, settle
from lucid.report import OnProgress, Report, Watch, failure_note
from lucid.run import Executor
from lucid.shards.folder import pool_by_shards, rehearse_shards, remove_shards
from lucid.shards.provenance import missing_targets
from lucid.shards.spans import is_indivisible, spans_of


@takes_options(Options)
def pool_file(
    source: FilePath | BinaryIO,
    target: FilePath | BinaryIO | None = None,
    *,
    on_progress: OnProgress | None = None,
    executor: Executor | None = None,
    **options: Any,
) -> Report:
    """Pool the spatial axes of the arrays in a file, and write them to another.

    Parameters
    ----------
    source
        A file, told apart by content; or a binary stream of one, or of several `.npy` arrays, one after
        another.
    target
        The output; its suffix picks the format, `{stem}`, `{parent}` and `{size}` are filled in. By default
        `NAME.pooled.EXT` beside the source, in the source's format. Or a binary stream, which takes
        `.npy` arrays.
    on_progress
        Called from this thread as the work goes on.
    executor
        Does the work span by span elsewhere, as `lucid.run.dask.Dask` on a cluster.
    @OPTIONS@

    Returns
    -------
    A `Report`: shapes, bytes, seconds.

    Raises
    ------
    LucidError
        One of `lucid.errors`; its text is one line that says what is wrong. No output is left.

    """
    checked = options_of(options)
    SOURCE.check("source", source)
    TARGET.check("target", target, takes_none=True)
    PROGRESS.check("on_progress", on_progress, takes_none=True)
    EXECUTOR.check("executor", executor, takes_none=True)
    outputs: Naming | tuple[Target, ...]
    if isinstance(target, str | os.PathLike | None):
        outputs = Naming.of(target)
    else:
        outputs = (Target.of_stream(checked, target),)
    with about(os.fspath(source) if isinstance(source, str | os.PathLike) else "stream"):
        return Job(source, outputs, checked, executor).run(on_progress)


@dataclass
class Job:
    """One input on its way to its outputs, by options that are checked; errors do not name the input."""

    source: FilePath | BinaryIO
    #: Where outputs go, or the outputs themselves: a stream, or what a batch has settled for all its inputs.
    outputs: Naming | tuple[Target, ...]
    options: Options
    executor: Executor | None = None
    #: Whether it was found in a folder, in which outputs of earlier runs are passed over.
    is_from_folder: bool = False
    #: Collects finished outputs, which the caller puts in place together; without it, they are put in place here.
    group: list[Replacement] | None = None
    #: Calls a function in a process of its own, for what a stream brings that native code may crash on.
    in_process: Callable[..., Report] | None = None
    watch: Watch = field(init=False)

    def run(self, on_progress: OnProgress | None = None) -> Report:
        """Do the work, or look whether it could be done."""
        options, source, executor = self.options, self.source, self.executor
        options.require_size()
        path = Path(source) if isinstance(source, str | os.PathLike) else STREAM
        if is_pipe(path):
            with translate_errors("cannot be opened"):  # as a socket cannot, though it has a name
                pipe = path.open("rb")
            with pipe:
                return replace(replace(self, source=pipe).run(on_progress), source=path)
        if path == STREAM and self.outputs == Naming(None, None):
            raise ArgumentError("`target` is missing; the output of a stream needs a name, or is a stream")
        to_stream = not isinstance(self.outputs, Naming) and any(one.is_stream for one in self.outputs)
        if path == STREAM or to_stream:
            for name, value in (("resume", options.resume), ("slice", options.slice), ("executor", executor)):
                if value:
                    raise ArgumentError(f"`{name}` needs files; a stream cannot be read or written again")
        self.watch = Watch(source=path, on_progress=on_progress)
        # Errors of system calls that seldom fail have no words of their own: a lock, a look at a folder.
        with translate_errors("cannot be read or written"):
            if isinstance(source, str | os.PathLike):
                self._pool_file(path)
            elif report := self._pool_stream(Stream(source)):
                return report
        threads = (executor and executor.threads) or options.workers
        return self.watch.report(options, threads=threads)

    def _pool_file(self, path: Path, spool: Spool | None = None, *, name: str = "") -> None:
        """Pool a file that can be read anywhere; a spool has a name only until it is open."""
        format_ = format_of_content(path)
        targets = self._targets(format_)
        with format_.open(path, self.options) as source:
            if spool is not None:
                spool.forget()
            if self.is_from_folder:
                leave_out_earlier(source)
            self._follow(job_plan.plan(source, self.options, targets), source, format_, name=name)

    def _pool_stream(self, stream: Stream) -> Report | None:
        """Pool what a stream brings: a file that needs seeking, or `.npy` arrays to its end.

        What is pooled in another process comes with its report.
        """
        start = stream.peek(MAGIC_BYTES)
        if not start:
            raise FormatError(f"is empty; {EXPECTED}")
        if format_of_start(start) not in (NPY, None):
            with Spool(has_name=True) as spool:
                stream.copy_to(spool.file, None)
                if self.in_process is not None and format_of_content(spool.path).is_native:
                    spooled = replace(self, source=spool.path, in_process=None)
                    return self.in_process(spooled.run, on_progress=self.watch.on_progress)
                self._pool_file(spool.path, spool)
            return None
        index, targets = 0, self._targets(NPY)
        while stream.peek(1) and not (index and self.options.dry_run):
            source = NpyStreamSource(stream, index, self.options, is_only=not targets[0].is_stream)
            plan = job_plan.plan(source, self.options, targets)
            # It is pooled as it comes, or from a spool if that cannot be.
            if self.options.dry_run or plan.is_sequential:
                self._follow(plan, source, NPY)
            else:
                with Spool(has_name=True) as spool:
                    source.spool(spool)
                    spool.file.flush()
                    source.check_unchanged()
                    self._pool_file(spool.path, spool, name=source.name)
            index += 1
        return None

    def _targets(self, format_: Format) -> tuple[Target, ...]:
        """The outputs, each of them free to be written; a dry run only says which are not."""
        if isinstance(self.outputs, Naming):
            targets = self.outputs.targets(self.watch.source, format_, self.options)
            settle(targets, [self._opened_path()], self.options, self.watch)
            return targets
        self.watch.targets = tuple(target.path for target in self.outputs)
        return self.outputs

    def _opened_path(self) -> Path:
        """What is read: for a stream, the file that it may be of."""
        if not isinstance(self.source, str | os.PathLike):
            with suppress(AttributeError, OSError):  # it is of none
                return Path(f"/dev/fd/{self.source.fileno()}")
        return self.watch.source

    def _follow(self, plan: JobPlan, source: Source, format_: Format, *, name: str = "") -> None:
        """Follow a plan, as far as there is something to do, or only look whether it could be carried out.

        `name` is that of an array of a stream, which a spool lacks.
        """
        options, watch = self.options, self.watch
        watch.notes += [*source.notes, *notes_on(plan, format_)]
        missing = plan.targets
        if options.resume and not options.overwrite:
            missing = self._missing(plan)
            watch.skipped = not missing
        if missing:
            rows = (replace(row, name=name or row.name) for row in plan.reports())
            watch.datasets = chain(watch.datasets, rows)
        if options.dry_run:
            rehearse(plan, source, watch)
            if missing and (options.resume or self.executor is not None):
                rehearse_shards(plan, source, format_, watch)
        elif options.resume or self.executor is not None:
            self._go_on(plan, missing, source, format_)
        else:
            carry_out(plan, source, watch, self.group)
            if self.group is None:
                remove_shards(plan.targets[0])

    def _missing(self, plan: JobPlan) -> tuple[Target, ...]:
        """The outputs that are not there yet; that one is a stranger's is an error, or a note of a dry run."""
        try:
            return missing_targets(plan)
        except FormatError as error:
            conflict = ExistsError(f"output {error}: it is not this run's; `overwrite=True` replaces it")
            if not self.options.dry_run:
                raise conflict from error
            self.watch.notes.append(failure_note(conflict))
            return plan.targets

    def _go_on(self, plan: JobPlan, missing: tuple[Target, ...], source: Source, format_: Format) -> None:
        """Make the outputs that are missing, from shards if there are several: these outlive an interrupted run."""
        if not missing:
            remove_shards(plan.targets[0])
            return
        spans = spans_of(plan)
        if len(spans) > 1 or self.executor is not None:
            pool_by_shards(plan, spans, missing, source, format_, self.executor, self.watch)
            return
        if is_indivisible(plan, spans):
            note = "is one plane or chunk, which cannot be divided: an interrupted run keeps nothing"
            self.watch.notes.append(note)
        carry_out(plan.only(missing), source, self.watch, self.group)
