"""`.npz` archives to read: every member whose name ends in `.npy` is an array.

Stored members are read where they lie, by any thread. Deflated ones are inflated from front to back into a
temporary file, no further than is asked for, and one at a time: so memory is bounded, regions are read in any
order and more than once, and the disk holds the largest member only. Their checksums are checked; those of
stored members are not, since regions are read in any order, as from `.npy` files, which have none.
"""

import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from lucid.errors import DatasetError, DTypeError, FileError, FormatError
from lucid.formats.contract import Array, ArraySpec, Region, Source, named
from lucid.formats.disk.files import Watch, digest, open_regular, read_at, write_at
from lucid.formats.npy import Header, read_elements, spec_of
from lucid.formats.npz.directory import STORED
from lucid.formats.npz.members import SUFFIX, Entry, name_of_array, read_entries
from lucid.options import Options

#: Bytes inflated at once.
STEP_BYTES = 1 << 18


class NpzSource(Source):
    """A `.npz` archive; its arrays are named by its members, without the suffix."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        self.descriptor = open_regular(path)
        self._watch = Watch(self.descriptor)
        self._spool = _Spool(self.descriptor)
        try:
            self.entries = read_entries(self.bytes_at, os.fstat(self.descriptor).st_size)
        except BaseException:
            os.close(self.descriptor)
            raise
        self._arrays = {name_of_array(e.member): e for e in self.entries if e.header is not None}

    def bytes_at(self, offset: int, count: int) -> bytes:
        """So many bytes of the file."""
        buffer = bytearray(count)
        read_at(self.descriptor, offset, memoryview(buffer))
        return bytes(buffer)

    def arrays(self, rank: int) -> tuple[ArraySpec, ...]:
        """Arrays of that rank and of numbers; an archive with none is an error."""
        found, refused = [], []
        for member, _, header in self.entries:
            name = name_of_array(member)
            if header is None:
                refused += [f"{name[:80]!r} holds Python objects"] if member.name.endswith(SUFFIX) else []
                continue
            try:
                found.append(spec_of(header, self.options.input_dtype, rank, name))
            except (DatasetError, DTypeError) as error:
                refused.append(f"{name[:80]!r} {error}")
        if not found:
            listed = "; ".join(refused[:3]) + ("; …" if len(refused) > 3 else "")
            raise DatasetError(
                f"has no array of numbers with {rank} axes: {listed or 'it has no array at all'}"
            )
        return tuple(found)

    def check_unchanged(self) -> None:
        """Raise if the file was written to."""
        self._watch.check()

    def signature(self, specs: Sequence[ArraySpec]) -> str:
        """A digest of what the directory says of them."""
        return digest(self._watch.state, [self._arrays[spec.name].member for spec in specs])

    def provenances(self) -> Iterator[tuple[ArraySpec, str]]:
        """The arrays, with what a comment in their headers says; those of a whole output say nothing."""
        for name, entry in self._arrays.items():
            if entry.header is not None:
                with suppress(DTypeError):
                    spec = spec_of(entry.header, "bfloat16", len(entry.header.shape), name)
                    yield spec, entry.header.comment

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region, of a deflated member from what is inflated of it."""
        entry = self._arrays[spec.name]
        member, offset, header = entry
        assert header is not None
        with named(f"member {member.name[:80]!r}"):
            if member.method == STORED:
                start = offset + header.offset
                return read_elements(self.descriptor, start, header.shape, spec, region, buffer)
            with self._spool.lock:
                descriptor = self._spool.inflate(entry, header.offset + _end(header, region))
                return read_elements(descriptor, header.offset, header.shape, spec, region, buffer)

    def close(self) -> None:
        """Close the file, and let go of what was inflated."""
        os.close(self.descriptor)
        self._spool.close()


def _end(header: Header, region: Region) -> int:
    """How many bytes of an array hold a region."""
    axes = zip(region, header.shape, strict=True)
    element, step = 0, 1
    for part, length in axes if header.fortran_order else reversed(list(axes)):
        if part.stop == part.start:
            return 0
        element += (part.stop - 1) * step
        step *= length
    return (element + 1) * header.dtype.itemsize


class _Spool:
    """A temporary file with the front part of one deflated member at a time."""

    def __init__(self, source: int) -> None:
        self._source = source
        self.lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._inflated: _Inflated | None = None

    def inflate(self, entry: Entry, end: int) -> int:
        """Inflate at least so many bytes of a member; a descriptor of the file that has them."""
        if self._file is None:
            import tempfile  # takes 5 ms to load

            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        descriptor = self._file.fileno()
        inflated, self._inflated = self._inflated, None
        if inflated is None or inflated.entry is not entry:
            os.ftruncate(descriptor, 0)
            inflated = _Inflated(entry)
        while inflated.done < end:
            inflated.step(self._source, descriptor)
        self._inflated = inflated  # unless an error came between
        return descriptor

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()


class _Inflated:
    """How far a member is inflated."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.done = 0
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._taken = self._crc = 0

    def step(self, source: int, spool: int) -> None:
        """Inflate some more bytes into the spool."""
        member, offset, _ = self.entry
        packed = self._inflater.unconsumed_tail
        if not packed:
            taken = bytearray(min(STEP_BYTES, member.packed - self._taken))
            read_at(source, offset + self._taken, memoryview(taken))
            self._taken += len(taken)
            packed = bytes(taken)
        try:
            # One byte more than are left shows a member that is longer than the archive says.
            data = self._inflater.decompress(packed, min(STEP_BYTES, member.size - self.done + 1))
        except zlib.error:
            raise FormatError("cannot be inflated; is the archive damaged?") from None
        is_over = not data and self._taken == member.packed and not self._inflater.unconsumed_tail
        if is_over or self.done + len(data) > member.size:
            raise FormatError("does not inflate to the length that the archive says; is it damaged?")
        try:
            write_at(spool, self.done, memoryview(data))
        except FileError as error:
            reason = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error
            raise FileError(f"cannot be inflated into a temporary file (TMPDIR): {reason}") from error
        self.done += len(data)
        self._crc = zlib.crc32(data, self._crc)
        if self.done == member.size and self._crc != member.crc:
            raise FormatError("does not fit its checksum; is the archive damaged?")
