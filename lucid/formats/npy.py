"""`.npy` files, versions 1 to 3 (NumPy enhancement proposal 1; `numpy.lib.format`).

The header is text from a stranger: it is parsed as a literal of bounded length, and what
it claims is held against the size of the file before anything is allocated.
"""

import ast
import io
import os
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as numpy_format

from lucid.errors import ArgumentError, DatasetError, DTypeError, FormatError
from lucid.formats.contract import (
    Array,
    ArraySpec,
    Pooled,
    Region,
    Sink,
    Source,
    shape_of,
    size_of,
)
from lucid.formats.disk.files import (
    Replacement,
    Watch,
    claim,
    digest,
    open_regular,
    read_at,
    read_region,
    write_at,
    write_region,
)
from lucid.options import Options
from lucid.pooling.dtypes import name_of

MAGIC = b"\x93NUMPY"
#: Begins what a shard's header says behind the dictionary.
COMMENT = "# lucid_pool "
#: Bytes before the text of a header of version 1.
PREFIX_BYTES = 10
#: Longest header that is read, as in NumPy: real ones hold a hundred bytes or two.
HEADER_LIMIT = 10_000
#: Largest number of bytes that an offset in a file can reach.
OFFSET_LIMIT = 2**63 - 1


class Header:
    """What the header of a `.npy` file says, checked."""

    def __init__(self, prefix: bytes, text: bytes, version: tuple[int, int]) -> None:
        self.offset = len(prefix) + len(text)
        literal = text.decode("utf-8" if version >= (3, 0) else "latin-1")
        fields = _parse(literal)
        #: What stands behind the dictionary: in a shard, what its array is made of.
        self.comment = literal.partition(COMMENT)[2].strip()
        self.shape = _shape(fields["shape"])
        self.dtype = _dtype(fields["descr"])
        self.fortran_order = fields["fortran_order"]
        if not isinstance(self.fortran_order, bool):
            raise FormatError(f"its header has fortran_order {self.fortran_order!r}; expected True or False")
        self.nbytes = size_of(self.shape) * self.dtype.itemsize
        if self.offset + self.nbytes > OFFSET_LIMIT:
            raise FormatError(f"its header has shape {self.shape}, more than a file can hold")


