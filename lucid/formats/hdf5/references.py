"""References in values: each points into its own file, so in a copy it is made anew.

It leads to the copy of what it pointed to, or to nothing where that is not there. Values are walked
by their type, however references are nested in it: arrays, members, sequences of any length.
"""

from collections.abc import Callable, Container, Sequence
from typing import Any

import h5py
import numpy as np

from lucid.errors import FileError
from lucid.formats.hdf5.cells import read_cells, write_cells
from lucid.formats.hdf5.tree import HDF5_ERRORS, Dataset, Identity, encoded, failing_as, identity
from lucid.formats.regions import boxes_of

#: Classes of types that have no others in them.
PLAIN = {h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM, h5py.h5t.OPAQUE, h5py.h5t.BITFIELD}
#: Elements of a dataset of references that are rewritten at once.
REFERENCES = 1 << 16


def hold_references(holder: Any) -> bool:
    """Whether elements of a dataset or an attribute are or hold references; a named type does not."""
    if isinstance(holder, h5py.Datatype):
        return False
    kind = holder.kind if isinstance(holder, Dataset) else holder.get_type()
    return kind.get_class() not in PLAIN and bool(kind.detect_class(h5py.h5t.REFERENCE))


def refuse_unknown_references(name: str, item: Dataset) -> None:
    """Raise for a dataset of references of a kind that h5py cannot make."""
    if hold_references(item):
        with failing_as(FileError, f"{name} cannot be carried over, and `drop` leaves it out"):
            _ = item.dtype


class References:
    """Turns references of one file into those of another."""

    def __init__(
        self,
        source: h5py.File,
        target: h5py.File,
        copies: Callable[[Identity], Sequence[str]],
        pooled: Container[Identity],
    ) -> None:
        self._source, self._target, self._copies = source, target, copies
        #: Datasets whose regions are no longer there.
        self.pooled = pooled

    def redirected(self, value: Any) -> Any:
        """A value with its references replaced by those to the objects' copies."""
        if isinstance(value, h5py.Reference):
            return self._reference(value)
        if isinstance(value, np.void) and value.dtype.hasobject:
            return self.redirected(np.array(value))[()]
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            changed = value.copy()
            for field in value.dtype.names or (Ellipsis,):
                part = value[field]
                if part.dtype.hasobject:
                    cells = np.empty(part.shape, object)
                    for at in np.ndindex(part.shape):
                        cells[at] = self.redirected(part[at])
                    changed[field] = cells
            return changed
        return value

    def to(self, path: str) -> Any:
        """A reference to an object of the copy."""
        return h5py.h5r.create(self._target.id, encoded(path), h5py.h5r.OBJECT)

    def identity(self, reference: Any) -> Identity | None:
        """What a reference points to; None where it dangles."""
        if not reference:
            return None
        try:
            return identity(self._source[reference])
        except HDF5_ERRORS:
            return None

    def _reference(self, value: Any) -> Any:
        """A reference to the first copy of what another one points to; a null one where there is none."""
        own = self.identity(value)
        path = next(iter(self._copies(own)), None) if own is not None else None
        if not isinstance(value, h5py.RegionReference):
            return h5py.h5r.Reference() if path is None else self.to(path)
        if path is None or own in self.pooled:
            return h5py.h5r.RegionReference()
        space = h5py.h5r.get_region(value, self._source.id)
        return h5py.h5r.create(self._target.id, encoded(path), h5py.h5r.DATASET_REGION, space)

    def rewrite(self, item: Dataset, copy: Dataset) -> None:
        """Write the references of a dataset anew; the library could only set them to zero."""
        if item.shape is None:
            return
        for region in boxes_of(item.shape, REFERENCES):
            write_cells(copy, region, self.redirected(read_cells(item, region)))
