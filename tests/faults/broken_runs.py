"""Kills, failing system calls, full disks, little memory and races: what is left of an output, and what is said."""

import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from promises import Figures, check_words, digest, folder, require, require_both

COMMAND = str(Path(sys.executable).parent / "lucid-pool")
#: The command with spans of a few samples, and processes for a small input.
IN_SPANS = (
    "import sys; from lucid import forks; from lucid.shards import spans;"
    "forks.WORTH_BYTES = 0; spans.SPAN_BYTES = 1 << 16;"
    "from lucid_cli.main import main; sys.argv[0] = 'lucid-pool'; main()"
)
#: System calls by which an output comes to be.
CALLS = ("write", "pwrite64", "fsync", "rename", "link", "unlink", "ftruncate", "fallocate")


class Case:
    """A folder with an input, an old output, and what the new one must be."""

    def __init__(self, folder: Path, source: str, target: str, *options: str) -> None:
        self.folder, self.source, self.target = folder, folder / source, folder / target
        command = [sys.executable, "-c", IN_SPANS] if {"--resume", "-j"} & {*options} else [COMMAND]
        self.args = [*command, source, "-s", "2", "-o", target, "-f", "-q", *options]
        rng = np.random.default_rng(1)
        x = rng.standard_normal((60, 8, 12, 12)).astype("f4")
        if source.endswith(".npy"):
            np.save(self.source, x)
        else:
            with h5py.File(self.source, "w") as file:
                # The second is decoded by the library, not by us.
                filters = {"compression": "gzip", "fletcher32": "checked" in source, "shuffle": True}
                file.create_dataset("x", data=x, chunks=(4, 8, 12, 12), **filters)
                file["labels"], file["y"] = np.arange(60), x[:5]
                file["ref"] = np.array([file["labels"].ref], h5py.ref_dtype)
        self.input_digest = digest(self.source)
        done = self.run()
        require(done.returncode == 0, f"the run that nothing disturbs failed: {done.stderr}")
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


KINDS: dict[str, tuple[str, ...]] = {
    ".npy": ("x.npy", "y.npy"),
    "HDF5": ("x.h5", "y.h5"),
    ".npy, --resume": ("x.npy", "y.npy", "--resume"),
    "HDF5, --resume": ("x.h5", "y.h5", "--resume"),
    "HDF5, decoded by two processes": ("x.checked.h5", "y.h5", "-j", "2"),
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
    """A kill at, and an error from, system calls of every kind that makes an output, from first to last."""
    kills, counts = 0, {"killed": 0, "a line": 0, "went around": 0}
    for kind in KINDS.values() if long else list(KINDS.values())[::3]:
        with folder() as made:
            case = Case(made, *kind)
            log = made.parent / f"{made.name}.log"
            for name, count in calls_of(case).items():
                for when in chosen(count, 3 if long else 1):
                    done = trace(case, "-e", f"inject={name}:signal=KILL:when={when}")
                    case.check(done)
                    case.check_recovery()
                    kills, counts["killed"] = kills + 1, counts["killed"] + (done.returncode != 0)
                    for error in ("ENOSPC", "EIO") if long else ("ENOSPC",):
                        done = trace(case, "-e", f"inject={name}:error={error}:when={when}")
                        case.check(done if name != "write" else None)  # a write may be the message itself
                        case.check_recovery()
                        counts["a line" if done.returncode else "went around"] += 1
            log.unlink(missing_ok=True)
    # Threads may make a call less often than in the run that was counted.
    require(counts["killed"] > kills * 0.8, f"of {kills} kills, {counts['killed']} ended a run")
    require_both(counts, "a line", "went around")
    return {
        "kills at a system call": counts["killed"],
        "calls that failed once and ended the run with a line": counts["a line"],
        "and that were gone around": counts["went around"],
    }


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
        while counts["killed"] < (250 if long else 5):
            i += 1
            case = cases[i % 2]
            process = subprocess.Popen(case.args, cwd=case.folder, stderr=subprocess.PIPE, text=True)
            time.sleep(rng.random() * span)
            process.kill()
            _, said = process.communicate()
            require(process.returncode in (0, -signal.SIGKILL), f"status {process.returncode}: {said}")
            counts["ended before" if process.returncode == 0 else "killed"] += 1
            case.check(subprocess.CompletedProcess(case.args, process.returncode, "", said))
            if i % 10 < 2:
                case.check_recovery()
        for case in cases:
            case.check_recovery()
    return {"kills at random times": counts["killed"], "of runs": sum(counts.values())}


def full_disks(*, long: bool) -> Figures:
    """A limit on the size of files, and as root a file system that is too small."""
    mounts, counts = 0, {"a line": 0, "fitted": 0}
    with folder() as made:
        for kind in KINDS.values():
            case = Case(made, *kind)
            for limit in chosen(60_000, 40 if long else 4):
                done = case.run(
                    preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                )
                case.check(done)
                case.check_recovery()
                counts["a line" if done.returncode else "fitted"] += 1
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
    require_both(counts, "a line", "fitted")
    return {
        "limits on file size that ended a run with a line": counts["a line"],
        "that an output fitted": counts["fitted"],
        "runs on a full tmpfs": mounts,
    }


def little_memory(*, long: bool) -> Figures:
    """--max-memory from plenty to one byte."""
    counts = {"pooled": 0, "refused": 0}
    with folder() as made:
        for kind in list(KINDS.values())[:2]:
            case = Case(made, *kind)
            limit = 1 << 20
            while limit:
                done = case.run("env", f"LUCID_POOL_MAX_MEMORY={limit}")
                case.check(done)
                counts["refused" if done.returncode else "pooled"] += 1
                case.reset()
                limit = limit * 3 // 4 if long else limit // 8
    require_both(counts, "pooled", "refused")
    return {
        "memory limits within which it pooled": counts["pooled"],
        "refused with a line": counts["refused"],
    }


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
                temporary = str(made.resolve() / steps[last][2])  # as a descriptor has it
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
