"""Valid files with bytes changed: each is refused in a line, or pooled to the means of what its own library reads."""

import json
import random
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from promises import Figures, check_line, folder, require, require_both

from lucid.errors import FormatError, LucidError
from lucid.formats.npy import read_header
from lucid.formats.npz.members import read_entries
from lucid.formats.safetensors.header import parse_header
from lucid.nn.functional import adaptive_avg_pool2d
from lucid.options import Options
from lucid.places import pool_to
from lucid.report import peak_memory_bytes
from lucid.run import process as native
from lucid.run.process import Process

#: Of a Zarr store, the name of its only array.
ARRAY = "g/x"
#: What a mutated file may take beyond what the process began with, unless a codec believes it: szip allocates what a chunk says.
PEAK_BYTES = 400 << 20
#: Numbers of HDF5's filters. Those of others, and Blosc in Zarr, leave parts of what they make of a broken chunk as they lay in
#: memory, other ones each time; so they are compared where nothing was changed.
SHUFFLE, LZF = 2, 32000
OWN_FILTERS = {1, SHUFFLE, 3, 4, LZF}


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change a few bytes, fields or pieces of a file."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(changed)) if rng.random() < 0.5 else rng.randrange(min(3000, len(changed)))
        match rng.randrange(6):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                field = rng.choice((0, 1, 2**31, 2**63, 2**64 - 1)).to_bytes(8, "little")
                size = rng.choice((2, 4, 8))
                changed[at : at + size] = field[:size]
            case 3:
                del changed[at : at + rng.choice((1, 8, 512))]
            case 4:
                other = rng.randrange(len(changed))
                changed[at : at + 16] = changed[other : other + 16]
            case 5:
                del changed[at:]
        if len(changed) < 16:
            break
    return bytes(changed)


class Specimen(NamedTuple):
    """A small valid file, or a store as a folder of files by their names."""

    suffix: str
    files: dict[str, bytes]

    def write(self, path: Path, rng: random.Random | None = None) -> None:
        """The file, or the store; with a generator, one of the files is mutated."""
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        mutated = rng and rng.choice(sorted(self.files))
        for name, data in self.files.items():
            file = path / name if name else path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(mutate(data, rng) if rng and name == mutated else data)


def specimens(made: Path) -> list[Specimen]:
    """Of every kind that is read."""
    x = np.random.default_rng(3).standard_normal((3, 2, 6, 6)).astype("f4")
    np.save(made / "a.npy", x)
    np.save(made / "b.npy", np.asfortranarray(x.astype(">f8")))
    np.savez(made / "c.npz", x=x, y=x[:, :, ::2], labels=np.arange(3), notes=np.array([{}], object))
    np.savez_compressed(made / "d.npz", x=x, labels=np.arange(3))
    text = tensors_header({"x": [3, 2, 6, 6], "y": [1, 2, 3, 4], "labels": [3]})
    (made / "e.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4 * 243))
    for i, filters in enumerate(hdf5_filters()):
        with h5py.File(made / f"{i:02}.h5", "w", libver="latest" if i % 2 else None) as file:
            file.create_dataset("g/x", data=x, **filters)
            file["labels"] = np.arange(3)
            file["names"] = np.array(["a", "b"], h5py.string_dtype())
            file.create_dataset("table", (2,), [("a", "i4"), ("r", h5py.ref_dtype)])
            file["g/x"].attrs["of"] = file["labels"].ref
            file["g/x"].dims[0].label = "n"
            file["soft"] = h5py.SoftLink("/g/x")
    write_zarr_stores(made, x)
    return [
        Specimen(
            "".join(path.suffixes),
            {
                "" if path.is_file() else str(file.relative_to(path)): file.read_bytes()
                for file in sorted((path, *path.rglob("*")))
                if file.is_file()
            },
        )
        for path in sorted(made.iterdir())
    ]


def hdf5_filters() -> Iterator[dict[str, Any]]:
    """How a dataset is stored, by the library's own filters and by those of hdf5plugin, if it is there."""
    yield {}
    yield {"chunks": (1, 2, 6, 6)}
    yield {"chunks": (2, 1, 4, 4), "compression": "gzip", "shuffle": True, "fletcher32": True}
    yield {"chunks": (1, 1, 6, 6), "compression": "lzf", "maxshape": (None, 2, 6, 6)}
    yield {"chunks": (3, 2, 6, 6), "compression": "gzip"}
    if h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP):
        yield {"chunks": (1, 2, 6, 6), "compression": "szip"}
    with suppress(ImportError):  # the extra filters
        import hdf5plugin

        for name in ("Blosc", "Blosc2", "Zstd", "LZ4", "Bitshuffle"):
            yield {"chunks": (1, 2, 6, 6), **getattr(hdf5plugin, name)()}


