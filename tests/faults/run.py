"""Faults on purpose: kills, failing system calls, full disks, races, hostile files.

    python tests/faults/run.py                  a short version of every campaign, as the tests run it
    python tests/faults/run.py --long --write   all of it, with the figures in docs/reliability.md

Every campaign returns figures and raises on the first violation: an output that is neither the old one
nor complete, an input that changed, litter after the next run, a traceback, a status that is not
documented, a crash.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lucid import forks
from lucid.errors import FormatError, LucidError
from lucid.formats.npy import read_header
from lucid.formats.npz.members import read_entries
from lucid.formats.safetensors.header import parse_header
from lucid.options import Options
from lucid.places import pool_to
from lucid.report import peak_memory_bytes
from lucid.run import process as native
from lucid.run.process import Process

ROOT = Path(__file__).parents[2]
#: The figures of the last long run of each campaign.
FIGURES = Path(__file__).with_name("figures.json")
COMMAND = str(Path(sys.executable).parent / "lucid-pool")
#: The command with spans of a few samples, and processes for a small input.
IN_SPANS = (
    "import sys; from lucid import forks; from lucid.shards import spans;"
    "forks.WORTH_BYTES = 0; spans.SPAN_BYTES = 1 << 16;"
    "from lucid_cli.main import main; sys.argv[0] = 'lucid-pool'; main()"
)
#: System calls by which an output comes to be.
CALLS = ("write", "pwrite64", "fsync", "rename", "link", "unlink", "ftruncate", "fallocate")
Figures = dict[str, Any]


class ViolationError(AssertionError):
    """A promise that was not kept."""


class Case:
    """A folder with an input, an old output, and what the new one must be."""

    def __init__(self, folder: Path, source: str, target: str, *options: str) -> None:
        self.folder, self.source, self.target = folder, folder / source, folder / target
        is_small = "--resume" in options or "--compression" in options
        command = [sys.executable, "-c", IN_SPANS] if is_small else [COMMAND]
        self.args = [*command, source, "-s", "2", "-o", target, "-f", "-q", *options]
        rng = np.random.default_rng(1)
        x = rng.standard_normal((60, 8, 12, 12)).astype("f4")
        if source.endswith(".npy"):
            np.save(self.source, x)
        else:
            with h5py.File(self.source, "w") as file:
                compression = "lzf" if "--compression" in options else "gzip"
                file.create_dataset("x", data=x, chunks=(4, 8, 12, 12), compression=compression, shuffle=True)
                file["labels"], file["y"] = np.arange(60), x[:5]
                file["ref"] = np.array([file["labels"].ref], h5py.ref_dtype)
        self.input_digest = digest(self.source)
        self.run()
        self.golden = digest(self.target)
        self.reset()
        self.old = digest(self.target)

    def run(self, *before: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, *self.args], cwd=self.folder, capture_output=True, text=True, check=False, **options
        )

    def reset(self) -> None:
        self.target.write_bytes(b"the old output")

    def check(self, done: subprocess.CompletedProcess[str] | None = None) -> None:
        """Hold what must be true at any moment, and of a process that ended by itself."""
        require(digest(self.source) == self.input_digest, "the input changed")
        require(self.target.exists(), "the old output is gone")
        require(digest(self.target) in (self.old, self.golden), "the output is neither old nor complete")
        if done is not None and done.returncode >= 0:
            check_words(done)
            if done.returncode == 0:
                require(digest(self.target) == self.golden, "status 0 and not the output")

    def check_recovery(self) -> None:
        """The next run ends with the right bytes and leaves nothing else."""
        done = self.run()
        require(done.returncode == 0, f"the next run failed: {done.stderr}")
        require(digest(self.target) == self.golden, "the next run gave other bytes")
        for kept in self.folder.glob(f"{self.target.name}.*.finished"):
            # What could not be put in place was not thrown away.
            require(digest(kept) == self.golden, "what was kept is not the output")
            kept.unlink()
        names = sorted(p.name for p in self.folder.iterdir())
        require(names == sorted([self.source.name, self.target.name]), f"litter: {names}")
        self.reset()


def require(truth: bool, text: str) -> None:
    if not truth:
        raise ViolationError(text)


def check_words(done: subprocess.CompletedProcess[str]) -> None:
    require(done.returncode in (0, 1), f"status {done.returncode}: {done.stderr}")
    require("Traceback" not in done.stderr, done.stderr)
    require(done.stderr.count("\n") == done.returncode, f"not one line: {done.stderr!r}")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp())
    try:
        yield made
    finally:
        shutil.rmtree(made)


KINDS: dict[str, tuple[str, ...]] = {
    ".npy": ("x.npy", "y.npy"),
    "HDF5": ("x.h5", "y.h5"),
    ".npy, --resume": ("x.npy", "y.npy", "--resume"),
    "HDF5, --resume": ("x.h5", "y.h5", "--resume"),
    "HDF5 by two processes": ("x.h5", "y.h5", "--compression", "keep", "-j", "2"),
}


def can_trace() -> bool:
    """Whether strace is there and may trace."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], check=False).returncode == 0


