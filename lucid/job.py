"""`pool_file`: one input, a file or a stream, to its outputs."""

import inspect
import io
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, Protocol

from lucid.errors import ArgumentError, ExistsError, FileError, FormatError, LucidError, SizeTypeError, named
from lucid.execution import Watch, carry_out, report_of
from lucid.formats.contract import Source
from lucid.formats.disk.replacement import remove_stale
from lucid.formats.disk.spool import NamedSpool
from lucid.formats.registry import MAGIC_BYTES, NPY, Format, format_of_content, format_of_start
from lucid.formats.stream import STREAM, NpyStreamSource, Stream
from lucid.inputs import EARLIER, LeftOutError, is_pipe
from lucid.job_plan import JobPlan, plan
from lucid.mistakes import lost_scales, probable_mistakes
from lucid.options import Options, documentation, keywords
from lucid.outputs import FilePath, Target, check_path, targets_of
from lucid.report import DatasetReport, OnProgress, Report
from lucid.run.blocking import share_blocks
from lucid.run.executor import Executor, Here
from lucid.shards.folder import ShardFolder, pool_by_shards
from lucid.shards.spans import is_indivisible, spans_of
from lucid.shards.stored import is_there, stored

P = ParamSpec("P")


class PoolFile(Protocol[P]):
    """The signature of `pool_file`: its keywords are the fields of `Options`."""

    def __call__(
        self,
        source: FilePath | BinaryIO,
        target: FilePath | BinaryIO | None = None,
        on_progress: OnProgress | None = None,
        executor: Executor | None = None,
        *args: P.args,
        **options: P.kwargs,
    ) -> Report: ...


def takes_options(options: Callable[P, Options]) -> Callable[[Callable[..., Report]], PoolFile[P]]:
    """Give a function the keywords of `Options`, in its signature and its docstring."""

    def with_keywords(function: Callable[..., Report]) -> PoolFile[P]:
        *own, _ = inspect.signature(function).parameters.values()
        every = (*own, *inspect.signature(options).parameters.values())
        # Without their types, which the docstring tells in words, `help` shows the keywords on a few lines.
        readable = [one.replace(annotation=one.empty) for one in every]
        function.__signature__ = inspect.Signature(readable, return_annotation=Report)  # type: ignore[attr-defined]
        function.__doc__ = str(function.__doc__).replace("    @OPTIONS@", documentation())
        return function

    return with_keywords


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
    _check_arguments(source, target, on_progress, executor)
    with named(os.fspath(source) if isinstance(source, str | os.PathLike) else "stream"):
        return pool(source, target, checked, on_progress=on_progress, executor=executor)


def options_of(values: Mapping[str, Any]) -> Options:
    """Options of keywords; one that there is not is a lucid error, too."""
    known = keywords()
    for name in values:
        if name not in known:
            from difflib import get_close_matches  # seldom needed, and slow to load

            close = get_close_matches(name, known, 1)
            raise SizeTypeError(f"`{name}` is no option" + (f"; did you mean `{close[0]}`?" if close else ""))
    return Options(**values)


def _check_arguments(source: object, target: object, on_progress: object, executor: object) -> None:
    """Raise for arguments of other types than `pool_file` takes."""
    is_path = isinstance(source, str | os.PathLike)
    expected = (
        ("source", source, "a path or a binary stream", is_path or hasattr(source, "read")),
        (
            "target",
            target,
            "a path or a binary stream",
            isinstance(target, str | os.PathLike | None) or hasattr(target, "write"),
        ),
        ("executor", executor, "an object with `run`", executor is None or hasattr(executor, "run")),
    )
    for name, value, wanted, is_right in expected:
        if not is_right or isinstance(value, io.TextIOBase):
            raise SizeTypeError(f"`{name}` is {value!r:.80}; expected {wanted}")
    for path in (source, target):
        if isinstance(path, str | os.PathLike):
            check_path(path)
    check_progress(on_progress)


def check_progress(on_progress: object) -> None:
    """Raise unless it is a function, or nothing."""
    if on_progress is not None and not callable(on_progress):
        raise SizeTypeError(f"`on_progress` is {on_progress!r:.80}; expected a function")