def read_header(read: Any) -> Header:
    """Parse a header; `read(offset, count)` returns bytes of the file.

    Raises
    ------
    FormatError
        The header does not follow the format.
    DTypeError
        It does, but the elements are Python objects, which only pickle could read.

    """
    prefix = read(0, 8)
    if prefix[:6] != MAGIC:
        raise FormatError("is not a .npy file")
    version = (prefix[6], prefix[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise FormatError(f"is .npy version {version[0]}.{version[1]}; expected 1.0, 2.0 or 3.0")
    width = 2 if version == (1, 0) else 4
    length_bytes = read(8, width)
    (length,) = struct.unpack("<H" if width == 2 else "<I", length_bytes)
    if length > HEADER_LIMIT:
        raise FormatError(f"its header claims {length} bytes; expected at most {HEADER_LIMIT}")
    try:
        return Header(prefix + length_bytes, read(8 + width, length), version)
    except UnicodeDecodeError:
        raise FormatError("its header is not text") from None


def _parse(text: str) -> dict[str, Any]:
    # Python 2 wrote long integers with an L.
    text = re.sub(r"(?<=\d)L\b", "", text) if "L" in text else text
    try:
        with warnings.catch_warnings():
            # Python has its say on `1if` and the like, which is nobody's business here.
            warnings.simplefilter("ignore")
            fields = ast.literal_eval(text.strip(" \t\r\n"))
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise FormatError("its header is not a dictionary of literals") from None
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise FormatError("its header does not hold exactly descr, fortran_order and shape")
    return fields


def _shape(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or not all(type(n) is int and n >= 0 for n in value):
        raise FormatError(f"its header has shape {str(value)[:80]}; expected a tuple of lengths")
    return value


def _dtype(descr: Any) -> np.dtype[Any]:
    try:
        dtype = numpy_format.descr_to_dtype(descr)
    except (
        TypeError,
        ValueError,
        SyntaxError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        RecursionError,
    ):
        raise FormatError(f"its header has dtype {str(descr)[:80]!r}, which NumPy does not know") from None
    if dtype.hasobject:
        raise DTypeError("holds Python objects, which are not read because a pickle can run code")
    return dtype


def spec_of(header: Header, input_numbers: str | None, rank: int, name: str = "") -> ArraySpec:
    """The array that a header describes, if its rank fits; `input_numbers` says what two-byte voids are."""
    dtype = header.dtype
    if dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None:
        if input_numbers != "bfloat16":
            raise DTypeError(
                "has elements of two bytes without a type; if they are bfloat16, say `input_dtype='bfloat16'`"
            )
        numbers, dtype = "bfloat16", np.dtype("<u2")
    else:
        numbers = name_of(dtype)
    if len(header.shape) != rank:
        raise DatasetError(f"has shape {header.shape}; expected {rank} axes (`layout` names them)")
    return ArraySpec(name, header.shape, dtype, numbers, order="F" if header.fortran_order else "C")


def read_elements(
    descriptor: int, offset: int, shape: tuple[int, ...], spec: ArraySpec, region: Region, buffer: Array
) -> Array:
    """Read a region of an array of `shape` that begins at an offset; `spec` may be a part of it.

    Fortran order is C order with all axes reversed.
    """
    extent = shape_of(region)
    target = buffer[: size_of(extent) * spec.dtype.itemsize]
    if spec.order == "F":
        read_region(descriptor, offset, shape[::-1], region[::-1], spec.dtype.itemsize, target)
        return target.view(spec.dtype).reshape(extent[::-1]).T
    read_region(descriptor, offset, shape, region, spec.dtype.itemsize, target)
    return target.view(spec.dtype).reshape(extent)


class NpySource(Source):
    """A `.npy` file: one array, named "" ."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        self._descriptor = open_regular(path)
        self._watch = Watch(self._descriptor)
        try:
            self._header = read_header(self._bytes)
            self._check_size()
        except BaseException:
            self.close()
            raise

    def _bytes(self, offset: int, count: int) -> bytes:
        buffer = bytearray(count)
        read_at(self._descriptor, offset, memoryview(buffer))
        return bytes(buffer)

    def _check_size(self) -> None:
        size = os.fstat(self._descriptor).st_size
        expected = self._header.offset + self._header.nbytes
        if size < expected:
            raise FormatError(f"is cut off: it has {size} bytes, its header promises {expected}")
        if size > expected:
            raise FormatError(f"has {size - expected} bytes after its array; is it several files joined?")

    def arrays(self, rank: int) -> tuple[ArraySpec, ...]:
        """The one array, if its rank fits."""
        return (spec_of(self._header, self.options.input_dtype, rank),)

    def check_unchanged(self) -> None:
        """Raise if the file was written to."""
        self._watch.check()

    def signature(self, specs: Sequence[ArraySpec]) -> str:
        """A digest of the header."""
        del specs
        header = self._header
        return digest(self._watch.state, header.offset, header.shape, header.dtype.str, header.fortran_order)

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The array, with what a comment in its header says; that of a whole output says nothing."""
        yield spec_of(self._header, "bfloat16", len(self._header.shape)), self._header.comment

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region from its place in the file."""
        return read_elements(self._descriptor, self._header.offset, self._header.shape, spec, region, buffer)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def header_of(pooled: Pooled) -> bytes:
    """A header of version 1 for an array of means; bfloat16 are two-byte voids, as ml_dtypes saves it."""
    descr = "|V2" if pooled.numbers == "bfloat16" else numpy_format.dtype_to_descr(pooled.dtype)
    header = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": pooled.stored_shape}
    numpy_format.write_array_header_1_0(header, fields)
    data = header.getvalue()
    if not pooled.is_shard:
        return data
    # A format without attributes: NumPy reads the header as Python, comments included.
    text = data[PREFIX_BYTES:].rstrip() + (COMMENT + pooled.provenance).encode("ascii")
    padding = -(PREFIX_BYTES + len(text) + 1) % numpy_format.ARRAY_ALIGN
    length = struct.pack("<H", len(text) + padding + 1)
    return data[: PREFIX_BYTES - 2] + length + text + b" " * padding + b"\n"


def refuse_compression(options: Options) -> None:
    """Raise for an option that this format could only ignore."""
    if options.compression not in ("keep", "none"):
        raise ArgumentError(
            f"`compression` is {options.compression!r}; .npy files have none, HDF5 files have"
        )


class NpySink(Sink):
    """A `.npy` file in the making."""

    def __init__(self, path: Path, options: Options, *, joins: bool = False) -> None:
        super().__init__(path, options, joins=joins)
        refuse_compression(options)
        self._file = Replacement(path, overwrite=options.overwrite)
        self._descriptor = -1
        self._offset = 0

    def begin(self, source: Source, pooled: Sequence[Pooled]) -> None:
        """Write the header, and claim the space so that a full disk shows now."""
        if len(pooled) != 1:
            names = ", ".join(p.source.name for p in pooled)
            raise DatasetError(
                f"a .npy file holds one array, {source.path.name} has {len(pooled)}; "
                f"choose with `datasets`: {names}"
            )
        (only,) = pooled
        header = header_of(only)
        self._offset = len(header)
        self._descriptor = self._file.create()
        claim(self._descriptor, self._offset + only.nbytes)
        write_at(self._descriptor, 0, memoryview(header))

    def write(self, pooled: Pooled, region: Region, values: Array) -> None:
        """Write a region in place."""
        write_region(self._descriptor, self._offset, pooled.shape, region, values)

    def commit(self) -> None:
        """Put the file in its place."""
        self._file.commit()
        self._close()

    def close(self) -> None:
        """Remove the file unless it was committed."""
        self._file.abort()
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
