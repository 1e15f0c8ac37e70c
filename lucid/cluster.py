"""One input on many machines: shards pooled by the workers of a Dask cluster, then joined.

A task opens the input by its path, pools some samples with `pool_file` into a shard beside the output, and
says what it did. Shards appear complete or not at all, so a task may be done again by another worker,
and one whose shards are there is not done again, be it in this run or after one that was interrupted.
Input and outputs lie where every worker finds them under the same path.

Needs the extra `dask`.
"""

import hashlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import lucid
from lucid.errors import ArgumentError, FileError, LucidError, MissingExtraError, NotFoundError
from lucid.formats.contract import Reading
from lucid.formats.disk.files import digest
from lucid.formats.registry import format_of_content, resolved, url_of
from lucid.job import DEFAULT_MAX_MEMORY, FilePath, pair_of, pool_file
from lucid.merge import merge_files
from lucid.naming import SIZE, SLICE, size_name, slice_name, suffix_of
from lucid.parallel import available_cpus
from lucid.report import OnProgress, Progress, Report, peak_memory_bytes
from lucid.streaming.engine import Seconds

try:
    import distributed
except ImportError as error:
    raise MissingExtraError("--dask needs the extra 'dask': pip install 'lucid-pool[dask]'") from error

#: Bytes of input that a task aims at: a hundred times what it costs to begin one.
TASK_BYTES = 64 << 20
#: Tasks that an input is cut into at most; a scheduler takes some milliseconds for each.
MOST_TASKS = 1 << 14
#: How often a task is tried again on another worker.
RETRIES = 3
#: Letters by which a folder of shards belongs to an input and options.
TOKEN = 12
#: The address that stands for a cluster on this machine, of one process for each CPU.
LOCAL = "local"
#: HDF5 lets one thread of a process in at a time: a task waits until the one before it is done.
_ONE_TASK = threading.Lock()


@dataclass(frozen=True)
class Done:
    """What a task did: the samples, its shards with their checksums, and what that took."""

    span: tuple[int, int]
    shards: dict[str, str]
    #: Added up over threads, and in all.
    seconds: Seconds
    total_seconds: float
    peak_memory_bytes: int
    #: Whether the shards were there already.
    was_there: bool


