"""Number types of HDF5: bfloat16 in its two guises, types that are no numbers, elements in other files."""

import h5py
import numpy as np
import pytest

import lucid
from lucid.errors import DatasetError
from lucid.formats.hdf5.types import file_type
from lucid.nn.functional import adaptive_avg_pool2d

ml_dtypes = pytest.importorskip("ml_dtypes", reason="the extra `bfloat16` is not installed")


@pytest.fixture
def x(rng):
    return rng.standard_normal((6, 3, 8, 8)).astype("f4").astype(ml_dtypes.bfloat16)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_native(file, name, x, *, order=h5py.h5t.ORDER_LE, **options):
    """A dataset of the float type bfloat16, through the library's lowest level."""
    kind = file_type("bfloat16", np.dtype("u2"), None)
    kind.set_order(order)
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if options.get("gzip"):
        creation.set_chunk((4, 2, 8, 8))
        creation.set_shuffle()
        creation.set_deflate(4)
        creation.set_fill_value(np.array(1.5, "f4"))
    shape = (len(x) + options.get("more", 0), *x.shape[1:])
    made = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), creation)
    space = made.get_space()
    space.select_hyperslab((0, 0, 0, 0), x.shape)
    bits = x.view("u2").astype(">u2" if order == h5py.h5t.ORDER_BE else "<u2")
    made.write(h5py.h5s.create_simple(x.shape), space, np.ascontiguousarray(bits), mtype=kind)


def bits_of(path, name):
    with h5py.File(path) as file:
        data = file[name]
        out = np.empty(data.shape, "u2")
        data.id.read(h5py.h5s.ALL, h5py.h5s.ALL, out, mtype=data.id.get_type())
        return out.view(ml_dtypes.bfloat16)


@pytest.mark.parametrize("order", [h5py.h5t.ORDER_LE, h5py.h5t.ORDER_BE])
@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("userblock", [0, 512])
def test_the_float_type(order, gzip, userblock, folder, x):
    with h5py.File("x.h5", "w", userblock_size=userblock) as file:
        write_native(file, "x", x, order=order, gzip=gzip, more=8 * gzip)
    whole = np.concatenate([x, np.full((8 * gzip, 3, 8, 8), 1.5, x.dtype)])
    lucid.pool_file("x.h5", "y.h5", size=3)
    expected = adaptive_avg_pool2d(whole, 3)
    assert np.array_equal(bits_of("y.h5", "x"), expected)
    with h5py.File("y.h5") as file:
        assert np.array_equal(file["x"][:], expected.astype("f4"))
    lucid.pool_file("x.h5", "y.npy", size=3)
    assert np.array_equal(np.load("y.npy").view(ml_dtypes.bfloat16), expected)


def test_opaque_elements_must_be_named_and_stay_opaque(folder, x):
    with h5py.File("x.h5", "w") as file:
        file["x"] = x
    with pytest.raises(DatasetError, match="may be bfloat16, say `input_dtype='bfloat16'`"):
        lucid.pool_file("x.h5", "y.h5", size=2)
    lucid.pool_file("x.h5", "y.h5", size=2, input_dtype="bfloat16")
    with h5py.File("y.h5") as file:
        assert np.array_equal(file["x"][:].view(ml_dtypes.bfloat16), adaptive_avg_pool2d(x, 2))


@pytest.mark.parametrize("compression", ["none", "gzip", "lzf"])
def test_from_float32_by_dtype(compression, folder, x):
    np.save("x.npy", x.astype("f4"))
    lucid.pool_file("x.npy", "y.h5", size=3, dtype="bfloat16", compression=compression)
    assert np.array_equal(bits_of("y.h5", "data"), adaptive_avg_pool2d(x.astype("f4"), 3).astype(x.dtype))


def test_what_h5py_would_silently_convert_is_carried(folder):
    tiny = h5py.h5t.IEEE_F16LE.copy()
    tiny.set_fields(7, 3, 4, 0, 3)
    tiny.set_precision(8)
    tiny.set_size(1)
    twelve = h5py.h5t.STD_I16LE.copy()
    twelve.set_precision(12)
    with h5py.File("x.h5", "w") as file:
        for name, kind in (("e4m3", tiny), ("i12", twelve), ("bits", h5py.h5t.STD_B16LE)):
            h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple((1, 1, 2, 2)))
        file["x"] = np.zeros((1, 1, 2, 2))
    report = lucid.pool_file("x.h5", "y.h5", size=1)
    assert [d.name for d in report.datasets] == ["/x"]
    with h5py.File("y.h5") as file:
        assert {name: d.shape for name, d in file.items()} == {
            "bits": (1, 1, 2, 2), "e4m3": (1, 1, 2, 2), "i12": (1, 1, 2, 2), "x": (1, 1, 1, 1),
        }  # fmt: skip


class TestElsewhere:
    def check(self, x):
        with pytest.raises(DatasetError, match="only `allow_external=True` reads"):
            lucid.pool_file("x.h5", "y.h5", size=2)
        lucid.pool_file("x.h5", "y.h5", size=2, allow_external=True)
        with h5py.File("y.h5") as file:
            assert np.array_equal(file["x"], adaptive_avg_pool2d(x, 2))

    def test_external_storage(self, folder, rng):
        x = rng.standard_normal((2, 2, 4, 4))
        x.tofile("raw.bin")
        with h5py.File("x.h5", "w") as file:
            file.create_dataset("x", x.shape, "f8", external=[("raw.bin", 0, x.nbytes)])
        self.check(x)

    def test_virtual_datasets(self, folder, rng):
        x = rng.standard_normal((4, 2, 4, 4))
        with h5py.File("part.h5", "w") as file:
            file["x"] = x
        layout = h5py.VirtualLayout(x.shape, "f8")
        layout[:] = h5py.VirtualSource("part.h5", "x", x.shape)
        with h5py.File("x.h5", "w") as file:
            file.create_virtual_dataset("x", layout)
        self.check(x)

    def test_a_virtual_dataset_of_itself_is_refused_before_it_is_read(self, folder):
        with h5py.File("x.h5", "w") as file:
            shape, limits = (0, 1, 4, 4), (h5py.h5s.UNLIMITED, 1, 4, 4)
            space = h5py.h5s.create_simple(shape, limits)
            space.select_hyperslab((0, 0, 0, 0), (h5py.h5s.UNLIMITED, 1, 4, 4))
            creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            creation.set_virtual(space, b".", b"/x", space)
            h5py.h5d.create(
                file.id, b"x", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple(shape, limits), creation
            )
        with pytest.raises(DatasetError, match="only `allow_external=True` reads"):
            lucid.pool_file("x.h5", "y.h5", size=2)
