"""`merge_files`: shards that the user made with `slice`, to the file that one run would have made."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from lucid.errors import ArgumentError, FileError, FormatError, LucidError, named
from lucid.formats.contract import ShardArray
from lucid.formats.disk.replacement import remove_stale
from lucid.formats.registry import format_of_content
from lucid.job_plan import ArrayPlan, JobPlan, Key, facts_of, plan
from lucid.options import Options
from lucid.outputs import FilePath, Target, check_path, is_same_file, targets_of
from lucid.report import OnProgress, Report, Watch, clock
from lucid.shards.join import COPY_BYTES, Opened, collect, join
from lucid.shards.stored import AS_STORED, facts_in


def merge_files(
    shards: Sequence[FilePath],
    target: FilePath | None = None,
    *,
    max_memory: int = Options.max_memory,
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
    if isinstance(shards, str | os.PathLike):
        shards = [shards]
    if not isinstance(shards, Sequence) or not shards:
        raise ArgumentError(f"`shards` is {shards!r:.80}; expected files")
    for path in (*shards, *([] if target is None else [target])):
        check_path(path)
    claims = [_claim_of(Path(path)) for path in shards]
    path = Path(claims[0][0]["source"])
    options = _options_of(claims[0][0], threads=threads, overwrite=overwrite, dry_run=dry_run)
    with named(f"source {path}"):
        format_ = format_of_content(path)
    targets = targets_of(path, format_, target, options)
    for one in targets:
        one.refuse_input(path)
        if any(is_same_file(one.path, Path(shard)) for shard in shards):
            raise FileError(f"output {one.path} is one of the shards")
        one.refuse_existing(overwrite=overwrite)
        remove_stale(one.path.resolve().parent)
    watch = Watch(path, on_progress, begun=begun, targets=tuple(one.path for one in targets))
    with ExitStack() as stack:
        opened = stack.enter_context(Opened())
        with named(f"source {path}"):
            source = stack.enter_context(format_.open(path, options))
            job = plan(source, options, targets)
        facts = facts_of(source, job)
        every = [_plan_of(job, Path(path), claim, facts) for path, claim in zip(shards, claims, strict=True)]
        with named("shard"):
            arrays = collect(job, every, opened)
        arrays = {array.key: _in_order(array, arrays[array.key]) for array in job.every()}
        if not dry_run:
            with clock(watch.nanoseconds, "write"):
                join(job, targets, source, arrays, watch, max_memory)
    watch.datasets = (
        # As much comes out as goes in.
        replace(
            d,
            input_shape=d.output_shape,
            input_dtype=d.output_dtype,
            input_bytes=d.output_bytes,
            blocks_bytes=COPY_BYTES,
            blocks=1,
        )
        for d in job.reports()
    )
    return watch.report(options, max_memory=max_memory)


#: What a shard claims: facts of its first array, and the box of each array.
Claim = tuple[dict[str, Any], dict[Key, list[list[int]]]]
#: The types of what a shard says of itself.
_TYPES = {"version": str, "source": str, "options": dict, "dataset": str, "size": int, "region": list}


def _claim_of(path: Path) -> Claim:
    """What a file says that it is a shard of; whether that is true, its plan will tell."""
    with named(f"shard {path}"):
        with format_of_content(path).open(path, AS_STORED) as source:
            claims = [facts_in(text) for _, text in source.provenances()]
        claims = [facts for facts in claims if _is_sound(facts)]
        if not claims:
            raise FormatError("is no shard; `slice` makes them")
    return claims[0], {(facts["dataset"], facts["size"]): facts["region"] for facts in claims}


def _is_sound(facts: dict[str, Any]) -> bool:
    try:
        ends = [n for start, stop in facts["region"] for n in (start, stop)]
    except (KeyError, TypeError, ValueError):
        return False
    is_sound = all(isinstance(facts.get(name), kind) for name, kind in _TYPES.items())
    return is_sound and bool(ends) and all(type(n) is int and n >= 0 for n in ends)


def _options_of(facts: dict[str, Any], **others: Any) -> Options:
    try:
        return Options(**facts["options"], max_memory=sys.maxsize, **others)
    except (LucidError, TypeError) as error:
        raise FormatError("the first shard has options that make no sense") from error


def _plan_of(job: JobPlan, path: Path, claim: Claim, facts: dict[str, Any]) -> JobPlan:
    """The plan that would make a shard of what it claims to hold."""
    _, boxes = claim
    names = {spec.name: spec for spec in job.specs}
    regions = {}
    for (dataset, _), region in boxes.items():
        if dataset not in names:
            raise FormatError(f"shard {path} has {dataset}, which the source has not")
        lengths = names[dataset].shape
        regions[dataset] = tuple(
            slice(min(a, n), min(b, n)) for (a, b), n in zip(region, lengths, strict=False)
        )
    sizes = tuple(sorted({size for _, size in boxes}))
    return job.within(regions, (Target(path, format_of_content(path), sizes),), facts)


def _in_order(array: ArrayPlan, shards: list[ShardArray]) -> list[ShardArray]:
    """The shards of an array of means by their samples; a FormatError says where they do not make up the whole."""
    name, shape, done, before = array.pooled.source.name or "the array", array.pooled.stored_shape, 0, Path()
    ordered = sorted((one for one in shards if 0 not in one.spec.shape), key=lambda one: one.offset)
    end = slice(shape[0] if array.pooled.nbytes else 0, None)
    for samples, path in [*((one.region[0], one.path) for one in ordered), (end, Path())]:
        if samples.start < done:
            raise FormatError(f"shards {before} and {path} both hold sample {samples.start} of {name}")
        if samples.start > done:
            raise FormatError(f"no shard holds samples {done}:{samples.start} of {name}")
        done, before = samples.stop, path
    for one in ordered:
        if one.spec.shape[1:] != shape[1:]:
            raise FormatError(f"shard {one.path} holds {name} in part; `slice` makes shards of whole samples")
    return ordered
