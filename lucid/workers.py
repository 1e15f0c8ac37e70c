"""Who pools the inputs of a batch: processes for native code and for small files, a cluster, this process all else."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lucid.batches import Batch
from lucid.errors import FileError, LucidError, MemoryLimitError, unexpected
from lucid.formats.disk.replacement import Replacement, put_in_place
from lucid.formats.stream import STREAM
from lucid.inputs import Task
from lucid.job import Job
from lucid.options import Options
from lucid.report import OnProgress, ProgressOf, Report, failure_note
from lucid.run import Executor
from lucid.shards.folder import ShardFolder
from lucid.threads import Result, in_order

if TYPE_CHECKING:
    from lucid.run.process import Process

#: Most small files that are pooled before their outputs are put in place together.
GROUP = 64
#: As many small files are worth processes of their own.
MANY = 16

#: What became of an input.
Outcome: TypeAlias = Report | BaseException
TaskOutcomes: TypeAlias = Iterator[tuple[Task, Outcome]]


@dataclass
class Workers:
    """Processes and a cluster that pool the inputs of a batch, as `workers_for` starts them."""

    options: Options
    executor: Executor | None = None
    #: Why the cluster cannot be reached.
    error: LucidError | None = None
    processes: "list[Process]" = field(default_factory=list)
    #: Those that do nothing now. Each thread that pools a group takes one.
    idle: "list[Process]" = field(default_factory=list)
    #: Whether each process is to pool small files, for which most of the work is Python's.
    in_groups: bool = False

    def start(self, count: int) -> None:
        """Start so many processes."""
        from lucid.run.process import Process  # seldom needed, and slow to load

        for _ in range(count):
            self.processes.append(Process())
            self.idle.append(self.processes[-1])
            self.processes[-1].start()

    def pool_all(self, tasks: Iterable[Task], progress_of: ProgressOf | None) -> TaskOutcomes:
        """What becomes of every input, in order."""
        for is_small, group in groupby(tasks, lambda task: self.in_groups and task.is_small):
            for task, outcome in (self._pool_small if is_small else self._pool_each)(group, progress_of):
                if isinstance(outcome, Report):
                    notes = () if task.error is None else (failure_note(task.error),)
                    outcome = replace(outcome, source=Path(task.source), notes=notes + outcome.notes)
                yield task, outcome

    def _pool_each(self, tasks: Iterable[Task], progress_of: ProgressOf | None) -> TaskOutcomes:
        """Pool one input after the other."""
        for task in tasks:
            on_progress = progress_of and progress_of(task.source, task.size_bytes)
            yield task, outcome_of(task, self.options, partial(self._pool, task, on_progress))

    def _pool_small(self, tasks: Iterator[Task], progress_of: ProgressOf | None) -> TaskOutcomes:
        """Pool small files, a group in each process."""
        count = len(self.processes)
        options = replace(self.options, threads=1, max_memory=max(1, self.options.max_memory // count))

        def pool_group(group: tuple[Task, ...]) -> Iterable[tuple[Task, Outcome]]:
            try:
                return zip(group, self._call(pool_together, group, options, limits=options), strict=True)
            except LucidError as error:  # the process crashed or hung, for one of them
                if len(group) == 1:
                    return [(group[0], error)]
            return [one for task in group for one in pool_group((task,))]

        groups = iter(lambda: tuple(islice(tasks, GROUP)), ())
        for outcomes in in_order(pool_group, groups, workers=count, in_flight=2 * count):
            for task, outcome in outcomes:
                if isinstance(outcome, MemoryLimitError):  # several at a time have less each
                    yield from self._pool_each([task], progress_of)
                    continue
                if progress_of is not None:
                    progress_of(task.source, task.size_bytes)
                if isinstance(outcome, Report):  # several processes share them
                    outcome = replace(outcome, threads=count, max_memory=self.options.max_memory)
                yield task, outcome

    def _pool(self, task: Task, on_progress: OnProgress | None) -> Report:
        """Pool an input; a file that native code reads or writes in a process of its own."""
        if self.error is not None:
            raise self.error
        job = Job(
            sys.stdin.buffer if task.source == str(STREAM) else task.source,
            task.targets,
            self.options,
            executor=self.executor,
            is_from_folder=task.is_from_folder,
            in_process=self._call if task.is_stream else None,
        )
        # A stream is read here, and only what it brings may go to a process.
        in_process = task.is_native and not task.is_stream
        try:
            return self._call(job.run, on_progress=on_progress) if in_process else job.run(on_progress)
        except BaseException as error:
            if any(ShardFolder.path_of(target).is_dir() for target in task.targets[:1]):
                error.add_note("shards that are done are kept, and the same command goes on with them")
            raise

    def _call(
        self, function: Callable[..., Result], *arguments: Any, limits: Options | None = None, **others: Any
    ) -> Result:
        """Call a function in an idle process, which is started if there is none; it may have what the options say."""
        if not self.processes:
            self.start(1)
        process = self.idle.pop()
        try:
            return process.call(function, *arguments, options=limits or self.options, **others)
        finally:
            self.idle.append(process)


@contextmanager
def workers_for(batch: Batch, options: Options, cluster: str | None) -> Iterator[Workers]:
    """The processes, and the cluster at an address, if they are needed."""
    workers = Workers(options, in_groups=batch.totals["small"] >= MANY and cluster is None)
    with ExitStack() as stack:
        try:
            # Processes are started now, while there are no other threads.
            if workers.in_groups or batch.totals["native"]:
                try:
                    workers.start(options.workers if workers.in_groups else 1)
                except FileError:  # it is tried again for inputs that need a process
                    workers.in_groups = False
            if cluster is not None and len(batch) and not options.dry_run:
                from lucid.run import dask

                if cluster == dask.LOCAL:  # its processes have a thread each
                    workers.options = replace(options, threads=None)
                try:
                    workers.executor = stack.enter_context(dask.connect(cluster, workers=options.threads))
                except LucidError as error:
                    workers.error = error
            yield workers
        finally:
            # A process holds the pipes of those before it, which would not end of themselves with it there.
            for process in reversed(workers.processes):
                process.stop()
            if any(process.has_crashed for process in workers.processes):
                batch.clear()  # what they left beside outputs


def outcome_of(task: Task, options: Options, pool: Callable[[], Report]) -> Outcome:
    """The report of a call that pools an input, or the error that is its input's alone."""
    if task.error is not None and not (options.dry_run and task.targets):
        return task.error
    try:
        return pool()
    except BrokenPipeError:
        raise
    except Exception as error:
        return task.reason(unexpected(error), options)


def pool_together(tasks: Sequence[Task], options: Options) -> list[Outcome]:
    """Pool small files one after the other, and put all their outputs in place together."""
    groups: list[list[Replacement]] = [[] for _ in tasks]
    try:
        outcomes = []
        for task, group in zip(tasks, groups, strict=True):
            job = Job(task.source, task.targets, options, is_from_folder=task.is_from_folder, group=group)
            outcomes.append(outcome_of(task, options, job.run))
        errors = put_in_place([*chain(*groups)])
    finally:
        for output in chain(*groups):
            output.abort()
    return [
        next((errors[output] for output in group if output in errors), outcome)
        for outcome, group in zip(outcomes, groups, strict=True)
    ]
