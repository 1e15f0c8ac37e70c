"""Which module reads and writes a file: by its content to read, by its suffix to write.

A format is one row here; its module is imported when a file needs it.
"""

import os
import re
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lucid.errors import ArgumentError, FileError, FormatError, MissingExtraError
from lucid.formats.foreign import START_BYTES, TORCH_MEMBER, ZIP, description
from lucid.options import Options

if TYPE_CHECKING:
    from lucid.formats.contract import Sink, Source

#: Bytes by which every format that has a magic is known.
MAGIC_BYTES = 16


class Format(NamedTuple):
    """A row: what the files are called and begin with, and where the code is."""

    name: str
    suffixes: tuple[str, ...]
    #: A regular expression for its first bytes.
    magic: bytes
    #: "module:class" of each, in this package.
    source: str
    sink: str
    #: Whether a file holds several arrays, each with a name.
    holds_many: bool = True
    #: Whether the magic may also stand behind a user block of 512 * 2**n bytes.
    after_user_block: bool = False
    #: Whether native code reads it, which a hostile file may crash.
    is_native: bool = False
    extra: str | None = None
    #: Whether its arrays say of themselves which value marks gaps.
    marks_gaps: bool = False
    #: Files that a folder of this format holds one of.
    marks: tuple[str, ...] = ()
    #: Of a zip archive, a regular expression for a name in it that tells it from other archives.
    member: str | None = None
    #: Most bytes of a chunk of an output, where chunks are encoded whole and need not be files.
    most_chunk_bytes: int | None = None

    def open(self, path: Path, options: Options) -> "Source":
        """The source for a file of this format."""
        return self._load(self.source)(path, options)  # type: ignore[no-any-return]

    def create(self, path: Path, options: Options) -> "Sink":
        """The sink for a file of this format."""
        return self._load(self.sink)(path, options)  # type: ignore[no-any-return]

    def _load(self, name: str) -> Any:
        module, class_ = name.split(":")
        try:
            return getattr(import_module(f"lucid.formats.{module}"), class_)
        except ModuleNotFoundError as error:
            if self.extra is None:
                raise
            raise MissingExtraError(
                f"{self.name} files need the extra '{self.extra}': pip install 'lucid-pool[{self.extra}]'"
            ) from error


_HDF5 = (".h5", ".hdf5", ".hdf", ".he5", ".nc", ".mat")
_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
#: The length of a header, at most 100 MB, and its first byte.
_TENSORS = rb"...[\x00-\x05]\x00{4}\{"
NPY = Format("npy", (".npy",), rb"\x93NUMPY", "npy:NpySource", "npy:NpySink", holds_many=False)
FORMATS = (
    NPY,
    Format(
        "HDF5",
        _HDF5,
        rb"\x89HDF\r\n\x1a\n",
        "hdf5.source:Hdf5Source",
        "hdf5.sink:Hdf5Sink",
        after_user_block=True,
        is_native=True,
        marks_gaps=True,
        # HDF5's own advice is 10 KiB to 1 MiB; several copies of a chunk are in memory while it is compressed.
        most_chunk_bytes=1 << 20,
    ),
    Format(
        "Zarr",
        (".zarr", ".zarr.zip"),
        ZIP,
        "zarr.source:ZarrSource",
        "zarr.sink:ZarrSink",
        is_native=True,
        extra="zarr",
        marks_gaps=True,
        marks=_MARKS,
        member=rf"(.*/)?({'|'.join(map(re.escape, _MARKS))})",
    ),
    Format("npz", (".npz",), ZIP, "npz.source:NpzSource", "npz.sink:NpzSink", member=r".*\.npy"),
    Format(
        "safetensors",
        (".safetensors",),
        _TENSORS,
        "safetensors.source:SafetensorsSource",
        "safetensors.sink:SafetensorsSink",
    ),
)
#: What a file that is none of these is told.
EXPECTED = f"expected {', '.join(f.name for f in FORMATS[:-1])} or {FORMATS[-1].name}"


def format_of_start(start: bytes) -> Format | None:
    """The format of what begins so, if any does; which of the archives one is, only all of it tells."""
    return next((f for f in FORMATS if re.match(f.magic, start, re.DOTALL)), None)


def format_of_content(path: Path) -> Format:
    """The format of an existing file; one of no format known is an error that names what it is."""
    from lucid.formats.disk.files import open_regular  # `--help`, which lists the formats, does without
    from lucid.formats.disk.names import is_marked
    from lucid.formats.paths import url_of

    folders = [f for f in FORMATS if f.marks]
    if url_of(path) is not None:
        return folders[0]
    if os.path.isdir(path):
        for format_ in folders:
            if is_marked(path, format_.marks):
                return format_
        raise FileError("is a folder; expected a file, or a folder that is a Zarr store")
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        start = os.pread(descriptor, START_BYTES, 0)
        member = _member_of_kind(descriptor) if start.startswith(ZIP) else ""
        for format_ in FORMATS:
            offsets = (512 << n for n in range(48) if 512 << n < size) if format_.after_user_block else ()
            starts = chain([start], (os.pread(descriptor, MAGIC_BYTES, offset) for offset in offsets))
            begins_so = any(re.match(format_.magic, text, re.DOTALL) for text in starts)
            if begins_so and (format_.member is None or re.fullmatch(format_.member, member)):
                return format_
    finally:
        os.close(descriptor)
    if size == 0:
        raise FormatError(f"is empty; {EXPECTED}")
    raise FormatError(description(start, path.suffix, member) or f"is of no known format; {EXPECTED}")


def _member_of_kind(descriptor: int) -> str:
    """The first name in a zip archive that tells what the archive is; nothing where none does."""
    from lucid.formats.archive import open_archive  # only archives need it

    member_pattern = re.compile("|".join([TORCH_MEMBER, *(f.member for f in FORMATS if f.member)]))
    return next(filter(member_pattern.fullmatch, open_archive(descriptor).namelist()), "")


def format_of_suffix(path: Path) -> Format:
    """The format in which to write a file."""
    for format_ in FORMATS:
        if path.name.lower().endswith(format_.suffixes):
            return format_
    suffixes = ", ".join(suffix for f in FORMATS for suffix in f.suffixes)
    raise ArgumentError(
        f"output {path}: its suffix names no format; expected one of {suffixes}, or {path}/ for a folder"
    )
