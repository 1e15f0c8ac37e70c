"""Every option once: name, type, default, help, check.

From these declarations come the flags of the command, the keywords of `lucid.pool_file` with the lines of
its docstring, and the JSON that provenance and shards carry. `Options` is one value, checked when it comes
to be; whatever is below takes it as it is.

An option is a field of `Options` with an `Option` in its annotation. Those of the group "work" say how the
work is done; all others make a difference to the bytes of the result.
"""

import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import InitVar, dataclass, fields
from types import EllipsisType, MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeAlias

from lucid.compression import parse_compression
from lucid.dims import parse_dims
from lucid.errors import ArgumentError, SizeTypeError
from lucid.missing import check_min_valid, parse_missing, texts_of

#: A length, a share of the input's ("/2", "50%"), or None for the input's own.
Dimension: TypeAlias = int | str | None
OutputSize: TypeAlias = Dimension | Sequence[Dimension]
#: A size as rows and columns.
Size: TypeAlias = tuple[Dimension, Dimension]
#: Samples of the first axis; a field is called `slice` below.
Samples: TypeAlias = slice

FLOATS = ("float16", "bfloat16", "float32", "float64")
DEFAULT_MAX_MEMORY = 256 << 20
WORK = "work"

#: A dimension in the shell.
DIMENSION = r"(\d+|keep|/\d+|\d+(\.\d+)?%)"
_SHARE = re.compile(r"/0*[1-9]\d*|(?=[\d.]*[1-9])\d+(\.\d+)?%", re.ASCII)
_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_BINARY_UNITS = {f"{unit}i": 1024**n for n, unit in enumerate("KMGT", 1)}


class Shell:
    """How the command takes an option: its flags, the last one its name, by default that of the field."""

    def __init__(
        self,
        *flags: str,
        metavar: str | None = None,
        parse: Callable[[str], Any] = str,
        default: str | None = None,
        is_repeatable: bool = False,
    ) -> None:
        self.flags = flags
        self.metavar = metavar
        #: Makes a value of text; raises an ArgumentError.
        self.parse = parse
        #: The default as a person reads it, where the value does not tell.
        self.default = default
        self.is_repeatable = is_repeatable


class Option:
    """How an option is declared, but for what its field says."""

    def __init__(
        self, group: str, check: Callable[[str, Any], Any], meaning: str, shell: Shell | None = None
    ) -> None:
        #: Where the command's help lists it.
        self.group = group
        #: Returns the value as it is kept, or raises an ArgumentError that speaks of the option by a name.
        self.check = check
        #: As the help and the docstring say it.
        self.meaning = meaning
        self.shell = shell or Shell()

    @property
    def choices(self) -> tuple[str, ...]:
        """All values, where they are few."""
        return getattr(self.check, "choices", ())


def _any(_: str, value: Any) -> Any:
    return value


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ArgumentError(f"`{name}` is {value!r}; expected True or False")
    return value


class _one_of:  # noqa: N801  (it stands where functions do)
    """One of a few values; None, if it is among them, is not for the shell."""

    def __init__(self, *values: str | None) -> None:
        self._values = values
        self.choices = tuple(value for value in values if value is not None)

    def __call__(self, name: str, value: Any) -> Any:
        if not isinstance(value, str | None) or value not in self._values:
            quoted = [repr(choice) for choice in self.choices]
            listed = f"one of {', '.join(self.choices)}" if len(quoted) > 2 else " or ".join(quoted)
            raise ArgumentError(f"`{name}` is {value!r}; expected {listed}")
        return value


def _count(what: str, *, or_none: bool = False) -> Callable[[str, Any], int | None]:
    def check(name: str, value: Any) -> int | None:
        if value is None and or_none:
            return None
        try:
            number = -1 if isinstance(value, bool) else operator.index(value)
        except TypeError:
            number = -1
        if number < 1:
            raise ArgumentError(f"`{name}` is {value!r}; expected {what}")
        return number

    return check


def _names(name: str, value: Any) -> tuple[str, ...]:
    names = (
        (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Collection) else (value,)
    )
    if not all(isinstance(one, str) and "\0" not in one for one in names):
        raise ArgumentError(f"`{name}` is {value!r}; expected names of datasets")
    return names


def _layout(name: str, value: Any) -> str:
    letters = value.upper().replace("YX", "HW") if isinstance(value, str) else ""
    if (
        "HW" not in letters
        or len({*letters}) != len(letters)
        or not (letters.isascii() and letters.isalpha())
    ):
        raise ArgumentError(
            f"`{name}` is {value!r}; expected different letters with HW or YX in them, such as NCHW"
        )
    return letters


