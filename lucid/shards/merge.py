"""`merge_files`: shards that the user made with `slice`, to the file that one run would have made."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, cycle
from pathlib import Path
from typing import Any, NamedTuple

from lucid import job_plan
from lucid.arguments import PATH, PATHS, PROGRESS, options_of
from lucid.errors import ArgumentError, DatasetError, FormatError, LucidError, about
from lucid.execution import rehearse
from lucid.formats.registry import format_of_content
from lucid.job_plan import JobPlan, facts_of, plan_shard, slice_regions
from lucid.options import MERGE, Options
from lucid.outputs import FilePath, Naming, Target, settle
from lucid.report import OnProgress, Report, Watch
from lucid.shards.join import collect, copy_bytes, join
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
    claims = [_claim_of(path) for path in paths]
    first = claims[0]
    try:
        own = {name: first.options[name] for name in work.result()}
        # Nothing is pooled, so no limit keeps the whole from being planned.
        whole = replace(work, max_memory=sys.maxsize, **own)
    except (LucidError, KeyError) as error:
        raise FormatError("the first shard has options that make no sense") from error
    watch = Watch(source=Path(first.source), on_progress=on_progress)
    _merge(claims, target, whole, work.max_memory, watch)
    return watch.report(whole, max_memory=work.max_memory)


class Claim(NamedTuple):
    """What a file says of itself as a shard does; whether that is true, its plan will tell."""

    path: Path
    source: str
    options: dict[str, Any]
    #: The numbers of the sizes that it holds.
    sizes: tuple[int, ...]
    samples: slice


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
        settle(targets, [path, *(claim.path for claim in claims)], options, watch)
        with about(f"source {path}"):
            plan = job_plan.plan(source, options, targets)
        facts = facts_of(source, plan.specs, options)
        shards = []
        for claim in claims:
            try:
                regions = slice_regions(plan.specs, options, claim.samples)
            except DatasetError as error:  # the source has fewer
                raise FormatError(f"shard: {claim.path} is of other input, or it changed") from error
            own = Target(claim.path, format_of_content(claim.path), claim.sizes)
            shards.append(plan_shard(plan.specs, options, (own,), regions, facts))
        with about("shard"):
            arrays = [*collect(plan, shards)]
        _check_whole(plan, claims)
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
            blocks_bytes=copy_bytes(plan.options),
            blocks=1,
        )
        for row in plan.reports()
    )


def _claim_of(path: Path) -> Claim:
    """What a file says of itself."""
    claims = []
    with about(f"shard {path}"):
        with format_of_content(path).open(path, AS_STORED) as source:
            for facts in (facts_in(text) for _, text in source.provenances()):
                with suppress(KeyError, TypeError, ValueError):
                    # An array whose first axis is pooled has no samples.
                    start, stop = facts["region"][0] if facts["region"] else (0, 0)
                    claims.append((facts["source"], facts["options"], facts["size"], start, stop))
        types = (str, dict, int, int, int)
        if not claims or not all(map(isinstance, chain(*claims), cycle(types))):
            raise FormatError("is no shard; `slice` makes them")
    sources, options, sizes, starts, stops = zip(*claims, strict=True)
    # Shorter arrays may have ended before.
    samples = slice(max(0, *starts), max(0, *stops))
    return Claim(path, sources[0], options[0], tuple(sorted(set(sizes))), samples)


def _check_whole(plan: JobPlan, claims: Sequence[Claim]) -> None:
    """Raise a FormatError that says where shards do not make up the whole of all arrays of means."""
    regions = slice_regions(plan.specs, plan.options, slice(0, None))
    length, index = max((region[0].stop, -index) for index, region in regions.items() if region)
    for number, size in enumerate(plan.options.sizes):
        name = plan.specs[-index].name or "the array"
        name += f" at size {size_name(size)}" if len(plan.options.sizes) > 1 else ""
        held = sorted(
            (one.samples.start, one.samples.stop, one.path) for one in claims if number in one.sizes
        )
        position, path_before = 0, Path()
        for start, stop, path in [*held, (length, -1, Path())]:
            if start < position:
                raise FormatError(f"shards {path_before} and {path} both hold sample {start} of {name}")
            if start > position:
                raise FormatError(f"no shard holds samples {position}:{start} of {name}")
            position, path_before = stop, path
