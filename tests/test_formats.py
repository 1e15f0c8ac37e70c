"""The contract of `lucid.formats.contract`, once for every format; each inherits all of it."""

import hashlib
import io
import itertools
import json
import os
import shutil
import stat
import sys
import time
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow import slow

import lucid
from lucid.errors import (
    ArgumentError,
    DatasetError,
    DTypeError,
    ExistsError,
    FileError,
    FormatError,
    LucidError,
    NotFoundError,
)
from lucid.formats import registry
from lucid.formats.arrays import ResultSpec
from lucid.formats.disk.replacement import remove_stale
from lucid.formats.npy import NpySink, read_header
from lucid.formats.regions import runs, shape_of
from lucid.formats.registry import format_of_content, format_of_suffix
from lucid.options import Options
from lucid.pooling.dtypes import widened


def digest(path):
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        found.update(str(file.relative_to(path)).encode())
        found.update(file.read_bytes() if file.is_file() else b"")
    return found.hexdigest()


class Contract:
    """What every format keeps; a subclass says how to make a file of it with other software."""

    suffix = ""

    def make(self, path, array):
        raise NotImplementedError

    def load(self, path):
        raise NotImplementedError

    def open(self, path):
        return format_of_content(path).open(path, Options())

    def make_old(self, path):
        """What an output would replace."""
        path.write_bytes(b"old")

    def a_file_of(self, path):
        """The file that holds the elements."""
        return path

    def regions(self, shape, rng):
        yield tuple(slice(0, n) for n in shape)
        for _ in range(10):
            edges = [sorted(rng.choice(n + 1, 2, replace=False)) for n in shape]
            yield tuple(slice(int(a), int(b)) for a, b in edges)

    @pytest.mark.parametrize(
        ("dtype", "order"),
        [
            *(("uint8", "C"), ("float32", "F"), ("bool", "C"), (">i2", "C"), ("float64", "F")),
            *slow(*itertools.product(("float16", "int16", "int64", ">f4"), "CF")),
        ],
    )
    def test_regions_read_are_the_array(self, tmp_path, dtype, order, rng):
        array = np.asarray((rng.standard_normal((4, 3, 5, 6)) * 50).astype(dtype), order=order)
        path = tmp_path / f"x{self.suffix}"
        self.make(path, array)
        with self.open(path) as source:
            (spec,) = source.choose(())
            assert spec.shape == array.shape
            assert spec.numbers == np.dtype(dtype).name
            for region in self.regions(array.shape, rng):
                for array_spec in (spec, spec.within(region), spec.within(region[:2])):
                    read = source.read(array_spec, region, np.empty(array.nbytes, np.uint8))
                    assert np.array_equal(read, array[region])

    def pooled(self, source, array):
        (spec,) = source.choose(())
        return ResultSpec(spec, spec.name or "/data", array.shape, array.dtype, array.dtype.name, "{}")

    @pytest.mark.parametrize("step", [2, *slow(1, 7)])
    def test_a_file_written_does_not_depend_on_the_regions(self, tmp_path, step, rng):
        array = rng.standard_normal((7, 3, 2, 2)).astype(np.float32)
        self.make(tmp_path / f"x{self.suffix}", rng.standard_normal((7, 3, 5, 5)))
        digests = set()
        for name, starts in [("whole", [0]), ("parts", range(0, 7, step)), ("backwards", range(6, -1, -1))]:
            size = {"whole": 7, "parts": step, "backwards": 1}[name]
            target = tmp_path / f"{name}{self.suffix}"
            with self.open(tmp_path / f"x{self.suffix}") as source:
                pooled = self.pooled(source, array)
                with format_of_suffix(target).create(target, Options()) as sink:
                    sink.begin(source, [pooled])
                    for start in starts:
                        region = (slice(start, min(start + size, 7)), slice(0, 3), slice(0, 2), slice(0, 2))
                        sink.write(pooled, region, np.ascontiguousarray(array[region]))
                    assert not target.exists()
                    sink.commit()
            assert np.array_equal(self.load(target), array)
            digests.add(digest(target))
        assert len(digests) == 1
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
            f"{n}{self.suffix}" for n in ("whole", "parts", "backwards", "x")
        )

    def test_bfloat16_is_written_as_what_nobody_takes_for_integers(self, tmp_path):
        array = np.arange(24.0, dtype=np.float32).reshape(2, 3, 2, 2)
        path, target = (tmp_path / f"{name}{self.suffix}" for name in "xy")
        self.make(path, array)
        lucid.pool_file(path, target, size=1, dtype="bfloat16")
        options = Options(input_dtype="bfloat16")
        with format_of_content(target).open(target, options) as source:
            (spec,) = source.choose(())
            region = tuple(slice(0, n) for n in spec.shape)
            cells = source.read(spec, region, np.empty(spec.nbytes, np.uint8))
        assert (spec.numbers, spec.shape) == ("bfloat16", (2, 3, 1, 1))
        assert np.array_equal(widened(cells, "bfloat16"), array.mean((2, 3), keepdims=True))
        with suppress(LucidError), self.open(target) as source:
            assert [spec.numbers for spec in source.choose(())] == ["bfloat16"]

    def test_without_commit_nothing_is_left(self, tmp_path, rng):
        self.make(tmp_path / f"x{self.suffix}", rng.standard_normal((2, 3, 4, 4)))
        target = tmp_path / f"y{self.suffix}"
        self.make_old(target)
        old = digest(target)
        with (
            self.open(tmp_path / f"x{self.suffix}") as source,
            pytest.raises(ZeroDivisionError),
            format_of_suffix(target).create(target, Options(overwrite=True)) as sink,
        ):
            sink.begin(source, [self.pooled(source, np.zeros((2, 3, 1, 1)))])
            raise ZeroDivisionError
        assert digest(target) == old
        assert len(list(tmp_path.iterdir())) == 2

    def test_existing_files_are_kept_unless_told(self, tmp_path, rng):
        path, target = tmp_path / f"x{self.suffix}", tmp_path / f"y{self.suffix}"
        self.make(path, rng.standard_normal((2, 3, 4, 4)))
        self.make_old(target)
        old = digest(target)
        with self.open(path) as source:
            pooled = self.pooled(source, np.zeros((2, 3, 1, 1)))
            with pytest.raises(ExistsError), format_of_suffix(target).create(target, Options()) as sink:
                sink.begin(source, [pooled])
            assert digest(target) == old
            target.chmod(0o750)
            with format_of_suffix(target).create(target, Options(overwrite=True)) as sink:
                sink.begin(source, [pooled])
                sink.write(pooled, tuple(slice(0, n) for n in pooled.shape), np.zeros(pooled.shape))
                sink.commit()
        assert not self.load(target).any()
        assert stat.S_IMODE(target.stat().st_mode) == 0o750
        assert len(list(tmp_path.iterdir())) == 2

    def test_a_file_cut_off_is_refused(self, tmp_path, rng):
        path = tmp_path / f"x{self.suffix}"
        array = rng.standard_normal((4, 3, 20, 20))
        self.make(path, array)
        file = self.a_file_of(path)
        whole = file.read_bytes()
        for size in (0, 5, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:size])
            with pytest.raises(FormatError) as raised, self.open(path) as source:
                # A folder shows its files only when they are read.
                (spec,) = source.choose(())
                source.read(spec, tuple(slice(0, n) for n in array.shape), np.empty(array.nbytes, np.uint8))
            assert "\n" not in str(raised.value)

    def test_a_file_that_shrinks_while_it_is_read_is_an_error(self, tmp_path, rng):
        path = tmp_path / f"x{self.suffix}"
        array = rng.standard_normal((40, 3, 50, 50))
        self.make(path, array)
        with self.open(path) as source:
            (spec,) = source.choose(())
            file = self.a_file_of(path)
            os.truncate(file, file.stat().st_size // 2)
            with pytest.raises(FormatError):
                source.read(spec, tuple(slice(0, n) for n in array.shape), np.empty(array.nbytes, np.uint8))

    def test_a_file_that_is_written_to_is_noticed(self, tmp_path, rng):
        path = tmp_path / f"x{self.suffix}"
        self.make(path, rng.standard_normal((4, 3, 5, 5)))
        with self.open(path) as source:
            source.check_unchanged()
            with self.a_file_of(path).open("r+b") as file:
                file.seek(-1, 2)
                file.write(b"x")
            os.utime(self.a_file_of(path))
            with pytest.raises(FormatError, match="changed while it was read"):
                source.check_unchanged()

    def test_bfloat16_is_nothing_else_for_who_reads_it_again(self, tmp_path, rng):
        """It is known for what it is, or refused unless the user says it; never read as integers of 16 bits."""
        x = rng.standard_normal((3, 2, 4, 4)).astype(np.float32)
        np.save(tmp_path / "x.npy", x)
        path = lucid.pool_file(
            tmp_path / "x.npy", tmp_path / f"y{self.suffix}", size=2, dtype="bfloat16"
        ).targets[0]
        with self.open(path) as source:
            try:
                assert [spec.numbers for spec in source.choose(())] == ["bfloat16"]
            except (DTypeError, DatasetError) as error:
                assert "say `input_dtype='bfloat16'`" in str(error)
        with format_of_content(path).open(path, Options(input_dtype="bfloat16")) as source:
            (spec,) = source.choose(())
            whole = tuple(slice(0, n) for n in spec.shape)
            bits = source.read(spec, whole, np.empty(spec.nbytes, np.uint8)).astype(np.uint32)
        means = lucid.nn.functional.adaptive_avg_pool2d(x, 2)
        np.testing.assert_allclose((bits << 16).view(np.float32), means, rtol=2**-8)

    def test_another_rank_is_refused(self, tmp_path):
        path = tmp_path / f"x{self.suffix}"
        self.make(path, np.zeros((3, 4)))
        with self.open(path) as source, pytest.raises(DatasetError, match="4 axes"):
            source.choose(())

    @pytest.mark.parametrize("dtype", ["complex64", "S3"])
    def test_what_has_no_mean_is_refused(self, tmp_path, dtype):
        path = tmp_path / f"x{self.suffix}"
        self.make(path, np.zeros((1, 1, 2, 2), dtype))
        with self.open(path) as source, pytest.raises((DTypeError, DatasetError)):
            source.choose(())


class TestNpy(Contract):
    suffix = ".npy"

    def make(self, path, array):
        np.save(path, array)

    def load(self, path):
        return np.load(path)

    @pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
    def test_all_versions_are_read(self, tmp_path, version):
        array = np.arange(24.0).reshape(1, 2, 3, 4)
        with (tmp_path / "x.npy").open("wb") as file:
            np.lib.format.write_array(file, array, version)
        with self.open(tmp_path / "x.npy") as source:
            (spec,) = source.choose(())
            assert np.array_equal(
                source.read(spec, tuple(slice(0, n) for n in array.shape), np.empty(192, np.uint8)), array
            )

    @pytest.mark.parametrize(
        ("header", "text"),
        [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, -2, 2)}", "has shape (1, 1, -2, 2)"),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 1, 2, 2)}",
                "has shape (True, 1, 2, 2)",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1.0, 1, 2, 2)}",
                "'shape': (1.0, 1, 2, 2)}\"; expected descr, fortran_order and shape",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': [1, 1, 2, 2]}",
                "'shape': [1, 1, 2, 2]}\"; expected descr",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 9999999999, 9, 9)}",
                "more than a file can hold",
            ),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 20, 2)}", "is cut off"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 2)}", "bytes after its array"),
            ("{'descr': '<f4', 'fortran_order': 7, 'shape': (1, 1, 2, 2)}", "'fortran_order': 7, 'shape'"),
            (
                "{'descr': '<f4', 'shape': (1, 1, 2, 2)}",
                "expected descr, fortran_order and shape, as NumPy writes them",
            ),
            (
                "{'descr': 'what', 'fortran_order': False, 'shape': (1, 1, 2, 2)}",
                "its header is \"{'descr': 'what'",
            ),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1, 2, 2)}", "pickle can run code"),
            ("__import__('os').system('true')", "expected descr, fortran_order and shape"),
            ("-" * 9000 + "1", "expected descr, fortran_order and shape"),
            ("[" * 9000, "expected descr, fortran_order and shape"),
            ("{'a': 1", "expected descr, fortran_order and shape"),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 2, 2)}\xa0",  # NumPy refuses it, too
                "expected descr, fortran_order and shape",
            ),
        ],
    )
    def test_headers_that_lie(self, tmp_path, header, text):
        path = tmp_path / "x.npy"
        encoded = header.encode("latin-1")
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(encoded).to_bytes(2, "little") + encoded + bytes(16))
        with pytest.raises(LucidError) as raised:
            self.open(path).close()
        assert text in str(raised.value)
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(
        ("start", "text"),
        [
            (b"\x93NUMPY\x09\x00\x10\x00", "version 9.0"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "claims 4294967295 bytes"),
            (b"\x93NUMPY\x01\x00\x40\x00\xff", "ends before its header is over; was it cut off?"),
            (b"\x93NUMPY\x03\x00\x02\x00\x00\x00\xff\xff", "its header is 'ÿÿ'; expected descr"),
        ],
    )
    def test_prefixes_that_lie(self, tmp_path, start, text):
        (tmp_path / "x.npy").write_bytes(start)
        with pytest.raises(FormatError, match=text):
            self.open(tmp_path / "x.npy").close()

    @pytest.mark.parametrize(("version", "text"), [(1, "1L"), (3, "1L"), (3, "1 #\xff")])
    def test_headers_that_are_right_in_some_versions(self, tmp_path, version, text):
        """Of Python 2, or in Latin-1: as NumPy has it."""
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 2, {text}\n)}}".encode("latin-1")
        width = 2 if version == 1 else 4
        length = len(header).to_bytes(width, "little")
        (tmp_path / "x.npy").write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + header + bytes(8))
        if version == 1:
            with self.open(tmp_path / "x.npy") as source:
                assert source.choose(())[0].shape == (1, 1, 2, 1)
            return
        with pytest.raises(FormatError, match="expected descr, fortran_order and shape"):
            self.open(tmp_path / "x.npy").close()

    def test_threads_that_read_headers_leave_the_filters_of_warnings_as_they_were(self):
        """A filter is of the process, so that of one thread would be there for all, and stay."""
        text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 2, 2), }\n"
        data = b"\x93NUMPY\x03\x00" + len(text).to_bytes(4, "little") + text
        before, interval = list(warnings.filters), sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(6) as pool:
                headers = list(pool.map(lambda _: read_header(io.BytesIO(data).read), range(3000)))
            after = list(warnings.filters)
        finally:
            sys.setswitchinterval(interval)
            warnings.filters[:] = before
        assert after == before
        assert all(header == headers[0] for header in headers)

    @pytest.mark.parametrize(
        ("descr", "shape"),
        [
            ("'<f4'", "(1, 1, 2, 2L)"),
            ("'<f4'", "(1if True else 2, 1)"),
            ("'<f4'", "(1, '\\d')"),
            ("'<f4'", "(1, '\\777')"),
            ("'<f4'", "(1, 0x1for)"),
            ("'<f4'", "(1, # \r 4if 1 else 2)"),
            ("'<f4'", "(1, # \r 4L)"),
            ("'|a4'", "(1, 2)"),
        ],
    )
    def test_no_header_makes_python_or_numpy_warn(self, descr, shape):
        """What a stranger wrote is nobody's business here, and an error where somebody makes errors of warnings."""
        text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        for version in (1, 2, 3):
            length = len(text).to_bytes(2 if version == 1 else 4, "little")
            with warnings.catch_warnings(record=True) as caught, suppress(FormatError):
                warnings.simplefilter("always")
                read_header(io.BytesIO(b"\x93NUMPY" + bytes([version, 0]) + length + text).read)
            assert not caught

    def test_texts_of_python_2(self):
        text = b"{u'descr': u'<f4', u'fortran_order': False, u'shape': (1L, 2L)}\n"
        header = read_header(io.BytesIO(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text).read)
        assert (header.shape, header.dtype) == ((1, 2), np.float32)

    def test_bfloat16_is_two_byte_void_that_must_be_named(self, tmp_path):
        np.save(tmp_path / "x.npy", np.full((1, 1, 2, 2), 0x3F80, np.uint16).view("V2"))
        with (
            self.open(tmp_path / "x.npy") as source,
            pytest.raises(DTypeError, match="say `input_dtype='bfloat16'`"),
        ):
            source.choose(())