def trace(case: Case, *options: str) -> subprocess.CompletedProcess[str]:
    return case.run(
        "strace", "-f", "-qq", "-o", str(case.folder.parent / f"{case.folder.name}.log"), *options
    )


def calls_of(case: Case) -> dict[str, int]:
    """How often the command makes each call."""
    done = trace(case, "-e", f"trace={','.join(CALLS)}")
    require(done.returncode == 0, done.stderr)
    log = case.folder.parent / f"{case.folder.name}.log"
    text = log.read_text(errors="replace")
    log.unlink()
    case.reset()
    return {name: len(re.findall(rf"^\d+ +{name}\(", text, re.MULTILINE)) for name in CALLS}


def chosen(count: int, most: int | None) -> list[int]:
    """All numbers from 1 on, or a few from first to last."""
    if most is None or count <= most:
        return list(range(1, count + 1))
    return sorted({round((i + 0.5) * count / most + 0.5) for i in range(most)})


def system_calls(*, long: bool) -> Figures:
    """A kill at, and an error from, every system call that makes an output."""
    kills = errors = 0
    for kind in KINDS.values() if long else list(KINDS.values())[::2]:
        with folder() as made:
            case = Case(made, *kind)
            log = made.parent / f"{made.name}.log"
            for name, count in calls_of(case).items():
                for when in chosen(count, None if long else 1):
                    case.check(trace(case, "-e", f"inject={name}:signal=KILL:when={when}"))
                    case.check_recovery()
                    kills += 1
                    for error in ("ENOSPC", "EIO") if long else ("ENOSPC",):
                        done = trace(case, "-e", f"inject={name}:error={error}:when={when}")
                        case.check(done if name != "write" else None)  # a write may be the message itself
                        case.check_recovery()
                        errors += 1
            log.unlink(missing_ok=True)
    return {"kills at a system call": kills, "system calls that failed once": errors}


def random_kills(*, long: bool) -> Figures:
    """kill -9 at random times; every second run is one with --resume."""
    rng, counts = random.Random(5), {"killed": 0, "ended before": 0}
    with folder() as one, folder() as two:
        cases = [Case(one, *KINDS["HDF5"]), Case(two, *KINDS[".npy, --resume"])]
        started = time.monotonic()
        cases[0].run()
        span = time.monotonic() - started
        cases[0].reset()
        i = -1
        while counts["killed"] < (1000 if long else 5):
            i += 1
            case = cases[i % 2]
            process = subprocess.Popen(case.args, cwd=case.folder, stderr=subprocess.PIPE, text=True)
            time.sleep(rng.random() * span)
            process.kill()
            _, said = process.communicate()
            counts["ended before" if process.returncode == 0 else "killed"] += 1
            case.check(subprocess.CompletedProcess(case.args, process.returncode, "", said))
            if i % 10 < 2:
                case.check_recovery()
        for case in cases:
            case.check_recovery()
    return {"kills at random times": counts["killed"], "of runs": sum(counts.values())}


