"""`pack_files`: many inputs to one output, in which each stands under its name.

The arrays of all inputs are those of one source, so that planning, pooling and writing are as for one file.
Shapes are read in a first pass over the inputs and cells in a second, with one input open at a time.
"""

import os
import threading
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from lucid import job_plan
from lucid.arguments import PATH, PATHS, PROGRESS, options_of
from lucid.backlog import Backlog, Table
from lucid.errors import ArgumentError, FormatError, LucidError, about
from lucid.execution import carry_out, rehearse
from lucid.formats.arrays import Array, ArraySpec
from lucid.formats.contract import Source
from lucid.formats.disk.names import is_same_file
from lucid.formats.regions import Region
from lucid.formats.registry import FORMATS, NPY, format_of_content, format_of_suffix
from lucid.inputs import NO_FILE_NOTE, LeftOutError, Task, find_inputs, leave_out_earlier
from lucid.job_plan import choose
from lucid.notes import notes_on
from lucid.options import Options
from lucid.outputs import FilePath, Target, settle, stem_of
from lucid.report import OnProgress, Report, Watch

_NOT_CARRIED = "attributes, labels and whatever else inputs hold are not carried into a pack"


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
        As in `pool_file`, but for `resume` and `slice`.

    Returns
    -------
    A `Report` on the output.

    Raises
    ------
    LucidError
        An input cannot be pooled, or two have one name. No output is left: a pack holds all its inputs.

    """
    paths = PATHS.check("sources", sources)
    PATH.check("target", target)
    PROGRESS.check("on_progress", on_progress, takes_none=True)
    for source, outcome in pack(paths, Path(target), options_of(options), on_progress=on_progress):
        if not isinstance(outcome, Report | LeftOutError):
            raise type(outcome)(f"{source}: {outcome}") from outcome
    assert isinstance(outcome, Report)
    return outcome


def pack(
    names: Sequence[str], path: Path, options: Options, *, on_progress: OnProgress | None = None
) -> Backlog[tuple[str, Report | Exception]]:
    """Make a pack under options that are checked: what became of inputs that are not in it, and of the pack itself."""
    target = _target_of(path, options)
    # The source of the pack is the folder in which all inputs lie, or the only input.
    common = names[0] if len(names) == 1 else os.path.commonpath([os.path.abspath(name) for name in names])
    watch = Watch(source=Path(common), on_progress=on_progress)
    settle((target,), (), options, watch)
    with _PackSource(watch.source, options) as source:
        outcomes = source.gather(names, target)
        failures = sum(not isinstance(error, LeftOutError) for _, error in outcomes)
        if failures:
            outcomes.append((str(path), LucidError(f"is not made, since {failures:,} of its inputs failed")))
            return outcomes
        plan = job_plan.plan(source, options, (target,))
        watch.notes += [*source.notes, *notes_on(plan, None)]
        if options.dry_run:
            rehearse(plan, source, watch)
        else:
            carry_out(plan, source, watch)
        watch.datasets = plan.reports()
        outcomes.append((str(path), watch.report(options)))
        return outcomes


def _target_of(path: Path, options: Options) -> Target:
    """The output, if it is one that a pack can be."""
    for name in ("resume", "slice"):
        if getattr(options, name):
            raise ArgumentError(f"`{name}` is for one input at a time; a pack is made whole")
    options.require_size()
    format_ = format_of_suffix(path)
    if not format_.holds_many:
        suffixes = ", ".join(f.suffixes[0] for f in FORMATS if f.holds_many)
        raise ArgumentError(f"{path} holds one array; a pack is one of {suffixes}")
    return Target(path, format_, tuple(range(len(options.sizes))))


class _Member(NamedTuple):
    """Where an array of a pack is: as it is in an input, and which input."""

    spec: ArraySpec
    source: str


class _PackSource(Source):
    """The arrays of many inputs as those of one."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        self._arrays = Backlog[ArraySpec]()
        #: The inputs in which they are, by their names in the pack.
        self._sources = Table[str]()
        #: The input that is open, and its name.
        self._source: Source | None = None
        self._name = ""
        self._lock = threading.Lock()

    def gather(self, names: Sequence[str], target: Target) -> Backlog[tuple[str, Report | Exception]]:
        """Take in the arrays of all inputs; which inputs are left out, or fail, and why."""
        errors = Backlog[tuple[str, Report | Exception]]()
        for task in find_inputs(names):
            try:
                if task.error is not None:
                    raise task.error
                self._add(task, target)
            except ArgumentError:
                raise
            except LucidError as error:
                errors.append((task.source, task.reason(error, self.options)))
        if not self._arrays and all(isinstance(error, LeftOutError) for _, error in errors):
            for name in names:
                errors.append((name, FormatError(NO_FILE_NOTE)))
        if target.format.has_groups:
            self._refuse_groups()
        return errors

    def _add(self, task: Task, target: Target) -> None:
        """Take in the arrays of an input."""
        path = Path(task.source)
        if task.is_from_folder and is_same_file(path, target.path):
            raise LeftOutError("it is the output")
        format_ = format_of_content(path)
        target.refuse_input(path)
        with format_.open(path, self.options) as source:
            if task.is_from_folder:
                leave_out_earlier(source)
            specs = choose(source, self.options)
            self.notes += source.notes
        if format_ != NPY and self.options.carry and _NOT_CARRIED not in self.notes:
            self.notes.append(_NOT_CARRIED)
        key = "/" + os.path.join(task.folder or "", stem_of(path)).replace(os.sep, "/")
        for spec in specs:
            name = key + spec.name if len(specs) > 1 else key
            if self._sources.add(name, task.source):
                self._arrays.append(spec._replace(name=name, handle=_Member(spec, task.source)))
            elif (other := self._sources.get(name)) != task.source:
                raise ArgumentError(
                    f"{other} and {task.source} would both be {name} in the pack; rename one, or pack them apart"
                )

    def _refuse_groups(self) -> None:
        """Raise where a name would be both an array and a group of arrays."""
        for spec in self._arrays:
            for parent in accumulate(spec.name.split("/")[:-1], "{}/{}".format):
                if parent in self._sources:
                    others = " or ".join(f.suffixes[0] for f in FORMATS if f.holds_many and not f.has_groups)
                    raise ArgumentError(
                        f"{self._sources.get(parent)} would be an array {parent} in the pack, and {spec.handle.source} "
                        f"lie in a group of that name; rename one, or pack to {others}"
                    )

    def choose(self, patterns: Sequence[str]) -> Sequence[ArraySpec]:  # noqa: ARG002  (each input has them)
        """All arrays, which were chosen in their inputs."""
        return self._arrays

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region of an array from its input, which stays open until all of its arrays are read."""
        member: _Member = spec.handle
        with about(member.source):
            with self._lock:
                if member.source != self._name or self._source is None:
                    self.check_unchanged()
                    self.close()
                    path = Path(member.source)
                    self._source, self._name = format_of_content(path).open(path, self.options), member.source
                    self._specs = Table[ArraySpec]()
                    for one in choose(self._source, self.options):
                        self._specs.add(one.name, one)
                if self._specs.get(member.spec.name) != member.spec:
                    raise FormatError("changed while it was read")
                source = self._source
            return source.read(member.spec, region, buffer)

    def check_unchanged(self) -> None:
        """Raise if the input that is open was written to."""
        if self._source is not None:
            with about(self._name):
                self._source.check_unchanged()

    def close(self) -> None:
        """Close the input that is open."""
        if self._source is not None:
            self._source.close()
            self._source = None
