"""Seconds of several things in turns, so that a busy machine slows all of them, and what is made of the seconds."""

import gc
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

Work = Callable[[], object]

COMMAND = Path(sys.executable).parent / "lucid-pool"
PEER = Path(__file__).with_name("peer.py")

#: Before a burst of calls: PyTorch's threads spin for a while after their work, on the cores that are timed next.
PAUSE_SECONDS = 0.01
#: Calls in a row, so that everybody's threads are awake but for the first; with single calls, PyTorch's wait for the
#: system's scheduler, and 0.3 ms become 4.
BURST = 4


def in_turns(*works: Work, repeats: int, burst: int = 1, before: Work | None = None) -> list[float]:
    """Least seconds of each over so many rounds, in each of which each runs once, or a burst of times.

    One round before is not counted. Results are made anew and freed within the time; garbage is collected before. Work
    that returns a float has timed itself. What has to be done before each is not timed.
    """
    least = [math.inf] * len(works)
    gc.collect()
    gc.disable()
    try:
        for turn in range(repeats + 1):
            for i, work in enumerate(works):
                if before is not None:
                    before()
                time.sleep(PAUSE_SECONDS)
                seconds = min(_seconds(work) for _ in range(burst))
                least[i] = min(least[i], seconds if turn else math.inf)
    finally:
        gc.enable()
    return least


def _seconds(work: Work) -> float:
    start = time.perf_counter()
    told = work()
    told = told if isinstance(told, float) else None
    return time.perf_counter() - start if told is None else told


def geometric_mean(ratios: Iterable[float]) -> float:
    """What ratios are averaged by: twice and half as fast make equally fast."""
    return math.exp(statistics.fmean(map(math.log, ratios)))


def cpu_counts() -> list[int]:
    """1, 2, 4 … and all CPUs that this process may use; where the system cannot confine one, only all."""
    if not hasattr(os, "sched_setaffinity"):
        return [os.cpu_count() or 1]
    most = len(os.sched_getaffinity(0))
    return sorted({*(2**k for k in range(most.bit_length())), most})


def gain_of_cpus() -> float:
    """How many times the work of one CPU all of them do: a host may give a virtual machine's two as much time as one."""
    script = (
        "import time\nt = time.perf_counter()\nfor _ in range(10**7): pass\nprint(time.perf_counter() - t)"
    )

    def side_by_side(count: int) -> float:
        words = [sys.executable, "-S", "-c", script]
        running = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(count)]
        return max(float(process.communicate()[0]) for process in running)

    count = cpu_counts()[-1]
    alone, together = (min(side_by_side(n) for _ in range(3)) for n in (1, count))
    return count * alone / together


def process(*command: object, environment: dict[str, str] | None = None, cpus: int | None = None) -> Work:
    """A command from start to end, on so many CPUs, whose words are not looked at."""
    variables = {**os.environ, **(environment or {})}

    def work() -> None:
        _run(command, cpus, variables)

    return work


def told_seconds(*command: object, cpus: int | None = None) -> Callable[[], float]:
    """A command that prints how long the part of it took that counts."""
    return lambda: float(_run(command, cpus, None))


def _run(command: tuple[object, ...], cpus: int | None, environment: dict[str, str] | None) -> bytes:
    def confine() -> None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cpus])

    words = [str(word) for word in command]
    before = confine if cpus is not None and hasattr(os, "sched_setaffinity") else None
    done = subprocess.run(words, check=False, capture_output=True, env=environment, preexec_fn=before)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr.decode()}")
    return done.stdout


def cat(path: Path) -> Work:
    """Reading a file, or all files of a folder, as little as there can be of it."""
    script = 'find "$0" -type f -exec cat {} + > /dev/null' if path.is_dir() else 'cat "$0" > /dev/null'
    return process("sh", "-c", script, path)


def peak_bytes(*command: object) -> int:
    """Largest resident memory of a command; a small process in between keeps ours out of the figure."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    words = [sys.executable, "-S", "-c", script, *map(str, command)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024)
