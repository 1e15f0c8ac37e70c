"""What is kept of an interrupted run: shards in a folder beside its output, and how they come to be."""

import errno
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from lucid.errors import ArgumentError, FileError, FormatError
from lucid.execution import Watch, carry_out
from lucid.formats.contract import Resource, Source
from lucid.formats.disk.replacement import beginning_of, remove_stale
from lucid.formats.registry import Format, resolved, url_of
from lucid.job_plan import JobPlan, choose, facts_of
from lucid.options import Options
from lucid.outputs import Target, suffix_of
from lucid.report import OnProgress, peak_memory_bytes
from lucid.run.blocks import Seconds
from lucid.run.executor import Executor
from lucid.shards.join import Opened, collect, join
from lucid.shards.spans import Span
from lucid.shards.stored import is_done


class Done(NamedTuple):
    """What it took to make a shard."""

    input_bytes: int
    seconds: Seconds
    peak_memory_bytes: int


@dataclass
class ShardMaker:
    """Makes the shard of a span; where it was sent to another process, from the source opened there."""

    path: Path
    format: Format
    options: Options
    #: The outputs under the names that they have in the folder, without the span's number.
    targets: tuple[Target, ...]
    facts: dict[str, Any]
    #: In this process: the plan of the whole, its source, and who hears of progress.
    job: JobPlan | None = None
    source: Source | None = None
    on_progress: OnProgress | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"job": None, "source": None, "on_progress": None}

    def __call__(self, span: Span) -> Done:
        """Make the shard, unless another process did meanwhile."""
        with self._opened() as (source, whole):
            job = self.within(whole, span)
            watch = Watch(self.path, self.on_progress, total_bytes=job.input_bytes)
            if not is_done(job):
                # Of several files of a shard some may be there: they are this run's.
                carry_out(replace(job, options=replace(job.options, overwrite=True)), source, watch)
            return Done(job.input_bytes, watch.seconds, peak_memory_bytes())

    def within(self, job: JobPlan, span: Span) -> JobPlan:
        """The plan of a shard."""
        targets = [replace(t, path=t.path.with_name(f"{span.number:06}{t.path.name}")) for t in self.targets]
        return job.within(span.regions, tuple(targets), self.facts)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Source, JobPlan]]:
        if self.source is not None and self.job is not None:
            yield self.source, self.job
            return
        with self.format.open(self.path, self.options) as source:
            job = choose(source, self.options, self.targets)
            if facts_of(source, job)["signature"] != self.facts["signature"]:
                raise FormatError("is another file here, or changed while it was read")
            yield source, job


class ShardFolder(Resource):
    """The hidden folder beside an output, for one run at a time."""

    def __init__(self, target: Target) -> None:
        self.path = self.path_of(target)
        self._suffix = suffix_of(target.path)
        try:
            self.path.mkdir(exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise FileError(f"folder for shards {self.path} cannot be made: {error.strerror}") from error
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
        return real.with_name(f".{beginning_of(real.name)}.shards")

    def named(self, targets: Sequence[Target]) -> tuple[Target, ...]:
        """The outputs of a shard, without the number of its span."""
        count = len(targets)
        return tuple(
            replace(t, path=self.path / f"{f'.{i}' if count > 1 else ''}{self._suffix}")
            for i, t in enumerate(targets)
        )

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
    job: JobPlan,
    spans: Sequence[Span],
    format_: Format,
    source: Source,
    executor: Executor,
    watch: Watch,
    missing_targets: Sequence[Target],
) -> None:
    """Pool what no shard holds yet, and join all shards to the outputs that are not there."""
    if any(url_of(target.path) for target in job.targets):
        raise ArgumentError("the output is a URL; shards need a file system")
    facts = facts_of(source, job)
    with ShardFolder(job.targets[0]) as folder:
        maker = ShardMaker(
            path=resolved(job.path),
            format=format_,
            options=job.options,
            targets=folder.named(job.targets),
            facts=facts,
            job=job,
            source=source,
        )
        missing = _missing(maker, job, spans, folder, watch)
        if missing and watch.on_progress is not None:
            maker.on_progress = lambda event: watch.tell(event.done_bytes)
        for done in executor.run(maker, missing, watch.tell):
            watch.add(done.input_bytes)
            watch.seconds.add(done.seconds)
            watch.peak_memory_bytes = max(watch.peak_memory_bytes, done.peak_memory_bytes)
        with watch.seconds.clock("write"), Opened() as opened:
            shards = collect(job, (maker.within(job, span) for span in spans), opened)
            join(job, missing_targets, source, shards, watch, job.options.max_memory)
        folder.remove()


def _missing(
    maker: ShardMaker, job: JobPlan, spans: Sequence[Span], folder: ShardFolder, watch: Watch
) -> list[Span]:
    """The spans whose shards are still to be made.

    Raises
    ------
    FileError
        A shard is another run's, and may not be replaced.

    """
    shards = {span.number: maker.within(job, span) for span in spans}
    try:
        done = {number for number, shard in shards.items() if is_done(shard)}
    except FormatError as error:
        if not job.options.overwrite:
            raise FileError(f"cannot be resumed: {error}; `overwrite=True` begins anew") from error
        folder.remove()
        done = set()
    watch.add(sum(shards[number].input_bytes for number in done))
    return [span for span in spans if span.number not in done]
