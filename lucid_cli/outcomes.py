"""What became of the inputs so far, in memory that does not grow with their number."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace

import click

from lucid.backlog import Backlog
from lucid.inputs import LeftOutError
from lucid.report import Report
from lucid.workers import Outcome
from lucid_cli.streams import FAILED, as_output, complain, in_shell_words, name_of, text_of_path

#: Of the JSON, whose keys `docs/command.md` describes; none is removed or changed without a new number.
SCHEMA = 1
#: Rows of the summary, unless all are asked for, and different notes: what fits a screen.
MOST_ROWS = MOST_NOTES = 20
#: What of reports is added up.
STEPS = ("read_seconds", "pool_seconds", "write_seconds", "total_seconds")
_TOTALS = (*STEPS, "input_bytes", "carried", "carried_bytes")


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

    def __init__(self, *, as_json: bool = False, keeps_all: bool = False) -> None:
        self._as_json, self._keeps_all = as_json, keeps_all
        #: Reports on what was pooled, of the first inputs or of all.
        self.reports: list[Report] = []
        #: Of all: `inputs`, `rows` of their table, inputs `skipped` as their outputs were there, and what is added up.
        self.totals = dict.fromkeys(("inputs", "rows", "skipped", *_TOTALS), 0.0)
        self.blocks_bytes = self.peak_memory_bytes = 0
        #: Notes for the user, and which files of folders are not pooled.
        self.notes, self.left_out = Notes(), Notes()
        #: What failed, and why.
        self.failures = Backlog[tuple[str, str]]()

    @property
    def has_reports(self) -> bool:
        """Whether any input is done."""
        return self.totals["inputs"] + self.totals["skipped"] > 0

    def add(self, source: str, outcome: Outcome) -> None:
        """Add what became of an input."""
        if isinstance(outcome, Report):
            self._add_report(replace(outcome, notes=tuple(map(in_shell_words, outcome.notes))))
            return
        reason = in_shell_words(str(outcome) or "memory ran out")
        if isinstance(outcome, LeftOutError):
            self.left_out.add(source, [f"left out: {reason}"])
            facts: dict[str, object] = {"skipped": True, "notes": [reason]}
        else:
            self.failures.append((source, reason))
            facts = {"error": reason}
        if self._as_json:
            _emit({"source": source, **facts})

    def _add_report(self, report: Report) -> None:
        self.notes.add(report.source, report.notes)
        if self._as_json:
            _emit(asdict(replace(report, datasets=())), map(asdict, report.datasets))
        if report.skipped:
            self.totals["skipped"] += 1
            return
        if self._keeps_all or self.totals["rows"] < MOST_ROWS:
            self.reports.append(report)
        self.totals["inputs"] += 1
        self.totals["rows"] += len(report.datasets)
        for name in _TOTALS:
            self.totals[name] += getattr(report, name)
        most = max((dataset.blocks_bytes for dataset in report.datasets), default=0)
        self.blocks_bytes = max(self.blocks_bytes, most)
        self.peak_memory_bytes = max(self.peak_memory_bytes, report.peak_memory_bytes)

    def tell_failures(self) -> int:
        """Tell a person what failed; the exit status."""
        for source, reason in self.failures:
            complain(f"{name_of(source)}: {reason}", FAILED)
        return FAILED if len(self.failures) else 0


def _emit(facts: dict[str, object], rows: Iterable[dict[str, object]] = ()) -> None:
    """Write facts; the rows of `datasets` one by one, as there may be a hundred thousand."""
    start, key, end = json.dumps({"schema": SCHEMA, **facts}, default=text_of_path).partition('"datasets": [')
    with as_output():
        click.echo(start + key, nl=False)
        for number, row in enumerate(rows):
            click.echo(", " * (number > 0) + json.dumps(row, default=text_of_path), nl=False)
        click.echo(end)
