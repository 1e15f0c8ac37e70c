"""A temporary file for bytes that come in another order than they go on."""

from array import array
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from lucid.formats.arrays import Array, ResultSpec
from lucid.formats.disk.files import Start, claim, read_region, write_region
from lucid.formats.regions import Region, shape_of
from lucid.formats.resource import Resource


class Spool(Resource):
    """A file of which nothing is left, whatever happens; it may hold arrays of means.

    It has no name, or where it `has_name` one until somebody has opened it by that.
    """

    def __init__(self, folder: Path | None = None, *, has_name: bool = False) -> None:
        import tempfile  # most runs need none

        make: Any = partial(tempfile.NamedTemporaryFile, delete=False) if has_name else tempfile.TemporaryFile
        self.file: IO[bytes] = make(prefix="lucid-pool-", dir=folder)
        #: Empty where it has no name.
        self.path = Path(self.file.name if has_name else "")
        #: Where arrays begin, by their numbers; -1 for those that are not here.
        self._offsets = array("q")

    def hold(self, results: Iterable[ResultSpec]) -> None:
        """Make room for arrays, on disk as well, so that a full one is found now."""
        end = 0
        for result in results:
            self._offsets.extend([-1] * (result.number + 1 - len(self._offsets)))
            self._offsets[result.number] = end
            end += result.nbytes
        claim(self.file.fileno(), end)

    def start_of(self, result: ResultSpec) -> Start:
        """Where an array begins."""
        return self.file.fileno(), self._offsets[result.number]

    def write(self, result: ResultSpec, region: Region, values: Array) -> None:
        """Write a region of an array."""
        write_region(*self.start_of(result), result.shape, region, values)

    def read(self, result: ResultSpec, region: Region) -> Array:
        """Read a region of an array as it is stored."""
        values = np.empty(shape_of(region), result.dtype)
        flat = values.reshape(-1).view(np.uint8)
        read_region(*self.start_of(result), result.stored_shape, region, result.dtype.itemsize, flat)
        return values

    def empty(self) -> None:
        """Give back the room of arrays that come from elsewhere."""
        self.file.truncate(0)

    def forget(self) -> None:
        """Take its name away: the system removes it with the last that has it open."""
        if self.path.name:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it."""
        self.forget()
        with suppress(OSError):  # of what the disk had no room for, which has been told
            self.file.close()
