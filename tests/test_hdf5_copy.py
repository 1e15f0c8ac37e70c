"""Carried-over objects whose fill value or properties point into the source's heap."""

import ctypes
import gc
import itertools

import h5py
import numpy as np
import pytest
from slow import slow

import lucid
from lucid.errors import FileError, FormatError
from lucid.formats.hdf5 import check as hdf5_check
from lucid.formats.hdf5.dataset import Dataset

STRING = h5py.string_dtype()
TABLE = np.dtype({"names": ["a", "s"], "formats": ["i4", STRING], "offsets": [0, 8], "itemsize": 16})
TEXT = ctypes.create_string_buffer(b"filled")
NUMBERS = (ctypes.c_int32 * 3)(5, 6, 7)


class Sequence(ctypes.Structure):
    _fields_ = (("length", ctypes.c_size_t), ("start", ctypes.c_void_p))


class Row(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int32), ("s", ctypes.c_void_p))


text, numbers = ctypes.addressof(TEXT), ctypes.addressof(NUMBERS)
#: Types whose elements lie in the heap: a fill value as HDF5 wants it, and a value.
KINDS = {
    "string": (STRING, ctypes.c_void_p(text), "one"),
    "ascii": (h5py.string_dtype("ascii"), ctypes.c_void_p(text), "one"),
    "sequence": (h5py.vlen_dtype("i4"), Sequence(3, numbers), np.arange(4, dtype="i4")),
    "table": (TABLE, Row(9, text), np.array((1, "one"), TABLE)),
    "array": (np.dtype((STRING, (2,))), (ctypes.c_void_p * 2)(text, text), np.array(["a", "b"], object)),
}
LAYOUTS = {
    "contiguous": ((7,), None),
    "chunked": ((7,), (3,)),
    "grid": ((5, 3), (2, 2)),
    "compact": ((4,), None),
    "scalar": ((), None),
    "empty": ((0,), None),
}


def set_fill_value(creation, kind, value):
    """h5py can set fill values of strings, and of nothing else that lies in the heap; HDF5 can."""
    library = ctypes.CDLL(h5py.h5p.__file__)
    library.H5Pset_fill_value.argtypes = [ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    assert library.H5Pset_fill_value(creation.id, kind.id, value and ctypes.addressof(value)) >= 0


def add(group, name, kind, layout, *, deflate=False):
    """A dataset with a fill value in the heap, nothing written."""
    dtype, fill, _ = KINDS[kind]
    shape, chunks = LAYOUTS[layout]
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    type_ = h5py.h5t.py_create(dtype, logical=True)
    set_fill_value(creation, type_, fill)
    if chunks:
        creation.set_chunk(chunks)
    if layout == "compact":
        creation.set_layout(h5py.h5d.COMPACT)
    if deflate:
        creation.set_deflate(4)
    limits = tuple(h5py.h5s.UNLIMITED for _ in shape) if chunks else None
    space = h5py.h5s.create_simple(shape, limits) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), type_, space, creation))


def write_some(dataset, kind):
    """Write the first half, and leave chunks unwritten."""
    value = KINDS[kind][2]
    if dataset.ndim == 0:
        if kind != "array":  # h5py cannot write these
            dataset[()] = value
    elif kind == "array":
        dataset[:2] = np.broadcast_to(value, (*dataset[:2].shape[: dataset.ndim], 2))
    else:
        for at in np.ndindex(tuple(min(2, n) for n in dataset.shape)):
            dataset[at] = value


