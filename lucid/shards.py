"""The one way to keep unfinished work: spans, each pooled into a shard, and the shards joined.

A shard is a file in the format of the output that holds the means of a span, and says so: its provenance has the
source's signature, the options, the version and the box. A shard or an output counts as done if what it says of
itself is what this run would write, and as a stranger otherwise, which nothing replaces. Shards lie in a hidden
folder beside the output, or, for `--slice`, where the user wants them; joined, they are the bytes of a single run.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lucid
from lucid.errors import ArgumentError, FileError, FormatError, LucidError
from lucid.execution import Watch, carry_out
from lucid.formats.contract import ArraySpec, Pooled, Resource, ShardArray, Source, named, size_of
from lucid.formats.disk.files import remove_stale
from lucid.formats.registry import Format, format_of_content, resolved, url_of
from lucid.job_plan import ArrayPlan, JobPlan, choose, facts_of, plan
from lucid.options import DEFAULT_MAX_MEMORY, Options, declared
from lucid.outputs import FilePath, Target, is_same_file, suffix_of, targets_of
from lucid.report import DatasetReport, OnProgress, Report, peak_memory_bytes
from lucid.run.executor import Executor
from lucid.spans import Span
from lucid.streaming.engine import Seconds

#: Buffer through which means are copied that cannot be moved.
COPY_BYTES = 8 << 20


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
        return real.with_name(f".{real.name[:200]}.shards")

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
            if re.fullmatch(rf"\d{{6,}}(\.\d+)?{re.escape(self._suffix)}", path.name):
                if path.is_dir() and not path.is_symlink():
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
            path=Path(os.path.abspath(job.path)) if url_of(job.path) is None else job.path,
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
            watch.seconds.read += done.seconds.read
            watch.seconds.pool += done.seconds.pool
            watch.seconds.write += done.seconds.write
            watch.peak_memory_bytes = max(watch.peak_memory_bytes, done.peak_memory_bytes)
        with watch.seconds.clock("write"), Opened() as opened:
            shards = _shards_of(maker, job, spans, opened)
            watch.notes += _join(job, missing_targets, source, shards, job.options.max_memory)
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
            raise FileError(f"cannot be resumed: {error}; -f (overwrite=True) begins anew") from error
        folder.remove()
        done = set()
    watch.add(sum(shards[number].input_bytes for number in done))
    return [span for span in spans if span.number not in done]


def _shards_of(
    maker: ShardMaker, job: JobPlan, spans: Sequence[Span], opened: "Opened"
) -> dict["Key", list[ShardArray]]:
    """Where the means of every array are."""
    numbers = {(array.pooled.source.name, i): array for sizes in job.arrays for i, array in enumerate(sizes)}
    shards: dict[Key, list[ShardArray]] = {Key(*key): [] for key in numbers}
    for span in spans:
        shard = maker.within(job, span)
        specs = {
            id(array): spec for target in shard.targets for array, spec in stored(target, shard.of(target))
        }
        for sizes in shard.arrays:
            for i, array in enumerate(sizes):
                key = Key(array.pooled.source.name, i)
                offset = _placed(numbers[key], array.blocks.spec.offset)
                path = array.target.path
                shards[key].append(ShardArray(specs[id(array)], offset, path, partial(opened.get, path)))
    return shards


def _placed(whole: ArrayPlan, offset: Sequence[int]) -> tuple[int, ...]:
    """Where the first cell of a box is in the output, as it is stored."""
    shape = whole.pooled.shape
    relative = [a - b for a, b in zip(offset, chain(whole.blocks.spec.offset, repeat(0)), strict=False)]
    if whole.pooled.flat:
        inner = sum(n * size_of(shape[axis + 1 :]) for axis, n in enumerate(relative) if axis)
        return relative[0], inner
    return (*relative, *[0] * (len(shape) - len(relative)))


def _join(
    job: JobPlan,
    targets: Sequence[Target],
    source: Source,
    shards: dict["Key", list[ShardArray]],
    max_memory: int,
) -> list[str]:
    """Make the outputs of a single run, with means that lie in shards; what their sinks have to say."""
    notes: list[str] = []
    buffer = np.empty(min(COPY_BYTES, max_memory), np.uint8)
    keys = {
        id(array): Key(array.pooled.source.name, i) for sizes in job.arrays for i, array in enumerate(sizes)
    }
    for target in targets:
        with target.create(job.options, joins=True) as sink:
            arrays = job.of(target)
            sink.begin(source, [array.pooled for array in arrays])
            notes += sink.notes
            for array in arrays:
                sink.join(array.pooled, shards[keys[id(array)]] if array.pooled.nbytes else (), buffer)
            source.check_unchanged()
            sink.commit()
    return notes


class Opened(Resource):
    """Shards to read from, one of them open at a time."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._source: Source | None = None

    def get(self, path: Path) -> Source:
        """The shard of that path."""
        if path != self._path or self._source is None:
            self.close()
            self._source, self._path = format_of_content(path).open(path, _AS_STORED), path
        return self._source

    def close(self) -> None:
        """Close the one that is open."""
        if self._source is not None:
            self._source.close()
            self._source = None


