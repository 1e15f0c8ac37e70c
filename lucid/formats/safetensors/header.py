"""The header of safetensors files: read under limits and checked in full, and written.

Eight bytes hold its length. It is JSON in UTF-8 that gives each tensor's dtype, shape and place; behind it
lie the tensors, without a hole and without an overlap. It is text from a stranger of up to 100 MB, so it is
taken apart entry by entry, each of bounded length, and no more is built of it than the tensors that it
describes.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lucid.backlog import Backlog, Table
from lucid.errors import DatasetError, FormatError
from lucid.formats.regions import size_of
from lucid.pooling.dtypes import storage

#: Number types by the format's names for them.
NUMBERS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
}  # fmt: skip
#: The order in which the format's library puts tensors: the widest first, so that each is aligned.
_ORDER = (
    "U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16",
    "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8", "U8", "F6_E3M2", "F6_E2M3", "F4", "BOOL",
)  # fmt: skip
#: Bytes before the header, which also is what its end is aligned to.
PREFIX_BYTES = 8
#: Longest header, as in the format's library, and longest description of one tensor.
HEADER_LIMIT, TENSOR_LIMIT = 100_000_000, 4096
#: Most tensors of a file, which wait in another one, and most texts of `__metadata__`.
ENTRIES_LIMIT, METADATA_LIMIT = 1 << 20, 1 << 16
METADATA = "__metadata__"

_SPACE, _STRING = r"[ \t\n\r]*+", r'"(?:[^"\\]++|\\.)*+"'
#: A name, an object without others in it or a text, and what follows. It never goes back, so it takes one pass.
_ENTRY = re.compile(
    rf'{_SPACE}({_STRING}){_SPACE}:{_SPACE}(\{{(?:[^{{}}"]++|{_STRING})*+\}}|{_STRING}){_SPACE}([,}}])'.encode(),
    re.DOTALL,
)


class Tensor(NamedTuple):
    """A tensor of a header: its bytes lie from `start` to `stop`, counted from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.stop - self.start


class Header(NamedTuple):
    """What a header says, checked; tensors in the order in which they lie."""

    metadata: dict[str, str]
    tensors: Sequence[Tensor]


def header_length(prefix: bytes, file_size: int) -> int:
    """The length of the header, held against the file's size."""
    length = int.from_bytes(prefix, "little")
    if length > HEADER_LIMIT:
        raise FormatError(f"its header claims {length} bytes; expected at most {HEADER_LIMIT}")
    if PREFIX_BYTES + length > file_size:
        raise FormatError(f"is cut off: it has {file_size} bytes, its header alone {PREFIX_BYTES + length}")
    return length


def parse_header(text: bytes, data_bytes: int) -> Header:
    """Parse a header, in front of so many bytes of data."""
    if text[:1] != b"{":
        raise FormatError("its header does not begin with {")
    metadata: dict[str, str] = {}
    tensors, ends, is_sorted = Backlog[Tensor](), (0, 0), True
    for name, value in _entries(text, ENTRIES_LIMIT):
        if name == METADATA:
            metadata = {key: _text(item) for key, item in _entries(value, METADATA_LIMIT)}
        else:
            tensors.append(tensor := _tensor(name, value))
            is_sorted, ends = is_sorted and ends <= tensor[3:], tensor[3:]
    if not is_sorted:
        by_place = Table[Tensor]()
        for number, tensor in enumerate(tensors):
            by_place.add(f"{tensor.start:019}{tensor.stop:019}{number:07}", tensor)
        tensors = Backlog(by_place)
    _check_places(tensors, data_bytes)
    return Header(metadata, tensors)


def _entries(text: bytes, limit: int) -> Iterator[tuple[str, bytes]]:
    """Names and values, not yet parsed, of the JSON object that a text is; each name once."""
    position, following, names, count = 1, b",", Table[None](), 0
    if text[1:].strip(b" \t\n\r") == b"}":
        return
    while following == b",":
        entry = _ENTRY.match(text, position)
        if entry is None:
            raise FormatError(f"its header is no JSON object of tensors, at byte {position}")
        key, value, following = entry.groups()
        name = _text(key)
        if count == limit or not names.add(name, None):
            what = "twice" if name in names else f"after {limit} others, which are too many"
            raise FormatError(f"its header has {name[:80]!r} {what}")
        count += 1
        yield name, value
        position = entry.end()
    if text[position:].strip(b" \t\n\r"):
        raise FormatError("its header goes on behind its end")


def _text(value: bytes) -> str:
    """A text of JSON."""
    text = _parse_json(value)
    try:
        text.encode()  # a lone surrogate is no text
    except (AttributeError, UnicodeEncodeError):
        raise FormatError(f"its header has {value[:40]!r}; expected a text") from None
    return str(text)