def values_of(path):
    """Everything that can be read of every dataset; opened for writing, as unwritten chunks need it."""
    found = {}
    with h5py.File(path, "r+") as file:

        def note(name, item):
            if isinstance(item, h5py.Dataset) and not name.startswith("x"):
                creation = item.id.get_create_plist()
                found[name] = (
                    item.dtype,
                    item.maxshape,
                    creation.get_layout(),
                    item.chunks,
                    item.compression,
                    creation.fill_value_defined(),
                    creation.get_fill_time(),
                    # Of sequences, h5py crashes.
                    item.fillvalue if h5py.check_string_dtype(item.dtype) else None,
                    repr(item[()]),
                    {key: repr(value) for key, value in item.attrs.items()},
                )

        file.visititems(note)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"track_order": True}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_fill_values_in_the_heap_are_carried_over(tmp_path, kind, options):
    path, out = tmp_path / "a.h5", tmp_path / "b.h5"
    with h5py.File(path, "w", **options) as file:
        file["x"] = np.ones((2, 2, 4, 4), "f4")
        file["pad"] = np.arange(100_000)  # heaps of the two files lie at different places
        for group, layout, written in itertools.product((file, file.create_group("g/h")), LAYOUTS, (0, 1)):
            made = add(group, f"{layout}{written}", kind, layout)
            made.attrs["units"] = "m"
            made.attrs["names"] = np.array(["a", "bcd"], STRING)
            made.attrs["fixed"] = np.bytes_("abc")
            if written and made.size:
                write_some(made, kind)
        if kind in ("table", "array"):  # HDF5 refuses filters on the others
            write_some(add(file, "deflated", kind, "chunked", deflate=True), kind)
        del file["pad"]
    lucid.pool_file(path, out, size=2)
    assert lucid.pool_file(path, tmp_path / "c.h5", size=2)
    assert out.read_bytes() == (tmp_path / "c.h5").read_bytes()
    before, after = values_of(path), values_of(out)
    assert len(after) >= 24
    assert before == after


def test_what_was_not_written_stays_unwritten(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones((1, 1, 4, 4), "f4")
        huge = file.create_dataset("s", (1 << 40,), STRING, fillvalue="-", chunks=(10,), maxshape=(None,))
        huge[1 << 30] = "here"
        huge[-1] = "end"
    lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2)
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["s"].id.get_num_chunks() == 2
        assert (file["s"][1 << 30], file["s"][-1]) == (b"here", b"end")
        assert file["s"].fillvalue == b"-"


@pytest.mark.slow
def test_more_elements_than_are_copied_at_once(tmp_path, rng):
    texts = np.array([str(n) for n in rng.integers(0, 99999, 40_000)], object).reshape(200, 200)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones((1, 1, 4, 4), "f4")
        file.create_dataset("s", data=texts, dtype=STRING, fillvalue="none")
        file.create_dataset("t", data=texts, dtype=STRING, fillvalue="none", chunks=(150, 170))
        resized = file.create_dataset(
            "u", data=texts, dtype=STRING, fillvalue="none", chunks=(30, 30), maxshape=(None, None)
        )
        resized.resize((50, 40))
    lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2)
    with h5py.File(tmp_path / "b.h5") as file:
        assert np.array_equal(file["s"].asstr()[:], texts)
        assert np.array_equal(file["t"].asstr()[:], texts)
        assert np.array_equal(file["u"].asstr()[:], texts[:50, :40])


def test_references_beside_strings_point_into_the_output(tmp_path):
    dtype = np.dtype([("name", STRING), ("of", h5py.ref_dtype)])
    row = np.dtype({"names": ["name", "of"], "formats": ["u8", "u8"], "itemsize": 16})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones((1, 1, 4, 4), "f4")
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        kind = h5py.h5t.py_create(dtype, logical=True)
        fill = np.zeros((), row)
        fill["name"] = text
        set_fill_value(creation, kind, (ctypes.c_char * 16).from_buffer(fill))
        made = h5py.Dataset(h5py.h5d.create(file.id, b"t", kind, h5py.h5s.create_simple((2,)), creation))
        made[0], made[1] = ("a", file["x"].ref), ("b", file.ref)
    lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2)
    with h5py.File(tmp_path / "b.h5") as file:
        assert [(n, file[r].name) for n, r in file["t"][:].tolist()] == [(b"a", "/x"), (b"b", "/")]
        assert file[file["t"][0]["of"]].shape == (1, 1, 2, 2)


def test_netcdf_strings_types_and_sequences(tmp_path):
    netcdf = pytest.importorskip("netCDF4", reason="netCDF4 is in the extra `dev`")
    with netcdf.Dataset(tmp_path / "a.nc", "w") as data:
        for name, length in ("b", 1), ("y", 4), ("x", 4), ("s", 3), ("u", None):
            data.createDimension(name, length)
        data.createVariable("v", "f4", ("b", "y", "x"))[:] = 1
        sequence = data.createVLType(np.int32, "sequence")
        for group in data, data.createGroup("g").createGroup("h"):
            fixed = group.createVariable("fixed", str, ("s",))
            fixed[0], fixed[2] = "one", "three"
            growing = group.createVariable("growing", str, ("u",), fill_value="none")
            growing[0], growing[5] = "one", "six"
            group.createVariable("rows", sequence, ("s",))[1] = np.arange(3, dtype="i4")
    lucid.pool_file(tmp_path / "a.nc", tmp_path / "b.nc", size=2, layout="CHW")
    with netcdf.Dataset(tmp_path / "b.nc") as data:
        for group in data, data["g"]["h"]:
            assert list(group["fixed"][:]) == ["one", "", "three"]
            assert [group["growing"][i] for i in (0, 5)] == ["one", "six"]
            assert list(group["rows"][1]) == [0, 1, 2]
            assert group["rows"].datatype.name == "sequence"


