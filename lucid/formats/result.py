"""What a result says of itself: its attributes and its own fill value, by the meaning of its source.

Attributes such as `valid_range` are of their variable's type. A result of the type as which its cells were pooled
(`Meaning.numbers`) keeps them; for a result of another type they are converted.
"""

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from lucid.formats.arrays import Meaning, ResultSpec
from lucid.formats.meaning import FILL, MISSING, Attributes, cells_of_sums
from lucid.formats.regions import grow, shrink
from lucid.formats.values import numbers_in, reinterpret_integer, round_to_type, text_of, to_element
from lucid.missing import Number
from lucid.pooling.dtypes import FLOATS
from lucid.pooling.sums import REDUCTIONS

#: Attributes of a result that differ from the source's: their values, None for those that go.
Changes: TypeAlias = dict[str, Any]

#: The limits of valid numbers, to which only what is among the cells keeps.
LIMITS = ("valid_min", "valid_max", "valid_range")
#: What is said of all numbers of the source together, netCDF's and the beginning of GDAL's; results have others.
_RANGE, _STATISTICS = "actual_range", "STATISTICS_"
_OPPOSITE = {"valid_min": "valid_max", "valid_max": "valid_min"}
#: What netCDF, CF and the HDF5 Image specification want in the variable's type, but for the missing ones.
TYPED_ATTRIBUTES = (*LIMITS, "flag_values", "flag_masks", "IMAGE_MINMAXRANGE")

#: Chunks of outputs are grown to this many bytes: HDF5's own advice is 10 KiB to 1 MiB.
CHUNK_BYTES = 1 << 18

#: Filters that every build of HDF5 can undo.
_OF_HDF5 = (None, "none", "shuffle", "fletcher32", "szip")
_NETCDF = "netCDF", ("gzip", "zstd", "blosc", "bzip2")
#: Software that has no floats of 16 bits, by the suffixes of its files, and what it can decompress.
_SOFTWARE = {".nc": _NETCDF, ".nc4": _NETCDF, ".mat": ("MATLAB", ("gzip",))}


def result_for(result: str, suffix: str) -> str:
    """The type of results in a file with that suffix: netCDF's library dies of a signal where it finds a float16."""
    return "float32" if suffix.lower() in _SOFTWARE and result in ("float16", "bfloat16") else result


def notes_on_software(suffix: str, results: Iterable[str], compression: str | None) -> list[str]:
    """Lines on what the software that reads files with that suffix lacks: types of results, a compression."""
    software, compressions = _SOFTWARE.get(suffix.lower(), ("", ()))
    pairs = [(result, result_for(result, suffix)) for result in results]
    notes = [f"means are {new}, since {software} has no {old}" for old, new in pairs if new != old]
    if software and compression not in (*_OF_HDF5, *compressions):
        known = ", ".join(compressions)
        notes.append(f"{software} has no {compression}, and cannot read the output; it has {known}")
    return notes


def fill_of(meaning: Meaning, result: str) -> Number:
    """What a window without enough valid cells is in a result of a type, as which it is pooled.

    Sums of integers have another type than their cells; no sum comes near the end of it.
    """
    if result in FLOATS:
        return math.nan
    if result == meaning.numbers:
        return meaning.missing[0] if meaning.missing else 0
    limits = np.iinfo(result)
    return int(limits.min or limits.max)


def changes_of(
    attributes: Attributes, meaning: Meaning, result: str, *, reduce: str = "mean", cells: int | None = None
) -> Changes:
    """The attributes of a result that differ from its source's, in its type; None for those that it has not.

    Of sums, `cells` is how many each has, if that is one number.

    >>> from lucid.formats.meaning import meaning_of
    >>> a = {"_FillValue": np.int16([-9]), "valid_range": np.int16([0, 9]), "scale_factor": 0.1}
    >>> changes_of(a, meaning_of(a, "int16"), "float32")
    {'_FillValue': array([nan], dtype=float32), 'valid_range': array([0., 9.], dtype=float32)}

    """
    changes = _gap_attributes(attributes, meaning, result)
    if result != meaning.numbers:
        for key in TYPED_ATTRIBUTES:
            if numbers_in(attributes.get(key)):
                changes.setdefault(key, None)
                changes |= _convert_attribute(attributes, key, meaning, result)
        is_logical = text_of(attributes.get("dtype")) == "bool"
        changes |= {key: None for key in ("_Unsigned", *["dtype"] * is_logical) if key in attributes}
    changes |= {key: None for key in attributes if key == _RANGE or key.startswith(_STATISTICS)}
    if not REDUCTIONS[reduce].is_among_cells:
        changes |= {key: None for key in LIMITS if key in attributes}
    if reduce == "sum" and meaning.offset and cells is not None:
        changes["add_offset"] = np.float64(meaning.offset * cells)
    return changes