def write_zarr_stores(made: Path, x: np.ndarray) -> None:
    """Stores of both versions, as archives and as folders, if zarr is there."""
    with suppress(ImportError):  # the extra zarr
        import numcodecs
        import zarr
        from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

        sharded = {"shards": (2, 2, 6, 6)}
        for suffix, version, options in (
            (".zarr.zip", 2, {}),
            (".zarr.zip", 3, sharded),
            (".zarr", 2, {"compressors": numcodecs.Blosc()}),
            (".zarr", 2, {"compressors": numcodecs.LZ4()}),
            (".zarr", 3, {"compressors": BloscCodec()}),
            (".zarr", 3, {"compressors": [ZstdCodec(checksum=True)]}),
            (".zarr", 3, {"compressors": [GzipCodec()], **sharded}),
            (".zarr", 3, {"compressors": [ZstdCodec()], **sharded}),
        ):
            path = made / f"{len(list(made.iterdir())):02}{suffix}"
            with (
                zarr.storage.ZipStore(path, mode="w")
                if suffix.endswith("zip")
                else nullcontext(path) as store
            ):
                zarr.create_array(
                    store,
                    name=ARRAY,
                    data=x,
                    chunks=(1, 2, 3, 6),
                    zarr_format=version,
                    attributes={"of": "labels"},
                    **options,
                )


def disagreement(source: Path, target: Path, size: int, is_mutated: bool) -> str:
    """In what an output is not the means of what the format's own library reads; empty if it is."""
    try:
        for name, x, y in pairs(source, target, is_mutated):
            expected = adaptive_avg_pool2d(np.asarray(x), size)
            if expected.dtype != y.dtype or not np.array_equal(expected, y, equal_nan=True):
                return f"{name} has other means than the numbers that its library reads"
    except zipfile.BadZipFile:
        return ""  # regions of stored members are read in any order, so their checksums are not held against them
    except Exception as error:
        return f"its library does not read it: {error!r}"
    return ""


