"""`pool_file`: one input to its outputs, where all the parts meet."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

from lucid.errors import ArgumentError, FileError, LucidError
from lucid.formats.compression import parse_compression
from lucid.formats.contract import Making, Reading
from lucid.formats.meaning import parse_missing
from lucid.formats.stream import STREAM, Stream
from lucid.naming import Size, size_name
from lucid.nn.functional import NanRule, OutputSize, check_dimension, check_threads
from lucid.parallel import available_cpus
from lucid.pooling.dtypes import FLOATS
from lucid.report import OnProgress, Report, peak_memory_bytes
from lucid.streams import pool_stream
from lucid.work import Work

DEFAULT_MAX_MEMORY = 256 << 20

FilePath: TypeAlias = str | os.PathLike[str]


def pool_file(
    source: FilePath | BinaryIO,
    target: FilePath | BinaryIO | None = None,
    *,
    size: OutputSize | list[OutputSize],
    datasets: Sequence[str] = (),
    layout: str = "NCHW",
    flatten: bool = False,
    dtype: str | None = None,
    input_dtype: str | None = None,
    nan: NanRule | None = None,
    missing: Sequence[str | int | float] = (),
    slice: slice | None = None,  # noqa: A002  (it takes a `slice`, and is the command's option)
    allow_external: bool = False,
    carry: bool = True,
    compression: str = "keep",
    max_memory: int = DEFAULT_MAX_MEMORY,
    threads: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
) -> Report:
    """Pool the spatial axes of the arrays in a file, and write them to another.

    Parameters
    ----------
    source
        A `.npy` or HDF5 file, told apart by content; or a binary stream of one, or of several
        `.npy` arrays one after another.
    target
        The output; its suffix picks the format, `{stem}` and `{size}` are filled in. By default
        `NAME.pooled.EXT` beside the source, in the source's format. Or a binary stream, which
        takes `.npy` arrays.
    size
        As `output_size` of `lucid.nn.AdaptiveAvgPool2d`; or a list of several, for all of which the
        input is read once. Each has a `.npy` file or an HDF5 dataset with the size in its name.
    datasets
        HDF5 paths or glob patterns of what to pool; by default all datasets of numbers with
        as many axes as `layout`.
    layout
        One letter for each axis, with "HW" in them: "NCHW", "NHWC", "CHW", "NTCHW", …
    flatten
        Write each pooled dataset as (N, everything else).
    dtype
        dtype of the means: "float16", "bfloat16", "float32" or "float64".
    input_dtype
        "bfloat16" if two-byte elements without a type, as ml_dtypes arrays are saved, are that.
    nan
        As in `lucid.nn.functional.adaptive_avg_pool2d`; by default "propagate", but "skip" for arrays
        whose file names NaN as a mark of missing cells.
    missing
        Values of cells that count as nothing, added to those that attributes name; "none" turns these off.
    slice
        Pool these samples only, such as `slice(0, 1000)` of the first axis, into a shard;
        `lucid.merge_files` joins shards that make up the whole.
    allow_external
        HDF5: read datasets that keep their elements in other files.
    carry
        HDF5: carry over unchanged what is not pooled.
    compression
        HDF5: "keep" as the source has it, "none", "gzip", "lzf", "zstd", "blosc-lz4", …, with a
        level after a colon.
    max_memory
        Bytes that the buffers may take, whatever the shapes.
    threads
        By default the CPUs that this process may use.
    overwrite
        Replace existing targets.
    resume
        Continue an interrupted call with `resume`; outputs that are there already are complete, and
        left as they are. Until then the work done is kept beside the output.
    dry_run
        Plan and report, write nothing.
    on_progress
        Called from this thread as the work goes on.

    Returns
    -------
    A `Report`: shapes, bytes, seconds.

    Raises
    ------
    LucidError
        One of `lucid.errors`; its text is one line that says what is wrong. No output is left.

    """
    start = time.perf_counter()
    _check_options(layout, dtype, input_dtype, nan, max_memory, flatten=flatten)
    _check_slice(slice, layout)
    parse_compression(compression)
    workers = available_cpus() if threads is None else check_threads(threads)
    sizes = [pair_of(one) for one in (size if isinstance(size, list) else [size])]
    names = [size_name(one) for one in sizes]
    if len(set(names)) < len(names) or not names:
        raise ArgumentError(f"`size` is {', '.join(names) or 'empty'}; expected different sizes")
    work = Work(
        sizes=sizes,
        datasets=datasets,
        layout=layout,
        flatten=flatten,
        dtype=dtype,
        reading=Reading(input_dtype, allow_external, parse_missing(missing), nan),
        nan=nan,
        max_memory=max_memory,
        workers=workers,
        making=Making(overwrite=overwrite, carry=carry, compression=compression, workers=workers),
        resume=resume,
        dry_run=dry_run,
        on_progress=on_progress,
        part=slice,
    )
    if slice is not None and not isinstance(source, str | os.PathLike):
        raise ArgumentError("`slice` needs a file; a stream has no samples to choose from")
    if slice is not None and target is not None and hasattr(target, "write"):
        raise ArgumentError("`slice` makes a shard, which needs a file")
    if resume and not (isinstance(source, str | os.PathLike) and isinstance(target, FilePath | None)):
        raise ArgumentError("`resume` needs files; a stream cannot be read or written again")
    output = target if target is None or hasattr(target, "write") else os.fspath(target)
    try:
        if not isinstance(source, str | os.PathLike):
            pool_stream(work, Stream(source), output)
        else:
            work.pool_path(Path(source), output)
    except (LucidError, BrokenPipeError):
        raise
    except OSError as error:  # from a system call that seldom fails: a lock, a look at a folder
        raise FileError(f"cannot be read or written: {error.strerror or error}") from error
    return Report(
        Path(source) if isinstance(source, str | os.PathLike) else STREAM,
        tuple(dict.fromkeys(d.target for d in work.done)),
        tuple(work.done),
        work.seconds.read,
        work.seconds.pool,
        work.seconds.write,
        time.perf_counter() - start,
        workers,
        max_memory,
        peak_memory_bytes(),
        dry_run,
        work.skipped,
        tuple(dict.fromkeys(work.notes)),
    )


def pair_of(size: OutputSize) -> Size:
    """A size as rows and columns."""
    both = size if isinstance(size, tuple | list) else (size, size)
    if len(both) != 2:
        raise ArgumentError(f"`size` is {size!r}; expected one or two dimensions")
    rows, cols = (None if n is None else check_dimension(n) for n in both)
    return rows, cols


def _check_slice(part: slice | None, layout: str) -> None:
    if part is None:
        return
    start, stop = part.start or 0, part.stop
    if part.step not in (None, 1) or start < 0 or (stop is not None and stop <= start):
        raise ArgumentError(f"`slice` is {part}; expected A:B with 0 <= A < B")
    if layout.startswith("H"):
        raise ArgumentError(f"`slice` cuts the first axis, which `layout` {layout!r} has pooled")


def _check_options(
    layout: str,
    dtype: str | None,
    input_dtype: str | None,
    nan: str | None,
    max_memory: int,
    *,
    flatten: bool,
) -> None:
    if (
        "HW" not in layout
        or len(set(layout)) != len(layout)
        or not layout.isalpha()
        or layout != layout.upper()
    ):
        raise ArgumentError(
            f"`layout` is {layout!r}; expected different capital letters with HW in them, such as NCHW"
        )
    if flatten and layout.startswith("H"):
        raise ArgumentError(f"`flatten` keeps the first axis, which `layout` {layout!r} has pooled")
    if dtype is not None and dtype not in FLOATS:
        raise ArgumentError(f"`dtype` is {dtype!r}; expected one of {', '.join(FLOATS)}")
    if input_dtype not in (None, "bfloat16"):
        raise ArgumentError(f"`input_dtype` is {input_dtype!r}; expected 'bfloat16'")
    if nan not in (None, "propagate", "skip"):
        raise ArgumentError(f"`nan` is {nan!r}; expected 'propagate' or 'skip'")
    if max_memory < 1:
        raise ArgumentError(f"`max_memory` is {max_memory}; expected a number of bytes")
