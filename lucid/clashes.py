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


class Paths:
    """Which paths are those of several inputs and outputs.

    Of each path a number is remembered, by which it may be one of several. Only those are compared by name.
    """

    def __init__(self) -> None:
        self._folder = self._real_folder = ""
        self._inputs, self._outputs = array("q"), array("q")
        #: Of paths that are compared: whose outputs they are, and which input has it.
        self._owners: dict[str, list[Task]] = defaultdict(list)
        self._sources: dict[str, Path] = {}
        #: Inputs that were found in a folder and are the outputs of others: of which ones.
        self.makers: dict[str, str] = {}

    def add(self, task: Task) -> None:
        """Note the paths of a task."""
        if not task.is_stream:
            self._inputs.append(hash(self._real(task.source)))
        self._outputs.extend(hash(self._real(target.path)) for target in task.targets)

    def compare(self, tasks: Iterable[Task], names: Iterable[str]) -> None:
        """Find paths that are one, of these tasks and of what was named as inputs."""
        named = {os.path.realpath(name): Path(name) for name in names if not is_stream(name)}
        self._inputs.extend(map(hash, named))
        inputs = np.frombuffer(self._inputs, np.int64)
        outputs = np.sort(np.frombuffer(self._outputs, np.int64))
        again = outputs[1:][outputs[1:] == outputs[:-1]]
        known = {*again.tolist(), *outputs[np.isin(outputs, inputs)].tolist()}
        for task in tasks if known else ():
            path = self._real(task.source)
            if hash(path) in known and not task.is_stream:
                self._sources[path] = task.path
            for target in task.targets:
                path = self._real(target.path)
                if hash(path) in known:
                    self._owners[path].append(task)
        for task in tasks if self._sources else ():
            owners = self._owners.get(self._real(task.source), ()) if task.is_found else ()
            maker = next((owner.source for owner in owners if owner.source != task.source), None)
            if maker is not None:
                self.makers[task.source] = maker
        for path, owners in self._owners.items():
            self._owners[path] = [owner for owner in owners if owner.source not in self.makers]
        self._sources = {path: one for path, one in self._sources.items() if str(one) not in self.makers}
        self._sources |= named

    def input_at(self, target: Target) -> Path | None:
        """The input that is where an output would be."""
        return self._sources.get(self._real(target.path))

    def clash_of(self, task: Task, naming: Naming) -> str:
        """Why a task cannot have its output, if others would have it, too.

        Raises
        ------
        ArgumentError
            It is the one name of all outputs.

        """
        conflict = ""
        for target in task.targets:
            owners = self._owners.get(self._real(target.path), ())
            others = [other for other in owners if other.source != task.source]
            if not others:
                continue
            remedy = naming.remedy(target, task.path, others[0].path, count=len(task.targets))
            if naming.is_one_name:
                raise ArgumentError(
                    f"{task.source} and {others[0].source} would both be written to {target.path}; {remedy}"
                )
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            conflict = f"would be written to {target.path}, as {others[0].source}{more} would; {remedy}"
        return conflict

    def _real(self, path: FilePath) -> str:
        """A path without links; that of the folder is found once for all that follow each other in it."""
        folder, name = os.path.split(path)
        if name in ("", os.curdir, os.pardir) or os.path.islink(path):  # noqa: PTH114
            return os.path.realpath(path)
        if folder != self._folder or not self._real_folder:
            self._folder, self._real_folder = folder, os.path.realpath(folder)
        return os.path.join(self._real_folder, name)
