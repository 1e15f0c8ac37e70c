"""Machine code of kernels is made once, kept, and only run when it is whole and for this processor."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from lucid.pooling import jit

if not jit.is_there():
    pytest.skip("Numba is not installed: the extra `fast`", allow_module_level=True)

from lucid.pooling.average import Pooling
from lucid.pooling.compiled import machine, places
from lucid.pooling.dtypes import numbers
from lucid.pooling.windows import make_grid

RUN = ("runs:run", "float32", "float32", "float32", "float32", 4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty place for code, and nothing linked yet."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "code"))
    monkeypatch.setattr(machine, "_linked", {})
    monkeypatch.setattr(machine, "_wanted", {})
    return tmp_path / "code"


def test_code_refers_to_nothing_outside_of_it(folder):
    """Neither to Python nor to Numba: both would have to be there, and code that raises needs them.

    Whoever compiles a kernel finds that out: here, that finding it out works.
    """
    code = machine._compiled(RUN)
    assert b"kernel" in code
    assert [name for name in (b"Py", b"numba_", b"NRT_") if name in code] == []
    calls = """
        declare void @PyErr_Clear()
        define void @kernel(i64 %call) {
            call void @PyErr_Clear()
            ret void
        }
    """
    with pytest.raises(AssertionError, match="PyErr_Clear"):
        machine._emitted(calls)


ONE_CALL = """
import sys, numpy as np
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.pooling import jit
assert jit.is_there()
x = np.random.default_rng(1).standard_normal((1 << 16, 1, 4, 4), dtype=np.float32)
print(adaptive_avg_pool2d(x, 1, threads=1)[::99].tobytes().hex(), "numba" in sys.modules)
"""


def in_a_process(**variables):
    done = subprocess.run(
        [sys.executable, "-c", ONE_CALL], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    bits, has_numba = done.stdout.split()
    return bits, has_numba == "True"


def test_a_later_process_does_without_numba(tmp_path):
    bits, has_numba = in_a_process(NUMBA_CACHE_DIR=str(tmp_path))
    assert has_numba
    (path,) = tmp_path.iterdir()
    assert re.fullmatch(r"global_run-float32-float32-float32-float32-\d+-[0-9a-f]{8}\.o", path.name)
    assert in_a_process(NUMBA_CACHE_DIR=str(tmp_path)) == (bits, False)


def test_nothing_is_compiled_for_a_few_elements(folder):
    assert machine.kernel(RUN, machine.PAYS - 1) is None
    assert not folder.exists()
    machine._wanted[RUN] = machine.PAYS_IN_ALL - machine.PAYS
    assert machine.kernel(RUN, machine.PAYS - 1) is None
    call = machine.kernel(RUN, 1)
    assert call is not None
    assert machine.kernel(RUN, 1) is call
    machine._linked.clear()
    machine._wanted.clear()
    assert machine.kernel(RUN, 1) is not None  # from its file


def test_a_broken_file_is_not_run_but_made_again(folder):
    code = machine._compiled(RUN)
    assert machine._stored(RUN) == code
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    changed = whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]
    for broken in (b"", b"abc", whole[:-1], changed):
        path.write_bytes(broken)
        assert machine._stored(RUN) is None
    assert machine.kernel(RUN, machine.PAYS) is not None
    assert machine._stored(RUN) is not None


def test_code_needs_no_place_to_be_kept(tmp_path):
    """As where neither the package's folder nor the user's cache can be written: compiled in every process."""
    (tmp_path / "file").touch()
    for _ in range(2):
        _, has_numba = in_a_process(NUMBA_CACHE_DIR=str(tmp_path / "file" / "below"))
        assert has_numba
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


COMPILED, KEPT, NUMPYS = "COMPILED", "KEPT", "NUMPYS"


@pytest.mark.parametrize(
    ("place", "mebibytes", "expected"),
    [
        ("empty", [400, 1600, 47], [NUMPYS, NUMPYS, NUMPYS]),
        ("empty", [1600, 448, 1], [NUMPYS, COMPILED, COMPILED]),
        ("filled", [255, 1, 1791, 1], [NUMPYS, KEPT, KEPT, COMPILED]),
        ("file/below", [4096, 1 << 15], [NUMPYS, COMPILED]),
    ],
)
def test_compiling_pays_for_large_files_and_what_is_kept_for_smaller_ones(
    tmp_path, place, mebibytes, expected
):
    """Compiling takes longer than pooling some gigabytes: it pays once on a machine, not in every process."""
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "kernel-12345678.o").touch()
    (tmp_path / "file").touch()
    code = f"from lucid.pooling import jit; print(*(jit.for_file(n << 20).name for n in {mebibytes}))"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / place)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.split() == expected


def test_what_is_not_kept_is_not_compiled_for_a_file_that_is_not_large(folder):
    cells = np.ones((1 << 16, 4, 4, 1), np.float32)
    out = np.empty((1 << 16, 1, 1, 1), np.float32)
    pooling = Pooling(make_grid((4, 4), (1, 1)), numbers("float32"))
    for kernels, kept in ((jit.Kernels.KEPT, 0), (jit.Kernels.COMPILED, 1), (jit.Kernels.KEPT, 1)):
        out[:] = 0
        pooling._replace(kernels=kernels).means(cells, out, (0, 1), (0, 1))
        assert (out == 1).all()
        assert len(machine._linked) == kept
        assert len(list(folder.glob("*"))) == kept


def test_the_users_cache_is_taken_where_the_package_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    package, users = places.folders()
    assert package.parent.name == "compiled"
    assert users == tmp_path / "lucid-pool"
    monkeypatch.setattr(machine, "folders", lambda: [tmp_path / "file" / "below", users])
    (tmp_path / "file").touch()
    code = machine._compiled(RUN)
    assert [path.name for path in users.iterdir()] == [machine._name(RUN)]
    assert users.stat().st_mode & 0o077 == 0
    assert machine._stored(RUN) == code


def test_code_is_for_one_processor_and_one_version_of_the_sources(folder, monkeypatch):
    names = {machine._name(RUN)}
    monkeypatch.setattr(machine, "SOURCES", machine.SOURCES ^ 1)
    names.add(machine._name(RUN))
    monkeypatch.setattr(machine, "_processor", lambda: ("haswell", ""))
    names.add(machine._name(RUN))
    assert len(names) == 3


def test_a_numba_that_cannot_be_loaded_leaves_it_to_numpy(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "lucid.pooling.compiled.sums", None)
    monkeypatch.setattr(machine, "PAYS", 0)
    assert machine.kernel(RUN, machine.PAYS) is None
    cells = np.ones((40, 7, 7, 1), np.float32)
    out = np.empty((40, 3, 3, 1), np.float32)
    Pooling(make_grid((7, 7), (3, 3)), numbers("float32"), kernels=jit.Kernels.COMPILED).means(
        cells, out, (0, 3), (0, 3)
    )
    assert (out == 1).all()
