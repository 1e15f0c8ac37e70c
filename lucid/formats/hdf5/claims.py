"""What a dataset claims to hold, against the bytes of its file."""

import os
from collections.abc import Iterator

import h5py
import numpy as np

from lucid.errors import FormatError
from lucid.formats.hdf5.dataset import Dataset, lies_in_heap

#: Elements in the heap whose lengths are looked at together.
MOST_ELEMENTS = 1 << 14


def storage_bytes(name: str, dataset: Dataset, file_bytes: int) -> int:
    """The bytes that the elements of a dataset take; a FormatError where a file of so many bytes cannot hold them.

    The library would copy zeros for days, or make room for a text before it finds that it is not there.
    """
    nbytes: int = dataset.id.get_storage_size()
    claim_bytes = nbytes
    if not dataset.is_raw:
        if dataset.id.get_offset() is None and dataset.is_elsewhere:
            return nbytes
        if nbytes <= file_bytes:
            claim_bytes = max(_lengths(dataset), default=0)
    if claim_bytes > file_bytes:
        raise FormatError(f"dataset {name} claims {claim_bytes} bytes, the whole file has {file_bytes}")
    return nbytes


def _lengths(dataset: Dataset) -> Iterator[int]:
    """The bytes of the longest text or sequence of some elements at a time, as these say it; no heap is read."""
    is_text = dataset.h5_type.get_class() == h5py.h5t.STRING
    offset = dataset.id.get_offset() if lies_in_heap(dataset.h5_type) else None
    if offset is None or not (is_text or dataset.h5_type.get_class() == h5py.h5t.VLEN):
        return
    file = h5py.h5i.get_file_id(dataset.id)
    # In the file, an element is a length, and an address and a number in the heap.
    each = 4 + file.get_create_plist().get_sizes()[0] + 4
    item_bytes = 1 if is_text else dataset.h5_type.get_super().get_size()
    for begin in range(0, dataset.id.get_storage_size(), MOST_ELEMENTS * each):
        count = min(MOST_ELEMENTS * each, dataset.id.get_storage_size() - begin)
        raw = np.frombuffer(os.pread(file.get_vfd_handle(), count, offset + begin), np.uint8)
        lengths = raw[: len(raw) // each * each].reshape(-1, each)[:, :4]
        if len(lengths):
            yield int(np.ascontiguousarray(lengths).view("<u4").max()) * item_bytes
