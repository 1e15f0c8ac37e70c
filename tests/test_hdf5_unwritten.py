"""Storage that was never written: it reads as the library shows it, whatever lay in memory."""

import ctypes
import itertools

import h5py
import numpy as np
import pytest

import lucid
from lucid.nn.functional import adaptive_avg_pool2d

NEVER, IFSET, ALLOC = h5py.h5d.FILL_TIME_NEVER, h5py.h5d.FILL_TIME_IFSET, h5py.h5d.FILL_TIME_ALLOC


def made_by_hand(file, name, dtype, shape, chunks, *, fill, time, filters=(), layout=None):
    """A dataset of which nothing is written; `fill` is a value, None for HDF5's own or "undefined"."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_fill_time(time)
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    if chunks:
        creation.set_chunk(chunks)
    if layout is not None:
        creation.set_layout(layout)
    for code in filters:
        creation.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (4,) if code == 1 else ())
    if fill == "undefined":  # h5py can neither set nor read it
        library = ctypes.CDLL(h5py.h5p.__file__)
        library.H5Pset_fill_value.argtypes = [ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
        assert library.H5Pset_fill_value(creation.id, kind.id, None) >= 0
    elif fill is not None:
        creation.set_fill_value(np.array(fill, dtype))
    return h5py.Dataset(
        h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), creation)
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f4", ">i2", "u1", "?", "f8"])
@pytest.mark.parametrize(
    "options", [{}, {"userblock_size": 512}], ids=["read past the library", "read through it"]
)
def test_what_was_never_written_is_no_memory_of_other_data(tmp_path, dtype, options):
    shape, chunks = (8, 4, 8, 8), (4, 4, 8, 8)
    layouts = {
        "contiguous": {"chunks": None},
        "chunked": {"chunks": chunks},
        "odd": {"chunks": (3, 3, 5, 8)},
        "deflated": {"chunks": chunks, "filters": (2, 1)},
        "zstd": {"chunks": chunks, "filters": (32015,)},
        "compact": {"chunks": None, "layout": h5py.h5d.COMPACT},
    }
    cases = itertools.product(layouts, (None, 1, "undefined"), (NEVER, IFSET, ALLOC), (0, 1, 3))
    right = {}
    with h5py.File(tmp_path / "a.h5", "w", **options) as file:
        file["aa"] = np.full(shape, 1, dtype)
        for layout, fill, time, written in cases:
            if fill == "undefined" and time == ALLOC:
                continue  # HDF5 refuses it
            name = f"{layout}-{fill}-{time}-{written}"
            made = made_by_hand(file, name, dtype, shape, fill=fill, time=time, **layouts[layout])
            if written:
                made[:written] = 1
            never = time == NEVER or fill == "undefined"
            right[name] = np.full(shape, 0 if never or fill is None else fill, dtype)
            right[name][:written] = 1
    for threads in (1, 2):
        lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2, threads=threads, overwrite=True)
        with h5py.File(tmp_path / "b.h5") as file:
            for name, values in right.items():
                assert np.array_equal(file[name], adaptive_avg_pool2d(values, 2)), name


def test_virtual_datasets_over_what_was_never_written(tmp_path):
    shape = (4, 2, 8, 8)
    with h5py.File(tmp_path / "parts.h5", "w") as file:
        made_by_hand(file, "none", "f4", shape, None, fill=None, time=NEVER)
        made_by_hand(file, "some", "f4", shape, (1, 2, 8, 8), fill=None, time=NEVER)[:1] = 2
    layout = h5py.VirtualLayout((8, 2, 8, 8), "f4")
    layout[:4] = h5py.VirtualSource(tmp_path / "parts.h5", "none", shape)
    layout[4:] = h5py.VirtualSource(tmp_path / "parts.h5", "some", shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.full((8, 2, 8, 8), 7, "f4")
        file.create_virtual_dataset("v", layout)
    lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2, threads=1, allow_external=True)
    with h5py.File(tmp_path / "b.h5") as file:
        assert np.unique(file["v"][4]).tolist() == [2]
        assert np.unique(np.delete(file["v"][:], 4, 0)).tolist() == [0]


def test_a_chunk_at_the_edge_is_padded_as_the_library_does(tmp_path, rng):
    x = rng.standard_normal((7, 2, 8, 8)).astype("f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, fill, time in ("n", 5, NEVER), ("i", 5, IFSET), ("u", "undefined", IFSET):
            made = made_by_hand(file, name, "f4", x.shape, (4, 2, 8, 8), fill=fill, time=time, filters=(2, 1))
            made[:] = x
    lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=(None, None))
    with h5py.File(tmp_path / "b.h5") as file:
        for name in "niu":
            assert np.array_equal(file[name], x)
