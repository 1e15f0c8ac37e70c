"""`pack_files`: many inputs to one output, in which each stands under its name.

The arrays of all inputs are those of one source, so that planning, pooling and writing are as for one file.
Shapes are read in a first pass over the inputs and cells in a second, with one input open at a time.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lucid.errors import (
    ArgumentError,
    FileError,
    FormatError,
    LucidError,
)
from lucid.execution import carry_out
from lucid.formats.contract import Array, ArraySpec, Region, Source, named
from lucid.formats.disk.replacement import remove_stale
from lucid.formats.registry import FORMATS, NPY, format_of_content, format_of_suffix
from lucid.inputs import EARLIER, Found, find_inputs, misfit
from lucid.job import check_progress, options_of
from lucid.job_plan import choose, plan
from lucid.mistakes import lost_scales, probable_mistakes
from lucid.options import Options
from lucid.outputs import FilePath, Target, check_path, is_same_file, stem_of
from lucid.report import OnProgress, Report, Watch

#: Suffixes of formats in which arrays with names that have slashes in them lie in groups.
_WITH_GROUPS = ("HDF5", "Zarr")


class Pack(NamedTuple):
    """What became of a pack: its report, unless inputs failed; files of folders that are left out."""

    report: Report | None
    failures: dict[str, LucidError]
    left_out: dict[str, str]


def pack_files(
    sources: FilePath | Sequence[FilePath],
    target: FilePath,
    *,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> Report:
    """Pool the arrays of many files, and write them to one.

    Parameters
    ----------
    sources
        Files, and folders, which stand for all files in them that can be read.
    target
        The output: HDF5, Zarr, `.npz` or safetensors, by its suffix. The array of `FOLDER/a/b.npy` is called `a/b`
        there; where a file has several, their names follow, as in `a/b/layer1`.
    on_progress
        Called from this thread as the work goes on.
    **options
        As in `pool_file`.

    Returns
    -------
    A `Report` on the output.

    Raises
    ------
    LucidError
        An input cannot be pooled, or two have one name. No output is left: a pack holds all its inputs.

    """
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    if not isinstance(sources, Iterable) or not (names := list(sources)):
        raise ArgumentError(f"`sources` is {sources!r:.80}; expected files and folders")
    for path in (*names, target):
        check_path(path)
    check_progress(on_progress)
    done = pack(
        [os.fspath(name) for name in names], Path(target), options_of(options), on_progress=on_progress
    )
    for source, error in done.failures.items():
        raise type(error)(f"{source}: {error}") from error
    assert done.report is not None
    return done.report


def pack(
    names: Sequence[str], path: Path, options: Options, *, on_progress: OnProgress | None = None
) -> Pack:
    """The same with options that are checked already, and every failure told.

    Raises
    ------
    LucidError
        The output cannot be made.

    """
    begun = time.perf_counter()
    target = _target_of(path, options)
    notes = []
    try:
        target.refuse_existing(overwrite=options.overwrite)
    except LucidError as error:
        if not options.dry_run:
            raise
        notes.append(f"the run would fail: {error}")
    with _PackSource(_common(names), options) as source:
        failures, left_out = source.gather(names, target)
        if failures:
            return Pack(None, failures, left_out)
        job = plan(source, options, (target,))
        watch = Watch(source.path, on_progress, begun, targets=(target.path,))
        watch.notes += [*notes, *source.notes, *probable_mistakes(job), *lost_scales(job, "into a pack")]
        if options.dry_run:
            with target.create(options) as sink:
                sink.refuse(source, [array.pooled for array in job.every()])
                watch.note(sink)
        else:
            remove_stale(path.resolve().parent)
            carry_out(job, source, watch)
        watch.datasets += job.reports()
        return Pack(watch.report(options), {}, left_out)


def _target_of(path: Path, options: Options) -> Target:
    """The output, if it is one that a pack can be."""
    for name in ("resume", "slice"):
        if getattr(options, name):
            raise ArgumentError(f"`{name}` is for one input at a time; a pack is made whole")
    if not options.sizes:
        raise ArgumentError("`size` is missing; expected the output grid")
    format_ = format_of_suffix(path)
    if not format_.holds_many:
        known = ", ".join(f.suffixes[0] for f in FORMATS if f.holds_many)
        raise ArgumentError(f"{path} holds one array; a pack is one of {known}")
    return Target(path, format_, tuple(range(len(options.pairs))))


def _common(names: Sequence[str]) -> Path:
    """The folder that all inputs lie in, or the only one."""
    return Path(names[0] if len(names) == 1 else os.path.commonpath([os.path.abspath(n) for n in names]))  # noqa: PTH100


class _Member(NamedTuple):
    """An array of an input: as it is there, and where."""

    spec: ArraySpec
    source: str


class _PackSource(Source):
    """The arrays of many inputs as those of one."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        self._members: dict[str, _Member] = {}
        #: The input that is open.
        self._opened: Source | None = None
        self._name = ""
        self._lock = threading.Lock()

    def gather(self, names: Sequence[str], target: Target) -> tuple[dict[str, LucidError], dict[str, str]]:
        """Take in the arrays of all inputs; which inputs failed, and which files of folders are left out.

        Raises
        ------
        ArgumentError
            Two arrays would have one name.

        """
        failures, left_out = dict[str, LucidError](), dict[str, str]()
        formats: set[str] = set()
        for found in find_inputs(names):
            try:
                reason = found.left_out or self._add(found, target, formats)
                if reason:
                    left_out[found.source] = reason
            except ArgumentError:
                raise
            except LucidError as error:
                reason = misfit(error, self.options, is_found=found.place is not None)
                if reason:
                    left_out[found.source] = reason
                else:
                    failures[found.source] = error
        if not failures and not self._members:
            failures = {name: FormatError("holds no file that can be pooled") for name in names}
        if formats - {NPY.name} and self.options.carry:
            self.notes.append("attributes, labels and whatever else inputs hold are not carried into a pack")
        if target.format.name in _WITH_GROUPS:
            self._refuse_groups()
        return failures, left_out

    def _add(self, found: Found, target: Target, formats: set[str]) -> str:
        """Take in the arrays of an input; why it is left out, if it is."""
        if found.error is not None:
            raise found.error
        path = Path(found.source)
        if is_same_file(path, target.path):
            if found.place is None:
                raise FileError("is the output, too; an input is never changed")
            return "it is the output"
        format_ = format_of_content(path)
        with format_.open(path, self.options) as source:
            if found.place is not None and any(text for _, text in source.provenances()):
                return EARLIER
            specs = choose(source, self.options, (target,)).specs
            self.notes += source.notes
        formats.add(format_.name)
        key = "/" + os.path.join(found.place or "", stem_of(path)).replace(os.sep, "/")
        for spec in specs:
            name = key + spec.name if len(specs) > 1 else key
            other = self._members.get(name)
            if other is not None:
                raise ArgumentError(
                    f"{other.source} and {found.source} would both be {name} in the pack; "
                    "rename one, or pack them apart"
                )
            self._members[name] = _Member(spec, found.source)
        return ""

    def _refuse_groups(self) -> None:
        """Raise where a name would be both an array and a group of arrays."""
        for name, member in self._members.items():
            for parent in _parents(name):
                other = self._members.get(parent)
                if other is not None:
                    raise ArgumentError(
                        f"{other.source} would be an array {parent} in the pack, and {member.source} lie in a group of "
                        "that name; rename one, or pack to .safetensors or .npz"
                    )

    def arrays(self, rank: int) -> tuple[ArraySpec, ...]:
        """All arrays, which were chosen in their inputs."""
        del rank
        return tuple(member.spec._replace(name=name) for name, member in self._members.items())

    def choose(self, rank: int, *_: Any, **__: Any) -> tuple[ArraySpec, ...]:
        """The same."""
        return self.arrays(rank)

    def check_unchanged(self) -> None:
        """Raise if the input that is open was written to."""
        if self._opened is not None:
            with named(self._name):
                self._opened.check_unchanged()

    def signature(self, specs: Sequence[ArraySpec]) -> str:
        """None: a pack is made whole."""
        raise NotImplementedError

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region of an array from its input."""
        member = self._members[spec.name]
        with named(member.source):
            with self._lock:
                source = self._source_of(member)
            return source.read(member.spec, region, buffer)

    def _source_of(self, member: _Member) -> Source:
        """The input of an array, which is the one that is open until all of the array is read."""
        if member.source != self._name or self._opened is None:
            self.check_unchanged()
            self.close()
            path = Path(member.source)
            self._opened, self._name = format_of_content(path).open(path, self.options), member.source
            self._specs = set(choose(self._opened, self.options, ()).specs)
        if member.spec not in self._specs:
            raise FormatError("changed while it was read")
        return self._opened

    def close(self) -> None:
        """Close the input that is open."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _parents(name: str) -> Iterator[str]:
    """The groups that a name leads through."""
    at = name.find("/", 1)
    while at > 0:
        yield name[:at]
        at = name.find("/", at + 1)
