"""Dask arrays: `adaptive_avg_pool2d`, block by block and when it is asked for.

Needs the extra `dask`. `lucid.run.dask` pools files on a cluster.
"""

from typing import Any

import numpy as np

from lucid.errors import MissingExtraError, ShapeError
from lucid.kinds import NanRule
from lucid.nn import functional
from lucid.sizes import LayerSize

try:
    import dask.array
except ImportError as error:
    raise MissingExtraError("lucid.dask needs the extra 'dask': pip install 'lucid-pool[dask]'") from error


def adaptive_avg_pool2d(
    x: dask.array.Array, output_size: LayerSize, /, *, nan: NanRule = "propagate"
) -> dask.array.Array:
    """Adaptive average pooling of a Dask array, lazily.

    Parameters
    ----------
    x
        (N, C, H_in, W_in) or (C, H_in, W_in). Planes of several chunks are joined first.
    output_size
        As in `lucid.nn.functional.adaptive_avg_pool2d`.
    nan
        As there.

    Returns
    -------
    (N, C, H_out, W_out) or (C, H_out, W_out), with the chunks of `x` but for the planes; computed,
    the same bits as `lucid.nn.functional.adaptive_avg_pool2d` gives for the whole array.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        As there, before anything is computed.

    Examples
    --------
    >>> import dask.array, lucid.dask
    >>> x = dask.array.ones((8, 3, 6, 6), chunks=(2, 3, 6, 6))
    >>> lucid.dask.adaptive_avg_pool2d(x, 2).compute().shape
    (8, 3, 2, 2)

    """
    if x.ndim not in (3, 4):
        raise ShapeError(f"`x` has shape {x.shape}; expected (N, C, H, W) or (C, H, W)")
    if any(np.isnan(length) for length in x.shape[-2:]):
        raise ShapeError(f"`x` has shape {x.shape}; expected planes of known size, see compute_chunk_sizes")
    # Pooling no samples checks the arguments, and gives the shape and type of the result.
    planes = np.empty((0, *[0] * (x.ndim - 3), *x.shape[-2:]), x.dtype)
    meta = functional.adaptive_avg_pool2d(planes, output_size, nan=nan)
    whole: Any = x.rechunk({-2: -1, -1: -1})  # type: ignore[no-untyped-call]
    result: dask.array.Array = whole.map_blocks(
        functional.adaptive_avg_pool2d,
        output_size,
        nan=nan,
        threads=1,  # Dask has its own
        dtype=meta.dtype,
        chunks=(*x.chunks[:-2], *((length,) for length in meta.shape[-2:])),
        meta=meta,
    )
    return result
