"""A dataset, and what is asked of it: its type, its layout, its storage, its fill value."""

from functools import cached_property
from typing import Any

import h5py

#: Classes of types that have no others in them.
_PLAIN = {
    h5py.h5t.INTEGER,
    h5py.h5t.FLOAT,
    h5py.h5t.STRING,
    h5py.h5t.ENUM,
    h5py.h5t.OPAQUE,
    h5py.h5t.BITFIELD,
}


class Dataset:
    """A dataset that asks the library once for what is wanted of it often; h5py answers the rest."""

    def __init__(self, h5_id: Any) -> None:
        self.id = h5_id
        #: The type of the elements in the file.
        self.h5_type = h5_id.get_type()

    @cached_property
    def creation(self) -> Any:
        """The creation properties."""
        return self.id.get_create_plist()

    @cached_property
    def chunks(self) -> Any:
        """The shape of chunks; None where there are none."""
        return self.creation.get_chunk() if self.creation.get_layout() == h5py.h5d.CHUNKED else None

    @cached_property
    def shape(self) -> Any:
        """The lengths of the axes; None where there is not even one element."""
        return self.id.shape

    @property
    def is_virtual(self) -> bool:
        """Whether elements are those of other datasets."""
        return bool(self.creation.get_layout() == h5py.h5d.VIRTUAL)

    @property
    def is_elsewhere(self) -> bool:
        """Whether elements are those of other datasets, or lie in other files."""
        return self.is_virtual or bool(self.creation.get_external_count())

    @property
    def is_contiguous(self) -> bool:
        """Whether elements lie together, and in this file."""
        return self.creation.get_layout() == h5py.h5d.CONTIGUOUS and not self.creation.get_external_count()

    @cached_property
    def is_raw(self) -> bool:
        """Whether elements are bytes in one run of a type without a name, and lead nowhere else."""
        h5_type = self.h5_type
        is_plain = h5_type.get_class() in _PLAIN and not lies_in_heap(h5_type)
        return is_plain and not h5_type.committed() and self.id.get_offset() is not None

    @property
    def is_unwritten(self) -> bool:
        """Whether there is no storage for elements yet."""
        return bool(self.id.get_space_status() == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED)

    @property
    def has_own_fill(self) -> bool:
        """Whether it has a fill value of its own; the library's is zero."""
        return bool(self.creation.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED)

    @property
    def has_fill_in_heap(self) -> bool:
        """Whether its fill value is an address in its file."""
        return self.has_own_fill and lies_in_heap(self.h5_type)

    @property
    def has_no_fill(self) -> bool:
        """Whether what is read where nothing was written is undefined."""
        return bool(self.creation.fill_value_defined() == h5py.h5d.FILL_VALUE_UNDEFINED)

    @property
    def leaves_gaps(self) -> bool:
        """Whether the library may leave a buffer as it is where storage was never written.

        It does so where it was told never to fill, and where the fill value is undefined; what the datasets
        behind a virtual one were told is not looked for.
        """
        never_fills = self.creation.get_fill_time() == h5py.h5d.FILL_TIME_NEVER
        return self.is_virtual or never_fills or self.has_no_fill

    @cached_property
    def _h5py(self) -> Any:
        return h5py.Dataset(self.id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._h5py, name)

    def __getitem__(self, key: Any) -> Any:
        return self._h5py[key]


def lies_in_heap(h5_type: Any) -> bool:
    """Whether elements of a type, or some of their members, are of any length."""
    type_class = h5_type.get_class()
    if type_class == h5py.h5t.STRING:
        return bool(h5_type.is_variable_str())
    if type_class == h5py.h5t.COMPOUND:
        return any(lies_in_heap(h5_type.get_member_type(i)) for i in range(h5_type.get_nmembers()))
    if type_class == h5py.h5t.ARRAY:
        return lies_in_heap(h5_type.get_super())
    return bool(type_class == h5py.h5t.VLEN)


def has_references(h5_type: Any) -> bool:
    """Whether elements of a type are or hold references."""
    return h5_type.get_class() not in _PLAIN and bool(h5_type.detect_class(h5py.h5t.REFERENCE))