def pool(
    source: FilePath | BinaryIO | Stream,
    target: FilePath | BinaryIO | tuple[Target, ...] | None,
    options: Options,
    *,
    on_progress: OnProgress | None = None,
    executor: Executor | None = None,
    is_found: bool = False,
    later: list[Any] | None = None,
) -> Report:
    """The same with options that are checked already; errors do not name the source.

    Outputs that are settled are given as `target`: the caller has seen to their folders, that they are there,
    and that nothing is in them which killed runs left. A batch does so once for all its inputs. `is_found` says that
    the source was found in a folder, where what this software made is passed over. What is finished is put in
    place, or handed on to be put in place with others, `later`.
    """
    begun = time.perf_counter()
    if not options.sizes:
        raise ArgumentError("`size` is missing; expected the output grid")
    if isinstance(source, str | os.PathLike) and is_pipe(source):
        with open(source, "rb") as pipe:
            report = pool(pipe, target, options, on_progress=on_progress, executor=executor)
        return replace(report, source=Path(source))
    if isinstance(source, str | os.PathLike):
        job = _Job(Path(source), target, options, executor, Watch(Path(source), on_progress), later)
    else:
        job = _Job(STREAM, target, options, executor, Watch(STREAM, on_progress))
    if job.path == STREAM and target is None:
        raise ArgumentError("`target` is missing; the output of a stream needs a name, or is a stream")
    is_file = job.path != STREAM and isinstance(target, str | os.PathLike | tuple | None)
    if not is_file and (options.resume or options.slice is not None or executor is not None):
        name = "resume" if options.resume else "slice" if options.slice is not None else "executor"
        raise ArgumentError(f"`{name}` needs files; a stream cannot be read or written again")
    try:
        if isinstance(source, str | os.PathLike):
            job.pool_file(is_found=is_found)
        else:
            job.pool_stream(source if isinstance(source, Stream) else Stream(source))
    except (LucidError, BrokenPipeError):
        raise
    except OSError as error:  # from a system call that seldom fails: a lock, a look at a folder
        raise FileError(f"cannot be read or written: {error.strerror or error}") from error
    threads = (executor and executor.threads) or options.workers
    return report_of(
        job.watch, options, job.targets, job.reports, begun, threads=threads, skipped=job.is_skipped
    )