def full_disks(*, long: bool) -> Figures:
    """A limit on the size of files, and as root a file system that is too small."""
    limits = mounts = 0
    with folder() as made:
        for kind in KINDS.values():
            case = Case(made, *kind)
            for limit in chosen(60_000, 40 if long else 4):
                done = case.run(
                    preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                )
                case.check(done)
                case.check_recovery()
                limits += 1
            for path in list(made.iterdir()):
                path.unlink()
    with folder() as made:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", made], capture_output=True, check=False
        )
        if mounted.returncode == 0:
            try:
                with folder() as inputs:
                    np.save(inputs / "x.npy", np.ones((60, 8, 12, 12)))
                    with h5py.File(inputs / "x.h5", "w") as file:
                        file["x"], file["big"] = np.ones((60, 8, 12, 12)), np.ones(4000)
                    for name in ("x.npy", "x.h5"):
                        for size in ("6", "12"):
                            done = subprocess.run(
                                [COMMAND, inputs / name, "-s", size, "--output-dir", made, "-q"],
                                capture_output=True, text=True, check=False,
                            )  # fmt: skip
                            check_words(done)
                            require(done.returncode == 1, "a full disk went unnoticed")
                            require(list(made.iterdir()) == [], "litter on a full disk")
                            mounts += 1
            finally:
                subprocess.run(["umount", made], check=True)
    return {"limits on file size": limits, "runs on a full tmpfs": mounts}


def little_memory(*, long: bool) -> Figures:
    """--max-memory from plenty to one byte."""
    runs = refused = 0
    with folder() as made:
        for kind in list(KINDS.values())[:2]:
            case = Case(made, *kind)
            limit = 1 << 20
            while limit:
                done = case.run("env", f"LUCID_POOL_MAX_MEMORY={limit}")
                case.check(done)
                refused += done.returncode
                runs += 1
                case.reset()
                limit = limit * 3 // 4 if long else limit // 8
    return {"memory limits": runs, "of these refused with a line": refused}


def races(*, long: bool) -> Figures:
    """Eight processes on one output."""
    rounds = 0
    with folder() as made:
        for kind in KINDS.values():
            case = Case(made, *kind)
            for overwrite in (True, False):
                for _ in range(12 if long else 1):
                    args = [a for a in case.args if overwrite or a != "-f"]
                    if not overwrite:
                        case.target.unlink()
                    running = [
                        subprocess.Popen(args, cwd=made, stderr=subprocess.PIPE, text=True) for _ in range(8)
                    ]
                    ended = []
                    for process in running:
                        _, said = process.communicate()
                        ended.append(process.returncode)
                        check_words(subprocess.CompletedProcess(args, process.returncode, "", said))
                    require(digest(case.target) == case.golden, "eight processes made another output")
                    require(0 in ended, "none of eight processes was first")
                    if not overwrite and "--resume" not in args:
                        require(ended.count(0) == 1, "two processes were first")
                    case.check_recovery()
                    rounds += 1
            for path in list(made.iterdir()):
                path.unlink()
    return {"races of eight processes": rounds}


def order_of_syncs(*, long: bool) -> Figures:
    """The file is synced before its name appears, and the folder after."""
    del long
    seen = 0
    for kind in list(KINDS.values())[:2]:
        with folder() as made:
            case = Case(made, *kind)
            log = made.parent / f"{made.name}.log"
            for overwrite in (True, False):
                if not overwrite:
                    case.args.remove("-f")
                    case.target.unlink()
                done = trace(case, "-y", "-e", "trace=pwrite64,fsync,rename,link")
                require(done.returncode == 0, done.stderr)
                text = log.read_text(errors="replace")
                steps = re.findall(
                    r"^\d+ +(pwrite64|fsync|rename|link)\((?:\d+<([^>]*)>|\"([^\"]*)\")", text, re.MULTILINE
                )
                names = [call for call, *_ in steps]
                last = max(i for i, (call, *_) in enumerate(steps) if call in ("rename", "link"))
                temporary = steps[last][2]
                before = [
                    i for i, (call, path, _) in enumerate(steps) if call == "fsync" and path == temporary
                ]
                written = [
                    i for i, (call, path, _) in enumerate(steps) if call == "pwrite64" and path == temporary
                ]
                require(bool(before) and max(written) < before[-1] < last, f"not synced before: {names}")
                require(steps[last + 1][:2] == ("fsync", str(made.resolve())), f"folder not synced: {names}")
                seen += 1
            log.unlink()
    return {"traces with file, name and folder in order": seen}


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
                size = rng.choice((2, 4, 8))
                changed[at : at + size] = rng.choice((0, 1, 2**31, 2**63, 2**64 - 1)).to_bytes(8, "little")[
                    :size
                ]
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


