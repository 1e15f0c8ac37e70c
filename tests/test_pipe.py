"""Streams in and out: real pipes in a real shell, and streams that give little at a time."""

import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow import slow

import lucid
from lucid.errors import ArgumentError, DatasetError, FileError, FormatError
from lucid.nn.functional import adaptive_avg_pool2d

COMMAND = Path(sys.executable).parent / "lucid-pool"


def npy(array):
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


def load_all(data):
    file = io.BytesIO(data)
    arrays = []
    while file.tell() < len(data):
        arrays.append(np.load(file))
    return arrays


def shell(script, cwd, data=b""):
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"],
        cwd=cwd,
        input=data,
        capture_output=True,
        env={**os.environ, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}"},
        check=False,
    )


class Slow(io.RawIOBase):
    """A stream that gives a few bytes at a time and cannot seek."""

    def __init__(self, data, steps):
        self._data, self._steps, self._at = data, steps, 0

    def readable(self):
        return True

    def readinto(self, buffer):
        count = min(len(buffer), self._steps[self._at % len(self._steps)], len(self._data))
        buffer[:count], self._data = self._data[:count], self._data[count:]
        self._at += 1
        return count


ARRAYS = {
    "c": lambda rng: rng.standard_normal((7, 3, 12, 10)).astype("f4"),
    "fortran": lambda rng: np.asfortranarray(rng.standard_normal((5, 2, 9, 9))),
    "big-endian": lambda rng: rng.standard_normal((2, 2, 5, 7)).astype(">f8"),
    "empty": lambda rng: np.zeros((0, 3, 4, 4), "f4"),
    "bytes": lambda rng: rng.integers(0, 255, (3, 1, 30, 30)).astype("u1"),
}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("memory", [1 << 12, 1 << 14, 1 << 28])
def test_arrays_one_after_another(threads, memory, rng):
    arrays = [make(rng) for make in ARRAYS.values()]
    source = io.BytesIO(b"".join(map(npy, arrays)))
    target = io.BytesIO()
    report = lucid.pool_file(source, target, size=(2, 3), threads=threads, max_memory=memory)
    pooled = load_all(target.getvalue())
    for x, y in zip(arrays, pooled, strict=True):
        assert np.array_equal(y, adaptive_avg_pool2d(x, (2, 3)))
    assert report.input_bytes == sum(x.nbytes for x in arrays)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_streams_may_give_little_at_a_time(steps):
    x = np.arange(2 * 3 * 4 * 5, dtype="f4").reshape(2, 3, 4, 5)
    target = io.BytesIO()
    lucid.pool_file(Slow(npy(x) * 2, steps), target, size=2)
    one, two = load_all(target.getvalue())
    assert np.array_equal(one, two)
    assert np.array_equal(one, adaptive_avg_pool2d(x, 2))


def test_several_sizes_are_as_many_arrays(rng):
    x = ARRAYS["c"](rng)
    target = io.BytesIO()
    lucid.pool_file(io.BytesIO(npy(x)), target, sizes=[1, (4, 5)], flatten=True)
    one, two = load_all(target.getvalue())
    assert np.array_equal(one, adaptive_avg_pool2d(x, 1).reshape(7, -1))
    assert np.array_equal(two, adaptive_avg_pool2d(x, (4, 5)).reshape(7, -1))


def test_hdf5_is_spooled(tmp_path, rng):
    x = ARRAYS["c"](rng)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"], file["b"], file["labels"] = x, x + 1, np.arange(7)
    data = (tmp_path / "x.h5").read_bytes()
    target = io.BytesIO()
    lucid.pool_file(io.BytesIO(data), target, size=1)
    assert [len(y) for y in load_all(target.getvalue())] == [7, 7]
    lucid.pool_file(io.BytesIO(data), tmp_path / "y.h5", size=1)
    with h5py.File(tmp_path / "y.h5") as file:
        assert set(file) == {"a", "b", "labels"}


