"""Files of other kinds: one line that says what they are, and the way out."""

import gzip
import io
import pickle
import zipfile

import numpy as np
import pytest

import lucid
from lucid.errors import FormatError
from lucid.formats.foreign import KINDS

STARTS = {
    "a.nc": (b"CDF\x01" + bytes(28), "is a netCDF-3 (classic) file; convert it: nccopy -k nc4"),
    "a5.nc": (b"CDF\x05" + bytes(28), "is a netCDF-3 (classic) file"),
    "a.mat": (
        b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\x01IM",
        "is a MATLAB 5 MAT-file; save it",
    ),
    "b.mat": (b"written by others".ljust(124) + b"\x01\0MI", "is a MATLAB 5 MAT-file"),
    "a.hdf": (b"\x0e\x03\x13\x01" + bytes(60), "is an HDF 4 file; convert it: h4toh5"),
    "a.gz": (gzip.compress(b"x" * 99), "is compressed by gzip; gunzip it"),
    "a.pkl": (pickle.dumps({"x": [1.0]}), "is a pickle, which is not read because it can run code"),
    "b.pkl": (pickle.dumps([1, 2], 2), "is a pickle"),
    "c.pkl": (pickle.dumps(np.ones(3), 4), "is a pickle"),
    "old.pt": (
        pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"\x80\x02M",
        "is a PyTorch file (torch.save, legacy)",
    ),
    "raw.npy": (np.ones(96, "f4").tobytes(), "has no header of a .npy file; if it holds raw numbers"),
    "raw.f32": (
        np.ones(96, "f4").tobytes(),
        "is of no known format; if it holds raw numbers, read them with",
    ),
    "raw.bin": (
        np.arange(96, dtype="i2").tobytes(),
        "if it holds raw numbers, read them with numpy.fromfile",
    ),
    "a.tif": (b"II*\0" + bytes(60), "is a TIFF image; read it with"),
    "b.tif": (b"MM\0*" + bytes(60), "is a TIFF image"),
    "a.png": (b"\x89PNG\r\n\x1a\n" + bytes(60), "is a PNG image"),
    "a.jpg": (b"\xff\xd8\xff\xe0" + bytes(60), "is a JPEG image"),
    "a.parquet": (b"PAR1" + bytes(60), "is a Parquet file; read it with pyarrow"),
    "a.arrow": (b"ARROW1\0\0" + bytes(60), "is an Arrow or Feather file"),
    "a.feather": (b"FEA1" + bytes(60), "is an Arrow or Feather file"),
    "a.tar": (bytes(257) + b"ustar\0" + bytes(300), "is a tar archive; unpack it"),
    "a.zip": (b"PK\x05\x06" + bytes(18), "is an empty zip archive"),
    "a.h5": (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the file itself"),
    "b.h5": (b"\n<!DOCTYPE html><html>", "is a web page or XML"),
    "c.h5": (b"what is this", "is of no known format; expected npy, HDF5, Zarr, npz or safetensors"),
    "d.h5": (b"", "is empty; expected npy, HDF5, Zarr, npz or safetensors"),
}


@pytest.mark.parametrize("name", STARTS)
def test_what_it_is_not(tmp_path, name):
    content, text = STARTS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError) as raised:
        lucid.pool_file(tmp_path / name, tmp_path / "out.npy", size=1)
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["a.nc", "a.gz", "old.pt", "a.tif", "raw.f32"])
def test_a_stream_is_told_as_well(name):
    content, text = STARTS[name]
    with pytest.raises(FormatError) as raised:
        lucid.pool_file(io.BytesIO(content), io.BytesIO(), size=1)
    assert text in str(raised.value)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        (["feat/data.pkl", "feat/byteorder", "feat/data/0"], "is a PyTorch file (torch.save); torch.load it"),
        (["data.pkl"], "is a PyTorch file (torch.save)"),
        (["photos/", "photos/1.png"], "is a zip archive of other files; unpack it"),
        (["metadata.pkl"], "is a zip archive of other files"),
    ],
)
def test_archives_are_told_by_their_members(tmp_path, members, text):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name in members:
            archive.writestr(name, b"")
    with pytest.raises(FormatError) as raised:
        lucid.pool_file(tmp_path / "x.pt", size=1)
    assert text in str(raised.value)
    with pytest.raises(FormatError) as raised:
        lucid.pool_file(io.BytesIO((tmp_path / "x.pt").read_bytes()), io.BytesIO(), size=1)
    assert text in str(raised.value)


def test_a_zip_of_npy_files_is_an_npz(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((1, 1, 2, 2)))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("read.me", b"words")
        archive.write(tmp_path / "a.npy", "folder/a.npy")
    target = lucid.pool_file(tmp_path / "x.zip", tmp_path / "y.npz", size=1).targets[0]
    assert np.load(target).files == ["read.me", "folder/a"]


def test_every_row_has_a_way_out():
    for kind in KINDS:
        assert kind.name
        assert kind.remedy