class TestZarr(Contract):
    """Version 3 in a folder."""

    suffix = ".zarr"
    version = 3
    options: ClassVar = {}

    @pytest.fixture(autouse=True)
    def zarr(self):
        return pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")

    def make(self, path, array):
        import zarr

        chunks = tuple(max(1, n - 1) for n in array.shape)
        with warnings.catch_warnings(action="ignore"):  # of strings that its specification has not
            made = zarr.create_array(
                path,
                shape=array.shape,
                dtype=array.dtype,
                chunks=self.options.get("chunks", chunks)[-array.ndim :],
                shards=self.options.get("shards", (None,) * array.ndim)[-array.ndim :]
                if self.options
                else None,
                zarr_format=self.version,
            )
            made[...] = array

    def load(self, path):
        import zarr

        with warnings.catch_warnings(action="ignore"):  # of codecs that it has not, either
            return zarr.open_array(path, mode="r")[...]

    def make_old(self, path):
        self.make(path, np.ones((1, 1, 2, 2)))

    def a_file_of(self, path):
        return max(path.rglob("*"), key=lambda file: file.stat().st_size if file.is_file() else 0)

    def test_attributes_groups_and_other_arrays_are_carried_over(self, tmp_path, zarr, rng):
        root = zarr.create_group(tmp_path / "x.zarr", zarr_format=self.version, attributes={"title": "t"})
        array = rng.standard_normal((7, 3, 5, 6)).astype("f4")
        made = root.create_array("layers/first", shape=array.shape, dtype="f4", chunks=(2, 2, 5, 3))
        made[:] = array
        made.attrs["layer"] = 1
        root.create_array("labels", data=np.arange(7))
        root.create_group("empty", attributes={"a": [1, 2]})
        (tmp_path / "x.zarr" / "README.md").write_text("kept")
        target = lucid.pool_file(tmp_path / "x.zarr", sizes=[2, (1, 3)]).targets[0]
        pooled = zarr.open_group(target, mode="r")
        assert pooled.metadata.zarr_format == self.version
        assert dict(pooled.attrs) == {"title": "t"}
        assert dict(pooled["empty"].attrs) == {"a": [1, 2]}
        assert pooled["labels"][:].tolist() == list(range(7))
        assert (target / "README.md").read_text() == "kept"
        assert sorted(pooled["layers"].keys()) == ["first_1x3", "first_2x2"]
        means = pooled["layers/first_2x2"]
        assert np.array_equal(means[:], lucid.nn.functional.adaptive_avg_pool2d(array, 2))
        assert means.attrs["layer"] == 1
        assert json.loads(means.attrs["lucid_pool"])["source_shape"] == [7, 3, 5, 6]
        assert means.compressors == made.compressors
        alone = lucid.pool_file(tmp_path / "x.zarr", tmp_path / "y.zarr", size=2, carry=False).targets[0]
        assert {path.name for path in alone.iterdir()} & {"labels", "empty", "README.md"} == set()

    def test_xarray_finds_coarser_coordinates(self, tmp_path, rng):
        xarray = pytest.importorskip("xarray", reason="xarray is not installed (extra dev)")
        field = rng.standard_normal((3, 2, 6, 8))
        coordinates = {"lat": np.arange(6.0), "lon": np.arange(8.0)}
        dataset = xarray.Dataset({"t": (("time", "level", "lat", "lon"), field)}, coords=coordinates)
        with warnings.catch_warnings(action="ignore"):
            dataset.to_zarr(tmp_path / "x.zarr", zarr_format=self.version)
        lucid.pool_file(tmp_path / "x.zarr", tmp_path / "y.zarr", size=(2, 4))
        with xarray.open_zarr(tmp_path / "y.zarr", chunks=None) as pooled:
            assert pooled["t"].dims == ("time", "level", "lat_2", "lon_4")
            assert pooled["lat_2"].values.tolist() == [1, 4]
            expected = lucid.nn.functional.adaptive_avg_pool2d(field, (2, 4))
            assert np.array_equal(pooled["t"].values, expected)

    @pytest.mark.parametrize("holder", ["", "ome"])
    def test_ome_images_say_where_their_cells_are(self, tmp_path, zarr, holder):
        steps = [
            {"type": "scale", "scale": [1, 1, 0.5, 0.25]},
            {"type": "translation", "translation": [0, 0, 3, 0]},
        ]
        datasets = [{"path": "0", "coordinateTransformations": steps}, {"path": "1"}]
        images = {"multiscales": [{"datasets": datasets, "axes": [*"tcyx"]}]}
        root = zarr.create_group(
            tmp_path / "x.zarr", zarr_format=self.version, attributes={holder: images} if holder else images
        )
        root.create_array("0", data=np.ones((2, 3, 8, 6)))
        root.create_array("1", data=np.ones((2, 3, 4, 3)))
        target = lucid.pool_file(tmp_path / "x.zarr", sizes=[(2, 3), 1]).targets[0]
        attributes = dict(zarr.open_group(target, mode="r").attrs)
        (image,) = (attributes[holder] if holder else attributes)["multiscales"]
        first, second = image["datasets"]
        assert [d["path"] for d in image["datasets"]] == ["0_2x3", "0_1x1"]
        assert "1" not in zarr.open_group(target, mode="r")
        assert first["coordinateTransformations"] == [
            {"type": "scale", "scale": [1, 1, 2, 0.5]},
            {"type": "translation", "translation": [0, 0, 3.75, 0.125]},
        ]
        assert second["coordinateTransformations"][0]["scale"] == [1, 1, 4, 1.5]

    @pytest.mark.parametrize("compression", ["none", "zstd:3", *slow("gzip:1", "lz4", "blosc-zstd:7")])
    def test_compression(self, tmp_path, zarr, compression, rng):
        array = rng.standard_normal((4, 3, 5, 6))
        self.make(tmp_path / "x.zarr", array)
        target = lucid.pool_file(tmp_path / "x.zarr", size=2, compression=compression).targets[0]
        assert np.array_equal(self.load(target), lucid.nn.functional.adaptive_avg_pool2d(array, 2))
        with warnings.catch_warnings(action="ignore"):
            codecs = zarr.open_array(target, mode="r").compressors
        name = compression.partition(":")[0].partition("-")[0]
        assert name in str(codecs[0]).lower() if codecs else name == "none"
        with pytest.raises(ArgumentError, match="`compression` is 'lzf'; Zarr has"):
            lucid.pool_file(tmp_path / "x.zarr", tmp_path / "y.zarr", size=2, compression="lzf")

    @pytest.mark.parametrize("compression", ["keep", "gzip:1", *slow("zstd", "blosc", "lz4")])
    def test_no_time_enters_a_chunk(self, tmp_path, zarr, compression, monkeypatch):
        numcodecs = pytest.importorskip("numcodecs")
        codec = zarr.codecs.GzipCodec() if self.version == 3 else numcodecs.GZip()
        made = zarr.create_array(
            tmp_path / "x.zarr",
            shape=(4, 3, 5, 6),
            chunks=(2, 3, 5, 6),
            shards=(4, 3, 5, 6) if self.options else None,
            dtype="f4",
            compressors=codec,
            zarr_format=self.version,
        )
        made[:] = 7
        digests = set()
        for now in (1e9, 2e9):
            monkeypatch.setattr(time, "time", lambda now=now: now)
            target = tmp_path / f"{now}.zarr"
            lucid.pool_file(tmp_path / "x.zarr", target, size=2, compression=compression)
            digests.add(digest(target))
            assert (self.load(target) == 7).all()
        assert len(digests) == 1

    def test_slices_join_to_the_same_bytes(self, tmp_path, rng):
        self.make(tmp_path / "x.zarr", rng.standard_normal((25, 3, 5, 6)))
        one = lucid.pool_file(tmp_path / "x.zarr", tmp_path / f"one{self.suffix}", size=2).targets[0]
        shards = [
            lucid.pool_file(
                tmp_path / "x.zarr", tmp_path / f"{start}{self.suffix}", size=2, slice=slice(start, stop)
            ).targets[0]
            for start, stop in [(0, 3), (3, 20), (20, None)]
        ]
        assert digest(lucid.merge_files(shards, tmp_path / f"two{self.suffix}").targets[0]) == digest(one)

    def test_a_shard_that_is_damaged_is_named(self, tmp_path, rng):
        self.make(tmp_path / "x.zarr", rng.standard_normal((25, 3, 5, 6)))
        first, second = (
            lucid.pool_file(tmp_path / "x.zarr", tmp_path / f"{part.start}.zarr", size=2, slice=part).targets[
                0
            ]
            for part in (slice(0, 3), slice(3, None))
        )
        file = self.a_file_of(second / "c" if (second / "c").exists() else second)
        file.write_bytes(bytes(file.stat().st_size))  # not of another size, which is seen before
        with pytest.raises(FormatError) as raised:
            lucid.merge_files([first, second], tmp_path / "two.zarr")
        assert str(raised.value).startswith(f"shard {second}: array: ")
        assert not (tmp_path / "two.zarr").exists()

    @pytest.mark.parametrize("put", [os.replace, shutil.copy2])
    def test_an_older_chunk_that_takes_the_place_of_another_is_noticed(self, tmp_path, rng, put):
        path = tmp_path / f"x{self.suffix}"
        self.make(path, rng.standard_normal((4, 3, 5, 5)))
        old = tmp_path / "old"
        chunk = self.a_file_of(path)
        old.write_bytes(bytes(chunk.stat().st_size))
        os.utime(old, ns=(0, 0))
        with self.open(path) as source:
            put(old, chunk)
            with pytest.raises(FormatError, match="changed while it was read"):
                source.check_unchanged()

    def test_links_out_of_the_store_are_refused(self, tmp_path):
        self.make(tmp_path / "x.zarr", np.ones((2, 1, 2, 2)))
        (tmp_path / "secret").write_text("secret")
        (tmp_path / "x.zarr" / "notes").symlink_to(tmp_path / "secret")
        with pytest.raises(
            DatasetError, match="link to another place, notes, which only `allow_external=True`"
        ):
            lucid.pool_file(tmp_path / "x.zarr", size=1)
        assert lucid.pool_file(tmp_path / "x.zarr", size=1, allow_external=True).targets[0].exists()

    def test_what_a_kill_left_is_removed(self, tmp_path):
        self.make(tmp_path / "x.zarr", np.ones((2, 1, 2, 2)))
        left = tmp_path / ".x.pooled.zarr.0123456789ab.tmp"
        (left / "c").mkdir(parents=True)
        (left / "c" / "0").write_text("half")
        lucid.pool_file(tmp_path / "x.zarr", size=1)
        assert not left.exists()

    def test_names_of_chunks_are_kept(self, tmp_path, zarr):
        for separator in "./":
            keys = {"name": "v2", "separator": separator}
            path = tmp_path / f"x{ord(separator)}.zarr"
            made = zarr.create_array(
                path, shape=(2, 3, 4, 4), dtype="f4", zarr_format=self.version, chunk_key_encoding=keys
            )
            made[:] = 1
            target = lucid.pool_file(path, size=1).targets[0]
            assert (target / separator.join("0000")).is_file()

    def test_other_folders_are_neither_read_nor_replaced(self, tmp_path):
        self.make(tmp_path / "x.zarr", np.ones((2, 1, 2, 2)))
        (tmp_path / "y.zarr").mkdir()
        (tmp_path / "y.zarr" / "thesis.tex").write_text("mine")
        with pytest.raises(FileError, match="is a folder of other files, which is not replaced"):
            lucid.pool_file(tmp_path / "x.zarr", tmp_path / "y.zarr", size=1, overwrite=True)
        with pytest.raises(FileError, match="is a folder; expected a file, or a folder that is a Zarr store"):
            lucid.pool_file(tmp_path / "y.zarr", size=1)
        with pytest.raises(FileError, match="lies within the input"):
            lucid.pool_file(tmp_path / "x.zarr", tmp_path / "x.zarr" / "y.npy", size=1)

    def test_a_store_is_not_its_own_output(self, tmp_path, rng):
        array = rng.standard_normal((4, 3, 5, 6))
        self.make(tmp_path / "x.zarr", array)
        for name in ("x.zarr", "x.zarr/y.zarr"):
            with pytest.raises(FileError, match=r"never (changed|replaced)"):
                lucid.pool_file(tmp_path / "x.zarr", tmp_path / name, size=2, overwrite=True)
        assert np.array_equal(self.load(tmp_path / "x.zarr"), array)
        assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]

    def test_in_place_where_the_system_cannot_exchange_names(self, tmp_path, monkeypatch):
        from lucid.formats.disk import renames

        monkeypatch.setattr(renames, "_rename", lambda *_: False)
        self.make(tmp_path / "x.zarr", np.full((4, 3, 5, 6), 2.0))
        for overwrite in (False, True):
            lucid.pool_file(tmp_path / "x.zarr", tmp_path / "y.zarr", size=2, overwrite=overwrite)
        assert (self.load(tmp_path / "y.zarr") == 2).all()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["x.zarr", "y.zarr"]

    def test_a_name_that_is_taken_meanwhile(self, tmp_path):
        self.make(tmp_path / "x.zarr", np.ones((4, 3, 5, 6)))

        def take(_):
            (tmp_path / "y.zarr").mkdir(exist_ok=True)

        with pytest.raises(ExistsError, match="exists by now"):
            lucid.pool_file(tmp_path / "x.zarr", tmp_path / "y.zarr", size=2, on_progress=take)
        assert list((tmp_path / "y.zarr").iterdir()) == []
        assert len(list(tmp_path.iterdir())) == 3
        (finished,) = tmp_path.glob("y.zarr.*.finished")
        assert (self.load(finished) == 1).all()

    def test_to_and_from_other_formats(self, tmp_path, rng):
        array = rng.standard_normal((4, 3, 5, 6)).astype("f4")
        expected = lucid.nn.functional.adaptive_avg_pool2d(array, 2)
        self.make(tmp_path / "x.zarr", array)
        lucid.pool_file(tmp_path / "x.zarr", tmp_path / "y.npy", size=2)
        lucid.pool_file(tmp_path / "x.zarr", tmp_path / "y.h5", size=2)
        np.save(tmp_path / "x.npy", array)
        lucid.pool_file(tmp_path / "x.npy", tmp_path / "z.zarr", size=2)
        assert np.array_equal(np.load(tmp_path / "y.npy"), expected)
        assert np.array_equal(self.load(tmp_path / "z.zarr"), expected)
        with h5py.File(tmp_path / "y.h5") as file:
            assert np.array_equal(file["data"], expected)

    def test_behind_a_url(self, tmp_path, zarr, rng):
        array = rng.standard_normal((4, 3, 5, 6))
        url = f"memory://{tmp_path.name}"
        root = zarr.open_group(f"{url}/x.zarr", mode="w", zarr_format=self.version)
        root.create_array("a/b", data=array)
        root.create_array("labels", data=np.arange(4))
        lucid.pool_file(f"{url}/x.zarr", size=2)
        pooled = zarr.open_group(f"{url}/x.pooled.zarr", mode="r")
        assert np.array_equal(pooled["a/b"][:], lucid.nn.functional.adaptive_avg_pool2d(array, 2))
        assert pooled["labels"][:].tolist() == [0, 1, 2, 3]
        with pytest.raises(ExistsError, match="exists already"):
            lucid.pool_file(f"{url}/x.zarr", size=2)
        lucid.pool_file(f"{url}/x.zarr", size=1, overwrite=True)
        assert zarr.open_array(f"{url}/x.pooled.zarr/a/b", mode="r").shape == (4, 3, 1, 1)
        with pytest.raises(LucidError):
            lucid.pool_file(f"{url}/gone.zarr", size=2)
        with pytest.raises(FileError, match="is an input, which is never changed"):
            lucid.pool_file(f"{url}/x.zarr", f"{url}/x.zarr", size=2, overwrite=True)
        with pytest.raises(FileError, match="lies within the input"):
            lucid.pool_file(f"{url}/x.zarr", f"{url}/x.zarr/y.zarr", size=2)
        shards = [
            lucid.pool_file(
                f"{url}/x.zarr", tmp_path / f"{start}.zarr", size=2, slice=slice(start, start + 2)
            )
            for start in (0, 2)
        ]
        merged = lucid.merge_files([shard.targets[0] for shard in shards], tmp_path / "merged.zarr").targets[
            0
        ]
        single = lucid.pool_file(f"{url}/x.zarr", tmp_path / "single.zarr", size=2).targets[0]
        assert digest(merged) == digest(single)
        with pytest.raises(FileError, match="is only read; name another `target`"):
            lucid.pool_file(f"{url}/x.zarr", "http://127.0.0.1:9/y.zarr", size=2)
        assert not list(Path.cwd().glob("memory:*"))

    def test_bfloat16(self, tmp_path, zarr):
        bits = np.full((2, 3, 4, 4), 0x3FC0, np.uint16)
        with warnings.catch_warnings(action="ignore"):
            self.make(tmp_path / "x.zarr", bits.view("V2"))
            lucid.pool_file(tmp_path / "x.zarr", size=1, input_dtype="bfloat16")
            pooled = self.load(tmp_path / "x.pooled.zarr")
        assert (pooled.view(np.uint16) == 0x3FC0).all()
        assert pooled.shape == (2, 3, 1, 1)