class _Job:
    """One input on its way to its outputs."""

    def __init__(
        self,
        path: Path,
        output: FilePath | BinaryIO | tuple[Target, ...] | None,
        options: Options,
        executor: Executor | None,
        watch: Watch,
        later: list[Any] | None = None,
    ) -> None:
        self._later = later
        self.path, self._output, self._options = path, output, options
        self._executor, self.watch = executor, watch
        self.targets: tuple[Target, ...] = ()
        self.reports: list[DatasetReport] = []
        self.is_skipped = False

    def pool_file(self, *, is_found: bool) -> None:
        """Pool a file that can be read anywhere."""
        options = self._options
        format_ = format_of_content(self.path)
        targets = self._settle(format_)
        with format_.open(self.path, options) as source:
            if is_found and any(text for _, text in source.provenances()):
                raise LeftOutError(EARLIER)
            job = plan(source, options, targets)
            self.watch.notes += [*source.notes, *probable_mistakes(job)]
            for target in targets:
                if target.format != format_:  # equal, but not the same in a process of its own
                    self.watch.notes += lost_scales(job, f"from {format_.name} to {target.format.name}")
            if options.dry_run:
                self._refuse(job, source)
            missing = _missing(job) if options.resume and not options.overwrite else targets
            self.is_skipped = not missing
            if not options.dry_run:
                self._carry_out(job, missing, format_, source)
            if missing:
                self.reports += job.reports()

    def _refuse(self, job: JobPlan, source: Source) -> None:
        """Raise for what the run would raise for before it reads anything."""
        for target in job.targets:
            with target.create(job.options) as sink:
                sink.refuse(source, [array.pooled for array in job.of(target)])
                self.watch.note(sink)

    def _carry_out(self, job: JobPlan, missing: tuple[Target, ...], format_: Format, source: Source) -> None:
        if not missing:
            _remove_shards(job.targets[0])
            return
        spans = spans_of(job) if job.options.resume or self._executor else []
        self.watch.total_bytes = job.input_bytes
        if len(spans) > 1 or self._executor is not None:
            executor = self._executor or Here()
            pool_by_shards(job, spans, format_, source, executor, self.watch, missing)
            return
        if is_indivisible(job, spans):
            self.watch.notes.append(
                "is one plane or chunk, which cannot be divided: an interrupted run keeps nothing"
            )
        self._pool(job.only(missing), source)

    def _pool(self, job: JobPlan, source: Source, before_commit: Callable[[], None] | None = None) -> None:
        self.watch.total_bytes, self.watch.done_bytes = job.input_bytes, 0
        carry_out(job, source, self.watch, before_commit, self._later)

    def pool_stream(self, stream: Stream) -> None:
        """Pool what a stream brings: a file that needs seeking, or `.npy` arrays to its end."""
        start = stream.peek(MAGIC_BYTES)
        if start and format_of_start(start) not in (NPY, None):
            self._pool_spooled(lambda spool: stream.copy_to(spool.file, None))
            return
        if not start:
            raise FormatError("is empty; expected a .npy array or an HDF5 file")
        index = 0
        while stream.peek(1):
            self._pool_next(stream, NpyStreamSource(stream, index, self._options))
            if self._options.dry_run:
                return
            index += 1

    def _pool_next(self, stream: Stream, source: NpyStreamSource) -> None:
        """Pool one array of a stream as it comes, or from a spool if that cannot be."""
        targets = self._settle(NPY)

        def check_end() -> None:
            if targets[0].stream is None and stream.peek(1):
                raise FormatError("holds several arrays; only a stream takes them, such as standard output")

        job = plan(source, self._options, targets)
        self.watch.notes += probable_mistakes(job)
        blocks = [array.blocks for array in job.every()]
        streams = share_blocks(blocks) and all(one.is_sequential for one in blocks) and blocks[0].workers > 1
        if self._options.dry_run:
            self.reports += job.reports()
        elif streams:
            self._pool(job, source, check_end)
            self.reports += job.reports()
        else:
            self._pool_spooled(source.spool, check_end, name=source.name)

    def _pool_spooled(
        self,
        fill: Callable[[NamedSpool], None],
        before_commit: Callable[[], None] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """Pool from a temporary file; `name` is that of an array of a stream, which the file lacks."""
        spool = NamedSpool()
        try:
            fill(spool)
            spool.file.flush()
            format_ = format_of_content(spool.path)
            targets = self._settle(format_)
            with format_.open(spool.path, self._options) as source:
                spool.forget()
                job = plan(source, self._options, targets)
                self.watch.notes += source.notes
                if not self._options.dry_run:
                    self._pool(job, source, before_commit)
                self.reports += [d if name is None else replace(d, name=name) for d in job.reports()]
        finally:
            spool.close()

    def _settle(self, format_: Format) -> tuple[Target, ...]:
        """The outputs, each of them free to be written; a dry run only says which are not."""
        options = self._options
        if isinstance(self._output, tuple):
            self.targets = self._output
            return self.targets
        self.targets = targets_of(self.path, format_, self._output, options)
        for target in self.targets:
            try:
                target.refuse_input(self.path)
                target.refuse_existing(overwrite=options.overwrite or options.resume)
            except LucidError as error:
                if not options.dry_run:
                    raise
                self.watch.notes.append(f"the run would fail: {error}")
        if not options.dry_run:
            for folder in {t.path.resolve().parent for t in self.targets if t.stream is None}:
                remove_stale(folder)
        return self.targets


def _missing(job: JobPlan) -> tuple[Target, ...]:
    """The outputs that are not there, complete and this run's own.

    Raises
    ------
    ExistsError
        One is there that is not this run's.

    """
    missing = []
    for target in job.targets:
        if not is_there(target):
            missing.append(target)
            continue
        try:
            stored(target, job.of(target))
        except FormatError as error:
            raise ExistsError(
                f"output {error}: it is not this run's; `overwrite=True` replaces it"
            ) from error
    return tuple(missing)


def _remove_shards(target: Target) -> None:
    """Remove what a run left that was interrupted when its outputs were in place."""
    with suppress(OSError):
        if ShardFolder.path_of(target).is_dir():
            with ShardFolder(target) as folder:
                folder.remove()