@pytest.mark.parametrize(("reduce", "is_classic"), [("mean", True), ("max", True), ("sum", False)])
def test_a_file_with_numbers_that_the_classic_model_has_not_is_not_held_to_it(tmp_path, reduce, is_classic):
    netcdf = pytest.importorskip("netCDF4", reason="netCDF4 is in the extra `dev`")
    with netcdf.Dataset(tmp_path / "a.nc", "w", format="NETCDF4_CLASSIC") as data:
        for name, length in ("t", 1), ("y", 4), ("x", 4):
            data.createDimension(name, length)
        data.createVariable("v", "i2", ("t", "y", "x"))[:] = 1
    report = lucid.pool_file(tmp_path / "a.nc", tmp_path / "b.nc", size=2, layout="THW", reduce=reduce)
    note = "the mark of netCDF's classic model, which has no int64, is left out: /v"
    assert (note in report.notes) is not is_classic
    with netcdf.Dataset(tmp_path / "b.nc") as data:
        assert np.all(data["v"][:] == (4 if reduce == "sum" else 1))
        assert (data.data_model == "NETCDF4_CLASSIC") is is_classic
    for dry_run in True, False:
        options = {"size": 2, "layout": "THW", "reduce": reduce, "carry": False, "dry_run": dry_run}
        assert not lucid.pool_file(tmp_path / "a.nc", tmp_path / "c.nc", **options).notes
    options = {"size": 2, "layout": "THW", "reduce": reduce, "resume": True}
    assert lucid.pool_file(tmp_path / "a.nc", tmp_path / "b.nc", **options).skipped


@pytest.mark.parametrize("folder", [*slow("a"), "z/deep/er"])
@pytest.mark.parametrize("track_order", [False, True])
@pytest.mark.parametrize(
    "dtype",
    ["f4", [("a", "i2"), ("b", "f8")], h5py.enum_dtype({"A": 1}, "u1"), h5py.vlen_dtype("i4")],
    ids=str,
)
def test_named_types_stay_the_types_of_what_is_carried(tmp_path, folder, track_order, dtype):
    named, owners = f"/{folder}/type", ("/", "maps", "d", "plain", folder)
    with h5py.File(tmp_path / "a.h5", "w", track_order=track_order) as file:
        file["maps"] = np.ones((1, 1, 4, 4), "f4")
        file[named] = np.dtype(dtype)
        file[named].attrs["about"] = "it"
        for name, chunks in ("d", None), ("e", (2,)):
            file.create_dataset(name, (5,), file[named], chunks=chunks, compression=chunks and "gzip")
            file[name][0] = (
                np.zeros(3, "i4") if h5py.check_vlen_dtype(np.dtype(dtype)) else np.ones((), dtype)
            )
        file["plain"], file["b"] = 1, file[named]
        for owner in owners:
            h5py.h5a.create(file[owner].id, b"kind", file[named].id, h5py.h5s.create(h5py.h5s.SCALAR))
    lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2)
    with h5py.File(tmp_path / "a.h5") as before, h5py.File(tmp_path / "b.h5") as after:
        assert list(after) == list(before)
        assert after[named].attrs["about"] == "it"
        assert after["b"] == after[named]
        types = [after[name].id.get_type() for name in ("d", "e")]
        types += [h5py.h5a.open(after[owner].id, b"kind").get_type() for owner in owners]
        assert {h5py.h5o.get_info(one).addr for one in types} == {h5py.h5o.get_info(after[named].id).addr}
        for name in "d", "e":
            assert str(after[name][:]) == str(before[name][:])
            assert after[name].compression == before[name].compression
    lucid.pool_file(tmp_path / "a.h5", tmp_path / "c.h5", size=2, drop=[named, "b"])
    with h5py.File(tmp_path / "c.h5") as after:
        assert named not in after
        assert h5py.h5a.open(after["d"].id, b"kind").get_type().equal(after["d"].id.get_type())


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"track_order": True}, {}], ids=str)
@pytest.mark.parametrize("members", [8, 9, *slow(7, 40)])
def test_groups_of_many_members(tmp_path, options, members):
    path, out = tmp_path / "a.h5", tmp_path / "b.h5"
    track = {"track_order": True} if "track_order" in options else {}
    with h5py.File(path, "w", **options) as file:
        file["pad"] = np.arange(100_000)
        inner = file.create_group("g", **track).create_group("h", **track)
        for i in range(members):
            inner[f"{members - i}.jpg"] = np.full((1, 3, 4, 4), i, "f4")
            inner.attrs[f"{members - i}"] = i
            inner[f"{members - i}.txt"] = f"label {i}"
    lucid.pool_file(path, out, size=2)
    with h5py.File(path) as before, h5py.File(out) as after:
        assert list(after["g/h"]) == list(before["g/h"])
        assert list(after["g/h"].attrs.items()) == list(before["g/h"].attrs.items())
        for i in range(members):
            assert np.all(after[f"g/h/{members - i}.jpg"][:] == i)
            assert after[f"g/h/{members - i}.txt"][()] == f"label {i}".encode()


