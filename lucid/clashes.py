"""Which outputs are those of several inputs, or inputs themselves: found before any work, however many there are."""

import os
from array import array
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lucid.errors import ArgumentError
from lucid.inputs import is_stream
from lucid.outputs import FilePath, Target
from lucid.tasks import Naming, Task


class Clashes:
    """Which paths are those of several inputs and outputs.

    Of each path a number of eight bytes is remembered, by which it may be one of several. Only those are compared by
    name.
    """

    def __init__(self, naming: Naming) -> None:
        self._naming = naming
        self._folder = self._real_folder = ""
        self._inputs, self._outputs = array("q"), array("q")
        #: Of paths that are compared: whose outputs they are, and which input has it.
        self._owners = defaultdict[str, list[Task]](list)
        self._sources: dict[str, Path] = {}
        #: Inputs that were found in a folder and are the outputs of others: of which ones.
        self.makers: dict[str, str] = {}

    def add(self, task: Task) -> None:
        """Note the paths of a task."""
        if not task.is_stream:
            self._inputs.append(hash(self._real(task.source)))
        self._outputs.extend(hash(self._real(target.path)) for target in task.targets)

    def compare(self, tasks: Iterable[Task], names: Iterable[str]) -> None:
        """Find paths that are one, of the tasks that were added and of what was named as inputs.

        Raises
        ------
        ArgumentError
            All outputs have one name.

        """
        named = {self._real(name): Path(name) for name in names if not is_stream(name)}
        self._inputs.extend(map(hash, named))
        numbers, counts = np.unique(np.frombuffer(self._outputs, np.int64), return_counts=True)
        known = {*numbers[(counts > 1) | np.isin(numbers, self._inputs)].tolist()}
        sources: list[tuple[str, Task]] = []
        for task in tasks if known else ():
            for path in (self._real(target.path) for target in task.targets):
                if hash(path) in known:
                    self._owners[path].append(task)
            path = "" if task.is_stream or task.error else self._real(task.source)
            if hash(path) in known:
                sources.append((path, task))
        for path, task in sources:
            others = [owner.source for owner in self._owners[path] if owner.source != task.source]
            if task.is_found and others:
                self.makers[task.source] = others[0]
            else:
                self._sources[path] = task.path
        self._sources |= named
        for path, owners in self._owners.items():
            self._owners[path] = [owner for owner in owners if owner.source not in self.makers]
            if self._naming.is_one_name and len(self._owners[path]) > 1:
                raise ArgumentError(
                    f"{self._owners[path][0].source} {self.conflict_of(self._owners[path][0])}"
                )

    def input_at(self, target: Target) -> Path | None:
        """The input that is where an output would be."""
        return self._sources.get(self._real(target.path))

    def conflict_of(self, task: Task) -> str:
        """Why a task cannot have its outputs, if others would have them, too."""
        for target in task.targets if self._owners else ():
            owners = self._owners.get(self._real(target.path), ())
            others = [other for other in owners if other.source != task.source]
            if others:
                more = f" and {len(others) - 1} more" if len(others) > 1 else ""
                remedy = self._naming.remedy(target, task.path, others[0].path, count=len(task.targets))
                return f"would be written to {target.path}, as {others[0].source}{more} would; {remedy}"
        return ""

    def _real(self, path: FilePath) -> str:
        """A path without links; that of the folder is found once for all that follow each other in it."""
        folder, name = os.path.split(path)
        if name in ("", os.curdir, os.pardir) or os.path.islink(path):  # noqa: PTH114
            return os.path.realpath(path)
        if folder != self._folder or not self._real_folder:
            self._folder, self._real_folder = folder, os.path.realpath(folder)
        return os.path.join(self._real_folder, name)