def test_from_a_stream_to_files(tmp_path, rng):
    x = ARRAYS["c"](rng)
    lucid.pool_file(io.BytesIO(npy(x)), tmp_path / "{stem}-{size}.npy", sizes=[1, 2])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["stdin-1x1.npy", "stdin-2x2.npy"]
    lucid.pool_file(io.BytesIO(npy(x)), tmp_path / "y.h5", size=2)
    with h5py.File(tmp_path / "y.h5") as file:
        assert np.array_equal(file["data"], adaptive_avg_pool2d(x, 2))


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (b"", FormatError, "is empty"),
        (b"no array", FormatError, "is neither a .npy stream nor a file of another format"),
        (
            b"PK\x03\x04 no array",
            FormatError,
            r"but has no directory that can be read .*; was it cut off\?",
        ),
        (npy(np.zeros((2, 2, 4, 4)))[:-1], FormatError, "ends before its data"),
        (npy(np.zeros((2, 2, 4, 4)))[:50], FormatError, "ends before its data"),
        (npy(np.asfortranarray(np.zeros((2, 2, 4, 4))))[:-1], FormatError, "ends before its data"),
        (npy(np.zeros((4, 4))), DatasetError, "expected 4 axes"),
        (npy(np.zeros((2, 2, 4, 4))) + b"rest", FormatError, "neither"),
    ],
)
def test_streams_that_are_wrong(data, error, text, tmp_path):
    with pytest.raises(error, match=text):
        lucid.pool_file(io.BytesIO(data), io.BytesIO(), size=2)
    with pytest.raises((error, FormatError)):
        lucid.pool_file(io.BytesIO(data), tmp_path / "y.npy", size=2)
    assert list(tmp_path.iterdir()) == []


def test_a_stream_without_a_buffer_may_take_little_at_a_time(tmp_path):
    class Raw(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data[:5])
            return min(5, len(data))

    x, output = np.arange(48.0).reshape(2, 2, 3, 4), Raw()
    for sizes in ([1], [1, 2]):  # as it comes, and out of a spool
        output.data = b""
        lucid.pool_file(io.BytesIO(npy(x)), output, sizes=sizes)
        for array, size in zip(load_all(output.data), sizes, strict=True):
            np.testing.assert_array_equal(array, adaptive_avg_pool2d(x, size))


@pytest.mark.parametrize("sizes", [[1], [1, 2]])
def test_a_stream_that_does_not_say_how_much_it_took_took_all(sizes):
    class Writer:  # as that of paramiko, and of codecs
        def __init__(self):
            self.data = b""

        def write(self, data):
            self.data += bytes(data)
            assert len(self.data) < 10_000, "the same bytes again"

        def flush(self):
            pass

    x, output = np.arange(48.0).reshape(2, 2, 3, 4), Writer()
    lucid.pool_file(io.BytesIO(npy(x)), output, sizes=sizes)
    for array, size in zip(load_all(output.data), sizes, strict=True):
        np.testing.assert_array_equal(array, adaptive_avg_pool2d(x, size))


def test_streams_that_cannot_be_read_or_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    closed, data = io.BytesIO(), io.BytesIO(npy(np.ones((1, 1, 2, 2))))
    closed.close()
    with (
        Path("out").open("wb") as output,
        Path("out").open("rb") as source,
        socket.socket(socket.AF_UNIX) as named,
    ):
        named.bind("socket")
        for wrong, text in (
            (closed, "stream: cannot be read: I/O operation on closed file"),
            (output, "stream: cannot be read: read"),
            ("socket", "socket: cannot be opened: "),
        ):
            with pytest.raises(FileError, match=f"^{text}"):
                lucid.pool_file(wrong, "y.npy", size=1)
        for wrong, text in ((closed, "I/O operation on closed file"), (source, "write")):
            with pytest.raises(FileError, match=f"^stream: output stream cannot be written: {text}"):
                lucid.pool_file(data, wrong, size=1)
            data.seek(0)
    assert sorted(path.name for path in Path().iterdir()) == ["out", "socket"]


def test_what_a_stream_cannot_take(rng, tmp_path):
    data = npy(ARRAYS["c"](rng))
    with pytest.raises(FormatError, match="holds several arrays"):
        lucid.pool_file(io.BytesIO(data * 2), tmp_path / "y.npy", size=2)
    with pytest.raises(ArgumentError, match=r"put \{size\} in its name"):
        lucid.pool_file(io.BytesIO(data), tmp_path / "y.npy", sizes=[1, 2])
    with pytest.raises(ArgumentError, match="`compression` is 'gzip'"):
        lucid.pool_file(io.BytesIO(data), io.BytesIO(), size=2, compression="gzip")
    assert list(tmp_path.iterdir()) == []


