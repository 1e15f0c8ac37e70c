"""References in values: each points into its own file, so in a copy it is made anew.

It leads to the copy of what it pointed to, or to nothing where that is not there. Values are walked
by their type, however references are nested in it: arrays, members, sequences of any length.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from lucid.formats.arrays import Pooled
from lucid.formats.hdf5.cells import read_cells, write_cells
from lucid.formats.hdf5.tree import HDF5_ERRORS, PLAIN, Dataset, Identity, encoded, identity
from lucid.formats.regions import boxes_of

#: Elements of a dataset of references that are rewritten at once.
REFERENCES = 1 << 16


def hold_references(holder: Any) -> bool:
    """Whether elements of a dataset or an attribute are or hold references; a named type does not."""
    if isinstance(holder, h5py.Datatype):
        return False
    kind = holder.kind if isinstance(holder, Dataset) else holder.get_type()
    return kind.get_class() not in PLAIN and bool(kind.detect_class(h5py.h5t.REFERENCE))


class References:
    """Turns references of one file into those of another."""

    def __init__(
        self, source: h5py.File, target: h5py.File, means: Mapping[Identity, Sequence[Pooled]]
    ) -> None:
        self.source, self.target = source, target
        #: What takes the place of each pooled dataset, whose regions are no longer there.
        self.means = means
        #: The path of each other object whose copy is there.
        self.paths = {identity(source): "/"}

    def copies(self, own: Identity) -> list[str]:
        """The paths of the copies of an object; of a pooled dataset there may be several."""
        path = self.paths.get(own)
        return [pooled.name for pooled in self.means.get(own, ())] or ([] if path is None else [path])

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
        return h5py.h5r.create(self.target.id, encoded(path), h5py.h5r.OBJECT)

    def identity(self, reference: Any) -> Identity | None:
        """What a reference points to; None where it dangles."""
        if not reference:
            return None
        try:
            return identity(self.source[reference])
        except HDF5_ERRORS:
            return None

    def _reference(self, value: Any) -> Any:
        """A reference to the first copy of what another one points to; a null one where there is none."""
        own = self.identity(value)
        path = next(iter(self.copies(own)), None) if own is not None else None
        if not isinstance(value, h5py.RegionReference):
            return h5py.h5r.Reference() if path is None else self.to(path)
        if path is None or own in self.means:
            return h5py.h5r.RegionReference()
        space = h5py.h5r.get_region(value, self.source.id)
        return h5py.h5r.create(self.target.id, encoded(path), h5py.h5r.DATASET_REGION, space)

    def rewrite(self, item: Dataset, copy: Dataset) -> None:
        """Write the references of a dataset anew; the library could only set them to zero."""
        if item.shape is None:
            return
        for region in boxes_of(item.shape, REFERENCES):
            write_cells(copy, region, self.redirected(read_cells(item, region)))
