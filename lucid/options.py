"""Every option once: name, type, default, kind, help.

From these rows come the flags of the command, the keywords of `lucid.pool_file` with the lines of its docstring, the
variables of the environment, and the JSON that provenance and shards carry. `Options` is one value, checked when it
comes to be; whatever is below takes it as it is.
"""

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field, fields, replace
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, get_args

from lucid import kinds
from lucid.compression import COMPRESSION
from lucid.errors import ArgumentError
from lucid.kinds import Kind, NanRule
from lucid.missing import MISSING
from lucid.sizes import SIZE, SIZES, OutputSize, Size, size_name

if TYPE_CHECKING:
    import numpy.typing as npt

Input = TypeVar("Input", contravariant=True)
Value = TypeVar("Value", covariant=True)
Reduction: TypeAlias = Literal["mean", "max", "min", "sum"]
#: Samples of the first axis; a field is called `slice` below.
Samples: TypeAlias = slice
#: The group of the options that make no difference to the bytes of the result.
WORK = "work"
#: Of these the ones that a merge takes; all else its shards know.
MERGE = ("max_memory", "threads", "overwrite", "dry_run")


class Field(Protocol[Input, Value]):
    """The type of a field that is given in one form and kept in another, as type checkers understand it."""

    def __get__(self, options: object, owner: Any) -> Value: ...
    def __set__(self, options: object, value: Input) -> None: ...


@dataclass(frozen=True)
class Option:
    """How an option is declared, but for its name and type."""

    #: Where the command's help lists it.
    group: str
    default: Any
    kind: Kind
    help: str
    #: The command's flags, the last one its name in the shell; by default the name of the field.
    flags: tuple[str, ...] = ()
    #: The default as a person reads it, where the value does not tell.
    shown: str = ""

    def check(self, name: str, value: Any) -> Any:
        """The value as it is kept; the error for a wrong one speaks of it by `name`."""
        return self.kind.check(name, value, takes_none=self.default is None)


