"""The one kind of temporary file: for what comes in another order than it goes on."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np

from lucid.formats.arrays import Array, ResultSpec
from lucid.formats.contract import Resource
from lucid.formats.disk.files import Place, claim, read_region, write_region
from lucid.formats.regions import Region, shape_of


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
        #: Where arrays begin, by their numbers.
        self._offsets: dict[int, int] = {}

    def hold(self, arrays: Sequence[ResultSpec], *, claims: bool = True) -> None:
        """Make room for arrays; `claims` it on disk, so that a full one is found now."""
        offsets = list(accumulate((array.nbytes for array in arrays), initial=0))
        self._offsets = {array.number: offset for array, offset in zip(arrays, offsets, strict=False)}
        if claims:
            claim(self.file.fileno(), offsets[-1])

    def place(self, result: ResultSpec) -> Place:
        """Where an array begins."""
        return self.file.fileno(), self._offsets[result.number]

    def write(
        self, result: ResultSpec, region: Region, values: Array, shape: tuple[int, ...] | None = None
    ) -> None:
        """Write a region of an array, by default of the shape that its means come in."""
        write_region(*self.place(result), shape or result.shape, region, values)

    def read(self, result: ResultSpec, region: Region) -> Array:
        """Read a region of an array as it is stored."""
        values = np.empty(shape_of(region), result.dtype)
        flat = values.reshape(-1).view(np.uint8)
        read_region(*self.place(result), result.stored_shape, region, result.dtype.itemsize, flat)
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
