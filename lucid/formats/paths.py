"""What paths stand for: files found from any folder, URLs, names that are one name."""

import os
import re
from contextlib import suppress
from pathlib import Path

from lucid.formats.disk.names import is_same_file

#: What a store in one file ends with.
ARCHIVE = ".zip"
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)")


def url_of(path: Path) -> str | None:
    """The URL that a path was made of, if it was; a path keeps one slash of two."""
    match = _URL.fullmatch(str(path))
    if match is None:
        return None
    scheme, rest = match.groups()
    return f"file:///{rest}" if scheme == "file" else f"{scheme}://{rest}"


def real_path(path: Path) -> Path:
    """A path by which an input is found from any folder; a URL is one."""
    return path if url_of(path) is not None else Path(os.path.realpath(path))


def folds_case(folder: Path) -> bool:
    """Whether names that differ in case alone are one name in a folder, as they mostly are on macOS.

    Whatever is in it tells, by whether it answers to its name in the other case; without any, the folder above.
    """
    name = None
    with suppress(OSError), os.scandir(folder) as entries:
        name = next((entry.name for entry in entries if entry.name.swapcase() != entry.name), None)
    if name is None:
        return folder != folder.parent and folds_case(folder.parent)
    return is_same_file(folder / name, folder / name.swapcase())
