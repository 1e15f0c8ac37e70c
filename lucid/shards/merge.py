"""`merge_files`: shards that the user made with `slice`, to the file that one run would have made."""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from lucid import job_plan
from lucid.arguments import PATH, PATHS, PROGRESS, options_of
from lucid.errors import ArgumentError, FormatError, LucidError, about
from lucid.execution import rehearse
from lucid.formats.registry import format_of_content
from lucid.job_plan import ArrayPlan, JobPlan, facts_of, plan_shard
from lucid.options import MERGE, Options
from lucid.outputs import FilePath, Naming, Target, settle
from lucid.report import OnProgress, Report, Watch
from lucid.shards.join import ShardArray, collect, copy_bytes, join
from lucid.shards.provenance import AS_STORED, facts_in
from lucid.sizes import size_name


def merge_files(
    shards: Sequence[FilePath],
    target: FilePath | None = None,
    *,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> Report:
    """Join shards, as `pool_file` makes them with `slice`, to what it makes of the whole file.

    Parameters
    ----------
    shards
        All of them, in any order. Their source must be where it was: what is carried over is read from it.
    target
        The output, as in `pool_file`.
    on_progress
        Called from this thread as the work goes on.
    **options
        `max_memory`, `threads`, `overwrite` and `dry_run`, as in `pool_file`; the shards know all others.

    Returns
    -------
    A `Report` on the outputs.

    Raises
    ------
    LucidError
        Shards are missing, overlap, or are not of one source, size and version. No output is left.

    """
    paths = [Path(path) for path in PATHS.check("shards", shards)]
    PATH.check("target", target, takes_none=True)
    PROGRESS.check("on_progress", on_progress, takes_none=True)
    work = options_of(options)
    for name in options:
        if name not in MERGE:
            raise ArgumentError(f"a merge takes no `{name}`: the shards know it")
    claims = [(path, _claims_of(path)) for path in paths]
    _, (first, *_) = claims[0]
    try:
        own = {name: first["options"][name] for name in work.result()}
        # Nothing is pooled, so no limit keeps the whole from being planned.
        whole = replace(work, max_memory=sys.maxsize, **own)
    except (LucidError, KeyError) as error:
        raise FormatError("the first shard has options that make no sense") from error
    watch = Watch(source=Path(first["source"]), on_progress=on_progress)
    _merge(claims, target, whole, work.max_memory, watch)
    return watch.report(whole, max_memory=work.max_memory)


#: A file, and what it says of each of its arrays, as a shard does.
Claim: TypeAlias = tuple[Path, list[dict[str, Any]]]
#: The types of what it says.
_TYPES = {"version": str, "source": str, "options": dict, "dataset": str, "size": int, "region": list}


def _merge(
    claims: Sequence[Claim], target: FilePath | None, options: Options, max_memory: int, watch: Watch
) -> None:
    """Join files, if they are the shards that they claim to be, and make up the whole."""
    path = watch.source
    with about(f"source {path}"):
        format_ = format_of_content(path)
        source = format_.open(path, options)
    with source:
        targets = Naming.of(target).targets(path, format_, options)
        settle(targets, [path, *(shard for shard, _ in claims)], options, watch)
        with about(f"source {path}"):
            plan = job_plan.plan(source, options, targets)
        facts = facts_of(source, plan.specs, options)
        indices = {spec.name: index for index, spec in enumerate(plan.specs)}
        shards = [_plan_of(plan, indices, claim, facts) for claim in claims]
        by_whole = defaultdict[tuple[int, int], list[ShardArray]](list)
        with about("shard"):
            arrays = [*collect(plan, shards)]
        for one in arrays:
            by_whole[one.whole.source_index, one.whole.size].append(one)
        for whole in plan.arrays:
            _check_whole(options, whole, by_whole[whole.source_index, whole.size])
        plan = replace(plan, options=replace(options, max_memory=max_memory))
        if options.dry_run:
            rehearse(plan, source, watch)
        else:
            join(plan, source, arrays, watch)
    # As much comes out as goes in.
    watch.datasets = (
        replace(
            row,
            input_shape=row.output_shape,
            input_dtype=row.output_dtype,
            input_bytes=row.output_bytes,
            blocks_bytes=copy_bytes(options),
            blocks=1,
        )
        for row in plan.reports()
    )


def _claims_of(path: Path) -> list[dict[str, Any]]:
    """What a file says of its arrays, as a shard does; whether that is true, its plan will tell."""
    with about(f"shard {path}"):
        with format_of_content(path).open(path, AS_STORED) as source:
            claims = [facts_in(text) for _, text in source.provenances()]
        claims = [facts for facts in claims if _is_sound(facts)]
        if not claims:
            raise FormatError("is no shard; `slice` makes them")
    return claims


def _is_sound(facts: dict[str, Any]) -> bool:
    try:
        ends = [n for start, stop in facts["region"] for n in (start, stop)]
    except (KeyError, TypeError, ValueError):
        return False
    is_sound = all(isinstance(facts.get(name), type_) for name, type_ in _TYPES.items())
    return is_sound and all(type(n) is int and n >= 0 for n in ends)


def _plan_of(plan: JobPlan, indices: Mapping[str, int], claim: Claim, facts: dict[str, Any]) -> JobPlan:
    """The plan that would make a shard of what it claims to hold."""
    path, arrays = claim
    regions = {}
    for array in arrays:
        name = array["dataset"]
        if name not in indices:
            raise FormatError(f"shard {path} has {name}, which the source has not")
        ends = zip(array["region"], plan.specs[indices[name]].shape, strict=False)
        regions[indices[name]] = tuple(slice(min(start, n), min(stop, n)) for (start, stop), n in ends)
    sizes = tuple(sorted({array["size"] for array in arrays}))
    target = Target(path, format_of_content(path), sizes)
    return plan_shard(plan.specs, plan.options, (target,), regions, facts)


def _check_whole(options: Options, array: ArrayPlan, shards: list[ShardArray]) -> None:
    """Raise a FormatError that says where shards do not make up the whole of an array of means."""
    name, shape = array.result.source.name or "the array", array.result.stored_shape
    position, path_before = 0, Path()
    name += f" at size {size_name(options.sizes[array.size])}" if len(options.sizes) > 1 else ""
    ordered = sorted((one for one in shards if 0 not in one.spec.shape), key=lambda one: one.offset)
    end = slice(shape[0] if array.result.nbytes else 0, None)
    for samples, path in [*((one.region[0], one.path) for one in ordered), (end, Path())]:
        if samples.start < position:
            raise FormatError(f"shards {path_before} and {path} both hold sample {samples.start} of {name}")
        if samples.start > position:
            raise FormatError(f"no shard holds samples {position}:{samples.start} of {name}")
        position, path_before = samples.stop, path
    for one in ordered:
        if one.spec.shape[1:] != shape[1:]:
            raise FormatError(f"shard {one.path} holds {name} in part; `slice` makes shards of whole samples")
