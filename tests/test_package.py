"""What is imported, and when."""

import subprocess
import sys

import pytest

import lucid

HEAVY = ("h5py", "click", "rich", "numpy.testing", "hdf5plugin", "torch", "dask", "zarr")


def loaded_by(code):
    script = f"import sys; {code}; print(*[m for m in {(*HEAVY, 'numpy')} if m in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()


def test_import_lucid_is_light():
    assert loaded_by("import lucid") == []
    assert loaded_by("import lucid, lucid.nn; lucid.ones(3); lucid.nn.functional") == ["numpy"]
    assert "h5py" not in loaded_by("import lucid; lucid.pool_file")


def test_the_command_line_loads_what_it_needs():
    assert loaded_by("import lucid_cli.main") == ["click"]


def test_public_names_exist():
    for name in lucid.__all__:
        assert getattr(lucid, name) is not None
        assert name in dir(lucid)
    with pytest.raises(AttributeError, match="module 'lucid' has no attribute 'nothing'"):
        lucid.nothing  # noqa: B018