@contextmanager
def connect(address: str, *, workers: int | None = None) -> Iterator["distributed.Client"]:
    """A client of the cluster at an address, or of one made here for as long as it is used.

    Raises
    ------
    FileError
        There is no cluster to be reached.

    """
    if address != LOCAL:
        try:
            client = distributed.Client(address, timeout="10s", set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise FileError(f"no Dask scheduler answers at {address}") from error
        with client:
            yield client
        return
    with _deaf_to_interrupts():
        cluster = distributed.LocalCluster(
            n_workers=workers or available_cpus(),
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # of what HTTP server remains
            memory_limit=None,  # the blocks of `max_memory` are all there is
            silence_logs=100,
        )
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that are started now ignore Ctrl-C: it is for the one that started them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def pool_file_on(
    client: "distributed.Client",
    source: FilePath,
    target: FilePath | None = None,
    *,
    max_memory: int = DEFAULT_MAX_MEMORY,
    threads: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    on_progress: OnProgress | None = None,
    task_bytes: int = TASK_BYTES,
    **options: Any,
) -> Report:
    """Pool a file on a Dask cluster; the outputs are those of `pool_file`, byte for byte.

    Parameters
    ----------
    client
        Of the cluster.
    source, target
        As in `pool_file`, under paths that every worker has.
    max_memory
        Bytes that the buffers of a task may take.
    threads
        Threads of a task; by default those that its worker has.
    overwrite
        Replace existing targets.
    resume
        Leave outputs that are there already as they are. Shards are taken up again in any case.
    on_progress
        Called from this thread as tasks are done.
    task_bytes
        Bytes of input that a task aims at.
    options
        The others of `pool_file`.

    Returns
    -------
    A `Report`; seconds are added up over all tasks.

    Raises
    ------
    LucidError
        As `pool_file` and `merge_files`. Shards that are done stay for the next call.

    """
    start = time.perf_counter()
    path = Path(source)
    output = None if target is None else os.fspath(target)
    wanted: dict[str, Any] = {"max_memory": max_memory, "overwrite": overwrite, "resume": resume}
    plan = pool_file(path, output, dry_run=True, **wanted, **options)
    if plan.skipped:
        return replace(plan, dry_run=False)
    if any(url_of(one) is not None for one in plan.targets):
        raise ArgumentError("`target` is a URL; shards need a file system that the workers share")
    folder = _shards_folder(plan, options)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(f"folder for shards {folder} cannot be made: {error.strerror}") from error
    spans = spans_of(plan, task_bytes)
    sizes = options["size"] if isinstance(options["size"], list) else [options["size"]]
    name = str(folder / _shard_name(plan))
    each = (name.replace(SIZE, size_name(pair_of(size))) for size in sizes)
    job = _Job(
        resolved(path),
        name,
        tuple(dict.fromkeys(each)),
        options | {"max_memory": max_memory, "threads": threads},
    )
    done = list(_run(client, job, spans, plan, on_progress))
    for one in done:
        for shard, checksum in one.shards.items():
            if _checksum(Path(shard)) != checksum:
                raise FileError(f"shard {shard} is not what its worker wrote; is the file system shared?")
    merged = merge_files(
        [shard for one in done for shard in one.shards], output, max_memory=max_memory, overwrite=overwrite
    )
    # Those of other options or an older input, too; a token is as long as that.
    for left in folder.parent.glob(f".{_escaped(plan.targets[0].name)}.{'?' * TOKEN}.shards"):
        shutil.rmtree(left, ignore_errors=True)
    return replace(
        merged,
        source=plan.source,
        datasets=plan.datasets,
        read_seconds=sum(one.seconds.read for one in done),
        pool_seconds=sum(one.seconds.pool for one in done),
        write_seconds=merged.write_seconds + sum(one.seconds.write for one in done),
        total_seconds=time.perf_counter() - start,
        threads=sum(client.nthreads().values()),
        peak_memory_bytes=max([merged.peak_memory_bytes, *(one.peak_memory_bytes for one in done)]),
    )


def spans_of(plan: Report, task_bytes: int) -> list[tuple[int, int]]:
    """Ranges of samples for the tasks: whole chunks of the input, and of the output unless those are long.

    They depend on the input alone, so that another cluster takes up the shards that this one left.
    """
    longest = max(plan.datasets, key=lambda d: d.input_bytes, default=None)
    length = max((d.input_shape[0] for d in plan.datasets), default=0)
    if longest is None or length == 0:
        return [(0, 1)]
    wanted = max(task_bytes, -(-plan.input_bytes // MOST_TASKS))
    samples = max(1, wanted * length // max(1, plan.input_bytes))
    samples = -(-samples // longest.input_chunk) * longest.input_chunk
    if samples >= longest.output_chunk:
        samples = -(-samples // longest.output_chunk) * longest.output_chunk
    return list(pairwise([*range(0, length, samples), length]))


@dataclass(frozen=True)
class _Job:
    """What all tasks have in common."""

    source: Path
    #: Where shards go, with places for the samples and the size; and the same for each size.
    target: str
    shards: tuple[str, ...]
    options: dict[str, Any]

    def do(self, span: tuple[int, int]) -> Done:
        """Pool some samples into a shard, unless that is there; on a worker."""
        options = dict(self.options)
        options["threads"] = options["threads"] or distributed.get_worker().state.nthreads
        shards = [Path(name.replace(SLICE, slice_name(slice(*span)))) for name in self.shards]
        with _ONE_TASK:
            was_there = all(shard.exists() for shard in shards)
            if not was_there:
                start = time.perf_counter()
                report = pool_file(self.source, self.target, **options, slice=slice(*span), overwrite=True)
                seconds = Seconds(report.read_seconds, report.pool_seconds, report.write_seconds)
                total = time.perf_counter() - start
            else:
                seconds, total = Seconds(), 0.0
            checksums = {str(shard): _checksum(shard) for shard in shards}
        return Done(span, checksums, seconds, total, peak_memory_bytes(), was_there)


def _run(
    client: "distributed.Client",
    job: _Job,
    spans: list[tuple[int, int]],
    plan: Report,
    on_progress: OnProgress | None,
) -> Iterator[Done]:
    """Have all tasks done; whatever ends this before leaves none of them running."""
    run = os.urandom(8).hex()  # Keys are the scheduler's: what failed in another run is tried anew.
    left = {
        client.submit(job.do, span, key=f"lucid-pool-{run}-{span[0]}", retries=RETRIES, pure=False): span
        for span in spans
    }
    used, last = 0, spans[-1][1]
    try:
        for future in distributed.as_completed(list(left), loop=client.loop):
            # Held on to, what a worker has told would be asked for again if that worker went away.
            start, stop = left.pop(future)
            try:
                done: Done = future.result()
            except LucidError:
                raise
            except distributed.KilledWorker as error:
                raise FileError(f"samples {start}:{stop} ended every worker that tried them") from error
            except Exception as error:  # such as a worker without this package, or a scheduler that ended
                told = " ".join(f"{type(error).__name__} {error}".split())
                raise FileError(f"the Dask cluster gave up samples {start}:{stop}: {told[:300]}") from error
            future.release()
            used += plan.input_bytes * (stop - start) // last
            if on_progress is not None:
                on_progress(Progress(plan.source, min(used, plan.input_bytes), plan.input_bytes))
            yield done
    finally:
        with suppress(Exception):  # the cluster itself may be gone
            client.cancel(list(left), force=True)


def _shards_folder(plan: Report, options: dict[str, Any]) -> Path:
    """A folder beside the output that belongs to this input and these options."""
    reading = Reading(options.get("input_dtype"), options.get("allow_external", False))
    with format_of_content(Path(plan.source)).open(Path(plan.source), reading) as source:
        signature = source.signature(source.arrays(len(options.get("layout", "NCHW"))))
    token = digest(
        lucid.__version__, signature, str(resolved(plan.source)), json.dumps(options, default=repr)
    )
    first = plan.targets[0]
    return first.resolve().parent / f".{first.name}.{token[:TOKEN]}.shards"


def _shard_name(plan: Report) -> str:
    """A name for shards, with a place for the size where each has a file of its own."""
    suffix = suffix_of(plan.targets[0])
    return (f"{SIZE}-{SLICE}" if len(plan.targets) > 1 else SLICE) + suffix


def _escaped(name: str) -> str:
    """A name as a glob pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _checksum(path: Path) -> str:
    """A checksum of a shard, which for a store is one of all its files."""
    found = hashlib.blake2b(digest_size=16)
    try:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                found.update(str(file.relative_to(path)).encode("utf-8", "surrogateescape"))
                with file.open("rb") as content:
                    while part := content.read(1 << 20):
                        found.update(part)
    except FileNotFoundError:
        raise NotFoundError(f"shard {path} is not there; do all workers share this folder?") from None
    except OSError as error:
        raise FileError(f"shard {path} cannot be read: {error.strerror}") from error
    return found.hexdigest()