def pairs(source: Path, target: Path, is_mutated: bool) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Arrays of an input, as its library reads them, with those that they were pooled to."""
    if source.suffix == ".npy":
        yield "x", np.load(source), np.load(target)
    elif source.suffix == ".npz":
        with np.load(source) as theirs, np.load(target) as ours:
            for name in {"x", "y"} & {*ours.files}:
                if (
                    ours[name].ndim == 4 and ours[name].shape != theirs[name].shape
                ):  # else it was carried over
                    yield name, theirs[name], ours[name]
    elif source.suffix == ".h5":
        with h5py.File(source) as theirs, h5py.File(target) as ours:
            names: list[str] = []
            ours.visititems(lambda name, node: names.append(name) if "lucid_pool" in node.attrs else None)
            for name in names:
                if not is_mutated or can_be_compared(theirs[name]):
                    yield name, theirs[name][()], ours[name][()]
    elif source.suffix in (".zarr", ".zip"):
        is_blosc = source.is_dir() and any(
            b"blosc" in file.read_bytes() for file in (source / ARRAY).glob("*z*r*")
        )
        if not is_mutated or not is_blosc:
            yield ARRAY, zarr_numbers(source), zarr_numbers(target)


def can_be_compared(dataset: h5py.Dataset) -> bool:
    """Whether the library reads one and the same of a broken dataset, however it is asked."""
    if dataset.chunks is None:
        return True
    properties = dataset.id.get_create_plist()
    filters = {
        number: values
        for number, _, values, _ in map(properties.get_filter, range(properties.get_nfilters()))
    }
    if not {*filters} <= OWN_FILTERS or filters.get(SHUFFLE, (dataset.dtype.itemsize,)) != (
        dataset.dtype.itemsize,
    ):
        return False
    try:  # a broken index has chunks that the library lists, and does not find
        for i in range(dataset.id.get_num_chunks()):
            dataset.id.read_direct_chunk(dataset.id.get_chunk_info(i).chunk_offset)
    except Exception:
        return False
    return True


def zarr_numbers(path: Path) -> np.ndarray:
    """The array of a store."""
    import zarr

    with zarr.storage.ZipStore(path, mode="r") if path.is_file() else nullcontext(path) as store:
        return zarr.open_array(store, path=ARRAY, mode="r")[...]


def kept(path: Path, number: int) -> Path:
    """A copy of a file that broke a promise, for whoever mends it."""
    copy = Path(tempfile.gettempdir()) / f"mutation-{number}{path.suffix}"
    return Path(shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy))


def mutations(*, long: bool) -> Figures:
    """Valid files of every kind and filter with bytes changed, in a process that may crash, hang or run out of memory."""
    rng = random.Random(7)
    native.HANG_SECONDS = 3.0
    total = 20_000 if long else 250
    counts = {"refused": 0, "pooled": 0, "crashes of the library": 0, "hangs of it": 0}
    options = Options(size=2, max_memory=1 << 22)
    before, peak, large = peak_memory_bytes(), 0, 0
    with folder() as made, folder() as valid, Process() as process, Process() as reader:
        files = specimens(valid)
        (out := made / "out").mkdir()
        for i in range(-len(files), total):
            # First as they are: a file that is refused anyway shows nothing.
            specimen = files[i % len(files)]
            path, target = made / f"m{specimen.suffix}", out / f"y{specimen.suffix}"
            specimen.write(path, rng if i >= 0 else None)
            try:
                report = process.call(pool_to, str(path), str(target), options, options=options)
                told = reader.call(disagreement, path, target, 2, i >= 0, options=options)
                if told:
                    require(False, f"mutation {i}: {told}, {kept(path, i)}")
            except (LucidError, MemoryError) as error:
                check_line(error)
                crashed = "crashed the process" in str(error)
                hung = "neither read nor wrote" in str(error)
                if i < 0 or (crashed and "SIG" not in str(error)):
                    require(False, f"mutation {i}: {error}, {kept(path, i)}")
                counts["crashes of the library" if crashed else "hangs of it" if hung else "refused"] += 1
                if not crashed and not hung:
                    require(list(out.iterdir()) == [], f"mutation {i}: an output of a refused file")
            else:
                counts["pooled"] += i >= 0
                if report.peak_memory_bytes > before + PEAK_BYTES:
                    large += 1
                    process.stop()  # its peak is for its whole life
                else:
                    peak = max(peak, report.peak_memory_bytes)
            for left in out.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    require_both(counts, "pooled", "refused")
    require(large <= total // 1000, f"{large} files took more than {PEAK_BYTES} bytes")
    return {
        "seeds": len(files),
        "mutated files": total,
        **{f"of these {k}": v for k, v in counts.items()},
        "of these that took more memory, in a codec": large,
        "peak MiB of the others": peak >> 20,
    }


def headers(*, long: bool) -> Figures:
    """The parser of .npy headers on changed ones."""
    rng = random.Random(9)
    total, good = 1_000_000 if long else 5_000, 0
    texts = [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 6, 6), }",
        b"{'descr': '|V2', 'fortran_order': True, 'shape': (3,), }",
        b"{'descr': [('a', '<i4'), ('b', '|S5')], 'fortran_order': False, 'shape': (), }",
    ]
    words = [
        b"'", b"(", b")", b"{", b"}", b"[", b",", b":", b"-", b"9" * 30, b"None", b"True", b"1e9", b"'|O'", b"0x", b"\xff",
        b"\0", b"not ", b"*", b"lambda:0", b"L",
    ]  # fmt: skip
    for i in range(total):
        text = bytearray(texts[i % len(texts)])
        for _ in range(rng.choice((1, 2, 3))):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(3)] = rng.choice(words)
        prefix = bytearray(b"\x93NUMPY" + bytes((rng.choice((1, 1, 1, 2, 3, 9)), 0)))
        prefix += len(text).to_bytes(2 if prefix[6] == 1 else 4, "little")
        data = bytes(prefix + text)

        def read(offset: int, count: int, data: bytes = data) -> bytes:
            return data[offset : offset + count]

        try:
            read_header(read)
            good += 1
        except LucidError as error:
            check_line(error)
    require_both({"valid": good, "refused": total - good}, "valid", "refused")
    return {"headers": total, "of these valid": good}


def tensors_header(shapes: dict[str, list[int]]) -> bytes:
    """The header of a safetensors file of float32."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in shapes.items():
        stop = start + 4 * int(np.prod(shape))
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries).encode()
    return text + b" " * (-len(text) % 8)


