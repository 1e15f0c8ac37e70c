"""Where inputs are pooled: native code in a process of its own, the rest here, or all on a cluster."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lucid.errors import LucidError
from lucid.formats.disk.spool import NamedSpool
from lucid.formats.registry import MAGIC_BYTES, format_of_content, format_of_start
from lucid.formats.stream import STREAM, Stream
from lucid.job import pool
from lucid.options import Options
from lucid.outputs import FilePath, Target
from lucid.report import OnProgress, Report
from lucid.run.executor import Executor
from lucid.shards.folder import ShardFolder
from lucid.tasks import Task, clear


@dataclass
class Places:
    """Where inputs are pooled: native code in a process of its own, the rest here, or all on a cluster."""

    process: Any = None
    executor: Executor | None = None
    #: Whether the cluster is one of processes with a thread each, made here.
    is_local: bool = False
    #: Why the cluster cannot be reached.
    error: LucidError | None = None

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

    def _started(self) -> Any:
        if self.process is None:
            from lucid.run.process import Process  # seldom needed, and slow to load

            self.process = Process()
        return self.process


def pool_to(source: str, targets: FilePath | tuple[Target, ...], options: Options, **keywords: Any) -> Report:
    """Pool a file to its outputs; without any, to standard output of the process that does it."""
    return pool(source, targets or sys.stdout.buffer, options, **keywords)


@contextmanager
def places_for(tasks: Sequence[Task], options: Options, cluster: str | None) -> Iterator[Places]:
    """The process for native code, and the cluster at an address, if they are needed."""
    places = Places()
    with ExitStack() as stack:
        if any(task.is_native for task in tasks):
            places._started().start()  # now, while there are no other threads
        stack.callback(_end, places, tasks)
        if cluster is not None and tasks and not options.dry_run:
            from lucid.run import dask

            places.is_local = cluster == dask.LOCAL
            workers = options.threads if places.is_local else None
            try:
                places.executor = stack.enter_context(dask.connect(cluster, workers=workers))
            except LucidError as error:
                places.error = error
        yield places


def _end(places: Places, tasks: Sequence[Task]) -> None:
    """End the process; what it leaves beside outputs in a crash is removed."""
    if places.process is not None:
        places.process.stop()
        if places.process.has_crashed:
            clear(tasks)