def option(group: str, default: Any, kind: Kind, help_: str, flags: str = "", shown: str = "") -> Any:
    """A field of `Options`."""
    row = Option(group, default, kind, help_, flags=tuple(flags.split()), shown=shown)
    return field(default=default, metadata={"option": row})


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a call, checked. `Options()` has no size yet: enough to look into a file."""

    size: InitVar[OutputSize | EllipsisType] = option(
        "output",
        ...,
        SIZE,
        "Output grid, as `output_size` of `lucid.nn.AdaptiveAvgPool2d`, or as in the shell: '4x5'.",
    )
    sizes: Field[Sequence[OutputSize], tuple[Size, ...]] = option(
        "output",
        (),
        SIZES,
        "Output grid: 4, 4 5, 4x5 or 4,5; `keep` keeps a dimension, /2 or 50% is that share of it. Several are done in "
        "one pass.",
        "-s --size",
        "required",
    )
    datasets: Sequence[str] = option(
        "input",
        (),
        kinds.NAMES,
        "Pool only these: paths in the file, or globs.",
        "-d --dataset",
        "all that fit the layout",
    )
    layout: str = option(
        "input", "NCHW", kinds.LAYOUT, "Axis letters with HW (or YX) in them: NCHW, NHWC, CHW, NTCHW, …"
    )
    dims: Field[str | Sequence[str] | None, tuple[str, str] | None] = option(
        "input",
        None,
        kinds.DIMS,
        "The two axes by the names of their dimensions, in arrays of any rank that have both.",
        shown="by the layout",
    )
    input_dtype: str | None = option(
        "input", None, kinds.dtype_of("bfloat16"), "What two-byte elements without a type are."
    )
    allow_external: bool = option(
        "input",
        False,
        kinds.TRUTH,
        "Read what keeps its elements in other files, and follow links out of a store.",
    )
    carry: bool = option("output", True, kinds.TRUTH, "Carry over unchanged what is not pooled.")
    drop: Sequence[str] = option(
        "output",
        (),
        kinds.NAMES,
        "Leave these out of what is carried over: paths in the file, or globs.",
        shown="nothing",
    )
    compression: str = option(
        "output",
        "keep",
        COMPRESSION,
        "keep (as the source has it), none, gzip, lzf; with the extra `filters` zstd, lz4, bitshuffle, blosc, "
        "blosc-zstd, …",
    )
    flatten: bool = option("output", False, kinds.TRUTH, "Write each pooled dataset as (N, everything else).")
    dtype: Field["npt.DTypeLike | None", str | None] = option(
        "numbers",
        None,
        kinds.dtype_of("float16", "bfloat16", "float32", "float64", "keep"),
        "dtype of the results; keep is the input's own, integers rounded to nearest.",
        shown="as the input",
    )
    reduce: Reduction = option(
        "numbers", "mean", kinds.one_of(*get_args(Reduction)), "What is made of the cells of a window."
    )
    nan: NanRule | None = option(
        "numbers",
        None,
        kinds.NAN,
        "NaN in a window gives NaN, or counts as nothing.",
        shown="propagate; skip where the file names NaN as missing",
    )
    missing: Sequence[str | float] = option(
        "numbers",
        (),
        MISSING,
        "Cells of this value count as nothing, as those that attributes name (`_FillValue`, `missing_value`) do; none "
        "turns these off.",
        shown="what the file names",
    )
    min_valid: float = option(
        "numbers",
        0.0,
        kinds.FRACTION,
        "The least fraction of a window's cells that have to count; with fewer it is a gap.",
    )
    slice: Field[str | Samples | None, Samples | None] = option(
        WORK,
        None,
        kinds.SAMPLES,
        "Pool only samples A to B of the first axis, into a shard: NAME.pooled.A-B.EXT.",
    )
    max_memory: Field[int | str, int] = option(
        WORK, 256 << 20, kinds.BYTES, "Bound of the buffers in bytes, whatever the shapes.", shown="256MiB"
    )
    threads: int | None = option(
        WORK, None, kinds.COUNT, "Threads.", "-j --threads", "the CPUs this process may use"
    )
    overwrite: bool = option(WORK, False, kinds.TRUTH, "Replace existing outputs.", "-f --overwrite")
    resume: bool = option(
        WORK,
        False,
        kinds.TRUTH,
        "Go on with an interrupted run: keep its work beside the output, and skip complete outputs.",
    )
    dry_run: bool = option(
        WORK, False, kinds.TRUTH, "Show the plan: shapes, bytes, memory; write nothing.", "-n --dry-run"
    )

    def __post_init__(self, size: OutputSize | EllipsisType) -> None:
        if size is not ...:
            if self.sizes:
                raise ArgumentError("`size` and `sizes` exclude each other")
            object.__setattr__(self, "sizes", (SIZE.check("size", size),))
        for name, row in option_rows().items():
            object.__setattr__(self, name, row.check(name, getattr(self, name)))
        if len({*self.sizes}) < len(self.sizes):
            raise ArgumentError(
                f"`sizes` is {', '.join(map(size_name, self.sizes))}; expected different sizes"
            )
        for name in ("flatten", "slice"):
            if getattr(self, name) and self.layout.startswith("H"):
                raise ArgumentError(
                    f"`{name}` needs the first axis, which is pooled in `layout` {self.layout!r}"
                )

    def require_size(self) -> None:
        """Raise if there is no size yet."""
        if not self.sizes:
            raise ArgumentError("`size` is missing; expected the output grid")

    @property
    def height_axis(self) -> int:
        """The first of the two axes that are pooled."""
        return self.layout.index("H")

    @property
    def workers(self) -> int:
        """Threads to use."""
        from lucid.threads import thread_count  # `--help` does without

        return thread_count(self.threads)

    def workers_for(self, size_bytes: int) -> int:
        """How many of them have room where each takes so many bytes; one at least."""
        return max(1, min(self.workers, self.max_memory // max(1, size_bytes)))

    def result(self, *, only: str | None = None) -> dict[str, Any]:
        """The options that make a difference to the result, as JSON has them; of one group or of all."""
        rows = ((row.name, row.metadata["option"].group) for row in fields(self))
        return {name: getattr(self, name) for name, group in rows if group != WORK and only in (None, group)}


def option_rows(of: type = Options) -> dict[str, Option]:
    """Every option by its name, with its flags."""
    rows = ((row.name, row.metadata["option"]) for row in fields(of) if "option" in row.metadata)
    return {name: replace(row, flags=row.flags or (f"--{name.replace('_', '-')}",)) for name, row in rows}
