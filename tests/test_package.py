"""What is imported, and when."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from slow import slow

import lucid
from lucid.formats.registry import FORMATS
from lucid.pooling import kernel_name

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


def test_pages_that_are_not_generated_name_every_format():
    root = Path(__file__).parents[1]
    for text in (
        (root / "README.md").read_text(),
        (root / "pyproject.toml").read_text().split("keywords")[0],
    ):
        assert [one.name for one in FORMATS if one.name not in text] == []


def test_the_package_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "lucid_cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"lucid-pool {lucid.__version__} ({kernel_name()} kernel)\n"


def test_ctrl_c_while_the_command_loads_is_one_line(tmp_path):
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, "-m", "lucid_cli", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "lucid-pool: stopped by SIGINT\n")


def test_a_kernel_that_cannot_be_loaded_is_not_claimed():
    code = (
        "import sys; sys.modules['lucid.pooling._kernel'] = None; import lucid, lucid.nn;"
        "from lucid.pooling import kernel_name; from lucid.pooling.means import kernel;"
        "print(kernel_name(), kernel, lucid.nn.AdaptiveAvgPool2d(1)(lucid.ones(1, 2, 2)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "NumPy None [[[1.]]]\n"


def test_public_names_exist():
    for name in lucid.__all__:
        assert getattr(lucid, name) is not None
        assert name in dir(lucid)
    with pytest.raises(AttributeError, match="module 'lucid' has no attribute 'nothing'"):
        lucid.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("module", "args", "text"),
    [
        (
            "numcodecs",
            ["x.zarr", "-s", "1"],
            "x.zarr: Zarr files need the extra 'zarr': pip install 'lucid-pool[zarr]'",
        ),
        *slow(("numcodecs", ["x.npy", "-s", "1", "-o", "y.zarr"], "x.npy: Zarr files need the extra 'zarr'")),
        ("distributed", ["x.npy", "-s", "1", "--dask", "local"], "--dask needs the extra 'dask'"),
    ],
)
def test_an_extra_that_is_missing_is_named_in_one_line(tmp_path, module, args, text):
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / "zarr.json").write_text("{}")
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 2, 2)))
    script = (
        f"import sys; sys.modules[{module!r}] = None; from lucid_cli.main import run; sys.exit(run({args}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode in (1, 2)
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "y.zarr").exists()


def test_the_base_loads_neither_dask_nor_zarr(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 2, 2)))
    code = (
        "from lucid_cli.main import run; "
        f"run([{str(tmp_path / 'x.npy')!r}, '-s', '1', '-q']); import lucid; lucid.merge_files"
    )
    assert {"dask", "zarr", "torch"}.isdisjoint(loaded_by(code))
