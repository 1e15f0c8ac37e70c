"""What is done, as data: events, efforts and a watch while it goes on, a report at the end."""

import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from lucid.backlog import Backlog
from lucid.errors import LucidError

if TYPE_CHECKING:
    from lucid.formats.contract import Sink
    from lucid.options import Options


class Progress(NamedTuple):
    """How far a file is: bytes of input used up, of how many."""

    source: Path
    done_bytes: int
    total_bytes: int


OnProgress: TypeAlias = Callable[[Progress], None]
#: Gives the callback for an input, by its name and bytes.
ProgressOf: TypeAlias = Callable[[str, int], OnProgress]


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What was done, or would be, to one dataset for one size."""

    name: str
    input_shape: tuple[int, ...]
    input_dtype: str
    target: Path
    output_name: str
    output_shape: tuple[int, ...]
    output_dtype: str
    input_bytes: int
    output_bytes: int
    #: Memory that the blocks take, of all sizes pooled together.
    blocks_bytes: int
    #: Blocks that the input is read in.
    blocks: int
    #: Samples in a chunk of the input and of the output: slices best begin at multiples of both.
    input_chunk: int = 1
    output_chunk: int = 1


@dataclass(frozen=True, slots=True)
class Report:
    """What was done, or would be, to one file. Seconds of steps are added over threads."""

    source: Path
    targets: tuple[Path, ...]
    datasets: Sequence[DatasetReport]
    read_seconds: float
    pool_seconds: float
    write_seconds: float
    total_seconds: float
    threads: int
    max_memory: int
    peak_memory_bytes: int
    dry_run: bool
    #: Whether the outputs were there already, complete, and `resume` was asked for.
    skipped: bool = False
    #: Notes on the outputs for the user, one line each.
    notes: tuple[str, ...] = ()
    #: What the outputs hold besides means: arrays that were carried over, and the bytes that they take.
    carried: int = 0
    carried_bytes: int = 0

    @property
    def input_bytes(self) -> int:
        """Bytes of all pooled datasets before; each counts once, however many sizes it has."""
        return sum(next(several).input_bytes for _, several in groupby(self.datasets, attrgetter("name")))

    @property
    def output_bytes(self) -> int:
        """Bytes of all pooled datasets after."""
        return sum(d.output_bytes for d in self.datasets)


#: How lines about odd results end, behind the number of these and the name of their array.
OVERFLOW = "exceed {} and became {}; `dtype` float32 or float64 holds more"
MARKED = "became {}, which marks gaps; `dtype` float32 tells them apart"


@dataclass
class Effort:
    """What a block, a shard or an input took."""

    #: Bytes of input that were read.
    done_bytes: int = 0
    #: What the steps took: "read", "pool" and "write", added over threads.
    nanoseconds: Counter[str] = field(default_factory=Counter)
    #: How many results of valid cells are not what they should be, by the name of their array and what is said of them.
    odd_results: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: The most memory of another process that worked on it.
    peak_memory_bytes: int = 0

    @contextmanager
    def clock(self, step: str) -> Iterator[None]:
        """Add the time of a `with` block to what a step took."""
        start = perf_counter_ns()
        try:
            yield
        finally:
            self.nanoseconds[step] += perf_counter_ns() - start


@dataclass(kw_only=True)
class Watch(Effort):
    """An input while it is worked on: who is told how far it is, and what its report will say."""

    source: Path = Path()
    on_progress: OnProgress | None = None
    start_time: float = field(default_factory=perf_counter)
    total_bytes: int = 0
    targets: tuple[Path, ...] = ()
    #: Made when the work is done: there may be a hundred thousand.
    datasets: Iterable[DatasetReport] = ()
    skipped: bool = False
    #: Notes for the user, one line each.
    notes: list[str] = field(default_factory=list)
    carried: int = 0
    carried_bytes: int = 0

    def note(self, sink: "Sink") -> None:
        """Take over what an output that was begun, or only looked at, says of itself."""
        self.notes += sink.notes
        self.carried += sink.carried.arrays
        self.carried_bytes += sink.carried.nbytes

    def add(self, effort: Effort) -> None:
        """A block or a shard was made."""
        self.done_bytes = min(self.done_bytes + effort.done_bytes, self.total_bytes)
        self.nanoseconds += effort.nanoseconds
        self.odd_results += effort.odd_results
        self.peak_memory_bytes = max(self.peak_memory_bytes, effort.peak_memory_bytes)
        self.report_progress()

    def report_progress(self, more: int = 0) -> None:
        """Say how far it is, and so many bytes further in what is being done."""
        if self.on_progress is not None:
            done = min(self.done_bytes + more, self.total_bytes)
            self.on_progress(Progress(self.source, done, self.total_bytes))

    def report(self, options: "Options", **others: Any) -> Report:
        """The report, now that the work is done; `others` are facts that the options do not tell."""
        odd_results = [
            f"{count} finite result{'s' * (count > 1)} of {name or 'the array'} {what}"
            for (name, what), count in self.odd_results.items()
        ]
        known = {"threads": options.workers, "max_memory": options.max_memory, **others}
        return Report(
            source=self.source,
            targets=self.targets,
            datasets=Backlog(self.datasets),
            read_seconds=self.nanoseconds["read"] / 1e9,
            pool_seconds=self.nanoseconds["pool"] / 1e9,
            write_seconds=self.nanoseconds["write"] / 1e9,
            total_seconds=perf_counter() - self.start_time,
            peak_memory_bytes=max(peak_memory_bytes(), self.peak_memory_bytes),
            dry_run=options.dry_run,
            skipped=self.skipped,
            notes=tuple(dict.fromkeys([*self.notes, *odd_results])),
            carried=self.carried,
            carried_bytes=self.carried_bytes,
            **known,
        )


def failure_note(error: LucidError) -> str:
    """What a dry run says of an error that would end the run."""
    return f"the run would fail: {error}"


def peak_memory_bytes() -> int:
    """Largest resident memory of this process."""
    try:
        # ru_maxrss would count what the parent held when it forked.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
