"""Chunked datasets filled with means, chunk after chunk."""

from collections.abc import Iterable

import numpy as np

from lucid import forks
from lucid.formats.arrays import ResultSpec, pad_chunk
from lucid.formats.disk.spool import Spool
from lucid.formats.hdf5.codec import Codec
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.hdf5.filters import filters_of_results
from lucid.formats.hdf5.types import unwritten_fill_of
from lucid.formats.regions import Region, size_of
from lucid.options import Options


def fill_dataset(dataset: Dataset, result: ResultSpec, spool: Spool, options: Options) -> None:
    """Write all chunks of a dataset, from a spool; where it is large, processes encode them."""
    codec = Codec(dataset, filters_of_results(dataset.creation, dataset.chunks))
    fill = np.asarray(unwritten_fill_of(dataset, result.dtype), result.dtype)

    def encoded_chunk(region: Region) -> tuple[bytes, int]:
        return codec.encode(pad_chunk(spool.read(result, region), dataset.chunks, fill))

    # Some copies of a chunk for each process, of cells and of bytes, and as many on their way.
    chunk_bytes = size_of(dataset.chunks) * result.dtype.itemsize
    workers = options.workers_for(8 * chunk_bytes + forks.PROCESS_BYTES)
    if result.nbytes > chunk_bytes:
        forks.give_memory_back()
    chunks: Iterable[tuple[bytes, int]] = map(encoded_chunk, dataset.iter_chunks())
    if forks.pay_off(result.nbytes, workers):
        chunks = forks.in_order(encoded_chunk, dataset.iter_chunks(), workers=workers, in_flight=2 * workers)
    for region, (data, mask) in zip(dataset.iter_chunks(), chunks, strict=True):
        dataset.id.write_direct_chunk(tuple(s.start for s in region), data, mask)
