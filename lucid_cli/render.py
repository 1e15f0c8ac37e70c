"""Reports as a table, progress as a bar, through rich on standard error."""

import io
import locale
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lucid.report import DatasetReport, OnProgress, Progress, ProgressOf, Report
from lucid_cli.outcomes import MOST_ROWS, STEPS, Outcomes
from lucid_cli.streams import flush, name_of, printable

#: Columns of the summary, and of the plan.
COLUMNS, PLAN = ("dataset", "shape", "dtype", "bytes", "ratio"), ("blocks", "memory")
#: Signs of the summary, and those of the same width where there is ASCII only.
_ASCII_SIGNS = str.maketrans("→×·…–━╸╺", ">x|~----")


class _StandardError(io.TextIOBase):
    """Standard error as rich writes to it. What it does not take is lost, and the exit status still tells."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        encodings = (sys.stderr.encoding, locale.getencoding())  # with LC_ALL=C, Python would write UTF-8
        return "utf-8" if all(name.lower().startswith("utf") for name in encodings) else "ascii"

    def isatty(self) -> bool:
        return sys.stderr.isatty()

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text if self.encoding == "utf-8" else text.translate(_ASCII_SIGNS))
        return len(text)

    def flush(self) -> None:
        flush(sys.stderr)


def console() -> Console:
    """Standard error. Off a terminal nothing is wrapped, so that names stay whole."""
    width = None if sys.stderr.isatty() else 1000
    return Console(file=_StandardError(), highlight=False, width=width)  # type: ignore[arg-type]


def show(outcomes: Outcomes, to: Console, *, every: bool = False) -> None:
    """The whole summary; `every` row of it, and the plan with it."""
    totals = {name: round(total) for name, total in outcomes.totals.items()}
    if skipped := totals["skipped"]:
        inputs = f"{skipped:,} input" + "s" * (skipped > 1)
        to.print(Text(f"outputs of {inputs} were complete already, and skipped"))
    if not outcomes.reports:
        return
    report, is_one = outcomes.reports[0], totals["inputs"] == 1
    if is_one:
        targets = ", ".join(name_of(target, "standard output") for target in report.targets)
        to.print(Text(f"{name_of(report.source)} → {targets}", style="bold"))
    rows = [(report, dataset) for report in outcomes.reports for dataset in report.datasets][
        : None if every else MOST_ROWS
    ]
    to.print(_table(rows, with_files=not is_one, with_plan=every or report.dry_run))
    if more := totals["rows"] - len(rows):
        to.print(Text(f"… and {more:,} more (-v lists all)"))
    if carried := totals["carried"]:
        arrays = f"{carried:,} array" + "s" * (carried > 1)
        to.print(Text(f"carried over: {arrays}, {size(totals['carried_bytes'])}"))
    files = "" if is_one else f"{totals['inputs']:,} files · "
    to.print(Text(files + _timing(outcomes, report)))


def _table(rows: Sequence[tuple[Report, DatasetReport]], *, with_files: bool, with_plan: bool) -> Table:
    """One row for each pooled dataset."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for name in ("file",) * with_files + COLUMNS + PLAN * with_plan:
        # In plain strings rich looks for markup and emoji, whose names it loads (benchmarks/decisions.md).
        justify = "right" if name in ("bytes", "ratio", *PLAN) else "left"
        table.add_column(Text(name, "bold"), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for report, d in rows:
        before, after = ("×".join(map(str, shape)) for shape in (d.input_shape, d.output_shape))
        cells: list[str | Text] = [
            printable(_label(report, d)),
            Text.assemble(before, (" → ", "bold"), after),
            d.input_dtype if d.input_dtype == d.output_dtype else f"{d.input_dtype} → {d.output_dtype}",
            f"{size(d.input_bytes)} → {size(d.output_bytes)}",
            f"{d.input_bytes / d.output_bytes:.1f}x" if d.output_bytes else "–",
        ]
        plan = [f"{d.blocks:,}", size(d.blocks_bytes)] * with_plan
        texts = [name_of(report.source)] * with_files + cells + plan
        table.add_row(*(Text(text) if isinstance(text, str) else text for text in texts))
    return table


def _label(report: Report, d: DatasetReport) -> str:
    """What a dataset is called in the output; an array without a name, what its file is called."""
    if str(d.target) == "-" or len(report.datasets) == 1:
        return d.name or name_of(report.source).rsplit("/", 1)[-1]
    return d.target.name if len(report.targets) > 1 else d.output_name


def _timing(outcomes: Outcomes, report: Report) -> str:
    """Where the time went; a plan says what it would take instead. Threads and limits are the same in all reports."""
    threads = f"{report.threads} thread{'s' * (report.threads > 1)}"
    if report.dry_run:
        most = f"{size(outcomes.blocks_bytes)} of {size(report.max_memory)}"
        return f"dry run: buffers up to {most}, {threads}; nothing written"
    totals = outcomes.totals
    steps = [f"{name.removesuffix('_seconds')} {totals[name]:.2f} s" for name in STEPS]
    rate = totals["input_bytes"] / (totals["total_seconds"] or 1.0) / 1e9
    return " · ".join(
        (*steps, f"{rate:.2f} GB/s", threads, f"peak memory {size(outcomes.peak_memory_bytes)}")
    )


def size(count: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


@contextmanager
def progress_bar(to: Console, inputs: int, total_bytes: int) -> Iterator[ProgressOf]:
    """One bar for so many inputs, with rate and time left."""
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    is_narrow = to.width < 80

    class Amount(ProgressColumn):
        """Bytes done, of how many, and how many a second, in the units of the summary."""

        def render(self, task: Task) -> Text:
            rate = 0 if is_narrow else task.finished_speed or task.speed
            total = f" of {size(task.total)}" if task.total else ""
            return Text(size(task.completed) + total + (f", {size(rate)}/s" if rate else ""))

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None if is_narrow else 40),
        Amount(Column(no_wrap=True)),
        TimeRemainingColumn(compact=True),
    )
    before, number = 0, 0
    with Bar(*columns, console=to, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        line = bar.add_task("", total=total_bytes or None)

        def of_input(source: str, nbytes: int) -> OnProgress:
            nonlocal before, number
            number, start = number + 1, before
            before += nbytes
            label = Text(f"{number:,}/{inputs:,} " * (inputs > 1) + name_of(source).rsplit("/", 1)[-1])
            label.truncate(to.width // 3, overflow="ellipsis")
            bar.update(line, description=label.plain, completed=start)

            def on_progress(progress: Progress) -> None:
                # A stream says how much there is only as it comes.
                total, share = progress.total_bytes, progress.done_bytes / max(1, progress.total_bytes)
                bar.update(line, completed=start + share * (nbytes or total), total=total_bytes or total)

            return on_progress

        yield of_input
