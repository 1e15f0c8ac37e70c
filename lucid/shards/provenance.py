"""What files of means say of themselves, held against what this run would write."""

import json
import os
from collections.abc import Iterable
from typing import Any

from lucid.errors import FormatError, LucidError
from lucid.formats.arrays import ArraySpec, ResultSpec
from lucid.formats.choosing import name_list
from lucid.formats.registry import format_of_content
from lucid.job_plan import ArrayPlan, JobPlan
from lucid.options import Options, option_rows
from lucid.outputs import Target

#: How outputs are read back: two-byte elements without a type are bfloat16 in them.
AS_STORED = Options(input_dtype="bfloat16")


class DamagedError(FormatError):
    """A shard that is a plan's, but has lost some of its means."""


def missing_targets(plan: JobPlan) -> tuple[Target, ...]:
    """The outputs of a plan that are not there, or not whole; a FormatError says in what one is not the plan's."""
    # All are looked at, so that a stranger among them is not overlooked.
    return tuple([target for target in plan.targets if not _is_there(target, plan.arrays(target))])


def _is_there(target: Target, arrays: Iterable[ArrayPlan]) -> bool:
    if os.path.islink(target.path) and not os.path.exists(target.path):
        raise FormatError(f"{target.path} is a link to nothing")
    try:
        return os.path.lexists(target.path) and bool(stored_arrays(target, arrays))
    except DamagedError:
        return False


def stored_arrays(target: Target, arrays: Iterable[ArrayPlan]) -> list[tuple[ArrayPlan, ArraySpec]]:
    """The arrays of an output as they are stored; a FormatError says in what they are not those of these plans."""
    try:
        with format_of_content(target.path).open(target.path, AS_STORED) as source:
            arrays_there = {spec.name: (spec, text) for spec, text in source.provenances()}
            damaged = [
                spec.name or "the array" for spec, _ in arrays_there.values() if not source.is_whole(spec)
            ]
    except LucidError as error:
        raise FormatError(f"{target.path} {error}") from error
    pairs = []
    for array in arrays:
        result = array.result
        spec, text = arrays_there.get(result.name) or arrays_there.get("") or (None, "")
        if spec is None:
            others = next((text for _, text in arrays_there.values() if text), "")
            raise FormatError(f"{target.path} {_difference(others, result) or f'has no {result.name}'}")
        # Of a whole output in a format without attributes, shape and type are all there is to compare.
        if text != result.provenance and (text or result.is_shard):
            raise FormatError(f"{target.path} {_difference(text, result) or 'is of other origin'}")
        kind, expected = f"{spec.numbers} {spec.shape}", f"{result.stored_numbers} {result.stored_shape}"
        if kind != expected:
            raise FormatError(f"{target.path} has {kind}; expected {expected}")
        pairs.append((array, spec))
    if damaged:
        raise DamagedError(f"{target.path} has chunks of {name_list(damaged)} that are missing or damaged")
    return pairs


#: What a person calls the facts of a provenance; those without a name are of no interest.
_NAMES = {
    **{name: f"`{name}`" for name in option_rows()},
    **dict.fromkeys(("sizes", "output_size"), "`size`"),
    **dict.fromkeys(("signature", "source_shape", "source_dtype"), "input, or it changed"),
    "region": "`slice`",
    **dict.fromkeys(("dataset", "options", "size"), ""),
}


def _difference(text: str, result: ResultSpec) -> str:
    """What a provenance differs in from the one of this run, as a person has it; nothing where it says nothing."""
    old, new = facts_in(text), facts_in(result.provenance)
    names = [_NAMES.get(key, key) for key in new if old and old.get(key) != new[key]]
    different = " and ".join(dict.fromkeys(filter(None, names)))
    return different and f"is of other {different}"


def facts_in(text: str) -> dict[str, Any]:
    """All that a provenance says, on one level; empty if it says nothing."""
    try:
        provenance = json.loads(text)
        shard = provenance.pop("shard", {})
        return dict(provenance | shard | shard.get("options", {}))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}
