"""Where inputs are pooled: native code in a process of its own, the rest here, or all on a cluster."""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain, groupby, islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

from lucid.batches import Batch, clear
from lucid.errors import LucidError, MemoryLimitError, unexpected
from lucid.formats.disk.replacement import Replacement, put_in_place
from lucid.formats.disk.spool import NamedSpool
from lucid.formats.registry import MAGIC_BYTES, format_of_content, format_of_start
from lucid.formats.stream import STREAM, Stream
from lucid.job import pool
from lucid.options import Options
from lucid.outputs import FilePath, Target
from lucid.report import OnProgress, Report
from lucid.run import Executor
from lucid.shards.folder import ShardFolder
from lucid.tasks import Task
from lucid.threads import in_order

#: Most small files that are pooled before their outputs are put in place together.
GROUP = 64
#: As many small files are worth processes of their own.
MANY = 16

#: What became of an input.
Outcome: TypeAlias = Report | BaseException


class Places:
    """Where inputs are pooled: native code in a process of its own, the rest here, or all on a cluster.

    Of many small files several are pooled at a time, in processes, since most of the work on them is Python's.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.executor: Executor | None = None
        #: Whether the cluster is one of processes with a thread each, made here.
        self.is_local = False
        #: Why the cluster cannot be reached.
        self.error: LucidError | None = None
        self.processes: list[Any] = []
        #: Whether these are for small files.
        self.in_groups = False

    def pool_all(
        self, batch: Batch, progress_of: Callable[[Task], OnProgress | None]
    ) -> Generator[tuple[Task, Outcome], None, None]:
        """What becomes of every input, in order."""
        for is_small, tasks in groupby(batch, lambda task: self.in_groups and task.is_small):
            if not is_small:
                for task in tasks:
                    yield task, outcome_of(self.pool, task, self.options, progress_of(task))
                continue
            for task, outcome in self._pool_small(tasks):
                progress_of(task)
                if isinstance(outcome, MemoryLimitError):  # several at a time have less each
                    outcome = outcome_of(self.pool, task, self.options, None)
                yield task, outcome

    def _pool_small(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Pool small files, a group in each process."""
        count = len(self.processes)
        idle: SimpleQueue[Any] = SimpleQueue()
        for process in self.processes:
            idle.put(process)
        options = replace(self.options, threads=1, max_memory=max(1, self.options.max_memory // count))

        def pool_group(group: tuple[Task, ...]) -> Iterable[tuple[Task, Outcome]]:
            process = idle.get()
            try:
                return zip(group, process.call(pool_together, group, options, options=options), strict=True)
            except LucidError as error:  # the process crashed or hung, for one of them
                if len(group) == 1:
                    return [(group[0], error)]
            finally:
                idle.put(process)
            return [one for task in group for one in pool_group((task,))]

        groups = iter(lambda: tuple(islice(tasks, GROUP)), ())
        for outcomes in in_order(pool_group, groups, workers=count, in_flight=2 * count):
            for task, outcome in outcomes:
                if isinstance(outcome, Report):  # what all have together
                    outcome = replace(outcome, threads=count, max_memory=self.options.max_memory)
                yield task, outcome

    def pool(self, task: Task, options: Options, on_progress: OnProgress | None) -> Report:
        """Pool an input where it belongs."""
        if self.error is not None:
            raise self.error
        if not task.is_stream:
            return self._pool(task.source, task, options, on_progress, is_native=task.is_native)
        with nullcontext(sys.stdin.buffer) if task.source == str(STREAM) else open(task.source, "rb") as file:
            return self._pool_stream(Stream(file), task, options, on_progress)

    def read(self, function: Callable[..., Any], path: Path, *args: Any, options: Options) -> Any:
        """Call a function that looks into a file."""
        if format_of_content(path).is_native:
            return self._started().call(function, path, *args, options=options)
        return function(path, *args)

    def _pool_stream(
        self, stream: Stream, task: Task, options: Options, on_progress: OnProgress | None
    ) -> Report:
        format_ = format_of_start(stream.peek(MAGIC_BYTES))
        if format_ is None or not format_.is_native:
            # To a native format, too: what is written is our own, and a stream need not fit the disk.
            return pool(stream, task.targets or sys.stdout.buffer, options, on_progress=on_progress)
        spool = NamedSpool()
        try:
            stream.copy_to(spool.file, None)
            spool.file.flush()
            return self._pool(str(spool.path), task, options, on_progress, is_native=True)
        finally:
            spool.close()

    def _pool(
        self, source: str, task: Task, options: Options, on_progress: OnProgress | None, *, is_native: bool
    ) -> Report:
        keywords: dict[str, Any] = {"executor": self.executor, "is_found": task.is_found}
        options = replace(options, threads=None) if self.is_local else options
        try:
            if is_native:
                return self._started().call(  # type: ignore[no-any-return]
                    pool_to,
                    source,
                    task.targets,
                    options,
                    options=options,
                    on_progress=on_progress,
                    **keywords,
                )
            return pool_to(source, task.targets, options, on_progress=on_progress, **keywords)
        except BaseException as error:
            if any(ShardFolder.path_of(target).is_dir() for target in task.targets[:1]):
                error.add_note("shards that are done are kept, and the same command goes on with them")
            raise

    def start(self, count: int) -> None:
        """Start so many processes."""
        from lucid.run.process import Process  # seldom needed, and slow to load

        for _ in range(count):
            process = Process()
            self.processes.append(process)
            process.start()

    def _started(self) -> Any:
        if not self.processes:
            self.start(1)
        return self.processes[0]

    def stop(self, batch: Batch) -> None:
        """End the processes; what they leave beside outputs in a crash is removed."""
        for process in self.processes:
            process.stop()
        if any(process.has_crashed for process in self.processes):
            clear(batch)


def outcome_of(function: Callable[..., Report], *args: Any, **keywords: Any) -> Outcome:
    """The report of a call, or the error that is its input's alone."""
    try:
        return function(*args, **keywords)
    except BrokenPipeError:
        raise
    except Exception as error:
        return unexpected(error)


def pool_together(tasks: Sequence[Task], options: Options) -> list[Outcome]:
    """Pool small files one after the other, and put all their outputs in place together."""
    finished: list[list[Replacement]] = [[] for _ in tasks]
    try:
        outcomes = [
            outcome_of(pool, task.source, task.targets, options, is_found=task.is_found, later=later)
            for task, later in zip(tasks, finished, strict=True)
        ]
        errors = put_in_place([output for later in finished for output in later])
    finally:
        for output in chain(*finished):
            output.abort()
    return [
        next((errors[output] for output in later if output in errors), outcome)
        for outcome, later in zip(outcomes, finished, strict=True)
    ]


def pool_to(source: str, targets: FilePath | tuple[Target, ...], options: Options, **keywords: Any) -> Report:
    """Pool a file to its outputs; without any, to standard output of the process that does it."""
    return pool(source, targets or sys.stdout.buffer, options, **keywords)


@contextmanager
def places_for(batch: Batch, options: Options, cluster: str | None) -> Iterator[Places]:
    """The processes, and the cluster at an address, if they are needed."""
    places = Places(options)
    with ExitStack() as stack:
        stack.callback(places.stop, batch)
        # Processes are started now, while there are no other threads.
        places.in_groups = batch.small >= MANY and cluster is None
        if places.in_groups:
            places.start(options.workers)
        elif batch.native:
            places.start(1)
        if cluster is not None and len(batch) and not options.dry_run:
            from lucid.run import dask

            places.is_local = cluster == dask.LOCAL
            workers = options.threads if places.is_local else None
            try:
                places.executor = stack.enter_context(dask.connect(cluster, workers=workers))
            except LucidError as error:
                places.error = error
        yield places