def tensor_headers(*, long: bool) -> Figures:
    """The parser of safetensors headers on changed ones; what it accepts, the format's library accepts."""
    rng = random.Random(11)
    total, good, compared = 1_000_000 if long else 5_000, 0, 0
    texts = [tensors_header(shapes) for shapes in ({"x": [2, 3]}, {"x": [2], "y": [4], "z": []}, {})]
    words = [
        b'"', b"{", b"}", b"[", b"]", b",", b":", b"-", b"0", b"8", b"9" * 20, b"1e3", b"true", b"null", b"\\",
        b"\\u0078", b"\\ud800", b"\xff", b"\0", b" ", b"BF16", b"F8_E4M3", b"U8", b'"x":', b"{}",
        b'"__metadata__":', b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}',
    ]  # fmt: skip
    try:
        from safetensors import deserialize
    except ImportError:
        deserialize = None
    for i in range(total):
        text = bytearray(texts[i % len(texts)])
        data_bytes = 4 * (6, 7, 0)[i % len(texts)]
        for _ in range(rng.choice((1, 1, 2, 3))):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(3)] = rng.choice(words)
        try:
            header = parse_header(bytes(text), data_bytes)
        except LucidError as error:
            check_line(error)
            continue
        good += 1
        if deserialize is not None and all(t.dtype in ("F32", "BF16", "U8") for t in header.tensors):
            file = len(text).to_bytes(8, "little") + bytes(text) + bytes(data_bytes)
            theirs = {name: tuple(tensor["shape"]) for name, tensor in deserialize(file)}
            require(theirs == {t.name: t.shape for t in header.tensors}, f"read otherwise: {text!r}")
            compared += 1
    require_both({"valid": good, "refused": total - good}, "valid", "refused")
    return {"headers": total, "of these valid": good, "compared with the library": compared}


def archive_directories(*, long: bool) -> Figures:
    """The reader of `.npz` members and their headers on changed archives."""
    rng = random.Random(13)
    total, good = 1_000_000 if long else 5_000, 0
    with folder() as made:
        files = [s.files[""] for s in specimens(made) if s.suffix == ".npz"]
    for i in range(total):
        data = mutate(files[i % len(files)], rng)

        def read(offset: int, count: int, data: bytes = data) -> bytes:
            require(0 <= count <= 1 << 18, f"{count} bytes were asked for at once")
            if not 0 <= offset <= offset + count <= len(data):
                raise FormatError("ends before its data")
            return data[offset : offset + count]

        try:
            entries = read_entries(read, len(data))
        except LucidError as error:
            check_line(error)
            continue
        good += 1
        for member, offset, _ in entries:
            require(offset + member.packed <= len(data), f"mutation {i}: a member reaches out of the file")
    require_both({"valid": good, "refused": total - good}, "valid", "refused")
    return {"archives": total, "of these valid": good}
