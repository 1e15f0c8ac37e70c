"""What became of the inputs so far, in memory that does not grow with their number."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace

from lucid.backlog import Backlog
from lucid.errors import ArgumentError
from lucid.inputs import LeftOutError
from lucid.report import Report
from lucid.workers import Outcome
from lucid_cli.messages import FAILED, complain, in_shell_words, name_of
from lucid_cli.streams import emit

#: Of the JSON, whose keys `docs/command.md` describes; none is removed or changed without a new number.
SCHEMA = 1
#: Rows of the summary, unless all are asked for: what fits a screen.
MOST_ROWS = 20
#: Different notes that are told.
MOST_NOTES = 20
#: What of reports is added up.
_ADDED = (
    *(f"{step}_seconds" for step in ("read", "pool", "write", "total")),
    *("input_bytes", "carried", "carried_bytes"),
)


@dataclass
class Summary:
    """Reports added up, and the first of them."""

    #: Whether all reports are kept; otherwise as many as the table has rows for.
    keeps_all: bool = False
    reports: list[Report] = field(default_factory=list)
    #: Inputs that were pooled, rows of their table, and inputs whose outputs were there already.
    count: int = 0
    row_count: int = 0
    skipped: int = 0
    totals: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_ADDED, 0))
    blocks_bytes: int = 0
    peak_memory_bytes: int = 0

    def add(self, report: Report) -> None:
        """Add a report."""
        if report.skipped:
            self.skipped += 1
            return
        if self.keeps_all or self.row_count < MOST_ROWS:
            self.reports.append(report)
        self.count += 1
        self.row_count += len(report.datasets)
        for name in _ADDED:
            self.totals[name] += getattr(report, name)
        self.blocks_bytes = max([self.blocks_bytes, *(one.blocks_bytes for one in report.datasets)])
        self.peak_memory_bytes = max(self.peak_memory_bytes, report.peak_memory_bytes)


class Notes:
    """Lines about inputs; of each line the first input that it is about, and how many there are."""

    def __init__(self) -> None:
        self.inputs: dict[str, tuple[str, int]] = {}
        #: Lines that are not kept.
        self.others = 0

    def add(self, source: object, notes: Iterable[str]) -> None:
        """Add what is to be told of an input."""
        for note in notes:
            if note not in self.inputs and len(self.inputs) == MOST_NOTES:
                self.others += 1
            else:
                first, count = self.inputs.get(note, (str(source), 0))
                self.inputs[note] = first, count + 1

    def tell(self) -> None:
        """Tell a person, a line for each note."""
        for note, (first, count) in self.inputs.items():
            more = f" and {count - 1:,} more" if count > 1 else ""
            complain(f"{name_of(first)}{more}: {note}", 0)
        if self.others:
            complain(f"{self.others:,} more notes, which --json has", 0)


class Outcomes:
    """What became of the inputs so far; JSON tells of each at once."""

    def __init__(self, *, as_json: bool, keeps_all: bool) -> None:
        self._as_json = as_json
        self.summary = Summary(keeps_all)
        #: Notes for the user, and which files of folders are not pooled.
        self.notes, self.left_out = Notes(), Notes()
        self._failures = Backlog[tuple[str, str]]()

    @property
    def has_reports(self) -> bool:
        """Whether any input is done."""
        return bool(self.summary.count or self.summary.skipped)

    @property
    def has_failures(self) -> bool:
        """Whether any input failed."""
        return len(self._failures) > 0

    def add(self, source: str, outcome: Outcome) -> None:
        """Add what became of an input.

        Raises
        ------
        ArgumentError
            It is the first, and the command line cannot be.

        """
        if isinstance(outcome, Report):
            report = replace(outcome, notes=tuple(map(in_shell_words, outcome.notes)))
            self.summary.add(report)
            self.notes.add(report.source, report.notes)
            if self._as_json:
                _emit(asdict(report))
            return
        if isinstance(outcome, ArgumentError) and not self.has_reports:
            raise outcome
        reason = in_shell_words(str(outcome) or "memory ran out")
        if isinstance(outcome, LeftOutError):
            self.left_out.add(source, [f"left out: {reason}"])
            facts: dict[str, object] = {"skipped": True, "notes": [reason]}
        else:
            self._failures.append((source, reason))
            facts = {"error": reason}
        if self._as_json:
            _emit({"source": source, **facts})

    def tell_failures(self) -> int:
        """Tell a person what failed; the exit status."""
        for source, reason in self._failures:
            complain(f"{name_of(source)}: {reason}", FAILED)
        return FAILED if self.has_failures else 0


def _emit(facts: dict[str, object]) -> None:
    emit(json.dumps({"schema": SCHEMA, **facts}, default=str))