def specimens(made: Path) -> list[tuple[str, bytes]]:
    """Small valid files of every kind that is read."""
    x = np.random.default_rng(3).standard_normal((3, 2, 6, 6)).astype("f4")
    np.save(made / "a.npy", x)
    np.save(made / "b.npy", np.asfortranarray(x.astype(">f8")))
    np.savez(made / "c.npz", x=x, y=x[:, :, ::2], labels=np.arange(3), notes=np.array([{}], object))
    np.savez_compressed(made / "d.npz", x=x, labels=np.arange(3))
    text = tensors_header({"x": [3, 2, 6, 6], "y": [1, 2, 3, 4], "labels": [3]})
    (made / "e.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4 * 243))
    options: list[dict[str, Any]] = [
        {},
        {"chunks": (1, 2, 6, 6)},
        {"chunks": (2, 1, 4, 4), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (1, 1, 6, 6), "compression": "lzf", "maxshape": (None, 2, 6, 6)},
        {"chunks": (3, 2, 6, 6), "compression": "gzip", "scaleoffset": None},
    ]
    with suppress(ImportError):  # the extra filters
        import hdf5plugin

        made_by = (
            hdf5plugin.Blosc(cname="zstd"),
            hdf5plugin.Zstd(),
            hdf5plugin.LZ4(),
            hdf5plugin.Bitshuffle(),
        )
        options += [{"chunks": (1, 2, 6, 6), **one} for one in (*made_by, hdf5plugin.Blosc2())]
    for i, option in enumerate(options):
        with h5py.File(made / f"{i}.h5", "w", libver="latest" if i % 2 else None) as file:
            file.create_dataset("g/x", data=x, **{k: v for k, v in option.items() if v is not None})
            file["labels"] = np.arange(3)
            file["names"] = np.array(["a", "b"], h5py.string_dtype())
            file.create_dataset("table", (2,), [("a", "i4"), ("r", h5py.ref_dtype)])
            file["g/x"].attrs["of"] = file["labels"].ref
            file["g/x"].dims[0].label = "n"
            file["soft"] = h5py.SoftLink("/g/x")
    with suppress(ImportError):  # the extra zarr
        import zarr

        for version, shards in ((2, None), (3, None), (3, (2, 2, 6, 6))):
            path = made / f"{version}{shards is None}.zarr.zip"
            with zarr.storage.ZipStore(path, mode="w") as store:
                zarr.create_array(
                    store,
                    name="g/x",
                    data=x,
                    chunks=(1, 2, 3, 6),
                    shards=shards,
                    zarr_format=version,
                    attributes={"of": "labels"},
                )
    return [("".join(p.suffixes), p.read_bytes()) for p in sorted(made.iterdir())]


def kept(path: Path, number: int) -> Path:
    """A copy of a file that broke a promise, for whoever mends it."""
    return Path(shutil.copy(path, Path(tempfile.gettempdir()) / f"mutation-{number}{path.suffix}"))


def mutations(*, long: bool) -> Figures:
    """Valid files with bytes changed, in a process that may crash, hang or run out of memory."""
    rng = random.Random(7)
    native.HANG_SECONDS, forks.WORTH_BYTES = 3.0, 0
    total, counts = (
        20_000 if long else 250,
        {"refused": 0, "pooled": 0, "crashes of the library": 0, "hangs of it": 0},
    )
    with folder() as made:
        files = specimens(made)
        out = made / "out"
        out.mkdir()
        before, peak = peak_memory_bytes(), 0
        options = Options(size=2, max_memory=1 << 22, threads=2)
        with Process() as process:
            for i in range(total):
                suffix, data = files[i % len(files)]
                path = made / f"m{suffix}"
                path.write_bytes(mutate(data, rng))
                target = out / f"y{suffix}"
                try:
                    report = process.call(pool_to, str(path), str(target), options, options=options)
                except (LucidError, MemoryError) as error:
                    require("\n" not in str(error), f"not one line: {error!s}")
                    crashed = "crashed the process" in str(error)
                    hung = "neither read nor wrote" in str(error)
                    require(not crashed or "SIG" in str(error), f"mutation {i}: {error}, {kept(path, i)}")
                    counts["crashes of the library" if crashed else "hangs of it" if hung else "refused"] += 1
                    if not crashed and not hung:
                        require(list(out.iterdir()) == [], f"mutation {i}: an output of a refused file")
                else:
                    counts["pooled"] += 1
                    peak = max(peak, report.peak_memory_bytes)
                for left in out.iterdir():
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
        # The forked process begins with what this process has loaded.
        require(peak < before + (400 << 20), f"a mutation took {peak} bytes, from {before}")
    return {"mutated files": total, **{f"of these {k}": v for k, v in counts.items()}, "peak MiB": peak >> 20}


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
        b"'",
        b"(",
        b")",
        b"{",
        b"}",
        b"[",
        b",",
        b":",
        b"-",
        b"9" * 30,
        b"None",
        b"True",
        b"1e9",
        b"'|O'",
        b"0x",
        b"\xff",
        b"\0",
        b"not ",
        b"*",
        b"lambda:0",
        b"L",
    ]
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
            require("\n" not in str(error), f"not one line: {error!s}")
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
            require("\n" not in str(error), f"not one line: {error!s}")
            continue
        good += 1
        if deserialize is not None and all(t.dtype in ("F32", "BF16", "U8") for t in header.tensors):
            file = len(text).to_bytes(8, "little") + bytes(text) + bytes(data_bytes)
            theirs = {name: tuple(tensor["shape"]) for name, tensor in deserialize(file)}
            require(theirs == {t.name: t.shape for t in header.tensors}, f"read otherwise: {text!r}")
            compared += 1
    return {"headers": total, "of these valid": good, "compared with the library": compared}


