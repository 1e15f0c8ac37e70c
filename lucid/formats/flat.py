"""What `.npy`, `.npz` and safetensors share: each array lies in one run of bytes, from an offset of the file on.

So regions are read and written where they lie, in any order and by any thread, and a file is known
but for its means before the first of them is.
"""

import os
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from lucid.backlog import Backlog
from lucid.compression import parse_compression
from lucid.errors import ArgumentError, FileError, FormatError, UnfitError
from lucid.formats.arrays import Array, ArraySpec, ResultSpec
from lucid.formats.choice import Choice
from lucid.formats.choosing import absolute_name
from lucid.formats.contract import CarriedArrays, Sink, Source
from lucid.formats.disk.files import (
    COPY_BYTES,
    Start,
    blocks_at,
    claim,
    digest,
    open_regular,
    read_region,
    state_of,
    write_at,
    write_region,
)
from lucid.formats.disk.replacement import Replacement
from lucid.formats.disk.spool import Spool
from lucid.formats.regions import Region, shape_of, size_of
from lucid.formats.variables import Variable
from lucid.options import Options


def read_elements(
    start: Start, shape: tuple[int, ...], spec: ArraySpec, region: Region, buffer: Array
) -> Array:
    """Read a region of an array of `shape` from its start; `spec` may be a region of it.

    Fortran order is C order with all axes reversed.
    """
    own_shape = shape_of(region)
    target = buffer[: size_of(own_shape) * spec.dtype.itemsize]
    if spec.order == "F":
        read_region(*start, shape[::-1], region[::-1], spec.dtype.itemsize, target)
        return target.view(spec.dtype).reshape(own_shape[::-1]).T
    read_region(*start, shape, region, spec.dtype.itemsize, target)
    return target.view(spec.dtype).reshape(own_shape)


def select(
    specs: Sequence[ArraySpec],
    options: Options,
    patterns: Sequence[str],
    others: Iterable[tuple[str, str]] = (),
) -> tuple[Sequence[ArraySpec], list[str]]:
    """The arrays that patterns name, or without patterns all of the layout's rank; and notes. No axis has a name.

    `others` are names of other arrays, and why they cannot be pooled.
    """
    if options.dims is not None:
        raise UnfitError("has axes without names, so `dims` names none of them; say `layout`")
    if len(specs) == 1 and specs[0].name == "" and not patterns:
        shape, rank = specs[0].shape, len(options.layout)
        if len(shape) != rank:
            raise UnfitError(f"has shape {str(shape)[:80]}; expected {rank} axes (`layout` names them)")
        return specs, []

    def every(_: Sequence[str] = ()) -> Iterator[Variable]:
        for spec in specs:
            yield Variable(
                spec.name, spec.name, spec.shape, spec.numbers, partial(str, spec.numbers), handle=spec
            )
        for name, why in others:
            yield Variable(name, name, (), None, str, fault=why)

    names = {absolute_name(pattern) for pattern in patterns}
    by_name = {variable.path: variable for variable in every() if variable.path in names} if patterns else {}
    choice = Choice(options, by_name.get, every, keep=lambda variable: variable.handle)
    chosen: Sequence[ArraySpec] = choice.choose(patterns)
    if by_name:  # they stand behind what patterns match
        names = {spec.name for spec in chosen}
        chosen = Backlog(spec for spec in specs if spec.name in names)
    return chosen, choice.notes


class FileSource(Source):
    """One open file."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        self.descriptor = open_regular(path)
        #: As it is before anything is read: its bytes, and when they were written.
        self.state = state_of(self.descriptor)

    def check_unchanged(self) -> None:
        """Raise if the file was written to."""
        if state_of(self.descriptor) != self.state:
            raise FormatError("changed while it was read")

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class FlatSource(FileSource):
    """An open file of such a format."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        #: Arrays that can be pooled, with the runs in which they lie. There may be a million.
        self.specs = Backlog[ArraySpec]()
        #: Names of others, and why they cannot be pooled.
        self.others = Backlog[tuple[str, str]]()
        try:
            self.parse(self.state[0])
        except BaseException:
            os.close(self.descriptor)
            raise

    @abstractmethod
    def parse(self, size: int) -> None:
        """Read what says where the arrays are, and hold it against a file of so many bytes."""

    def choose(self, patterns: Sequence[str]) -> Sequence[ArraySpec]:
        """The arrays of the layout's rank that are named, or all."""
        specs, self.notes = select(self.specs, self.options, patterns, self.others)
        return specs

    def signature(self, specs: Sequence[ArraySpec]) -> str:
        """A digest of the file's state and of where the arrays are."""
        return digest(self.state, [*specs])

    def read(self, spec: ArraySpec, region: Region, buffer: Array) -> Array:
        """Read a region where it lies in the file."""
        offset, shape, *_ = spec.handle
        return read_elements((self.descriptor, offset), shape, spec, region, buffer)


