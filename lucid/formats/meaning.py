"""What the numbers of a variable mean, by its attributes: one set of rules for HDF5, netCDF and Zarr.

    attributes, type, options → `Meaning` → what counts as nothing, how to reduce (here)
                                          → what the result says of itself (`result`)

The rules are those by which xarray decodes: `_Unsigned` first, then `_FillValue` and `missing_value`, then
`scale_factor` and `add_offset`. Nothing here knows a file: attributes are a mapping of names to NumPy values.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from lucid.errors import DatasetError
from lucid.formats.arrays import Meaning
from lucid.formats.values import numbers_in, text_of, to_element
from lucid.missing import Missing, parse_missing
from lucid.options import Options
from lucid.pooling.dtypes import FLOATS

Attributes: TypeAlias = Mapping[str, Any]

#: The attributes that name cells which hold nothing.
FILL, MISSING = "_FillValue", "missing_value"
#: xarray's NaT, among times and their differences that are integers; no attribute names it.
_NOT_A_TIME = -(2**63)
_SWAPPED = {"max": "min", "min": "max"}


def meaning_of(
    attributes: Attributes, stored: str, *, missing: Missing | None = None, nan: str | None = None
) -> Meaning:
    """What the numbers of a variable mean whose elements are of the type `stored`, by name.

    `missing` is what `--missing` says. NaN counts as nothing where `nan`, the option, is "skip", or is not given
    and NaN is named as missing. In Zarr 2, the `fill_value` of an array of xarray's stands here as `_FillValue`.

    >>> meaning_of({"_FillValue": -1, "_Unsigned": "true"}, "int16")[1:3]
    ('uint16', (65535,))

    """
    option = missing or Missing()
    unsigned, numbers = text_of(attributes.get("_Unsigned")).lower(), stored
    if unsigned == "true" and stored.startswith("int"):
        numbers = f"u{stored}"
    if unsigned == "false" and stored.startswith("uint"):
        numbers = stored[1:]
    values = [v for key in (FILL, MISSING) for v in numbers_in(attributes.get(key)) if option.by_attributes]
    if stored == "int64" and option.by_attributes and _are_times(attributes):
        values.append(_NOT_A_TIME)
    values += option.values
    exact = (to_element(value, stored, numbers) for value in values)
    names_nan = numbers in FLOATS and any(value != value for value in values)
    scale, offset = (numbers_in(attributes.get(key)) for key in ("scale_factor", "add_offset"))
    return Meaning(
        stored=stored,
        numbers=numbers,
        missing=tuple(dict.fromkeys(v for v in exact if v is not None and v == v)),
        skip_nan=nan == "skip" or (nan is None and names_nan),
        scale=float(scale[0]) if len(scale) == 1 else 1.0,
        offset=float(offset[0]) if len(offset) == 1 else 0.0,
        by_attributes=option.by_attributes,
    )


def _are_times(attributes: Attributes) -> bool:
    """Whether numbers are times or spans of time; of the latter, xarray writes the dtype."""
    is_difference = text_of(attributes.get("dtype")).startswith("timedelta64")
    return is_difference or " since " in text_of(attributes.get("units"))


def meaning_by(options: Options, attributes: Attributes, stored: str) -> Meaning:
    """The same under the options of a call."""
    return meaning_of(attributes, stored, missing=parse_missing(options.missing), nan=options.nan)


def reduction_of(meaning: Meaning, reduce: str) -> str:
    """The reduction of the stored numbers that is the wanted one of what they stand for."""
    return _SWAPPED.get(reduce, reduce) if meaning.scale < 0 else reduce


def cells_of_sums(meaning: Meaning, plane: tuple[int, int], size: tuple[int, int]) -> int | None:
    """How many cells every sum has, so that the sum of their offsets is one number; None where that varies."""
    if meaning.missing or meaning.skip_nan or any(n % m for n, m in zip(plane, size, strict=True)):
        return None
    return plane[0] // size[0] * (plane[1] // size[1])


def check_sums(name: str, meaning: Meaning, plane: tuple[int, int], size: tuple[int, int]) -> None:
    """Raise a DatasetError where sums of packed numbers cannot be packed by one scale and one offset."""
    if meaning.offset and cells_of_sums(meaning, plane, size) is None:
        raise DatasetError(
            f"dataset {name}: sums of numbers with an add_offset of {meaning.offset} need windows with as many "
            "valid cells each, for the sum of the offsets to be one, as `reduce='mean'` does not"
        )