class TestZarr2(TestZarr):
    version = 2

    def test_pickles_are_refused(self, tmp_path):
        self.make(tmp_path / "x.zarr", np.ones((2, 1, 2, 2)))
        document = tmp_path / "x.zarr" / ".zarray"
        fields = json.loads(document.read_text())
        document.write_text(json.dumps(fields | {"filters": [{"id": "pickle", "protocol": 5}]}))
        with pytest.raises(FormatError, match="a pickle can run code"):
            lucid.pool_file(tmp_path / "x.zarr", size=1)


class TestZarrShards(TestZarr):
    options: ClassVar = {"chunks": (1, 3, 2, 5), "shards": (4, 3, 4, 10)}

    def test_bfloat16(self):
        pytest.skip("zarr 3.1 cannot write shards of untyped elements")

    @pytest.mark.slow
    def test_a_file_that_shrinks_while_it_is_read_is_an_error(self, tmp_path, rng):
        super().test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path, rng)


class TestZarrArchive(Contract):
    suffix = ".zarr.zip"

    @pytest.fixture(autouse=True)
    def zarr(self):
        return pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")

    def make(self, path, array):
        import zarr

        with warnings.catch_warnings(action="ignore"), zarr.storage.ZipStore(path, mode="w") as store:
            made = zarr.create_array(store, shape=array.shape, dtype=array.dtype, chunks=array.shape)
            made[...] = array

    def load(self, path):
        import zarr

        with zarr.storage.ZipStore(path, mode="r") as store:
            return zarr.open_array(store, mode="r")[...]

    def test_members_can_be_extracted_and_have_no_time(self, tmp_path):
        self.make(tmp_path / "x.zarr.zip", np.ones((1, 1, 2, 2)))
        target = lucid.pool_file(tmp_path / "x.zarr.zip", size=1).targets[0]
        with zipfile.ZipFile(target) as archive:
            for member in archive.infolist():
                assert member.external_attr >> 16 == 0o644
                assert member.date_time == (1980, 1, 1, 0, 0, 0)

    def test_members_that_lead_out_are_refused(self, tmp_path):
        self.make(tmp_path / "x.zarr.zip", np.ones((1, 1, 2, 2)))
        with zipfile.ZipFile(tmp_path / "x.zarr.zip", "a") as archive:
            archive.writestr("../evil", "evil")
        with pytest.raises(FormatError, match="leads out of it"):
            self.open(tmp_path / "x.zarr.zip")

    def test_a_name_that_leads_through_very_many_folders_is_refused(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "x.zarr.zip", "w") as archive:
            archive.writestr("a/" * 32_700 + "zarr.json", "{}")
        with pytest.raises(FormatError, match="has folders whose names take more than 134217728 characters"):
            self.open(tmp_path / "x.zarr.zip")

    def test_other_archives_are_refused(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr("a.png", "png")
        with pytest.raises(FormatError, match="is a zip archive of other files; unpack it"):
            self.open(tmp_path / "x.zip")

    def test_standard_input(self, tmp_path, command):
        self.make(tmp_path / "x.zarr.zip", np.ones((2, 3, 4, 4)))
        with (tmp_path / "x.zarr.zip").open("rb") as file:
            assert command("-", "-s", "2", "-o", "y.npy", stdin=file).returncode == 0
        assert (np.load(tmp_path / "y.npy") == 1).all()


class TestNpz(Contract):
    suffix = ".npz"
    save = staticmethod(np.savez)

    def make(self, path, array):
        self.save(path, x=array)

    def load(self, path):
        with np.load(path) as archive:
            (name,) = archive
            return archive[name]


class TestNpzDeflated(TestNpz):
    save = staticmethod(np.savez_compressed)


class TestSafetensors(Contract):
    suffix = ".safetensors"

    @pytest.fixture(autouse=True)
    def safetensors(self):
        return pytest.importorskip("safetensors.numpy", reason="safetensors is not installed (extra test)")

    def make(self, path, array):
        import ml_dtypes
        from safetensors.numpy import save_file

        if array.dtype == "S3":  # there is no text; numbers of 8 bits are no more NumPy's
            array = np.zeros(array.shape, ml_dtypes.float8_e5m2)
            save_file({"x": array}, path)
            return
        save_file({"x": np.ascontiguousarray(array)}, path)

    def load(self, path):
        from safetensors.numpy import load_file

        (array,) = load_file(path).values()
        return array


class TestHdf5(Contract):
    suffix = ".h5"

    def make(self, path, array):
        with h5py.File(path, "w") as file:
            file["x"] = array

    def load(self, path):
        with h5py.File(path) as file:
            return file["x"][:]

    def test_a_file_that_is_replaced_while_it_is_opened(self, tmp_path, monkeypatch):
        path, other = tmp_path / "x.h5", tmp_path / "other.h5"
        self.make(path, np.zeros((1, 1, 2, 2)))
        self.make(other, np.ones((2, 3, 4, 5)))
        open_library = h5py.File

        def replace_and_open(name, *mode, **options):
            other.replace(path)
            return open_library(name, *mode, **options)

        monkeypatch.setattr(h5py, "File", replace_and_open)
        with pytest.raises(FormatError, match="was replaced while it was opened"):
            self.open(path)


class TestHdf5Compressed(TestHdf5):
    def make(self, path, array):
        with h5py.File(path, "w") as file:
            file.create_dataset(
                "x", data=array, chunks=True, compression="gzip", shuffle=True, fletcher32=True
            )


@pytest.mark.parametrize("shape", [(3, 4, 5), (6,), (2, 1, 3, 1)])
def test_runs_are_the_region_in_order(shape, rng):
    cells = np.arange(np.prod(shape)).reshape(shape)
    for _ in range(20):
        edges = [sorted(rng.choice(n + 1, 2, replace=False)) for n in shape]
        region = tuple(slice(int(a), int(b)) for a, b in edges)
        found = [c for first, length in runs(shape, region) for c in range(first, first + length)]
        assert found == cells[region].ravel().tolist()
        assert shape_of(region) == cells[region].shape


def test_a_url_is_of_the_format_that_its_suffix_names_or_of_the_first(monkeypatch):
    zarr = next(one for one in registry.FORMATS if one.has_urls)
    other = zarr._replace(name="other", suffixes=(".other",))
    monkeypatch.setattr(registry, "FORMATS", (*registry.FORMATS, other))
    for name, format_ in {"a.zarr": zarr, "a.OTHER": other, "a": zarr, "a.h5": zarr}.items():
        assert format_of_content(Path(f"s3:/bucket/{name}")) is format_


def test_a_folder_of_no_format_names_all_that_are_folders(tmp_path, monkeypatch):
    zarr = next(one for one in registry.FORMATS if one.root_files)
    other = zarr._replace(name="other", root_files=("other.json",))
    monkeypatch.setattr(registry, "FORMATS", (*registry.FORMATS, other))
    with pytest.raises(FileError, match="or a folder that is a Zarr or other store"):
        format_of_content(tmp_path)
    (tmp_path / "other.json").touch()
    assert format_of_content(tmp_path) is other


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name, error in [
        ("fifo", FileError),
        (".", FileError),
        ("/dev/zero", FileError),
        ("gone", NotFoundError),
    ]:
        with pytest.raises(error):
            format_of_content(tmp_path / name)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(
        FormatError, match="is of no known format; expected npy, HDF5, Zarr, npz or safetensors"
    ):
        format_of_content(tmp_path / "text")


def test_hdf5_behind_a_user_block(tmp_path):
    with h5py.File(tmp_path / "x.bin", "w", userblock_size=1024) as file:
        file["x"] = np.zeros((1, 1, 2, 2))
    assert format_of_content(tmp_path / "x.bin").name == "HDF5"


class TestStaleFiles:
    """Temporary files that a kill left are recognised by the lock that nobody holds."""

    def leave(self, folder, name=".y.npy.0123456789ab.tmp"):
        (folder / name).write_bytes(b"left")
        return folder / name

    def write(self, folder):
        np.save(folder / "x.npy", np.zeros((1, 1, 2, 2)))
        with (
            NpySink(folder / "y.npy", Options(overwrite=True)) as sink,
            Contract().open(folder / "x.npy") as source,
        ):
            (spec,) = source.choose(())
            sink.begin(source, [ResultSpec(spec, "/data", (1, 1, 1, 1), np.dtype("f8"), "float64", "{}")])
            yield
            sink.commit()

    def test_they_are_removed_and_others_are_not(self, tmp_path):
        stale = [self.leave(tmp_path), self.leave(tmp_path, ".z.h5.ba9876543210.tmp")]
        kept = [
            self.leave(tmp_path, name) for name in (".y.npy.tmp", "y.0123456789ab.tmp", ".a.0123456789AB.tmp")
        ]
        np.save(tmp_path / "x.npy", np.zeros((1, 1, 2, 2)))
        lucid.pool_file(tmp_path / "x.npy", size=1)
        assert not any(path.exists() for path in stale)
        assert all(path.exists() for path in kept)

    def test_those_in_use_are_left_alone(self, tmp_path):
        writing = self.write(tmp_path)
        next(writing)
        (locked,) = tmp_path.glob(".y.npy.*.tmp")
        remove_stale(tmp_path)
        assert locked.exists()
        list(writing)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["x.npy", "y.npy"]


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
DESCRS = st.sampled_from(["<f4", ">f8", "|V2", "|O", "<U3", "f", "<f4,<i2", "(2,)f4"]) | LITERALS
SHAPES = st.lists(st.integers(-2, 2**70), max_size=6).map(tuple) | LITERALS


@given(
    st.fixed_dictionaries({"descr": DESCRS, "fortran_order": st.booleans() | LITERALS, "shape": SHAPES}).map(
        repr
    )
    | LITERALS.map(repr)
    | st.text(),
    st.sampled_from([(1, 0), (2, 0), (3, 0), (9, 0), (1, 1)]),
    st.integers(-3, 3),
)
def test_any_header_is_read_or_refused_in_one_line(text, version, lie):
    encoded = text.encode("utf-8", "surrogatepass")[: 2**16 - 4]
    width = 2 if version[0] == 1 else 4
    length = max(0, len(encoded) + lie).to_bytes(width, "little")
    data = b"\x93NUMPY" + bytes(version) + length + encoded
    try:
        header = read_header(io.BytesIO(data).read)
    except LucidError as error:
        assert "\n" not in str(error)
    else:
        assert all(type(n) is int and n >= 0 for n in header.shape)
        assert not header.dtype.hasobject
        assert header.offset + header.nbytes < 2**63


def make_several(path, **arrays):
    """A file of arrays with names, by the library of its format."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        pytest.importorskip("safetensors.numpy", reason="safetensors is not installed").save_file(
            arrays, path
        )
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.update(arrays)
    else:
        zarr = pytest.importorskip("zarr", reason="zarr is not installed (extra zarr)")
        group = zarr.open_group(path, mode="w")
        for name, array in arrays.items():
            group.create_array(name, data=array)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".h5", ".zarr"])
class TestNames:
    """What is carried over and what is pooled have names in one file."""

    X = np.ones((2, 2, 4, 4), "f4")

    @pytest.mark.parametrize("dry_run", [False, True])
    def test_a_result_does_not_take_the_name_of_what_is_carried_over(self, tmp_path, suffix, dry_run):
        path = tmp_path / f"x{suffix}"
        make_several(path, a=self.X, a_1x1=np.arange(3))
        with pytest.raises(DatasetError, match=r"two of the name '/?a_1x1'"):
            lucid.pool_file(path, sizes=[1, 2], datasets="a", dry_run=dry_run)
        for options in ({"drop": "a_1x1"}, {"carry": False}):
            (target,) = lucid.pool_file(path, sizes=[1, 2], overwrite=True, **options).targets
            with format_of_content(target).open(target, Options()) as source:
                assert [spec.name for spec in source.choose(())] == ["/a_1x1", "/a_2x2"]

    @pytest.mark.parametrize("dry_run", [False, True])
    def test_names_that_drop_nothing_are_told(self, tmp_path, suffix, dry_run):
        path = tmp_path / f"x{suffix}"
        make_several(path, a=self.X, labels=np.arange(3))
        report = lucid.pool_file(path, size=1, drop=["lables", "labels", "a"], dry_run=dry_run)
        assert report.carried == 0
        assert report.notes == ("nothing that is carried over has a name that `drop` says: lables, a",)

    @pytest.mark.parametrize("dry_run", [False, True])
    def test_a_group_is_dropped_with_what_is_in_it(self, tmp_path, suffix, dry_run):
        path = tmp_path / f"x{suffix}"
        make_several(path, **{"a": self.X, "g/x": np.arange(3), "g/h/y": np.arange(4), "z": np.arange(5)})
        report = lucid.pool_file(path, size=1, drop=["g", "g/x", "/g/h/*", "g/a"], dry_run=dry_run)
        assert report.carried == 1
        assert report.notes == ("nothing that is carried over has a name that `drop` says: g/a",)

    def test_what_does_not_go_to_another_format_is_told(self, tmp_path, suffix):
        path = tmp_path / f"x{suffix}"
        make_several(path, a=self.X, labels=np.arange(3))
        (note,) = lucid.pool_file(path, tmp_path / "y.npy", size=1).notes
        assert note.startswith("attributes, labels and whatever else it holds are not carried from ")
        assert note.endswith(" to npy")
        assert lucid.pool_file(path, tmp_path / "z.npy", size=1, carry=False).notes == ()