class CopiedBytes(NamedTuple):
    """Bytes that are carried over: where they begin, and how many they are."""

    start: Start
    nbytes: int


#: What such files hold, one after another: texts, room for means, and what is carried over.
Content = bytes | ResultSpec | CopiedBytes


class FileSink(Sink):
    """One file while it is written: means go to their places in it, or wait in a spool."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        self.compression = parse_compression(options.compression)
        self.file = Replacement(path, overwrite=options.overwrite)
        self.descriptor = -1
        #: What waits until all of it is known.
        self.spool: Spool | None = None
        #: Where in the file arrays of means begin, by their numbers; those that are in the spool have none, or -1.
        self.offsets = array("q")

    def hold(self, results: Sequence[ResultSpec]) -> None:
        """Make room for arrays that wait."""
        if results:
            self.spool = Spool(self.file.target.parent)
            self.spool.hold(results)

    def write(self, result: ResultSpec, region: Region, values: Array) -> None:
        """Write a region to its place, or to the spool."""
        offset = self.offsets[result.number] if self.offsets else -1
        if offset >= 0:
            write_region(self.descriptor, offset, result.shape, region, values)
        elif self.spool is not None:
            self.spool.write(result, region, values)
        elif values.size:
            raise FileError(f"output has no room for {result.name}: it was made under another name")

    def commit(self, group: list[Replacement] | None = None) -> None:
        """Put the file in its place."""
        self.file.commit(group)
        self.close()

    def close(self) -> None:
        """Remove the file unless it was committed, and the spool."""
        self.file.abort()
        if self.spool is not None:
            self.spool.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class FlatSink(FileSink):
    """A file of such a format while it is written."""

    #: What such files are called, and what they may be compressed with.
    files = ""
    compressions: tuple[str, ...] = ()

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path, options)
        if self.compression is not None and self.compression.name not in ("none", *self.compressions):
            known = f", or {', '.join(self.compressions)}" if self.compressions else "; HDF5 files have"
            raise ArgumentError(
                f"`compression` is {options.compression!r}; {self.files} files have none{known}"
            )

    @abstractmethod
    def contents(self, source: Source, results: Sequence[ResultSpec]) -> Iterable[Content]:
        """All that the file holds before the means are known; an error says why it cannot be."""

    def refuse(self, source: Source, results: Sequence[ResultSpec]) -> None:
        """Raise for what has no place in the file; nothing is made."""
        copies = [
            content.nbytes for content in self.contents(source, results) if isinstance(content, CopiedBytes)
        ]
        self.carried = CarriedArrays(len(copies), sum(copies))

    def begin(self, source: Source, results: Sequence[ResultSpec]) -> None:
        """Make the file, all but the means, and claim the space of these, so that a full disk shows now."""
        contents, copies, offset = self.contents(source, results), list[int](), 0
        self.offsets = array("q", [-1]) * len(results)
        self.descriptor = self.file.create()
        for content in contents:
            size_bytes = len(content) if isinstance(content, bytes) else content.nbytes
            if isinstance(content, bytes):
                write_at(self.descriptor, offset, content)
            elif isinstance(content, ResultSpec):
                self.offsets[content.number] = offset
            else:
                copies.append(size_bytes)
                for index, block in enumerate(blocks_at(*content.start, size_bytes)):
                    write_at(self.descriptor, offset + index * COPY_BYTES, block)
            offset += size_bytes
        claim(self.descriptor, offset)
        self.carried = CarriedArrays(len(copies), sum(copies))