def test_attributes_keep_their_types(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones((1, 1, 4, 4), "f4")
        group = file.create_group("g")
        padded = h5py.h5t.C_S1.copy()
        padded.set_size(8)
        padded.set_strpad(h5py.h5t.STR_SPACEPAD)
        for name, kind, data in (
            (b"padded", padded, np.array(b"ab      ", "S8")),
            (b"bits", h5py.h5t.STD_B16LE, np.array(5, "u2")),
            (b"time", h5py.h5t.UNIX_D32LE, np.array(5, "u4")),
        ):
            made = h5py.h5a.create(group.id, name, kind, h5py.h5s.create(h5py.h5s.SCALAR))
            made.write(data.view(f"V{data.itemsize}"), mtype=kind)
        group.attrs["nothing"] = h5py.Empty("f4")
    lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2)
    with h5py.File(tmp_path / "a.h5") as before, h5py.File(tmp_path / "b.h5") as after:
        for name in ("padded", "bits", "time", "nothing"):
            kinds = [h5py.h5a.open(file["g"].id, name.encode()).get_type() for file in (before, after)]
            assert kinds[0].equal(kinds[1])
        assert after["g"].attrs["padded"] == before["g"].attrs["padded"]


class TestCheckOfTheFinishedFile:
    @pytest.fixture(autouse=True)
    def make(self, tmp_path):
        self.path, self.out = tmp_path / "a.h5", tmp_path / "b.h5"
        with h5py.File(self.path, "w") as file:
            file["x"] = np.ones((2, 2, 4, 4), "f4")
            file["pad"] = np.arange(100_000)
            file.create_dataset("g/names", data=["a", "b"], dtype=STRING, fillvalue="none")
            del file["pad"]

    def test_an_output_that_cannot_be_read_does_not_appear(self, monkeypatch):
        # As if the fill value had been overlooked.
        monkeypatch.setattr(Dataset, "has_fill_in_heap", False)
        with pytest.raises(FileError, match=r"output .*b\.h5: /g/names cannot be read back: "):
            lucid.pool_file(self.path, self.out, size=2)
        assert [p.name for p in self.out.parent.iterdir()] == ["a.h5"]

    def test_an_object_that_is_no_longer_one_is_found(self, monkeypatch):
        with h5py.File(self.path, "r+") as file:
            file["numbers"] = np.arange(5)  # there is nothing to read of these but their header

        def check_damaged(path, *arguments):
            with h5py.File(path, locking=False) as file:
                address = file.id.links.get_info(b"numbers").u
            with open(path, "r+b") as raw:
                raw.seek(address)
                raw.write(bytes(16))
            hdf5_check.check_copy(path, *arguments)

        monkeypatch.setattr("lucid.formats.hdf5.sink.check_copy", check_damaged)
        with pytest.raises(FileError, match=r"output .*b\.h5: cannot be read back"):
            lucid.pool_file(self.path, self.out, size=2)
        assert [p.name for p in self.out.parent.iterdir()] == ["a.h5"]

    def test_what_the_source_cannot_read_either_is_no_fault(self):
        with h5py.File(self.path, "r+") as file:
            creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            creation.set_chunk((4,))
            creation.set_filter(32999, h5py.h5z.FLAG_OPTIONAL)
            space = h5py.h5s.create_simple((4,))
            made = h5py.Dataset(h5py.h5d.create(file.id, b"exotic", h5py.h5t.STD_I32LE, space, creation))
            made.id.write_direct_chunk((0,), b"nobody can read this")
        lucid.pool_file(self.path, self.out, size=2)
        with h5py.File(self.out) as file:
            assert file["exotic"].id.read_direct_chunk((0,))[1] == b"nobody can read this"

    def test_it_reads_little_and_leaves_nothing_open(self, monkeypatch):
        with h5py.File(self.path, "r+") as file:
            file.create_dataset("labels", data=np.arange(1_000_000), chunks=(1000,))
        gc.collect()  # files of other tests, which errors hold
        before = h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)
        read = []
        cells = hdf5_check.read_cells
        monkeypatch.setattr(hdf5_check, "read_cells", lambda d, r: read.append(cells(d, r)))
        lucid.pool_file(self.path, self.out, size=2)
        assert [(len(c), c.size) for c in read] == [(1, 1)] * 4
        assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == before


