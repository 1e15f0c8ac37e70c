"""`.npz` archives: what is carried over, how members are compressed, and archives that lie."""

import io
import struct
import time
import zipfile
import zlib
from itertools import pairwise

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import lucid
from lucid.errors import ArgumentError, DatasetError, FileError, FormatError, LucidError
from lucid.formats import archive as archives
from lucid.formats.arrays import ResultSpec
from lucid.formats.checksum import Checksum, crc32
from lucid.formats.contract import CarriedArrays
from lucid.formats.npz import source as npz_source
from lucid.formats.npz.sink import NpzSink
from lucid.formats.npz.source import NpzSource
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.options import Options

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


@pytest.fixture
def array(rng):
    return rng.standard_normal((5, 3, 6, 7)).astype("f4")


def npy_bytes(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write(path, members, method=STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)


def raw(path, name):
    """The bytes of a member as they lie in the file."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    data = path.read_bytes()
    lengths = struct.unpack_from("<2H", data, info.header_offset + 26)
    start = info.header_offset + 30 + sum(lengths)
    return data[start : start + info.compress_size]


class Bomb:
    """Its pickle would fail the test, were it loaded."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_is_not_pooled_is_carried_over_as_it_is_stored(tmp_path, array, save):
    path = tmp_path / "x.npz"
    save(path, x=array, boxes=array[0, 0], names=np.array(["a"]), bomb=np.array([Bomb()], object))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.txt", b"words " * 99, DEFLATED, 9)
        archive.writestr("empty/", b"")
        archive.writestr("é.npy", npy_bytes(np.arange(3)))
    target = lucid.pool_file(path, size=2).targets[0]
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(target) as after:
        assert after.testzip() is None
        assert after.namelist() == before.namelist()
        for old, new in zip(before.infolist(), after.infolist(), strict=True):
            assert new.compress_type == old.compress_type
            if old.filename != "x.npy":
                assert raw(target, old.filename) == raw(path, old.filename)
                assert (new.date_time, new.external_attr) == (old.date_time, old.external_attr)
            else:
                assert new.date_time == (1980, 1, 1, 0, 0, 0)
    with np.load(target) as pooled:
        assert np.array_equal(pooled["x"], adaptive_avg_pool2d(array, 2))
        assert np.array_equal(pooled["boxes"], array[0, 0])
    alone = lucid.pool_file(path, tmp_path / "y.npz", size=2, carry=False).targets[0]
    assert np.load(alone).files == ["x"]


def test_several_sizes_are_members_and_stand_where_the_source_did(tmp_path, array):
    np.savez(tmp_path / "x.npz", é=array, labels=np.arange(3), b=array.astype("f8"))
    target = lucid.pool_file(tmp_path / "x.npz", sizes=[1, (2, 3)], flatten=True).targets[0]
    with np.load(target) as pooled:
        assert pooled.files == ["é_1x1", "é_2x3", "labels", "b_1x1", "b_2x3"]
        assert pooled["b_2x3"].shape == (5, 18)


@pytest.mark.parametrize(
    ("compression", "method"), [("keep", STORED), ("none", STORED), ("gzip", DEFLATED), ("gzip:1", DEFLATED)]
)
def test_compression(tmp_path, array, compression, method):
    np.savez(tmp_path / "x.npz", x=array)
    target = lucid.pool_file(tmp_path / "x.npz", size=2, compression=compression).targets[0]
    with zipfile.ZipFile(target) as archive:
        assert archive.infolist()[0].compress_type == method
    assert np.array_equal(np.load(target)["x"], adaptive_avg_pool2d(array, 2))
    with pytest.raises(ArgumentError, match=r"`compression` is .lzf.; \.npz files have none, or gzip"):
        lucid.pool_file(tmp_path / "x.npz", size=2, compression="lzf", overwrite=True)


@pytest.mark.slow
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_same_bytes_whatever_the_memory_the_threads_and_the_time(tmp_path, rng, save, monkeypatch):
    save(
        tmp_path / "x.npz",
        x=rng.standard_normal((40, 8, 24, 24)),
        y=np.asfortranarray(rng.random((9, 2, 5, 5))),
    )
    digests = set()
    for i, (memory, threads) in enumerate([(1 << 28, 1), (1 << 17, 2), (5000, 3)]):
        monkeypatch.setattr(time, "time", lambda i=i: 1e9 * i)
        target = tmp_path / f"{i}.npz"
        lucid.pool_file(tmp_path / "x.npz", target, sizes=[3, 24], max_memory=memory, threads=threads)
        digests.add(target.read_bytes())
    assert len(digests) == 1


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_slices_join_and_runs_go_on_to_the_same_bytes(tmp_path, array, save):
    path = tmp_path / "x.npz"
    save(path, x=array, labels=np.arange(5))
    one = lucid.pool_file(path, tmp_path / "one.npz", sizes=[1, 2]).targets[0].read_bytes()
    shards = [
        lucid.pool_file(path, tmp_path / f"{start}.npz", sizes=[1, 2], slice=slice(start, stop)).targets[0]
        for start, stop in [(0, 2), (2, None)]
    ]
    assert lucid.merge_files(shards, tmp_path / "two.npz").targets[0].read_bytes() == one
    assert (
        lucid.pool_file(path, str(tmp_path / "three.npz"), sizes=[1, 2], resume=True).targets[0].read_bytes()
        == one
    )


@pytest.mark.parametrize("order", ["C", "F"])
def test_deflated_members_are_read_in_any_order(tmp_path, rng, order):
    x = np.asarray(rng.standard_normal((7, 6, 30, 40)), order=order)
    np.savez_compressed(tmp_path / "x.npz", x=x, y=x + 1)
    for _ in range(5):
        with NpzSource(tmp_path / "x.npz", Options()) as source:
            for spec in [*source.choose(())] * 2:
                edges = [sorted(rng.choice(n + 1, 2, replace=False)) for n in x.shape]
                region = tuple(slice(int(a), int(b)) for a, b in edges)
                read = source.read(spec, region, np.empty(x.nbytes, np.uint8))
                assert np.array_equal(read, x[region] + (spec.name == "/y"))


def test_an_archive_written_to_a_pipe(tmp_path, array):
    """Its members have their lengths behind them; those of the output have not."""

    class Pipe(io.RawIOBase):
        data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", DEFLATED) as archive:
        archive.writestr("x.npy", npy_bytes(array))
        archive.writestr("labels.npy", npy_bytes(np.arange(3)), STORED)
    (tmp_path / "x.npz").write_bytes(pipe.data)
    target = lucid.pool_file(tmp_path / "x.npz", size=2).targets[0]
    with zipfile.ZipFile(tmp_path / "x.npz") as before, zipfile.ZipFile(target) as after:
        assert all(info.flag_bits & 8 for info in before.infolist())
        assert not any(info.flag_bits & 8 for info in after.infolist())
    assert np.array_equal(np.load(target)["x"], adaptive_avg_pool2d(array, 2))


def test_bfloat16_must_be_named(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.full((1, 1, 2, 2), 0x3F80, np.uint16).view("V2"))
    with pytest.raises(DatasetError, match="say `input_dtype='bfloat16'`"):
        lucid.pool_file(tmp_path / "x.npz", size=1)
    target = lucid.pool_file(tmp_path / "x.npz", size=1, input_dtype="bfloat16").targets[0]
    assert np.load(target)["x"].view("u2").tolist() == [[[[0x3F80]]]]


def test_no_array_of_the_rank_says_what_there_is(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros((2, 3)), b=np.array([{}], object))
    with pytest.raises(
        DatasetError,
        match=r"has no array of numbers with 4 axes .`layout` names them.; it has /a float64 .2, 3., /b that holds Python objects",
    ):
        lucid.pool_file(tmp_path / "x.npz", size=1)


def test_to_and_from_other_formats(tmp_path, array):
    expected = adaptive_avg_pool2d(array, 2)
    np.savez_compressed(tmp_path / "x.npz", **{"layer/x": array})
    lucid.pool_file(tmp_path / "x.npz", tmp_path / "y.h5", size=2)
    lucid.pool_file(tmp_path / "x.npz", tmp_path / "y.npy", size=2)
    with h5py.File(tmp_path / "y.h5") as file:
        assert np.array_equal(file["layer/x"], expected)
    assert np.array_equal(np.load(tmp_path / "y.npy"), expected)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["layer/x"] = array
    lucid.pool_file(tmp_path / "x.h5", tmp_path / "z.npz", size=2)
    assert np.array_equal(np.load(tmp_path / "z.npz")["layer/x"], expected)


def test_a_command_reads_standard_input(tmp_path, array, command):
    np.savez_compressed(tmp_path / "x.npz", x=array)
    with (tmp_path / "x.npz").open("rb") as file:
        assert command("-", "-s", "2", "-o", "y.npy", stdin=file).returncode == 0
    assert np.array_equal(np.load(tmp_path / "y.npy"), adaptive_avg_pool2d(array, 2))


def test_a_full_disk_for_what_is_inflated_is_named(tmp_path, array, monkeypatch):
    from lucid.formats.npz import source

    def refuse(*_):
        raise OSError(28, "No space left")

    np.savez_compressed(tmp_path / "x.npz", x=array)
    monkeypatch.setattr(source, "write_at", refuse)
    with pytest.raises(
        FileError, match=r"member 'x.npy': cannot be inflated into a temporary file .TMPDIR.: No sp"
    ):
        lucid.pool_file(tmp_path / "x.npz", size=2)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_is_carried_over_is_counted(tmp_path, array, save):
    save(tmp_path / "x.npz", x=array, labels=np.arange(5), ids=np.arange(99))
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        sizes = {info.filename: info.compress_size for info in archive.infolist()}
    for options, names in [(Options(), ["labels.npy", "ids.npy"]), (Options(drop=("labels",)), ["ids.npy"])]:
        with NpzSource(tmp_path / "x.npz", options) as source:
            pooled = [mean_of(source, "/x", (5, 3, 1, 1))]
            with NpzSink(tmp_path / "y.npz", options) as sink:
                sink.refuse(source, pooled)
                assert sink.carried == CarriedArrays(len(names), sum(sizes[name] for name in names))
                assert len(list(tmp_path.iterdir())) == 1
                sink.begin(source, pooled)
                assert sink.carried == CarriedArrays(len(names), sum(sizes[name] for name in names))


def mean_of(source, name, shape):
    (spec,) = (spec for spec in source.choose(()) if spec.name == name)
    return ResultSpec(spec, name, shape, np.dtype("f4"), "float32", "{}")


@pytest.mark.parametrize("level", ["gzip", "gzip:1", "gzip:9"])
def test_deflated_to_the_same_bytes_by_any_number_of_threads(tmp_path, array, level):
    smooth = np.round(array)
    np.savez(tmp_path / "x.npz", x=smooth, nothing=smooth[:0])
    files = set()
    for threads in (1, 2, 5):
        lucid.pool_file(
            tmp_path / "x.npz",
            tmp_path / "y.npz",
            size=(6, 7),
            compression=level,
            threads=threads,
            overwrite=True,
        )
        files.add((tmp_path / "y.npz").read_bytes())
    assert len(files) == 1
    with zipfile.ZipFile(tmp_path / "y.npz") as archive:
        assert archive.testzip() is None
        with archive.open("x.npy") as member:
            expected = zlib.compressobj(int(level[5:] or -1), zlib.DEFLATED, -zlib.MAX_WBITS)
            text = expected.compress(member.read()) + expected.flush()
        assert archive.getinfo("x.npy").compress_size == len(text)
    with np.load(tmp_path / "y.npz") as pooled:
        assert np.array_equal(pooled["x"], smooth)
        assert pooled["nothing"].shape == (0, 3, 6, 7)


class TestChecksums:
    """A stored member that was read whole fits its checksum, or the run ends with an error."""

    @given(st.integers(0, 1 << 17), st.integers(0, 7), st.integers(0, 2**32 - 1))
    @example(1 << 14, 0, 0)
    @example((1 << 14) - 1, 1, 2**32 - 1)
    @example(4018 + 2 * 8192 + 128, 0, 1)
    @example(4018 + 2 * 8192 - 1, 0, 1)
    def test_sums_are_those_of_zlib(self, size, offset, crc):
        data = memoryview(np.random.default_rng(size).bytes(size + offset))[offset:]
        assert crc32(data, crc) == zlib.crc32(data, crc)

    @given(st.binary(max_size=300), st.lists(st.integers(0, 300)), st.randoms(), st.integers(0, 9))
    def test_runs_in_any_order_give_the_sum_of_all(self, data, cuts, random, missing):
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        all_runs = list(pairwise(edges))
        random.shuffle(all_runs)
        checksum = Checksum(zlib.crc32(b"head"), len(data))
        answers = [
            checksum.add(start if i >= missing else None, memoryview(data)[start:stop])
            for i, (start, stop) in enumerate(all_runs)
        ]
        assert answers == [False] * (len(all_runs) - 1) + [True] * bool(all_runs)
        assert not checksum.add(0, memoryview(data)[:1])
        total = checksum.total(lambda at, count: [data[at : at + count]])
        assert total == zlib.crc32(b"head" + data)

    def damaged(self, path, array, at=-1):
        np.savez(path, first=array, x=array)
        data = bytearray(path.read_bytes())
        start = data.index(array.tobytes(order="A"), data.index(b"x.npy"))
        data[start + at % array.nbytes] ^= 1
        path.write_bytes(data)

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize(
        ("memory", "threads"), [(1 << 28, 1), (1 << 28, 3), (9000, 1), (9000, 3), (2000, 2)]
    )
    def test_members_that_are_damaged(self, tmp_path, array, order, memory, threads):
        for at in (0, 999, -1):
            self.damaged(tmp_path / "x.npz", np.asarray(array, order=order), at)
            with pytest.raises(
                FormatError, match=r"member 'x.npy': does not fit its checksum; is the archive dam"
            ):
                lucid.pool_file(tmp_path / "x.npz", sizes=[1, 2], max_memory=memory, threads=threads)
            assert len(list(tmp_path.iterdir())) == 1

    def test_a_header_that_is_damaged(self, tmp_path, array):
        np.savez(tmp_path / "x.npz", x=array)
        data = (tmp_path / "x.npz").read_bytes()
        (tmp_path / "x.npz").write_bytes(data.replace(b"), }  ", b"),}   "))
        with pytest.raises(FormatError, match=r"member 'x.npy': does not fit its checksum"):
            lucid.pool_file(tmp_path / "x.npz", size=1)

    def test_what_is_read_in_order_is_read_once(self, tmp_path, array, monkeypatch):
        np.savez(tmp_path / "x.npz", x=array)
        monkeypatch.setattr(
            npz_source, "blocks_at", lambda _, at, count: [pytest.fail("read again")] if count else []
        )
        lucid.pool_file(tmp_path / "x.npz", size=1, max_memory=9000, threads=3)

    def test_what_is_not_read_is_not_summed(self, tmp_path, array):
        self.damaged(tmp_path / "x.npz", array)
        target = lucid.pool_file(tmp_path / "x.npz", size=1, datasets=["first"], carry=False).targets[0]
        assert np.array_equal(np.load(target)["first"], adaptive_avg_pool2d(array, 1))
        lucid.pool_file(tmp_path / "x.npz", tmp_path / "y.npz", size=1, datasets=["x"], slice=slice(0, 2))


class TestLies:
    """Archives that are damaged or made to mislead: one line, at once."""

    def refused(self, path):
        with pytest.raises(LucidError) as raised:
            lucid.pool_file(path, path.with_name("out.npz"), size=1)
        assert "\n" not in str(raised.value)
        assert not path.with_name("out.npz").exists()
        return str(raised.value).removeprefix(f"{path}: ")

    def changed(self, path, array, old, new, *, method=STORED, count=-1):
        write(path, {"x.npy": npy_bytes(array), "y.npy": npy_bytes(array)}, method)
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, count))
        return self.refused(path)

    @pytest.mark.parametrize(
        "name", ["../x.npy", "/x.npy", "a/../../x.npy", "..\\x.npy", "C:\\x.npy", "C:/x.npy"]
    )
    def test_names_that_lead_out(self, tmp_path, array, name):
        write(tmp_path / "x.npz", {"a.npy": npy_bytes(array), name: b"x"})
        assert "leads out of it" in self.refused(tmp_path / "x.npz")

    def test_names_with_colons_and_dots_do_not(self, tmp_path, array):
        np.savez(tmp_path / "x.npz", **{"w:0": array, "a..b": array, "x/.y": array})
        assert len(lucid.pool_file(tmp_path / "x.npz", size=1).datasets) == 3

    def test_duplicate_names(self, tmp_path, array):
        assert "has two members 'x.npy'" in self.changed(tmp_path / "x.npz", array, b"y.npy", b"x.npy")

    def test_a_name_that_differs_from_the_directory(self, tmp_path, array):
        text = self.changed(tmp_path / "x.npz", array, b"y.npy", b"z.npy", count=1)
        assert text == "member 'y.npy': its header is not what the directory of the archive says"

    def test_encrypted_members(self, tmp_path, array):
        entry = b"PK\x01\x02\x14\x03\x14\x00"
        text = self.changed(tmp_path / "x.npz", array, entry + b"\0", entry + b"\x01")
        assert "member 'x.npy': is encrypted" in text

    def test_a_directory_cut_off(self, tmp_path, array):
        write(tmp_path / "x.npz", {"x.npy": npy_bytes(array)})
        data = (tmp_path / "x.npz").read_bytes()
        for stop in (len(data) - 1, len(data) - 22, len(data) - 30, 40):
            (tmp_path / "x.npz").write_bytes(data[:stop])
            assert "has no directory that can be read" in self.refused(tmp_path / "x.npz")

    def test_a_directory_elsewhere_than_said(self, tmp_path, array):
        write(tmp_path / "x.npz", {"x.npy": npy_bytes(array)})
        data = bytearray((tmp_path / "x.npz").read_bytes())
        for at in (len(data) - 10, len(data) - 6):
            changed = data.copy()
            changed[at] ^= 2
            (tmp_path / "x.npz").write_bytes(changed)
            text = self.refused(tmp_path / "x.npz")
            assert (
                "has no directory that can be read" in text
                or "not what the directory of the archive says" in text
            )

    def test_a_header_that_pushes_its_member_into_the_directory(self, tmp_path, array):
        write(tmp_path / "x.npz", {"x.npy": npy_bytes(array)})
        data = bytearray((tmp_path / "x.npz").read_bytes())
        data[28] = 9
        (tmp_path / "x.npz").write_bytes(data)
        assert "its header is not what the directory" in self.refused(tmp_path / "x.npz")

    def test_members_that_overlap(self, tmp_path, array):
        # Both lie within one stored member, as in the zip bombs of D. Fifield.
        inner = member("y.npy", npy_bytes(array))
        outer = inner.FileHeader() + npy_bytes(array)
        first = member("a.bin", outer)
        second = member("y.npy", npy_bytes(array), offset=len(first.FileHeader()))
        data = first.FileHeader() + outer
        archive(tmp_path / "x.npz", data, [first, second])
        assert "has a member 'y.npy' that overlaps another" in self.refused(tmp_path / "x.npz")

    def test_one_member_listed_twice(self, tmp_path, array):
        one, other = (member(name, npy_bytes(array)) for name in ("y.npy", "z.npy"))
        archive(tmp_path / "x.npz", one.FileHeader() + npy_bytes(array), [one, other])
        assert "its header is not what the directory" in self.refused(tmp_path / "x.npz")

    def test_bombs_are_not_inflated(self, tmp_path):
        shape = (1 << 20, 64, 64, 64)  # a petabyte
        header = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
        header += str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
        packed = deflated(header + bytes(1 << 20))
        one = member("x.npy", packed, method=DEFLATED, size=len(header) + 4 * (1 << 38))
        archive(tmp_path / "x.npz", one.FileHeader() + packed, [one])
        assert "more than" in self.refused(tmp_path / "x.npz")
        assert "can be inflated to" in self.refused(tmp_path / "x.npz")

    @pytest.mark.parametrize("missing", [1, 999])
    def test_members_shorter_than_they_say(self, tmp_path, array, missing):
        data = npy_bytes(array)
        packed = deflated(data[:-missing])
        one = member("x.npy", packed, method=DEFLATED, size=len(data), crc=zlib.crc32(data))
        archive(tmp_path / "x.npz", one.FileHeader() + packed, [one])
        assert "cannot be inflated: Bad CRC-32" in self.refused(tmp_path / "x.npz")
        one.CRC = zlib.crc32(data[:-missing])
        archive(tmp_path / "x.npz", one.FileHeader() + packed, [one])
        assert "ends before its data" in self.refused(tmp_path / "x.npz")

    def test_checksums_and_streams_that_are_damaged(self, tmp_path, array):
        np.savez_compressed(tmp_path / "x.npz", x=array)
        data = (tmp_path / "x.npz").read_bytes()
        seen = set()
        for at in range(300, len(data) - 150, 37):
            (tmp_path / "x.npz").write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
            seen.add(self.refused(tmp_path / "x.npz"))
        assert any("Bad CRC-32" in text for text in seen)

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_other_methods_are_named(self, tmp_path, array, method):
        write(tmp_path / "x.npz", {"x.npy": npy_bytes(array)}, method)
        assert f"member 'x.npy': is compressed by method {method}" in self.refused(tmp_path / "x.npz")
        write(tmp_path / "y.npz", {"x.txt": b"words" * 99}, method)
        with zipfile.ZipFile(tmp_path / "y.npz", "a") as archive:
            archive.writestr("x.npy", npy_bytes(array))
        target = lucid.pool_file(tmp_path / "y.npz", size=1).targets[0]
        assert zipfile.ZipFile(target).read("x.txt") == b"words" * 99

    def test_arrays_that_do_not_fit_their_member(self, tmp_path, array):
        for data in (npy_bytes(array)[:-1], npy_bytes(array) + b"\0"):
            write(tmp_path / "x.npz", {"x.npy": data})
            assert "its header promises" in self.refused(tmp_path / "x.npz")
        for data in (b"", b"no array", b"\x93NUMPY\x01\x00\xff\xff"):
            write(tmp_path / "x.npz", {"x.npy": data}, DEFLATED)
            assert self.refused(tmp_path / "x.npz").startswith("member 'x.npy': ")

    @pytest.mark.parametrize("data", [b"", b"no array", b"short"])
    @pytest.mark.parametrize("method", [STORED, DEFLATED, zipfile.ZIP_BZIP2])
    def test_choosing_others_comes_first(self, tmp_path, array, data, method):
        data = npy_bytes(array)[:-1] if data == b"short" else data
        write(tmp_path / "x.npz", {"x.npy": data, "y.npy": npy_bytes(array)}, method)
        if method == zipfile.ZIP_BZIP2:
            write(tmp_path / "x.npz", {"x.npy": data}, method)
            with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
                archive.writestr("y.npy", npy_bytes(array))
        why = self.refused(tmp_path / "x.npz")
        with pytest.raises(DatasetError, match="dataset /x ") as raised:
            lucid.pool_file(tmp_path / "x.npz", size=1, datasets="x")
        assert why.removeprefix("member 'x.npy': ") in str(raised.value)
        target = lucid.pool_file(tmp_path / "x.npz", size=1, datasets="y").targets[0]
        assert raw(target, "x.npy") == raw(tmp_path / "x.npz", "x.npy")
        assert np.load(target)["y"].shape == (5, 3, 1, 1)
        lucid.pool_file(tmp_path / "x.npz", size=1, datasets="y", drop="x", overwrite=True)
        assert np.load(target).files == ["y"]


