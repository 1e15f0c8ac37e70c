"""`merge_files`: shards, each with the means of some samples, to the file that one run would have made.

A shard says in the provenance of its arrays what they are means of, and with which options. So the
output is prepared from the source as in a single run, and the means are copied to their place
(`Sink.join`) where they would have been computed.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lucid
from lucid.errors import ArgumentError, FileError, FormatError
from lucid.formats.contract import Making, Part, Reading, Source, named
from lucid.formats.meaning import parse_missing
from lucid.formats.registry import format_of_content
from lucid.job import DEFAULT_MAX_MEMORY, FilePath
from lucid.mean import Mean
from lucid.naming import Target, targets_of
from lucid.nn.functional import check_threads
from lucid.parallel import available_cpus
from lucid.report import DatasetReport, OnProgress, Progress, Report, peak_memory_bytes
from lucid.work import Work

#: Buffer through which means are copied that cannot be moved.
COPY_BYTES = 8 << 20


class Key(NamedTuple):
    """What a part belongs to: the dataset of the source, and the number of the size."""

    dataset: str
    size: int


@dataclass(frozen=True)
class Shard:
    """A file of means of some samples: what all shards share, and its parts."""

    path: Path
    version: str
    source: Path
    signature: str
    options: dict[str, Any]
    parts: dict[Key, Part]


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
    start = time.perf_counter()
    if not shards:
        raise ArgumentError("`shards` is empty; expected files")
    workers = available_cpus() if threads is None else check_threads(threads)
    read = [read_shard(Path(path)) for path in shards]
    first = read[0]
    _check_alike(read)
    work = _work_of(first, workers, overwrite=overwrite, dry_run=dry_run)
    with named(f"source {first.source}"):
        format_ = format_of_content(first.source)
    targets = targets_of(first.source, format_, None if target is None else os.fspath(target), work.sizes)
    for one in targets:
        one.format.refuse_existing(one.path, overwrite=overwrite)
        if one.path.exists() and any(one.path.samefile(shard.path) for shard in read):
            raise FileError(f"output {one.path} is one of the shards")
    seconds = 0.0
    with ExitStack() as stack:
        with named(f"source {first.source}"):
            source = stack.enter_context(format_.open(first.source, work.reading))
            specs, arrays = work.means_of(source, targets)
            facts = work.facts_of_shard(source, specs)
        if facts["signature"] != first.signature:
            raise FormatError(f"source {first.source} changed since the shards were made")
        every = [
            (mean, _parts_of(mean, Key(spec.name, i), read))
            for spec, means in zip(specs, arrays, strict=True)
            for i, mean in enumerate(means)
        ]
        if not dry_run:
            begun = time.perf_counter()
            told = _told(every, first.source, on_progress)
            work.notes += _write(targets, told, source, work.making, min(COPY_BYTES, max_memory))
            seconds = time.perf_counter() - begun
    return Report(
        first.source,
        tuple(one.path for one in targets),
        tuple(_report_of(mean) for mean, _ in every),
        0.0,
        0.0,
        seconds,
        time.perf_counter() - start,
        workers,
        max_memory,
        peak_memory_bytes(),
        dry_run,
        notes=tuple(dict.fromkeys(work.notes)),
    )


def _write(
    targets: Sequence[Target],
    every: list[tuple[Mean, list[Part]]],
    source: Source,
    making: Making,
    buffer_bytes: int,
) -> list[str]:
    """Make the outputs of a single run, with means that lie in shards; what their sinks have to say."""
    notes: list[str] = []
    buffer = np.empty(buffer_bytes, np.uint8)
    for target in targets:
        chosen = [(mean.pooled, parts) for mean, parts in every if mean.target == target.path]
        with target.format.create(target.path, making) as sink:
            sink.begin(source, [pooled for pooled, _ in chosen])
            notes += sink.notes
            for pooled, parts in chosen:
                sink.join(pooled, parts, buffer)
            source.check_unchanged()
            sink.commit()
    return notes


def read_shard(path: Path) -> Shard:
    """What a file says that it is a shard of.

    Raises
    ------
    LucidError
        It cannot be read, or is no shard.

    """
    with named(f"shard {path}"):
        format_ = format_of_content(path)
        reading = Reading(input_numbers="bfloat16")
        with format_.open(path, reading) as source:
            found = [(spec, _parsed(text)) for spec, text in source.made()]
        found = [(spec, facts) for spec, facts in found if facts]
        if not found:
            raise FormatError("is no shard; --slice makes them")
        heads = [
            {name: facts[name] for name in ("version", "source", "signature", "options")}
            for _, facts in found
        ]
        if any(head != heads[0] for head in heads):
            raise FormatError("has arrays of different runs")
        parts = {
            Key(facts["dataset"], facts["size"]): Part(
                spec, facts["slice"][0], path, partial(format_.open, path, reading)
            )
            for spec, facts in found
        }
    head = heads[0]
    return Shard(path, head["version"], Path(head["source"]), head["signature"], head["options"], parts)


#: The types of what a shard says of itself.
_TYPES = {"source": str, "signature": str, "options": dict, "dataset": str, "size": int, "slice": list}


def _parsed(text: str) -> dict[str, Any]:
    """What an array's provenance says of its shard; empty if it is in none."""
    try:
        provenance = json.loads(text)
        facts: dict[str, Any] = provenance["shard"] | {"version": provenance["version"]}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
    if not all(isinstance(facts.get(name), kind) for name, kind in _TYPES.items()):
        return {}
    span = facts["slice"]
    return facts if len(span) == 2 and all(type(n) is int and n >= 0 for n in span) else {}


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