def _parse_json(value: bytes) -> Any:
    """A value of JSON."""
    try:
        return _JSON.decode(value.decode("utf-8"))
    except (ValueError, RecursionError):
        raise FormatError(f"its header is no JSON at {value[:40]!r}") from None


def _object_of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, each name in it once."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError
    return fields


def _integer(text: str) -> int:
    """An integer of JSON; -0 is none to the format's library, and no length here."""
    return -1 if text == "-0" else int(text)


#: One for all values: `json.loads` makes one for each.
_JSON = json.JSONDecoder(object_pairs_hook=_object_of_pairs, parse_int=_integer)


def _tensor(name: str, value: bytes) -> Tensor:
    """A tensor's entry, checked by itself."""

    def misfit(what: str) -> FormatError:
        return FormatError(f"tensor {name[:80]!r} {what}")

    if len(value) > TENSOR_LIMIT:
        raise misfit(f"is described in {len(value)} bytes; expected at most {TENSOR_LIMIT}")
    fields = _parse_json(value)
    if set(fields) != {"dtype", "shape", "data_offsets"}:
        raise misfit("needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if type(dtype) is not str or not re.fullmatch(r"\w{1,32}", dtype, re.ASCII):
        raise misfit(f"has dtype {str(dtype)[:80]!r}; expected a name")
    if not _are_lengths(shape):
        raise misfit(f"has shape {str(shape)[:80]}; expected lengths")
    if not _are_lengths(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise misfit(f"has data_offsets {str(offsets)[:80]}; expected start and end")
    tensor = Tensor(name, dtype, tuple(shape), *offsets)
    if dtype in NUMBERS:
        expected = size_of(shape) * storage(NUMBERS[dtype]).itemsize
        if tensor.nbytes != expected:
            raise misfit(f"has {tensor.nbytes} bytes, its shape needs {expected}")
    return tensor


def _are_lengths(numbers: object) -> bool:
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 2**63 for n in numbers)


def _check_places(tensors: Sequence[Tensor], data_bytes: int) -> None:
    """Hold the places of tensors against each other and the file."""
    stop = 0
    for tensor in tensors:
        if tensor.start != stop:
            what = "overlaps another" if tensor.start < stop else "lies behind a hole"
            raise FormatError(
                f"tensor {tensor.name[:80]!r} {what}: it begins at byte {tensor.start}, not {stop}"
            )
        stop = tensor.stop
    if stop > data_bytes:
        raise FormatError(f"is cut off: it has {data_bytes} bytes of data, its header promises {stop}")
    if stop < data_bytes:
        raise FormatError(f"has {data_bytes - stop} bytes after its tensors")


def order_of(tensor: Tensor) -> str:
    """What sorts a tensor among others as the format's library does."""
    return f"{_ORDER.index(tensor.dtype) if tensor.dtype in _ORDER else len(_ORDER):02}{tensor.name}"


def header_of(metadata: Mapping[str, str], tensors: Iterable[Tensor]) -> Iterator[bytes]:
    """A header with its length, for tensors that lie one after another; padded so that they are aligned."""
    # Each entry becomes bytes by itself: all of them at once, as objects, take ten times the memory.
    entries, length, start = Backlog[bytes](), 2, 0

    def add(name: str, value: Mapping[str, Any]) -> None:
        nonlocal length
        entries.append(b"," * (len(entries) > 0) + _entry(name, value))
        length += len(entries[-1])

    if metadata:
        add(METADATA, metadata)
    for tensor in tensors:
        if tensor.name == METADATA:
            raise DatasetError(
                f"a safetensors file has no tensor of the name {METADATA!r}, which is its metadata's"
            )
        offsets = [start, start := start + tensor.nbytes]
        add(tensor.name, {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets})
    padding = -length % PREFIX_BYTES
    if length + padding > HEADER_LIMIT:
        raise DatasetError(
            f"output would have a header of {length + padding} bytes; expected at most {HEADER_LIMIT}"
        )
    yield (length + padding).to_bytes(PREFIX_BYTES, "little") + b"{"
    yield from entries
    yield b"}" + b" " * padding


def _entry(name: str, value: Mapping[str, Any]) -> bytes:
    """A name and its value as they stand in a JSON object."""
    try:
        return json.dumps({name: value}, ensure_ascii=False, separators=(",", ":"))[1:-1].encode()
    except UnicodeEncodeError:
        raise DatasetError("a safetensors file names tensors in UTF-8, which a name here is not") from None
