"""`.npy` files, versions 1 to 3 (NumPy enhancement proposal 1; `numpy.lib.format`).

The header is text from a stranger: it is parsed as a literal of bounded length, and what
it claims is held against the size of the file before anything is allocated.
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as numpy_format

from lucid.errors import DatasetError, DTypeError, FormatError
from lucid.formats.arrays import ArraySpec, ResultSpec
from lucid.formats.contract import Source
from lucid.formats.disk.files import bytes_at
from lucid.formats.flat import Content, FlatSink, FlatSource, select
from lucid.formats.regions import size_of
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
#: Longest beginning of a file that a header is read from.
BEGINNING_BYTES = 12 + HEADER_LIMIT

_TEXTS = rb"""[uU]?'(?:[^'\\\r\n]|\\[\\'"nrtxuU])*+'|[uU]?"(?:[^"\\\r\n]|\\[\\'"nrtxuU])*+"|\#[^\r\n]*+"""
#: What a header may consist of, so that neither Python nor NumPy warns of it, as they do of `1if` and `"\d"`: a filter
#: of warnings would be one of the whole process.
_WORDS = re.compile(rb"(?:%s|-?\d++L?+(?!\w)|(?:True|False)(?!\w)|[][(){},: \t\r\n])*+" % _TEXTS)
#: Long integers of Python 2; and a name of bytes of which NumPy warns.
_LONG = re.compile(rb"(%s)|L" % _TEXTS)
_OLD_BYTES = re.compile(rb"""(?<=['"|<>=])a(?=\d*['"])""")


class Header(NamedTuple):
    """What the header of a `.npy` file says, checked; the elements begin at `offset`."""

    offset: int
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    #: What stands behind the dictionary: in a shard, what its array is made of.
    comment: str

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return size_of(self.shape) * self.dtype.itemsize


def read_header(read: Callable[[int], bytes]) -> Header:
    """Parse a header; `read` returns the next so many bytes of the file, or fewer at its end.

    A DTypeError says that it is right, but of Python objects, which only pickle could read.
    """

    def read_all(count: int) -> bytes:
        data = read(count)
        if len(data) < count:
            raise FormatError("ends before its header is over; was it cut off?")
        return data

    prefix = read_all(8)
    if prefix[:6] != MAGIC:
        raise FormatError("is not a .npy file")
    version = (prefix[6], prefix[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise FormatError(f"is .npy version {version[0]}.{version[1]}; expected 1.0, 2.0 or 3.0")
    length_bytes = read_all(2 if version == (1, 0) else 4)
    length = int.from_bytes(length_bytes, "little")
    if length > HEADER_LIMIT:
        raise FormatError(f"its header claims {length} bytes; expected at most {HEADER_LIMIT}")
    text = read_all(length)
    shape, fortran_order, dtype = _parse(text, version)
    # NumPy takes lengths for what they are not.
    if not all(type(n) is int and n >= 0 for n in shape):
        raise FormatError(f"its header has shape {str(shape)[:80]}; expected a tuple of lengths")
    if dtype.hasobject:
        raise DTypeError("holds Python objects, which are not read because a pickle can run code")
    comment = text.decode("latin-1").partition(COMMENT)[2].strip()
    header = Header(len(prefix + length_bytes + text), shape, fortran_order, dtype, comment)
    if header.offset + header.nbytes > OFFSET_LIMIT:
        raise FormatError(f"its header has shape {str(shape)[:80]}, more than a file can hold")
    return header


def _parse(text: bytes, version: tuple[int, int]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """What NumPy reads in a header."""
    try:
        words = _OLD_BYTES.sub(b"S", _LONG.sub(rb"\1", text))
        # Version 3 differs from 2 in the encoding of names alone, and no Python 2 wrote it.
        is_3 = version == (3, 0)
        text.decode("utf-8" if is_3 else "latin-1")
        if not _WORDS.fullmatch(text) or (is_3 and words != text):
            raise ValueError
        length = len(words).to_bytes(4, "little")
        return numpy_format.read_array_header_2_0(io.BytesIO(length + words), max_header_size=HEADER_LIMIT)
    except Exception:  # whatever a stranger's text makes Python's parser raise
        start = text.strip()[:120].decode("latin-1")
        raise FormatError(
            f"its header is {start!r}; expected descr, fortran_order and shape, as NumPy writes them"
        ) from None


def spec_of(header: Header, input_numbers: str | None, name: str = "") -> ArraySpec:
    """The array that a header describes; `input_numbers` says what two-byte voids are."""
    dtype = header.dtype
    if dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None:
        if input_numbers != "bfloat16":
            raise DTypeError(
                "has elements of two bytes without a type; if they are bfloat16, say `input_dtype='bfloat16'`"
            )
        numbers, dtype = "bfloat16", np.dtype("<u2")
    else:
        numbers = name_of(dtype)
    order, handle = "F" if header.fortran_order else "C", (header.offset, header.shape)
    return ArraySpec(name, header.shape, dtype=dtype, numbers=numbers, order=order, handle=handle)


class NpySource(FlatSource):
    """A `.npy` file: one array, named "" ."""

    def parse(self, size: int) -> None:
        """Read the header, and hold it against the file's size."""
        beginning = bytes_at(self.descriptor, 0, min(size, BEGINNING_BYTES))
        self._header = header = read_header(io.BytesIO(beginning).read)
        expected = header.offset + header.nbytes
        if size < expected:
            raise FormatError(f"is cut off: it has {size} bytes, its header promises {expected}")
        if size > expected:
            raise FormatError(f"has {size - expected} bytes after its array; is it several files joined?")

    def choose(self, patterns: Sequence[str]) -> Sequence[ArraySpec]:
        """The one array, if it fits."""
        return select([spec_of(self._header, self.options.input_dtype)], self.options, patterns)[0]

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The array, with what a comment in its header says; that of a whole output says nothing."""
        yield spec_of(self._header, "bfloat16"), self._header.comment


def header_of(result: ResultSpec) -> bytes:
    """A header of version 1 for an array of means; bfloat16 are two-byte voids, as ml_dtypes saves it."""
    descr = "|V2" if result.numbers == "bfloat16" else numpy_format.dtype_to_descr(result.dtype)
    header = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": result.stored_shape}
    numpy_format.write_array_header_1_0(header, fields)
    data = header.getvalue()
    if not result.is_shard:
        return data
    # A format without attributes: NumPy reads the header as Python, comments included.
    text = data[PREFIX_BYTES:].rstrip() + (COMMENT + result.provenance).encode("ascii")
    padding = -(PREFIX_BYTES + len(text) + 1) % numpy_format.ARRAY_ALIGN
    length = (len(text) + padding + 1).to_bytes(PREFIX_BYTES - 8, "little")
    return data[: PREFIX_BYTES - 2] + length + text + b" " * padding + b"\n"


class NpySink(FlatSink):
    """An `.npy` file while it is written."""

    files = ".npy"

    def contents(self, source: Source, results: Sequence[ResultSpec]) -> list[Content]:  # noqa: ARG002
        """The header, and the elements behind it."""
        if len(results) != 1:
            names = ", ".join(p.source.name for p in results)
            raise DatasetError(
                f"a .npy file holds one array, the input has {len(results)}; choose with `datasets`: {names}"
            )
        return [header_of(results[0]), results[0]]
