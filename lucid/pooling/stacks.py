"""Any array as stacks of planes: 4-D views (planes, height, width, inner).

Pooling knows one form of array. Axes that lie closer in memory than the columns
become `inner`, the others `planes`, so channels-first, channels-last, transposed and
Fortran-ordered arrays are all read in the order in which they lie.
"""

from collections.abc import Iterator
from math import prod

import numpy as np

from lucid.pooling.dtypes import Array


def stacks(source: Array, out: Array, height_axis: int) -> Iterator[tuple[Array, Array]]:
    """Pair every 4-D stack of `source` with the one of `out` that takes its means.

    Parameters
    ----------
    source, out
        Arrays of the same rank whose axes `height_axis` and `height_axis + 1` are spatial
        and whose other lengths agree; any strides.

    """
    if height_axis + 2 == source.ndim and source.flags.c_contiguous and out.flags.c_contiguous:
        # As most arrays are: what follows would find the same, in three times the calls.
        count = prod(source.shape[:height_axis])
        yield (
            source.reshape(count, *source.shape[height_axis:], 1),
            out.reshape(count, *out.shape[height_axis:], 1),
        )
        return
    spatial = (height_axis, height_axis + 1)
    column = abs(source.strides[spatial[1]])
    others = [axis for axis in range(source.ndim) if axis not in spatial]
    inner = [a for a in others if abs(source.strides[a]) < column and source.shape[a] > 1]
    planes = [a for a in others if a not in inner]
    order = (*planes, *spatial, *inner)
    yield from _merge(source.transpose(order), out.transpose(order), len(planes))


def _merge(source: Array, out: Array, planes: int) -> Iterator[tuple[Array, Array]]:
    """Join axes where strides allow a view; else go through the first of them one by one."""
    try:
        yield _four(source, planes), _four(out, planes)
    except ValueError:
        axis = 0 if planes > 1 else planes + 2
        for views in zip(np.moveaxis(source, axis, 0), np.moveaxis(out, axis, 0), strict=True):
            yield from _merge(*views, planes - (axis == 0))


def _four(array: Array, planes: int) -> Array:
    """A 4-D view, or ValueError."""
    height, width = array.shape[planes : planes + 2]
    count, inner = prod(array.shape[:planes]), prod(array.shape[planes + 2 :])
    return array.reshape((count, height, width, inner), copy=False)