#: How outputs are read back: two-byte elements without a type are bfloat16 in them.
_AS_STORED = Options(input_dtype="bfloat16")


def is_there(target: Target) -> bool:
    """Whether there is anything under the name of an output."""
    return os.path.lexists(target.path)


def is_done(job: JobPlan) -> bool:
    """Whether all outputs of a plan are there, complete and its own.

    Raises
    ------
    FormatError
        One is there that is not.

    """
    return all([is_there(target) and bool(stored(target, job.of(target))) for target in job.targets])


def stored(target: Target, arrays: Sequence[ArrayPlan]) -> list[tuple[ArrayPlan, ArraySpec]]:
    """The arrays of an output as they are stored, if it is the one that these plans make.

    Raises
    ------
    FormatError
        It is not; the text says in what.

    """
    try:
        with format_of_content(target.path).open(target.path, _AS_STORED) as source:
            found = {spec.name: (spec, text) for spec, text in source.provenances()}
    except LucidError as error:
        raise FormatError(f"{target.path} {error}") from error
    pairs = []
    for array in arrays:
        pooled = array.pooled
        spec, text = found.get(pooled.name) or found.get("") or (None, "")
        if spec is None:
            others = next((text for _, text in found.values() if text), "")
            different = _differences(others, pooled) if others else []
            raise FormatError(
                f"{target.path} " + (_of_other(different) if different else f"has no {pooled.name}")
            )
        # Of a whole output in a format without attributes, shape and type are all there is to compare.
        if text != pooled.provenance and (text or pooled.is_shard):
            raise FormatError(f"{target.path} {_of_other(_differences(text, pooled))}")
        kind, wanted = f"{spec.numbers} {spec.shape}", f"{pooled.numbers} {pooled.stored_shape}"
        if kind != wanted:
            raise FormatError(f"{target.path} has {kind}; expected {wanted}")
        pairs.append((array, spec))
    return pairs


def _of_other(different: list[str]) -> str:
    return f"is of other {' and '.join(different or ['origin'])}"


def _differences(text: str, pooled: Pooled) -> list[str]:
    """What a provenance differs in from the one of this run, as a person has it."""
    old, new = _facts(text), _facts(pooled.provenance)
    if not old:
        return ["origin"]
    names = {name: f"`{name}`" for name in declared()} | {
        "sizes": "`size`",
        "output_size": "`size`",
        "signature": "input",
        "source": "input",
        "source_shape": "input",
        "source_dtype": "input",
        "dataset": "",
        "size": "",
    }
    return list(dict.fromkeys(n for key in new if old.get(key) != new[key] and (n := names.get(key, key))))


def _facts(text: str) -> dict[str, Any]:
    """All that a provenance says, on one level; empty if it says nothing."""
    try:
        provenance = json.loads(text)
        shard = provenance.pop("shard", {})
        options = shard.pop("options", {})
        return dict(provenance | shard | options)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


class Key(NamedTuple):
    """What means are of: the dataset of the source, and the number of the size."""

    dataset: str
    size: int


