"""What was done, as data: events while it goes on, a report at the end."""

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias


class Progress(NamedTuple):
    """How far a file is: bytes of input used up, of how many."""

    source: Path
    done_bytes: int
    total_bytes: int


OnProgress: TypeAlias = Callable[[Progress], None]


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
    datasets: tuple[DatasetReport, ...]
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
        return sum({d.name: d.input_bytes for d in self.datasets}.values())

    @property
    def output_bytes(self) -> int:
        """Bytes of all pooled datasets after."""
        return sum(d.output_bytes for d in self.datasets)


def peak_memory_bytes() -> int:
    """Largest resident memory of this process."""
    try:
        # ru_maxrss would count what the parent held when it forked.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
