"""What is kept of an interrupted run: shards in a folder beside its output, and how they come to be."""

import errno
import fcntl
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lucid.backlog import Backlog
from lucid.errors import ArgumentError, FileError, FormatError, translate_errors
from lucid.execution import carry_out
from lucid.formats.arrays import ArraySpec
from lucid.formats.contract import Source
from lucid.formats.disk.names import short_name
from lucid.formats.disk.replacement import remove_stale
from lucid.formats.paths import real_path, url_of
from lucid.formats.registry import Format, suffix_of
from lucid.formats.resource import Resource
from lucid.job_plan import JobPlan, choose, facts_of, plan_shard
from lucid.options import Options
from lucid.outputs import Target
from lucid.report import Effort, OnProgress, Watch, failure_note, peak_memory_bytes
from lucid.run import Executor
from lucid.shards.join import collect, join
from lucid.shards.provenance import missing_targets
from lucid.shards.spans import Span, spans_of


@dataclass(frozen=True)
class ShardMaker:
    """Makes the shard of a span, here from the open source, or elsewhere from the file."""

    path: Path
    format: Format
    options: Options
    #: The outputs that are made of shards, and the folder of these.
    targets: tuple[Target, ...]
    folder: Path
    facts: dict[str, Any]

    def __call__(self, span: Span, threads: int) -> Effort:
        """Make the shard from the file, with so many threads unless the options say how many."""
        options = replace(self.options, threads=self.options.threads or threads)
        with self.format.open(self.path, options) as source:
            specs = choose(source, options)
            if source.signature(specs) != self.facts["signature"]:
                raise FormatError("is another file here, or changed while it was read")
            return self.make(replace(self, options=options).plan(specs, span), source)

    def make(self, shard: JobPlan, source: Source, on_progress: OnProgress | None = None) -> Effort:
        """Make a shard by its plan, unless another process did meanwhile; what that took."""
        watch = Watch(source=self.path, on_progress=on_progress)
        if missing_targets(shard):
            # A shard of several files may be there in part; what is there is this run's, so it may be replaced.
            carry_out(replace(shard, options=replace(shard.options, overwrite=True)), source, watch)
        return Effort(shard.input_bytes, watch.nanoseconds, watch.odd_results, peak_memory_bytes())

    def plan(self, specs: Sequence[ArraySpec], span: Span) -> JobPlan:
        """The plan of a shard."""
        return plan_shard(specs, self.options, self.targets_of(span), span.regions, self.facts)

    def targets_of(self, span: Span) -> tuple[Target, ...]:
        """The files of a shard, one for each output."""
        suffix, is_one = suffix_of(self.targets[0].path), len(self.targets) == 1
        names = [f"{span.number:06}" + ("" if is_one else f".{i}") + suffix for i in range(len(self.targets))]
        return tuple(
            replace(one, path=self.folder / name) for one, name in zip(self.targets, names, strict=True)
        )

    def missing(self, specs: Sequence[ArraySpec], spans: Iterable[Span], watch: Watch) -> Sequence[Span]:
        """The spans that have no shard yet, all others told to be done; a FormatError says which are a stranger's."""
        missing_spans, done_bytes = Backlog[Span](), 0
        for span in spans:
            # A plan takes as long as opening a file, and there may be thousands of spans.
            is_new = not any(os.path.lexists(target.path) for target in self.targets_of(span))
            if is_new or missing_targets(shard := self.plan(specs, span)):
                missing_spans.append(span)
            else:
                done_bytes += shard.input_bytes
        watch.add(Effort(done_bytes))
        return missing_spans


class ShardFolder(Resource):
    """The hidden folder beside an output, for one run at a time."""

    def __init__(self, target: Target) -> None:
        self.path = self.path_of(target)
        self._suffix = suffix_of(target.path)
        with translate_errors(f"folder for shards {self.path} cannot be made"):
            self.path.mkdir(exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(self._descriptor)
                raise FileError(f"another run is at work on this output: {self.path} is locked") from None
        remove_stale(self.path)

    @staticmethod
    def path_of(target: Target) -> Path:
        """Where it is, or would be."""
        real = Path(os.path.realpath(target.path))
        return real.with_name(f".{short_name(real.name)}.shards")

    def remove(self) -> None:
        """Remove the shards; what else is there stays, and the folder with it."""
        remove_stale(self.path)
        for path in self.path.iterdir():
            # A shard may also have been finished, and not put in its place.
            if re.fullmatch(rf"\d{{6,}}(\.\d+)?{re.escape(self._suffix)}(\.\w+\.finished)?", path.name):
                if path.is_dir() and not path.is_symlink():
                    import shutil  # seldom needed

                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let the next run in; keep no empty folder."""
        with suppress(OSError):
            self.path.rmdir()
        os.close(self._descriptor)


def pool_by_shards(
    plan: JobPlan,
    spans: Sequence[Span],
    missing: tuple[Target, ...],
    source: Source,
    format_: Format,
    executor: Executor | None,
    watch: Watch,
) -> None:
    """Pool what no shard holds yet, here or elsewhere, and join all shards to the outputs that are missing."""
    if any(url_of(target.path) for target in plan.targets):
        raise ArgumentError("the output is a URL; shards need a file system")
    watch.total_bytes, specs = plan.input_bytes, plan.specs
    with ShardFolder(plan.targets[0]) as folder:
        maker = _maker_of(plan, source, format_)
        try:
            missing_spans = maker.missing(specs, spans, watch)
        except FormatError as error:
            if not plan.options.overwrite:
                raise _cannot_resume(error) from error
            folder.remove()
            missing_spans = spans
        # Each is planned when its turn comes: there may be thousands.
        tell = watch.on_progress and (lambda event: watch.report_progress(event.done_bytes))
        local = (maker.make(maker.plan(specs, span), source, tell) for span in missing_spans)
        for effort in executor.run(maker, missing_spans, watch.report_progress) if executor else local:
            watch.add(effort)
        whole = plan.only(missing)
        join(whole, source, collect(whole, (maker.plan(specs, span) for span in spans)), watch)
        folder.remove()


def _maker_of(plan: JobPlan, source: Source, format_: Format) -> ShardMaker:
    facts, folder = facts_of(source, plan.specs, plan.options), ShardFolder.path_of(plan.targets[0])
    return ShardMaker(real_path(source.path), format_, plan.options, plan.targets, folder, facts)


def _cannot_resume(error: FormatError) -> FileError:
    return FileError(f"cannot be resumed: {error}; `overwrite=True` begins anew")


def rehearse_shards(plan: JobPlan, source: Source, format_: Format, watch: Watch) -> None:
    """Note what would keep a run from going on with the shards that are there, or how much is done; nothing is made."""
    if not ShardFolder.path_of(plan.targets[0]).is_dir():
        return
    spans, done = spans_of(plan), Watch(source=watch.source)
    try:
        missing_spans = _maker_of(plan, source, format_).missing(plan.specs, spans, done)
    except FormatError as error:
        if not plan.options.overwrite:
            watch.notes.append(failure_note(_cannot_resume(error)))
        return
    watch.notes.append(f"{len(spans) - len(missing_spans):,} of {len(spans):,} shards are done already")


def remove_shards(target: Target) -> None:
    """Remove what an interrupted run left, once the outputs are in place."""
    with suppress(OSError):
        if ShardFolder.path_of(target).is_dir():
            with ShardFolder(target) as folder:
                folder.remove()