def _work_of(shard: Shard, workers: int, *, overwrite: bool, dry_run: bool) -> Work:
    """The work of a single run with a shard's options."""
    options = shard.options
    try:
        return Work(
            sizes=[(rows, cols) for rows, cols in options["sizes"]],
            datasets=options["datasets"],
            layout=options["layout"],
            flatten=options["flatten"],
            dtype=options["dtype"],
            reading=Reading(
                options["input_dtype"],
                options["allow_external"],
                parse_missing(options["missing"]),
                options["nan"],
            ),
            nan=options["nan"],
            max_memory=sys.maxsize,  # nothing is read by the plan
            workers=workers,
            making=Making(overwrite, options["carry"], options["compression"], workers, joins=True),
            resume=False,
            dry_run=dry_run,
            on_progress=None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"shard {shard.path}: has options that make no sense") from error


def _parts_of(mean: Mean, key: Key, shards: Sequence[Shard]) -> list[Part]:
    """The parts of an array of means, in order.

    Raises
    ------
    FormatError
        They do not make up the whole, or hold something else.

    """
    pooled, name = mean.pooled, key.dataset or "the array"
    found = [(shard.parts[key], shard.path) for shard in shards if key in shard.parts]
    found = sorted((f for f in found if f[0].spec.shape[0]), key=lambda f: f[0].start)
    done, before = 0, Path()
    for part, path in found:
        if part.spec.shape[1:] != pooled.stored_shape[1:] or part.spec.numbers != pooled.numbers:
            raise FormatError(
                f"shard {path}: has {name} as {part.spec.numbers} {part.spec.shape}; "
                f"expected {pooled.numbers} with {pooled.stored_shape[1:]} behind the samples"
            )
        if part.start < done:
            raise FormatError(f"shards {before} and {path} both hold sample {part.start} of {name}")
        _check_no_gap(done, part.start, name)
        done, before = part.stop, path
    _check_no_gap(done, pooled.stored_shape[0], name)
    if done > pooled.stored_shape[0]:
        raise FormatError(f"shard {before}: ends at sample {done} of {name}, of {pooled.stored_shape[0]}")
    return [part for part, _ in found]


def _check_no_gap(done: int, start: int, name: str) -> None:
    if done < start:
        raise FormatError(f"no shard holds samples {done}:{start} of {name}")


def _told(
    every: list[tuple[Mean, list[Part]]], source: Path, on_progress: OnProgress | None
) -> list[tuple[Mean, list[Part]]]:
    """The same parts, which tell of progress when their shards are opened."""
    if on_progress is None:
        return every
    total, done = sum(mean.pooled.nbytes for mean, _ in every), 0

    def told(part: Part) -> Part:
        def opened() -> Source:
            nonlocal done
            on_progress(Progress(source, min(done, total), total))
            done += part.spec.nbytes
            return part.opened()

        return part._replace(opened=opened)

    return [(mean, [told(part) for part in parts]) for mean, parts in every]


def _report_of(mean: Mean) -> DatasetReport:
    """What was joined: as much comes out as goes in."""
    pooled = mean.pooled
    shape, numbers, nbytes = pooled.stored_shape, pooled.numbers, pooled.nbytes
    name = pooled.source.name
    return DatasetReport(
        name, shape, numbers, mean.target, pooled.name, shape, numbers, nbytes, nbytes, COPY_BYTES, 1
    )
