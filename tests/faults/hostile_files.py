"""Valid files with bytes changed: each is refused in a line, or pooled to the means of what its own library reads."""

import io
import os
import random
import shutil
import tempfile
from pathlib import Path

from comparison import disagreement
from promises import Figures, check_line, folder, require, require_both
from specimens import mutate, specimens, tensors_header

from lucid import forks
from lucid.errors import LucidError
from lucid.formats.archive import open_archive
from lucid.formats.npy import read_header
from lucid.formats.npz.source import read_members
from lucid.formats.safetensors.header import parse_header
from lucid.job import Job
from lucid.options import Options
from lucid.outputs import Naming
from lucid.report import peak_memory_bytes
from lucid.run import process as native
from lucid.run.process import Process

#: What a mutated file may take beyond what the process began with, unless a codec believes it: szip allocates what a chunk says.
PEAK_BYTES = 400 << 20


def kept(path: Path, number: int) -> Path:
    """A copy of a file that broke a promise, for whoever mends it."""
    copy = Path(tempfile.gettempdir()) / f"mutation-{number}{path.suffix}"
    return Path(shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy))


def mutations(*, long: bool) -> Figures:
    """Valid files of every kind and filter with bytes changed, in a process that may crash, hang or run out of memory."""
    rng = random.Random(7)
    native.HANG_SECONDS, forks.WORTH_BYTES = 3.0, 0
    total = 20_000 if long else 250
    counts = {"refused": 0, "pooled": 0, "crashes of the library": 0, "hangs of it": 0}
    options = Options(size=2, max_memory=1 << 22, threads=2)
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
                report = process.call(Job(str(path), Naming.of(target), options).run, options=options)
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

        try:
            read_header(io.BytesIO(data).read)
            good += 1
        except LucidError as error:
            check_line(error)
    require_both({"valid": good, "refused": total - good}, "valid", "refused")
    return {"headers": total, "of these valid": good}


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
    with tempfile.TemporaryFile(buffering=0) as file:
        for i in range(total):
            data = mutate(files[i % len(files)], rng)
            file.truncate(0)
            os.pwrite(file.fileno(), data, 0)
            try:
                members = read_members(open_archive(file.fileno()), file.fileno())
            except LucidError as error:
                check_line(error)
                continue
            good += 1
            for member in members:
                require(
                    member.offset + member.info.compress_size <= len(data),
                    f"mutation {i}: a member reaches out of the file",
                )
    require_both({"valid": good, "refused": total - good}, "valid", "refused")
    return {"archives": total, "of these valid": good}