class TestShell:
    def test_a_pipeline_of_two(self, tmp_path, rng):
        x = ARRAYS["c"](rng)
        np.save(tmp_path / "a.npy", x)
        done = shell("lucid-pool --size 4 < a.npy | lucid-pool - --size 1 -q > b.npy", tmp_path)
        assert done.returncode == 0, done.stderr
        expected = adaptive_avg_pool2d(adaptive_avg_pool2d(x, 4), 1)
        assert np.array_equal(np.load(tmp_path / "b.npy"), expected)
        assert b"standard input" in done.stderr

    def test_head_ends_it_quietly(self, tmp_path, rng):
        np.save(tmp_path / "a.npy", rng.standard_normal((400, 64, 8, 8)))
        done = shell("lucid-pool --size 8 -q < a.npy | head -c 100", tmp_path)
        assert done.stderr == b""
        assert done.returncode == 141
        assert len(done.stdout) == 100

    def test_json_and_arrays_do_not_mix(self, tmp_path, rng):
        done = shell("lucid-pool -s 1 --json", tmp_path, npy(ARRAYS["c"](rng)))
        assert done.returncode == 2
        assert done.stdout == b""
        assert b"--json and arrays cannot both go to standard output" in done.stderr

    def test_from_a_pipe_to_hdf5_and_back(self, tmp_path, rng):
        x = ARRAYS["c"](rng)
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["x"] = x
        done = shell(
            "cat a.h5 | lucid-pool - -s 2 -o out.h5 && lucid-pool out.h5 -s 1 -o - > b.npy", tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert np.array_equal(np.load(tmp_path / "b.npy"), adaptive_avg_pool2d(adaptive_avg_pool2d(x, 2), 1))

    def test_a_stream_longer_than_memory(self, tmp_path):
        script = (
            "import numpy as np, sys; from numpy.lib.format import write_array_header_1_0 as w;"
            "w(sys.stdout.buffer, dict(descr='<f4', fortran_order=False, shape=(2000, 64, 28, 28)));"
            "[sys.stdout.buffer.write(bytes(64 * 28 * 28 * 4)) for _ in range(2000)]"
        )
        limit = "ulimit -v 1500000; " if sys.platform == "linux" else ""
        done = shell(
            f'{limit}{sys.executable} -c "{script}" | lucid-pool -s 1 --max-memory 16MiB -j 2 > y.npy',
            tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert np.load(tmp_path / "y.npy").shape == (2000, 64, 1, 1)

    @pytest.mark.slow
    def test_no_file_is_left_in_the_temporary_folder(self, tmp_path, rng):
        (tmp_path / "t").mkdir()
        data = npy(ARRAYS["fortran"](rng))
        for script in ("TMPDIR=t lucid-pool -s 1 > y.npy", "TMPDIR=t lucid-pool -s 1 -s 2 > y.npy"):
            assert shell(script, tmp_path, data).returncode == 0
            assert shell(script, tmp_path, data[:-1]).returncode == 1
        assert list((tmp_path / "t").iterdir()) == []

    @pytest.mark.parametrize("suffix", ["h5", *slow("npz", "npy")])
    def test_no_room_in_the_temporary_folder_is_one_line(self, tmp_path, suffix):
        # Fortran order is read again and again.
        np.save(tmp_path / "a.npy", np.asfortranarray(np.ones((4, 3, 20, 20))))
        lucid.pool_file(tmp_path / "a.npy", tmp_path / "b.npz", size=20)
        lucid.pool_file(tmp_path / "a.npy", tmp_path / "b.h5", size=20)
        (tmp_path / "b.npy").write_bytes((tmp_path / "a.npy").read_bytes())
        done = shell(f"cat b.{suffix} | (ulimit -f 8; TMPDIR=. lucid-pool -s 1 -q > y)", tmp_path)
        assert (
            done.stderr == b"lucid-pool: standard input: cannot be kept in a temporary file: File too large\n"
        )
        assert done.returncode == 1
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "b.h5", "b.npy", "b.npz", "y"]
