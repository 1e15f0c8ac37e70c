"""Standard input and output, or any streams: `.npy` arrays one after another, without seeking.

A stream is read and written in the order in which the elements lie, by one thread. What needs
more, as HDF5 files, Fortran order and planes beyond the memory limit do, is spooled to a
temporary file.
"""

import io
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from lucid.errors import FormatError, translate_errors
from lucid.formats.arrays import Array, ArraySpec, ResultSpec
from lucid.formats.contract import Source
from lucid.formats.disk.files import COPY_BYTES, blocks_at
from lucid.formats.disk.replacement import Replacement
from lucid.formats.disk.spool import Spool
from lucid.formats.flat import Content, FlatSink, select
from lucid.formats.foreign import START_BYTES, description
from lucid.formats.npy import MAGIC, header_of, read_header, spec_of
from lucid.formats.regions import Region, runs, shape_of
from lucid.options import Options

#: What stands for a stream where a path is expected.
STREAM = Path("-")
#: A stream that is closed raises a ValueError.
_translate_errors = partial(translate_errors, kinds=(OSError, ValueError))


class Stream:
    """A binary stream that can be looked at before it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lookahead = b""

    def peek(self, count: int) -> bytes:
        """The next bytes, fewer at the end only; they are still to be read."""
        with _translate_errors("cannot be read"):
            while len(self._lookahead) < count and (more := self._file.read(count - len(self._lookahead))):
                self._lookahead += more
        return self._lookahead[:count]

    def fill(self, buffer: memoryview) -> None:
        """Read as many bytes as the buffer has; a stream that ends before is an error."""
        position = min(len(self._lookahead), len(buffer))
        buffer[:position], self._lookahead = self._lookahead[:position], self._lookahead[position:]
        with _translate_errors("cannot be read"):
            while position < len(buffer):
                count = self._file.readinto(buffer[position:])  # type: ignore[attr-defined]
                if not count:
                    raise FormatError("ends before its data; was it cut off?")
                position += count

    def copy_to(self, file: IO[bytes], count: int | None) -> None:
        """Copy so many bytes, or all there are."""
        rest = count
        while step := len(self.peek(COPY_BYTES)) if rest is None else min(rest, COPY_BYTES):
            chunk = bytearray(step)
            self.fill(memoryview(chunk))
            with _translate_errors("cannot be kept in a temporary file"):
                file.write(chunk)
                file.flush()
            rest = None if rest is None else rest - step


class NpyStreamSource(Source):
    """One array of a stream, read from its first element to its last."""

    in_sequence = True

    def __init__(self, stream: Stream, index: int, options: Options, *, is_only: bool = False) -> None:
        super().__init__(STREAM, options)
        self._stream, self._is_only = stream, is_only
        #: Tells arrays of a stream apart; the first has the name that an only one has.
        self.name = f"[{index}]" if index else ""
        if stream.peek(len(MAGIC)) != MAGIC:
            known = description(stream.peek(START_BYTES))
            raise FormatError(known or "is neither a .npy stream nor a file of another format that is read")
        self._text = b""
        self.header = read_header(self._read_header)
        self._position = 0

    def _read_header(self, count: int) -> bytes:
        text = bytearray(count)
        self._stream.fill(memoryview(text))
        self._text += text
        return bytes(text)

    def choose(self, patterns: Sequence[str]) -> Sequence[ArraySpec]:
        """The one array, if it fits."""
        return select([spec_of(self.header, self.options.input_dtype, self.name)], self.options, patterns)[0]

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read the next elements, which the region must be."""
        ((first, count),) = runs(spec.shape, region)
        assert first == self._position, "a stream is read in order"
        target = buffer[: count * spec.dtype.itemsize]
        self._stream.fill(target.data)
        self._position += count
        return target.view(spec.dtype).reshape(shape_of(region))

    def check_unchanged(self) -> None:
        """Raise if another array follows where only one may."""
        if self._is_only and self._stream.peek(1):
            raise FormatError("holds several arrays; only a stream takes them, such as standard output")

    def spool(self, spool: Spool) -> None:
        """Copy the array, header and all, to a file."""
        spool.file.write(self._text)
        self._stream.copy_to(spool.file, self.header.nbytes)

    def close(self) -> None:
        """Nothing: the stream is its owner's."""


class NpyStreamSink(FlatSink):
    """Arrays written to a stream, one after another.

    A single array may be written as it comes, in order. Several are spooled, since each
    is complete only when the input is.
    """

    files = ".npy"

    def __init__(self, stream: BinaryIO, options: Options, *, in_sequence: bool) -> None:
        super().__init__(STREAM, options)
        self.in_sequence = in_sequence
        self._stream = stream

    def name_errors(self) -> AbstractContextManager[None]:
        """Say which stream it is that refuses, or is closed."""
        name = "standard output" if self._stream is getattr(sys.stdout, "buffer", None) else "output stream"
        return _translate_errors(f"{name} cannot be written")

    def contents(self, source: Source, results: Sequence[ResultSpec]) -> list[Content]:  # noqa: ARG002
        """Each array behind its header."""
        return [content for array in results for content in (header_of(array), array)]

    def begin(self, source: Source, results: Sequence[ResultSpec]) -> None:  # noqa: ARG002
        """Write the header of a single array, or make room for several."""
        if self.in_sequence:
            self._write(header_of(*results))
        else:
            self._arrays = results
            self.spool = Spool()
            self.spool.hold(results)

    def write(self, result: ResultSpec, region: Region, values: Array) -> None:
        """Write the next elements, or any to the spool."""
        if self.spool is None:
            self._write(values.reshape(-1).view(np.uint8).data)
        else:
            self.spool.write(result, region, values)

    def commit(self, group: list[Replacement] | None = None) -> None:  # noqa: ARG002  (a stream has no place)
        """Write what was spooled, and all that the stream holds back."""
        if self.spool is not None:
            for array in self._arrays:
                self._write(header_of(array))
                for block in blocks_at(*self.spool.start_of(array), array.nbytes):
                    self._write(block)
        self._stream.flush()

    def _write(self, data: bytes | memoryview) -> None:
        rest, is_raw = memoryview(data), isinstance(self._stream, io.RawIOBase)
        while rest:  # a stream without a buffer takes as much as it likes
            count: int | None = self._stream.write(rest)
            if count is None and not is_raw:  # many others take all, and say nothing of it
                break
            rest = rest[count:]
