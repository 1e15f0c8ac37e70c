"""Adaptive average pooling of N x C x H x W arrays, in memory and in files."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lucid.version import __version__ as __version__

if TYPE_CHECKING:
    from lucid import errors, nn
    from lucid.creation import Tensor, full, ones, tensor, zeros
    from lucid.job import pool_file
    from lucid.packs import pack_files
    from lucid.report import Report
    from lucid.shards.merge import merge_files

__all__ = [
    "Report",
    "Tensor",
    "errors",
    "full",
    "merge_files",
    "nn",
    "ones",
    "pack_files",
    "pool_file",
    "tensor",
    "zeros",
]

#: Where each name lives. Loaded on use: arrays do without the file formats, and the command
#: shows its version without NumPy.
_HOMES = {
    **dict.fromkeys(("Tensor", "full", "ones", "tensor", "zeros"), "lucid.creation"),
    "Report": "lucid.report",
    "errors": "lucid.errors",
    "merge_files": "lucid.shards.merge",
    "nn": "lucid.nn",
    "pack_files": "lucid.packs",
    "pool_file": "lucid.job",
}


if not TYPE_CHECKING:  # where any name would do

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'lucid' has no attribute {name!r}")
        module = import_module(_HOMES[name])
        return module if _HOMES[name] == f"lucid.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