def _gap_attributes(attributes: Attributes, meaning: Meaning, result: str) -> Changes:
    """The attributes that say what gaps are: NaN in floats, one of the source's in integers of its type."""
    keys = [key for key in (FILL, MISSING) if numbers_in(attributes.get(key))]
    fill = fill_of(meaning, result)
    if result == meaning.numbers and result not in FLOATS:
        changes: Changes = {} if meaning.by_attributes else dict.fromkeys(keys)
        if meaning.missing and (changes or not keys):
            integer = reinterpret_integer(int(fill), meaning.numbers, meaning.stored)
            changes[FILL] = np.array(integer, meaning.stored)
        return changes
    if result not in FLOATS:
        if not meaning.missing:
            return dict.fromkeys(keys)
        keys = keys or [FILL]
    gap = round_to_type(fill, result)
    return {key: np.full((1,) if np.ndim(attributes.get(key, 0)) else (), gap) for key in keys}


def _convert_attribute(attributes: Attributes, key: str, meaning: Meaning, result: str) -> Changes:
    """An attribute of the variable's type in the result's.

    Limits in floating point beside packed integers are those of what these stand for; beside packed floats
    they would be taken for packed, so they are packed.
    """
    value = np.asarray(attributes[key])
    is_packed = (meaning.scale, meaning.offset) != (1, 0) and meaning.scale != 0
    if key in LIMITS and is_packed and value.dtype.kind == "f" and meaning.numbers not in FLOATS:
        elements = (value.astype(np.float64) - meaning.offset) / meaning.scale
        name = _OPPOSITE.get(key, key) if meaning.scale < 0 else key
        return {name: round_to_type(np.sort(elements, axis=None).reshape(elements.shape), result)}
    if meaning.stored != meaning.numbers:
        exact = [(v, to_element(v, meaning.stored, meaning.numbers)) for v in numbers_in(value)]
        value = np.array([v if e is None else e for v, e in exact]).reshape(value.shape)
    return {key: round_to_type(value, result)}


def unwritten_fill(attributes: Attributes, meaning: Meaning, own: Any, result: str) -> Any:
    """A result's own fill value, which is read where nothing was written, for the source's.

    It follows `_FillValue` where the source's two were equal.
    """
    if result in (meaning.numbers, meaning.stored) and result not in FLOATS:
        return np.asarray(own)
    value = [to_element(v, meaning.stored, meaning.numbers) for v in numbers_in(own)[:1]]
    gap = [to_element(v, meaning.stored, meaning.numbers) for v in numbers_in(attributes.get(FILL))[:1]]
    if value and gap and (value == gap or all(v is not None and v != v for v in (*value, *gap))):
        return round_to_type(fill_of(meaning, result), result)
    return round_to_type(value[0] if value and value[0] is not None else 0, result)


def changes_in(result: ResultSpec, attributes: Attributes) -> Changes:
    """The attributes of a result that differ from its source's, as `changes_of` has them."""
    h, meaning = result.height_axis, result.meaning
    (rows, columns), (m, n) = result.source.shape[h : h + 2], result.shape[h : h + 2]
    cells = cells_of_sums(meaning, (rows, columns), (m, n)) if m and n else None
    return changes_of(attributes, meaning, result.numbers, reduce=result.reduce, cells=cells)


def gap_attribute(result: ResultSpec) -> Changes:
    """The attribute by which integers say what their gaps are, where none of the source's go along."""
    if not result.meaning.missing or result.numbers in FLOATS:
        return {}
    return {FILL: np.array(fill_of(result.meaning, result.numbers), result.dtype)}


def own_attributes(result: ResultSpec) -> Changes:
    """What a result says of its numbers where none of the source's attributes go along: gaps, and packing."""
    scale, offset = result.meaning.scale, result.meaning.offset
    if (scale, offset) == (1, 0):
        return gap_attribute(result)
    packing = {"scale_factor": np.float64(scale), "add_offset": np.float64(offset)}
    changes = {key: value for key, value in changes_in(result, packing).items() if key in packing}
    return gap_attribute(result) | packing | changes


def chunks_of(result: ResultSpec) -> tuple[int, ...]:
    """Chunks in the file: the source's, fitted; of a region those of the whole array, as far as they fit."""
    shape, itemsize = result.stored_shape, result.dtype.itemsize
    chunks = result.source.chunks or (1,) * len(result.shape)
    chunks = (chunks[0], shape[1]) if result.flat else chunks
    chunks = grow(chunks, shape, CHUNK_BYTES // itemsize)
    most = result.most_chunk_bytes
    return chunks if most is None else shrink(chunks, most // itemsize)
