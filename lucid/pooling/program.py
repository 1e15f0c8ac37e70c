"""Arrays in memory: cut into pieces for threads, and what is called for each.

A layer pools arrays of one shape again and again. So calls of compiled kernels are prepared once for a
geometry, and moved to where the next such array lies: with cold caches, preparing took 0.1 ms more, a tenth
of the time for 64x512x14x14 -> 1x1.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lucid.pooling.average import Part, Pooling, Span, Step
from lucid.pooling.stacks import stacks

if TYPE_CHECKING:
    from lucid.pooling.compiled.choice import Call, Calls

Array = npt.NDArray[Any]

#: Geometries that are remembered.
MOST = 64
#: What calls depend on: the program, and dtype, shape and strides of the array.
Geometry = tuple["Program", np.dtype[Any], tuple[int, ...], tuple[int, ...]]


class Program(NamedTuple):
    """How arrays in memory are pooled: the arithmetic, and into about how many pieces they are cut."""

    pooling: Pooling
    wanted: int

    def steps(self, source: Array, out: Array) -> list[Step]:
        """What is to be called to store the means of an array, in any order or at once.

        Parameters
        ----------
        source
            (..., height, width), any strides.
        out
            (..., rows, columns), contiguous.

        """
        if not (self.pooling.may_be_compiled and source.size):
            return [step for piece in self._pieces(source, out) for step in self.pooling.steps(*piece)]
        geometry = self, source.dtype, source.shape, source.strides
        known = _known.get(geometry)
        if known is not None:
            moved = enumerate(known.moved(source, out))
            return [partial(self.pooling.run, call, partial(self._part, k, source, out)) for k, call in moved]
        parts = list(self._parts(source, out))
        calls = [self.pooling.call(part) for part in parts]
        self._remember(geometry, calls, source, out)
        return [self.pooling.step(*both) for both in zip(parts, calls, strict=True)]

    def _remember(self, geometry: Geometry, calls: list["Call | None"], source: Array, out: Array) -> None:
        """Keep calls that can be moved, which are those of kernels that store the means where they belong."""
        from lucid.pooling.compiled.choice import Calls

        movable = [call for call in calls if call is not None and call.is_in_place]
        if len(movable) == len(calls):
            if len(_known) >= MOST:
                _known.clear()
            _known[geometry] = Calls(movable, source, out)

    def _parts(self, source: Array, out: Array) -> Iterator[Part]:
        for piece in self._pieces(source, out):
            yield from self.pooling.parts(*piece)

    def _part(self, k: int, source: Array, out: Array) -> Part:
        return list(self._parts(source, out))[k]

    def _pieces(self, source: Array, out: Array) -> Iterator[tuple[Array, Array, Span, Span]]:
        """Cut the work by planes, else by rows: arguments of `Pooling.means`."""
        rows, cols = self.pooling.grid.rows, self.pooling.grid.cols
        across = (0, cols.n_out)
        for planes, means in stacks(source, out, source.ndim - 2):
            if self.wanted == 1:
                yield planes, means, (0, rows.n_out), across
                continue
            count = len(planes)
            step = -(-count // self.wanted)
            bands = min(rows.n_out, -(-self.wanted // count))
            for first in range(0, count, step):
                for band in range(bands):
                    chosen = (rows.n_out * band // bands, rows.n_out * (band + 1) // bands)
                    start, stop = rows.cuts(*rows.slabs_of(chosen)).span
                    part = slice(first, first + step)
                    yield planes[part, start:stop], means[part, chosen[0] : chosen[1]], chosen, across


_known: dict[Geometry, "Calls"] = {}