@dataclass(frozen=True)
class Shard:
    """A file that says it is a shard: what all shards of a run share, and its arrays with their boxes."""

    path: Path
    version: str
    source: Path
    signature: str
    options: dict[str, Any]
    arrays: dict[Key, tuple[ArraySpec, list[list[int]]]] = field(default_factory=dict)


def merge_files(
    shards: Sequence[FilePath],
    target: FilePath | None = None,
    *,
    max_memory: int = DEFAULT_MAX_MEMORY,
    threads: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
) -> Report:
    """Join shards, as `pool_file` makes them with `slice`, to what it makes of the whole file.

    Parameters
    ----------
    shards
        All of them, in any order. Their source must be where it was: what is carried over is read from it.
    target
        The output, as in `pool_file`.
    max_memory
        Bytes that the buffers may take.
    threads
        Threads that compress chunks that cannot be moved as they are.
    overwrite
        Replace existing targets.
    dry_run
        Check the shards, write nothing.
    on_progress
        Called from this thread as the work goes on.

    Returns
    -------
    A `Report` on the outputs.

    Raises
    ------
    LucidError
        Shards are missing, overlap, or are not of one source, size and version. No output is left.

    """
    begun = time.perf_counter()
    if not shards:
        raise ArgumentError("`shards` is empty; expected files")
    every = [read_shard(Path(path)) for path in shards]
    first = every[0]
    _check_alike(every)
    try:
        options = Options.of_result(
            first.options, max_memory=sys.maxsize, threads=threads, overwrite=overwrite, dry_run=dry_run
        )
    except (ArgumentError, TypeError) as error:
        raise FormatError(f"shard {first.path}: has options that make no sense") from error
    with named(f"source {first.source}"):
        format_ = format_of_content(first.source)
    targets = targets_of(first.source, format_, target, options)
    for folder in {one.path.resolve().parent for one in targets}:
        remove_stale(folder)
    for one in targets:
        one.refuse_input(first.source)
        if any(is_same_file(one.path, shard.path) for shard in every):
            raise FileError(f"output {one.path} is one of the shards")
        one.refuse_existing(overwrite=overwrite)
    watch = Watch(first.source, on_progress)
    with named(f"source {first.source}"):
        source = format_.open(first.source, options)
    with source, Opened() as opened:
        with named(f"source {first.source}"):
            job = plan(source, options, targets)
            signature = facts_of(source, job)["signature"]
        if signature != first.signature:
            raise FormatError(f"source {first.source} changed since the shards were made")
        watch.total_bytes = sum(array.pooled.nbytes for array in job.every())
        found = {
            Key(array.pooled.source.name, i): _shards_for(array, i, every, opened, watch)
            for sizes in job.arrays
            for i, array in enumerate(sizes)
        }
        if not dry_run:
            with watch.seconds.clock("write"):
                watch.notes += _join(job, targets, source, found, max_memory)
    return Report(
        source=first.source,
        targets=tuple(one.path for one in targets),
        datasets=tuple(_report_of(array) for array in job.every()),
        read_seconds=0.0,
        pool_seconds=0.0,
        write_seconds=watch.seconds.write,
        total_seconds=time.perf_counter() - begun,
        threads=options.workers,
        max_memory=max_memory,
        peak_memory_bytes=peak_memory_bytes(),
        dry_run=dry_run,
        notes=tuple(dict.fromkeys(watch.notes)),
    )


def read_shard(path: Path) -> Shard:
    """What a file says that it is a shard of.

    Raises
    ------
    LucidError
        It cannot be read, or is no shard.

    """
    with named(f"shard {path}"):
        with format_of_content(path).open(path, _AS_STORED) as source:
            said = [(spec, _shard_facts(text)) for spec, text in source.provenances()]
        found = [(spec, facts) for spec, facts in said if facts]
        if not found:
            raise FormatError("is no shard; --slice makes them")
        heads = [
            {name: facts[name] for name in ("version", "source", "signature", "options")}
            for _, facts in found
        ]
        if any(head != heads[0] for head in heads):
            raise FormatError("has arrays of different runs")
    head = heads[0]
    arrays = {Key(facts["dataset"], facts["size"]): (spec, facts["region"]) for spec, facts in found}
    return Shard(path, head["version"], Path(head["source"]), head["signature"], head["options"], arrays)