def test_files_without_a_source_are_checked_too(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 2, 4, 4), "f4"))
    lucid.pool_file(tmp_path / "a.npy", tmp_path / "b.h5", size=2)
    with h5py.File(tmp_path / "b.h5") as file:
        assert np.all(file["data"][:] == 1)


@pytest.mark.parametrize("block", [0, 512])
@pytest.mark.parametrize("kind", [STRING, h5py.vlen_dtype("f8")], ids=["text", "sequence"])
@pytest.mark.parametrize("is_long", [False, True])
def test_a_length_that_the_file_cannot_hold_is_refused_before_there_is_room_for_it(
    tmp_path, kind, block, is_long
):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=block) as file:
        file["x"] = np.ones((1, 2, 4, 4), "f4")
        made = file.create_dataset("names", (3,), kind)
        made[1] = "two" if kind is STRING else [1.0, 2.0, 3.0]
        place = made.id.get_offset() + 16
    if is_long:
        with open(path, "r+b") as raw:
            raw.seek(place)
            raw.write((1 << 30).to_bytes(4, "little"))
        for options in ({}, {"dry_run": True}):
            with pytest.raises(FormatError, match=r"dataset /names claims \d+ bytes, the whole file has"):
                lucid.pool_file(path, tmp_path / "b.h5", size=2, **options)
        return
    lucid.pool_file(path, tmp_path / "b.h5", size=2)
    with h5py.File(tmp_path / "b.h5") as file:
        assert len(file["names"][1]) == 3


def test_a_type_of_several_names_has_them_all(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones((1, 2, 4, 4), "f4")
        file["types/b"] = np.dtype("f8")
        file["types/a"], file["types/c"] = file["types/b"], file["types/b"]
        # It is met before its type is.
        file.create_dataset("numbers", data=np.arange(3.0), dtype=file["types/b"])
    lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2)
    with h5py.File(tmp_path / "b.h5") as file:
        assert set(file["types"]) == set("abc")
        assert file["types/a"] == file["types/b"] == file["types/c"]
        assert h5py.Datatype(file["numbers"].id.get_type()) == file["types/a"]


@pytest.mark.parametrize("creation", [{}, {"chunks": (2,)}, {"chunks": (2,), "compression": "gzip"}], ids=str)
def test_no_clock_time_enters_a_file_with_a_reference(tmp_path, creation):
    # Software that does not speak h5py notes in each object when it was changed.
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones((1, 1, 4, 4), "f4")
        for name in ("labels", "others"):
            file.create_dataset(name, data=np.arange(5), track_times=True, **creation)
        file["labels"].attrs["of"] = file["x"].ref
        dates = {name: h5py.h5g.get_objinfo(file[name].id).mtime for name in ("labels", "others")}
    lucid.pool_file(tmp_path / "a.h5", tmp_path / "b.h5", size=2)
    with h5py.File(tmp_path / "b.h5") as file:
        assert file[file["labels"].attrs["of"]] == file["x"]
        assert np.array_equal(file["labels"][:], np.arange(5))
        assert file["labels"].compression == creation.get("compression")
        assert h5py.h5g.get_objinfo(file["labels"].id).mtime == 0
        assert h5py.h5g.get_objinfo(file["others"].id).mtime == dates["others"] > 0
