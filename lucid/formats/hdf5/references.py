"""References in values: each points into its own file, so in a copy it is made anew.

It leads to the copy of what it pointed to, or to nothing where that is not there. Values are walked
by their type, however references are nested in it: arrays, members, sequences of any length.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import h5py
import numpy as np

from lucid.formats.arrays import ResultSpec
from lucid.formats.hdf5 import tree
from lucid.formats.hdf5.cells import read_cells, write_cells
from lucid.formats.hdf5.dataset import Dataset
from lucid.formats.regions import regions_of

#: Elements of a dataset of references that are rewritten at once.
REFERENCES = 1 << 16


class References:
    """Turns references of one file into those of another."""

    def __init__(
        self,
        source: h5py.File,
        target: h5py.File | None,
        means: Mapping[tree.Address, Sequence[ResultSpec]],
    ) -> None:
        self.source = source
        self.target: Any = target
        #: What takes the place of each pooled dataset, whose regions are no longer there.
        self.means = means
        #: The path of each other object whose copy is there.
        self.paths = {tree.address_of(source): "/"}

    def path_of_copy(self, address: tree.Address) -> str | None:
        """The path of the copy of an object, of a pooled dataset the first; None where there is none."""
        results = self.means.get(address, ())
        return results[0].name if results else self.paths.get(address)

    def type_in_copy(self, h5_type: Any) -> Any:
        """The type that a copy has: for one with a name its copy, or the same without a name where there is none."""
        if not h5_type.committed():
            return h5_type
        path = self.paths.get(tree.address_of(h5py.Datatype(h5_type)))
        if path is None:
            return h5_type.copy()
        return h5_type if self.target is None else h5py.h5o.open(self.target.id, tree.name_bytes(path))

    def redirect(self, value: Any) -> Any:
        """A value with its references replaced by those to the objects' copies."""
        if isinstance(value, h5py.Reference):
            return self._reference(value)
        if isinstance(value, np.void) and value.dtype.hasobject:
            return self.redirect(np.array(value))[()]
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            copy = value.copy()
            for field in value.dtype.names or (Ellipsis,):
                member = value[field]
                if member.dtype.hasobject:
                    cells = np.empty(member.shape, object)
                    for index in np.ndindex(member.shape):
                        cells[index] = self.redirect(member[index])
                    copy[field] = cells
            return copy
        return value

    def reference_to(self, path: str) -> Any:
        """A reference to an object of the copy."""
        return h5py.h5r.create(self.target.id, tree.name_bytes(path), h5py.h5r.OBJECT)

    def address_of(self, reference: Any) -> tree.Address:
        """The address of what a reference points to; nobody's where it dangles."""
        with suppress(*tree.HDF5_ERRORS):
            return tree.address_of(self.source[reference]) if reference else tree.NOBODY
        return tree.NOBODY

    def _reference(self, value: Any) -> Any:
        """A reference to the first copy of what another one points to; a null one where there is none."""
        address = self.address_of(value)
        path = self.path_of_copy(address)
        if not isinstance(value, h5py.RegionReference):
            return h5py.h5r.Reference() if path is None else self.reference_to(path)
        if path is None or address in self.means:
            return h5py.h5r.RegionReference()
        space = h5py.h5r.get_region(value, self.source.id)
        return h5py.h5r.create(self.target.id, tree.name_bytes(path), h5py.h5r.DATASET_REGION, space)

    def rewrite(self, dataset: Dataset, copy: Dataset) -> None:
        """Write the references of a dataset anew; the library could only set them to zero."""
        if dataset.shape is None:
            return
        for region in regions_of(dataset.shape, REFERENCES):
            write_cells(copy, region, self.redirect(read_cells(dataset, region)))