#: The types of what a shard says of itself.
_TYPES = {"source": str, "signature": str, "options": dict, "dataset": str, "size": int, "region": list}


def _shard_facts(text: str) -> dict[str, Any]:
    """What an array's provenance says of its shard; empty if it is in none."""
    try:
        provenance = json.loads(text)
        facts: dict[str, Any] = provenance["shard"] | {"version": provenance["version"]}
        is_sound = all(isinstance(facts[name], kind) for name, kind in _TYPES.items()) and facts["region"]
        ends = [n for start, stop in facts["region"] for n in (start, stop)]
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
    return facts if is_sound and all(type(n) is int and n >= 0 for n in ends) else {}


def _check_alike(shards: Sequence[Shard]) -> None:
    """Raise unless all are of one source, size and version, and the version is this one."""
    first = shards[0]
    for shard in shards:
        pair = f"shards {first.path} and {shard.path}"
        if (shard.source, shard.signature) != (first.source, first.signature):
            raise FormatError(f"{pair} differ in source")
        if shard.options != first.options:
            names = [name for name in first.options if shard.options.get(name) != first.options[name]]
            raise FormatError(f"{pair} differ in options ({', '.join(names)})")
        if shard.version != first.version:
            raise FormatError(f"{pair} differ in version ({first.version}, {shard.version})")
    if first.version != lucid.__version__:
        raise FormatError(f"shards were made by version {first.version}; this one is {lucid.__version__}")


def _shards_for(
    array: ArrayPlan, number: int, shards: Sequence[Shard], opened: Opened, watch: Watch
) -> list[ShardArray]:
    """The shards of an array of means, in order.

    Raises
    ------
    FormatError
        They do not make up the whole, or hold something else.

    """
    pooled = array.pooled
    key, name = Key(pooled.source.name, number), pooled.source.name or "the array"
    found = [(shard.path, *shard.arrays[key]) for shard in shards if key in shard.arrays]
    found.sort(key=lambda one: one[2][0][0])
    done, before, arrays = 0, Path(), []
    for path, spec, region in found:
        if spec.shape[0] == 0:
            continue
        if spec.shape[1:] != pooled.stored_shape[1:] or spec.numbers != pooled.numbers:
            raise FormatError(
                f"shard {path}: has {name} as {spec.numbers} {spec.shape}; "
                f"expected {pooled.numbers} with {pooled.stored_shape[1:]} behind the samples"
            )
        start = region[0][0]
        if start < done:
            raise FormatError(f"shards {before} and {path} both hold sample {start} of {name}")
        _check_no_gap(done, start, name)
        done, before = start + spec.shape[0], path
        offset = (start, *[0] * (len(spec.shape) - 1))
        arrays.append(ShardArray(spec, offset, path, partial(_told, opened, path, [spec.nbytes], watch)))
    _check_no_gap(done, pooled.stored_shape[0], name)
    if done > pooled.stored_shape[0]:
        raise FormatError(f"shard {before}: ends at sample {done} of {name}, of {pooled.stored_shape[0]}")
    return arrays


def _told(opened: Opened, path: Path, pending: list[int], watch: Watch) -> Source:
    """A shard, of which is told when it is opened first."""
    if pending:
        watch.add(pending.pop())
    return opened.get(path)


def _check_no_gap(done: int, start: int, name: str) -> None:
    if done < start:
        raise FormatError(f"no shard holds samples {done}:{start} of {name}")


def _report_of(array: ArrayPlan) -> DatasetReport:
    """What was joined: as much comes out as goes in."""
    pooled = array.pooled
    return DatasetReport(
        name=pooled.source.name,
        input_shape=pooled.stored_shape,
        input_dtype=pooled.numbers,
        target=array.target.path,
        output_name=pooled.name,
        output_shape=pooled.stored_shape,
        output_dtype=pooled.numbers,
        input_bytes=pooled.nbytes,
        output_bytes=pooled.nbytes,
        blocks_bytes=COPY_BYTES,
        blocks=1,
    )
