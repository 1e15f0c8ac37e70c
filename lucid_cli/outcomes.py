"""What became of the inputs so far, in memory that does not grow with their number."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from lucid.backlog import Backlog
from lucid.report import DatasetReport, Report
from lucid_cli import jsonlines
from lucid_cli.messages import in_shell_words
from lucid_cli.streams import emit

#: Rows of the summary, unless all are asked for: what fits a screen.
MOST_ROWS = 20
#: Different notes that are told.
MOST_NOTES = 20


#: What is added up.
_ADDED = (
    "read_seconds",
    "pool_seconds",
    "write_seconds",
    "total_seconds",
    "input_bytes",
    "carried",
    "carried_bytes",
)


@dataclass
class Summary:
    """Reports added up, and the first rows of their table."""

    #: Whether all rows are kept, and all reports.
    keeps_all: bool = False
    #: Reports of what was pooled, and how many outputs were there already.
    count: int = 0
    skipped: int = 0
    rows: list[tuple[Report, DatasetReport]] = field(default_factory=list)
    row_count: int = 0
    reports: list[Report] = field(default_factory=list)
    #: The last report; threads and limits are the same in all.
    last: Report | None = None
    read_seconds: float = 0.0
    pool_seconds: float = 0.0
    write_seconds: float = 0.0
    total_seconds: float = 0.0
    input_bytes: int = 0
    blocks_bytes: int = 0
    peak_memory_bytes: int = 0
    carried: int = 0
    carried_bytes: int = 0

    def add(self, report: Report) -> None:
        """Add a report."""
        if report.skipped:
            self.skipped += 1
            return
        self.count, self.last = self.count + 1, report
        rows = [(report, one) for one in report.datasets]
        self.row_count += len(rows)
        self.rows += rows if self.keeps_all else rows[: MOST_ROWS - len(self.rows)]
        if self.keeps_all:
            self.reports.append(report)
        for name in _ADDED:
            setattr(self, name, getattr(self, name) + getattr(report, name))
        self.blocks_bytes = max([self.blocks_bytes, *(one.blocks_bytes for one in report.datasets)])
        self.peak_memory_bytes = max(self.peak_memory_bytes, report.peak_memory_bytes)


class Notes:
    """Lines about inputs; of each line the first input that it is about, and how many more there are."""

    def __init__(self) -> None:
        self.first: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        #: Lines that are not kept.
        self.others = 0

    def add(self, source: object, notes: Iterable[str]) -> None:
        """Add what is to be told of an input."""
        for note in notes:
            if note not in self.first and len(self.first) == MOST_NOTES:
                self.others += 1
                continue
            self.first.setdefault(note, str(source))
            self.counts[note] = self.counts.get(note, 0) + 1


class Outcomes:
    """What became of the inputs so far; JSON tells of each at once."""

    def __init__(self, *, as_json: bool, keeps_all: bool = False) -> None:
        self._as_json = as_json
        self.summary = Summary(keeps_all=keeps_all)
        self.failures = Backlog[tuple[str, str]]()
        #: Notes for the user, and which files of folders are not pooled.
        self.notes, self.left_out = Notes(), Notes()

    def fail(self, source: str, error: BaseException) -> None:
        """An input failed."""
        reason = in_shell_words(str(error) or "memory ran out")
        self.failures.append((source, reason))
        if self._as_json:
            emit(jsonlines.error(source, reason))

    def leave_out(self, source: str, reason: str) -> None:
        """A file of a folder is not pooled."""
        reason = in_shell_words(reason)
        self.left_out.add(source, [f"left out: {reason}"])
        if self._as_json:
            emit(jsonlines.left_out(source, reason))

    def add(self, report: Report) -> None:
        """An input is done."""
        report = replace(report, notes=tuple(map(in_shell_words, report.notes)))
        self.summary.add(report)
        self.notes.add(report.source, report.notes)
        if self._as_json:
            emit(jsonlines.report(report))

    @property
    def has_reports(self) -> bool:
        """Whether any input is done."""
        return bool(self.summary.count or self.summary.skipped)
