"""`pool_file`: one input, a file or a stream, to its outputs."""

import inspect
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, Protocol

from lucid.errors import ArgumentError, ExistsError, FileError, FormatError, LucidError, SizeTypeError, named
from lucid.execution import carry_out, rehearse
from lucid.formats.contract import Source
from lucid.formats.disk.replacement import remove_stale
from lucid.formats.disk.spool import NamedSpool
from lucid.formats.registry import EXPECTED, MAGIC_BYTES, NPY, Format, format_of_content, format_of_start
from lucid.formats.stream import STREAM, NpyStreamSource, Stream
from lucid.inputs import is_pipe, leave_out_earlier
from lucid.job_plan import JobPlan, plan
from lucid.mistakes import lost_scales, probable_mistakes
from lucid.options import Options, documentation, keywords
from lucid.outputs import FilePath, Target, check_path, targets_of
from lucid.report import OnProgress, Report, Watch
from lucid.run import Executor
from lucid.shards.folder import pool_by_shards, remove_shards
from lucid.shards.spans import is_indivisible, spans_of
from lucid.shards.stored import missing_targets

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
    for name, value, is_right in (
        ("source", source, hasattr(source, "read")),
        ("target", target, target is None or hasattr(target, "write")),
    ):
        if isinstance(value, str | os.PathLike):
            check_path(value)
        elif isinstance(value, io.TextIOBase) or not is_right:
            raise SizeTypeError(f"`{name}` is {value!r:.80}; expected a path or a binary stream")
    if executor is not None and not hasattr(executor, "run"):
        raise SizeTypeError(f"`executor` is {executor!r:.80}; expected an object with `run`")
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
    options.require_size()
    path = Path(source) if isinstance(source, str | os.PathLike) else STREAM
    if is_pipe(path):
        with open(path, "rb") as pipe:
            report = pool(pipe, target, options, on_progress=on_progress, executor=executor)
        return replace(report, source=path)
    if path == STREAM and target is None:
        raise ArgumentError("`target` is missing; the output of a stream needs a name, or is a stream")
    if path == STREAM or not isinstance(target, str | os.PathLike | tuple | None):
        for name, value in (("resume", options.resume), ("slice", options.slice), ("executor", executor)):
            if value:
                raise ArgumentError(f"`{name}` needs files; a stream cannot be read or written again")
    watch = Watch(path, on_progress)
    job = _Job(path, target, options, watch, executor=executor, is_found=is_found, later=later)
    try:
        if isinstance(source, str | os.PathLike):
            job.pool_file(path)
        else:
            job.pool_stream(source if isinstance(source, Stream) else Stream(source))
    except (LucidError, BrokenPipeError):
        raise
    except OSError as error:  # from a system call that seldom fails: a lock, a look at a folder
        raise FileError(f"cannot be read or written: {error.strerror or error}") from error
    return watch.report(options, threads=(executor and executor.threads) or options.workers)


@dataclass
class _Job:
    """One input on its way to its outputs."""

    path: Path
    output: FilePath | BinaryIO | tuple[Target, ...] | None
    options: Options
    watch: Watch
    executor: Executor | None
    is_found: bool
    later: list[Any] | None

    def pool_file(
        self,
        path: Path,
        *,
        name: str = "",
        on_open: Callable[[], None] = lambda: None,
        before_commit: Callable[[], None] = lambda: None,
    ) -> None:
        """Pool a file that can be read anywhere; `name` is that of an array of a stream, which a spool lacks."""
        format_ = format_of_content(path)
        targets = self._settle(format_)
        with format_.open(path, self.options) as source:
            on_open()
            if self.is_found:
                leave_out_earlier(source)
            self._pool(plan(source, self.options, targets), source, format_, before_commit, name)

    def pool_stream(self, stream: Stream) -> None:
        """Pool what a stream brings: a file that needs seeking, or `.npy` arrays to its end."""
        start = stream.peek(MAGIC_BYTES)
        if not start:
            raise FormatError(f"is empty; {EXPECTED}")
        if format_of_start(start) not in (NPY, None):
            self._pool_spooled(lambda spool: stream.copy_to(spool.file, None))
            return
        index, targets = 0, self._settle(NPY)

        def check_end() -> None:
            if targets[0].stream is None and stream.peek(1):
                raise FormatError("holds several arrays; only a stream takes them, such as standard output")

        while stream.peek(1) and not (index and self.options.dry_run):
            source = NpyStreamSource(stream, index, self.options)
            job = plan(source, self.options, targets)
            # It is pooled as it comes, or from a spool if that cannot be.
            if self.options.dry_run or [blocks.is_sequential for blocks, _ in job.passes] == [True]:
                self._pool(job, source, NPY, check_end)
            else:
                self._pool_spooled(source.spool, name=source.name, before_commit=check_end)
            index += 1

    def _pool_spooled(self, fill: Callable[[NamedSpool], None], **options: Any) -> None:
        """Pool from a temporary file."""
        with NamedSpool() as spool:
            fill(spool)
            spool.file.flush()
            self.pool_file(spool.path, on_open=spool.forget, **options)

    def _settle(self, format_: Format) -> tuple[Target, ...]:
        """The outputs, each of them free to be written; a dry run only says which are not."""
        options, targets = self.options, self.output
        if not isinstance(targets, tuple):
            targets = targets_of(self.path, format_, targets, options)
            for target in targets:
                with self.watch.refusals(dry_run=options.dry_run):
                    target.refuse_input(self.path)
                    target.refuse_existing(overwrite=options.overwrite or options.resume)
            if not options.dry_run:
                for folder in {t.path.resolve().parent for t in targets if t.stream is None}:
                    remove_stale(folder)
        self.watch.targets = tuple(target.path for target in targets)
        return targets

    def _pool(
        self,
        job: JobPlan,
        source: Source,
        format_: Format,
        before_commit: Callable[[], None],
        name: str = "",
    ) -> None:
        """Carry out a plan, as far as there is something to do, or only look whether it could be."""
        options, watch = self.options, self.watch
        watch.notes += [*source.notes, *probable_mistakes(job)]
        for target in job.targets:
            if target.format != format_:  # equal, but not the same in a process of its own
                watch.notes += lost_scales(job, f"from {format_.name} to {target.format.name}")
        if options.dry_run:
            rehearse(job, source, watch)
        try:
            missing = missing_targets(job) if options.resume and not options.overwrite else job.targets
        except FormatError as error:
            text = f"output {error}: it is not this run's; `overwrite=True` replaces it"
            raise ExistsError(text) from error
        watch.skipped = not missing
        if missing:
            watch.datasets += (replace(one, name=name) if name else one for one in job.reports())
        if options.dry_run:
            return
        if not missing:
            remove_shards(job.targets[0])
            return
        spans = spans_of(job) if options.resume or self.executor else []
        if len(spans) > 1 or self.executor is not None:
            pool_by_shards(job, spans, format_, source, self.executor, watch, missing)
            return
        if is_indivisible(job, spans):
            watch.notes.append(
                "is one plane or chunk, which cannot be divided: an interrupted run keeps nothing"
            )
        if missing != job.targets:
            job = plan(source, options, missing)
        carry_out(job, source, watch, before_commit, self.later)