def archive_directories(*, long: bool) -> Figures:
    """The reader of `.npz` members and their headers on changed archives."""
    rng = random.Random(13)
    total, good = 1_000_000 if long else 5_000, 0
    with folder() as made:
        files = [data for suffix, data in specimens(made) if suffix == ".npz"]
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
            require("\n" not in str(error), f"not one line: {error!s}")
            continue
        good += 1
        for member, offset, _ in entries:
            require(offset + member.packed <= len(data), f"mutation {i}: a member reaches out of the file")
    return {"archives": total, "of these valid": good}


CAMPAIGNS: dict[str, Callable[..., Figures]] = {
    "system calls": system_calls,
    "order of syncs": order_of_syncs,
    "random kills": random_kills,
    "full disks": full_disks,
    "little memory": little_memory,
    "races": races,
    "headers": headers,
    "tensor headers": tensor_headers,
    "archive directories": archive_directories,
    "mutations": mutations,
}
NEEDS_STRACE = ("system calls", "order of syncs")


def page(results: dict[str, Any]) -> str:
    """The figures as a table."""
    rows = []
    for name, campaign in CAMPAIGNS.items():
        figures, seconds, date = results.get(name, ({}, 0, "never"))
        said = "; ".join(f"{key}: {value:,}" for key, value in figures.items()) or "left out"
        rows.append(f"| {name} | {campaign.__doc__} | {said} | {seconds:.0f} s, {date} |")
    text = (ROOT / "docs" / "reliability.md.in").read_text()
    return text.replace("@ROWS@", "\n".join(rows)).replace(
        "@WHERE@",
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"h5py {h5py.__version__} with HDF5 {h5py.version.hdf5_version}, numpy {np.__version__}",
    )


def main() -> None:
    """Run campaigns by name, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[[], *CAMPAIGNS], default=[])
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--write", action="store_true", help="write docs/reliability.md")
    args = parser.parse_args()
    results = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for name in args.names or CAMPAIGNS:
        if name in NEEDS_STRACE and not can_trace():
            print(f"{name}: left out, strace is not there")
            continue
        begun = time.monotonic()
        figures = CAMPAIGNS[name](long=args.long)
        results[name] = (figures, time.monotonic() - begun, str(datetime.date.today()))
        print(f"{name}: {figures} in {results[name][1]:.0f} s", flush=True)
        if args.write:
            FIGURES.write_text(json.dumps(results, indent=1) + "\n")
            (ROOT / "docs" / "reliability.md").write_text(page(results))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    main()