def _sizes(name: str, value: Any) -> tuple[Size, ...]:
    if not isinstance(value, list | tuple):
        raise ArgumentError(f"`{name}` is {value!r}; expected a list of sizes")
    pairs = tuple(pair_of(one) for one in value)
    if len({*pairs}) < len(pairs):
        raise ArgumentError(f"`{name}` is {', '.join(map(size_name, pairs))}; expected different sizes")
    return pairs


def _missing(name: str, value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str | int | float) else value
    if not isinstance(values, list | tuple):
        raise ArgumentError(f"`{name}` is {value!r}; expected numbers, nan or none")
    return tuple(texts_of(parse_missing(values)))


def _fraction(_: str, value: Any) -> float:
    return check_min_valid(value)


def _dims(name: str, value: Any) -> str | None:
    if value is None:
        return None
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
        raise ArgumentError(f"`{name}` is {value!r}; expected the names of two dimensions, such as 'lat,lon'")
    return ",".join(parse_dims(" ".join(names)))


def _compression(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ArgumentError(f"`{name}` is {value!r}; expected text such as 'gzip:4'")
    parse_compression(value)
    return value


def _slice(name: str, value: Any) -> slice | None:
    if value is None:
        return None
    try:
        start, stop = (
            operator.index(value.start or 0),
            value.stop if value.stop is None else operator.index(value.stop),
        )
        is_range = value.step in (None, 1) and start >= 0 and (stop is None or stop > start)
    except (AttributeError, TypeError):
        is_range = False
    if not is_range:
        raise ArgumentError(f"`{name}` is {value}; expected A:B with 0 <= A < B")
    return slice(start, stop)


def pair_of(size: Any) -> Size:
    """A size as rows and columns; one dimension is both."""
    both = size if isinstance(size, tuple | list) else (size, size)
    if len(both) != 2:
        raise ArgumentError(f"`size` is {size!r}; expected one or two dimensions")
    rows, cols = (None if n is None else _dimension(n) for n in both)
    return rows, cols


def _dimension(length: object) -> int | str:
    expected = "an integer of at least 1, None, or a share such as '/2' or '50%'"
    if isinstance(length, str):
        if _SHARE.fullmatch(length) is None:
            raise ArgumentError(f"`size` holds {length!r}; expected {expected}")
        return length
    try:
        number = operator.index(None if isinstance(length, bool) else length)  # type: ignore[arg-type]
    except TypeError:
        raise SizeTypeError(f"`size` holds {length!r}; expected {expected}") from None
    if number < 1:
        raise ArgumentError(f"`size` holds {number}; expected {expected}")
    return number


def length_of(dimension: Dimension, length: int) -> int:
    """The length of a pooled axis; of a share, what is left after division is dropped, but one cell stays.

    >>> length_of("/2", 7), length_of("50%", 7), length_of("/9", 4), length_of(None, 5)
    (3, 3, 1, 5)
    """
    if dimension is None:
        return length
    if isinstance(dimension, int):
        return dimension
    if dimension.startswith("/"):
        return max(1, length // int(dimension[1:]))
    whole, _, decimals = dimension[:-1].partition(".")
    return max(1, length * int(whole + decimals) // int(10 ** (2 + len(decimals))))


def parse_size(text: str) -> Size:
    """`4`, `4x5`, `4,5` or `4 5`; `keep` keeps a dimension, `/2` and `50%` are shares of the input's.

    >>> parse_size("4xkeep"), parse_size("/2")
    ((4, None), ('/2', '/2'))
    """
    words = re.split(r"[x,\s]", text.strip().lower())
    if len(words) > 2 or not all(re.fullmatch(DIMENSION, word, re.ASCII) for word in words):
        raise ArgumentError(f"{text!r} is no size; expected one such as 4, 4x5, keepx1, /2 or 50%")
    if not all(re.search(r"[1-9]|keep", word) for word in words):
        raise ArgumentError(f"{text!r} holds a dimension below 1")
    rows, cols = (None if w == "keep" else int(w) if w.isdigit() else w for w in (words * 2)[:2])
    return rows, cols


def size_name(size: Size) -> str:
    """A size as it stands in names: 4x5, keepx1; of shares by2xby2, 50pctx50pct."""
    names = ("keep" if n is None else str(n).replace("/", "by").replace("%", "pct") for n in size)
    return "x".join(names)


def parse_slice(text: str) -> slice:
    """`0:1000`, `5000:`, `:1000`: samples from the first number to before the second."""
    match = re.fullmatch(r"(\d*):(\d*)", text.strip(), re.ASCII)
    if match is None:
        raise ArgumentError(f"{text!r} is no slice; expected one such as 0:1000 or 5000:")
    start, stop = (int(number) if number else None for number in match.groups())
    if stop is not None and stop <= (start or 0):
        raise ArgumentError(f"{text!r} holds no sample")
    return slice(start or 0, stop)


def slice_name(samples: slice) -> str:
    """Some samples as they stand in names: 0-1000, 5000-end."""
    return f"{samples.start}-{'end' if samples.stop is None else samples.stop}"


def parse_bytes(text: str) -> int:
    """A number of bytes: `1048576`, `256MiB`, `1.5GB`, `64M` (binary, as shells have it)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)(B?)", text.strip(), re.IGNORECASE | re.ASCII)
    if match is None:
        raise ArgumentError(f"{text!r} is no number of bytes; expected one such as 256MiB or 1G")
    number, unit, binary, byte = match.groups()
    is_decimal = (byte and not binary) or not unit
    total = int(float(number) * (_UNITS[unit.upper()] if is_decimal else _BINARY_UNITS[f"{unit.upper()}i"]))
    if total < 1:
        raise ArgumentError(f"{text!r} is below one byte")
    return total


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"{text!r} is no number") from None


def _number(text: str) -> int:
    if not re.fullmatch(r"-?\d+", text.strip(), re.ASCII):
        raise ArgumentError(f"{text!r} is no number")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a call, checked. `Options()` has no size yet: enough to look into a file."""

    size: InitVar[
        Annotated[
            OutputSize | EllipsisType,
            Option(
                "output",
                _any,
                "Output grid, as `output_size` of `lucid.nn.AdaptiveAvgPool2d`; '/2' or '50%' is that share "
                "of the input's.",
            ),
        ]
    ] = ...
    sizes: Annotated[
        Sequence[OutputSize],
        Option(
            "output",
            _sizes,
            "Output grid: 4, 4 5, 4x5 or 4,5; `keep` keeps a dimension, /2 or 50% is that share of it. Several are "
            "done in one pass.",
            Shell("-s", "--size", metavar="H [W]", parse=parse_size, default="required", is_repeatable=True),
        ),
    ] = ()
    datasets: Annotated[
        Sequence[str],
        Option(
            "input",
            _names,
            "Pool only these: paths in the file, or globs.",
            Shell("-d", "--dataset", metavar="PATH", default="all that fit the layout", is_repeatable=True),
        ),
    ] = ()
    layout: Annotated[
        str,
        Option(
            "input",
            _layout,
            "Axis letters with HW (or YX) in them: NCHW, NHWC, CHW, NTCHW, …",
            Shell(metavar="AXES"),
        ),
    ] = "NCHW"
    dims: Annotated[
        str | None,
        Option(
            "input",
            _dims,
            "The two axes by the names of their dimensions, in arrays of any rank that have both.",
            Shell(metavar="LAT,LON", default="by --layout"),
        ),
    ] = None
    input_dtype: Annotated[
        str | None, Option("input", _one_of("bfloat16", None), "What two-byte elements without a type are.")
    ] = None
    allow_external: Annotated[
        bool,
        Option(
            "input", _truth, "Read what keeps its elements in other files, and follow links out of a store."
        ),
    ] = False
    carry: Annotated[bool, Option("output", _truth, "Carry over unchanged what is not pooled.")] = True
    drop: Annotated[
        Sequence[str],
        Option(
            "output",
            _names,
            "Leave these out of what is carried over: paths in the file, or globs.",
            Shell(metavar="PATH", default="nothing", is_repeatable=True),
        ),
    ] = ()
    compression: Annotated[
        str,
        Option(
            "output",
            _compression,
            "keep (as the source has it), none, gzip, lzf; with the extra `filters` zstd, lz4, bitshuffle, "
            "blosc, blosc-zstd, …",
            Shell(metavar="NAME[:LEVEL]"),
        ),
    ] = "keep"
    flatten: Annotated[
        bool, Option("output", _truth, "Write each pooled dataset as (N, everything else).")
    ] = False
    dtype: Annotated[
        str | None,
        Option(
            "numbers",
            _one_of(*FLOATS, "keep", None),
            "dtype of the results; keep is the input's own, integers rounded to nearest.",
            Shell(default="as the input"),
        ),
    ] = None
    reduce: Annotated[
        Literal["mean", "max", "min", "sum"],
        Option("numbers", _one_of("mean", "max", "min", "sum"), "What is made of the cells of a window."),
    ] = "mean"
    nan: Annotated[
        Literal["propagate", "skip"] | None,
        Option(
            "numbers",
            _one_of("propagate", "skip", None),
            "NaN in a window gives NaN, or counts as nothing.",
            Shell(default="propagate; skip where the file names NaN as missing"),
        ),
    ] = None
    missing: Annotated[
        Sequence[str | float],
        Option(
            "numbers",
            _missing,
            "Cells of this value count as nothing, as those that attributes name (`_FillValue`, "
            "`missing_value`) do; none turns these off.",
            Shell(metavar="VALUE", default="what the file names", is_repeatable=True),
        ),
    ] = ()
    min_valid: Annotated[
        float,
        Option(
            "numbers",
            _fraction,
            "The least fraction of a window's cells that have to count; with fewer it is a gap.",
            Shell(metavar="F", parse=_real),
        ),
    ] = 0.0
    slice: Annotated[
        Samples | None,
        Option(
            WORK,
            _slice,
            "Pool only samples A to B of the first axis, into a shard: NAME.pooled.A-B.EXT.",
            Shell(metavar="A:B", parse=parse_slice),
        ),
    ] = None
    max_memory: Annotated[
        int,
        Option(
            WORK,
            _count("a number of bytes"),
            "Bound of the buffers in bytes, whatever the shapes.",
            Shell(metavar="SIZE", parse=parse_bytes, default="256MiB"),
        ),
    ] = DEFAULT_MAX_MEMORY
    threads: Annotated[
        int | None,
        Option(
            WORK,
            _count("at least 1", or_none=True),
            "Threads.",
            Shell("-j", "--threads", metavar="N", parse=_number, default="the CPUs this process may use"),
        ),
    ] = None
    overwrite: Annotated[
        bool, Option(WORK, _truth, "Replace existing outputs.", Shell("-f", "--overwrite"))
    ] = False
    resume: Annotated[
        bool,
        Option(
            WORK,
            _truth,
            "Go on with an interrupted run: keep its work beside the output, and skip complete outputs.",
        ),
    ] = False
    dry_run: Annotated[
        bool,
        Option(
            WORK, _truth, "Show the plan: shapes, bytes, memory; write nothing.", Shell("-n", "--dry-run")
        ),
    ] = False

    def __post_init__(self, size: OutputSize | EllipsisType) -> None:
        if size is not ...:
            if self.sizes:
                raise ArgumentError("`size` and `sizes` exclude each other")
            object.__setattr__(self, "sizes", (pair_of(size),))
        for name, option in declared().items():
            object.__setattr__(self, name, option.check(name, getattr(self, name)))
        if self.flatten and self.layout.startswith("H"):
            raise ArgumentError(f"`flatten` keeps the first axis, which `layout` {self.layout!r} has pooled")
        if self.slice is not None and self.layout.startswith("H"):
            raise ArgumentError(
                f"`slice` takes samples of the first axis, which `layout` {self.layout!r} has pooled"
            )

    @classmethod
    def helps(cls) -> dict[str, str]:
        """What every keyword means."""
        size: Any = cls.__dataclass_fields__["size"].type
        return {"size": size.type.__metadata__[0].meaning} | {
            n: option.meaning for n, option in declared().items()
        }

    @property
    def pairs(self) -> tuple[Size, ...]:
        """`sizes` as they are kept."""
        return self.sizes  # type: ignore[return-value]  # as `_sizes` returns them

    @property
    def height_axis(self) -> int:
        """The first of the two axes that are pooled."""
        return self.layout.index("H")

    @property
    def names(self) -> tuple[str, str] | None:
        """The names of these two axes, where they are chosen by name."""
        return None if self.dims is None else parse_dims(self.dims)

    @property
    def workers(self) -> int:
        """Threads to use."""
        from lucid.threads import available_cpus

        return self.threads or available_cpus()

    def result(self, *, only: str | None = None) -> dict[str, Any]:
        """The options that make a difference to the result, as JSON has them; of one group or of all."""
        return {
            name: getattr(self, name)
            for name, option in declared().items()
            if option.group != WORK and only in (None, option.group)
        }

    @classmethod
    def of_result(cls, facts: dict[str, Any], **others: Any) -> Self:
        """Options that have this `result`.

        Raises
        ------
        ArgumentError, TypeError
            It is the result of none.

        """
        return cls(**facts, **others)


_DECLARED: Mapping[str, Option] = MappingProxyType(
    {field.name: field.type.__metadata__[0] for field in fields(Options)}  # type: ignore[union-attr]
)


def declared() -> Mapping[str, Option]:
    """Every option by its name."""
    return _DECLARED


def flags_of(name: str) -> tuple[str, ...]:
    """The flags of an option, the last one its name in the shell."""
    return declared()[name].shell.flags or (f"--{name.replace('_', '-')}",)


def in_shell_words(text: str) -> str:
    """A message with the names of options as the shell has them.

    >>> in_shell_words("needs `max_memory` of 9; `overwrite=True` replaces it, or `layout='NHWC'`")
    'needs --max-memory of 9; -f replaces it, or --layout NHWC'
    """
    names = {name: flags_of(name) for name in declared()} | {"size": ("--size",), "target": ("-o",)}

    def in_shell(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in names:
            return match[0]
        if value == "True":
            return names[name][0]
        return names[name][-1] if value is None else f"{names[name][-1]} {value.strip(chr(39))}"

    return re.sub(r"`(\w+)(?:=([^`]*))?`", in_shell, text)