def deflated(data):
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflater.compress(data) + deflater.flush()


def member(name, data, *, method=STORED, size=None, crc=0, offset=0):
    info = zipfile.ZipInfo(name)
    info.compress_type, info.CRC, info.header_offset = method, crc or zlib.crc32(data), offset
    info.compress_size, info.file_size = len(data), len(data) if size is None else size
    return info


def archive(path, data, members):
    """An archive of these bytes and of this directory."""
    path.write_bytes(data)
    with path.open("r+b") as file:
        file.seek(len(data))
        with zipfile.ZipFile(file, "w") as written:
            written.filelist += members


def test_more_than_four_gigabytes(tmp_path, array):
    """A member of 5 GiB and one behind it, in a file with a hole."""
    shape, small = (5, 1 << 14, 1 << 14), npy_bytes(array)
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
    header += str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    big = zipfile.ZipInfo("big.npy")
    with (tmp_path / "x.npz").open("wb") as file:
        big.CRC, big.header_offset = 0, 0
        big.compress_size = big.file_size = len(header) + 5 * 4 * (1 << 28)
        file.write(big.FileHeader() + header)
        second = member("y.npy", small, offset=len(big.FileHeader()) + big.file_size)
        file.seek(second.header_offset)
        file.write(second.FileHeader() + small)
        with zipfile.ZipFile(file, "w") as written:
            written.filelist += [big, second]
    with NpzSource(tmp_path / "x.npz", Options(layout="CHW")) as source:
        (spec,) = source.choose(())
        corner = (slice(4, 5), slice((1 << 14) - 1, 1 << 14), slice((1 << 14) - 2, 1 << 14))
        assert source.read(spec, corner, np.empty(8, np.uint8)).tolist() == [[[0, 0]]]
    with NpzSource(tmp_path / "x.npz", Options()) as source:
        (spec,) = source.choose(())
        whole = tuple(slice(0, n) for n in array.shape)
        assert np.array_equal(source.read(spec, whole, np.empty(array.nbytes, np.uint8)), array)


@pytest.mark.slow
def test_an_output_of_more_than_four_gigabytes(tmp_path):
    big = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", "f4", (66, 4096, 4096))
    big[-1] = 7
    lucid.pool_file(tmp_path / "x.npy", tmp_path / "y.npz", size=4096, layout="CHW", max_memory=64 << 20)
    with zipfile.ZipFile(tmp_path / "y.npz") as archive, archive.open("data.npy") as file:
        assert archive.infolist()[0].file_size > 1 << 32
        file.seek(big.nbytes)
        assert np.frombuffer(file.read(128)[-4:], "f4") == 7


def test_directories_of_too_many_members_are_not_read(tmp_path, array, monkeypatch):
    np.savez(tmp_path / "x.npz", a=array, b=array, c=array)
    for name, text in [
        ("MEMBER_LIMIT", r"of 3 members; expected at most 2"),
        ("DIRECTORY_LIMIT", r"with a directory of \d+ bytes; expected at most 2"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(archives, name, 2)
            with pytest.raises(FormatError, match=text):
                lucid.pool_file(tmp_path / "x.npz", size=1)
