"""Reports as a table, progress as a bar, through rich on standard error."""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lucid.report import DatasetReport, OnProgress, Progress, Report
from lucid_cli.messages import name_of, shown
from lucid_cli.outcomes import Summary

#: Signs of the summary where there is ASCII only.
_SPELT = str.maketrans({"→": "->", "×": "x", "·": "|", "…": "...", "–": "-", "━": "-", "╸": "-", "╺": "-"})


class _Console(Console):
    """A console whose reader may go away: rich's own answer would redirect standard output."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class _Ascii(io.TextIOBase):
    """Standard error where it does not take all of Unicode: signs are spelt in ASCII."""

    encoding = "ascii"

    def isatty(self) -> bool:
        return sys.stderr.isatty()

    def write(self, text: str) -> int:
        return sys.stderr.write(text.translate(_SPELT))

    def flush(self) -> None:
        sys.stderr.flush()


def console() -> Console:
    """Standard error. Off a terminal nothing is wrapped, so that names stay whole."""
    takes_all = sys.stderr.encoding.lower().startswith("utf")
    where: dict[str, Any] = {"stderr": True} if takes_all else {"file": _Ascii()}
    terminal = _Console(highlight=False, **where)
    return terminal if terminal.is_terminal else _Console(highlight=False, width=1000, **where)


def show(summary: Summary, to: Console, *, every: bool = False) -> None:
    """The whole summary; `every` row of it, and the plan with it."""
    if summary.skipped:
        word = (
            "outputs of 1 input were"
            if summary.skipped == 1
            else f"outputs of {summary.skipped:,} inputs were"
        )
        to.print(Text(f"{word} complete already, and skipped"))
    if summary.last is None:
        return
    if summary.count == 1:
        report = summary.last
        targets = ", ".join(name_of(target, "standard output") for target in report.targets)
        to.print(Text(f"{name_of(report.source)} → {targets}", style="bold"))
    planned = every or summary.last.dry_run
    to.print(table_of(summary.rows, with_files=summary.count > 1, planned=planned))
    if more := summary.row_count - len(summary.rows):
        to.print(Text(f"… and {more:,} more (-v lists all)"))
    if summary.carried:
        word = "array" if summary.carried == 1 else "arrays"
        to.print(Text(f"carried over: {summary.carried:,} {word}, {size(summary.carried_bytes)}"))
    to.print(timing(summary, summary.last))


def table_of(rows: Sequence[tuple[Report, DatasetReport]], *, with_files: bool, planned: bool) -> Table:
    """One row for each pooled dataset."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    right = ("bytes", "ratio", "blocks", "memory")
    names = ["file"] * with_files + ["dataset", "shape", "dtype", "bytes", "ratio"]
    for name in names + ["blocks", "memory"] * planned:
        # In plain strings rich looks for markup and emoji, whose names it loads (benchmarks/decisions.md).
        table.add_column(Text(name, "bold"), justify="right" if name in right else "left", overflow="fold")
    for report, d in rows:
        shape = Text.assemble(_shape(d.input_shape), (" → ", "bold"), _shape(d.output_shape))
        same = d.input_dtype == d.output_dtype
        cells = [
            Text(shown(_label(report, d))),
            shape,
            Text(d.input_dtype if same else f"{d.input_dtype} → {d.output_dtype}"),
            Text(f"{size(d.input_bytes)} → {size(d.output_bytes)}"),
            Text(f"{d.input_bytes / d.output_bytes:.1f}x" if d.output_bytes else "–"),
        ]
        plan = [Text(f"{d.blocks:,}"), Text(size(d.blocks_bytes))]
        table.add_row(*[Text(name_of(report.source))] * with_files, *cells, *plan * planned)
    return table


def _label(report: Report, d: DatasetReport) -> str:
    """The dataset; where it was pooled to several sizes, what it is called in the output."""
    several = sum(other.name == d.name for other in report.datasets) > 1
    if several and str(d.target) != "-":
        return d.output_name if d.name else d.target.name
    return d.name or name_of(report.source).rsplit("/", 1)[-1]


def timing(summary: Summary, last: Report) -> Text:
    """Where the time went; a plan says what it would take instead."""
    threads = f"{last.threads} thread{'s' * (last.threads > 1)}"
    files = f"{summary.count:,} files · " if summary.count > 1 else ""
    if last.dry_run:
        return Text(
            f"{files}dry run: buffers up to {size(summary.blocks_bytes)} of {size(last.max_memory)}, {threads};"
            " nothing written"
        )
    total = summary.total_seconds
    rate = summary.input_bytes / total / 1e9 if total else 0.0
    steps = ("read", summary.read_seconds), ("pool", summary.pool_seconds), ("write", summary.write_seconds)
    return Text(
        files
        + " · ".join(f"{name} {seconds:.2f} s" for name, seconds in steps)
        + f" · total {total:.2f} s · {rate:.2f} GB/s · {threads}"
        f" · peak memory {size(summary.peak_memory_bytes)}"
    )


def size(count: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


@contextmanager
def progress_bar(
    to: Console, inputs: int, total_bytes: int
) -> Iterator[Callable[[str, int], OnProgress] | None]:
    """One bar for so many inputs, with rate and time left."""
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    class Amount(ProgressColumn):
        """Bytes done, of how many, and how many a second, in the units of the summary."""

        def render(self, task: Task) -> Text:
            rate = task.finished_speed or task.speed
            total = f" of {size(task.total)}" if task.total else ""
            return Text(size(task.completed) + total + (f", {size(rate)}/s" if rate else ""))

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None if to.width < 80 else 40),
        Amount(),
        TimeRemainingColumn(compact=True),
    )
    before, begun = 0, 0
    with Bar(*columns, console=to, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        line = bar.add_task("", total=total_bytes or None)

        def of_input(source: str, nbytes: int) -> OnProgress:
            nonlocal before, begun
            begun, start = begun + 1, before
            before += nbytes
            count = f"{begun:,}/{inputs:,} " if inputs > 1 else ""
            name = name_of(source).rsplit("/", 1)[-1]
            bar.update(line, description=count + name, completed=start)

            def on_progress(progress: Progress) -> None:
                if nbytes:
                    share = progress.done_bytes / max(1, progress.total_bytes)
                    bar.update(line, completed=start + share * nbytes)
                else:  # a stream says how much there is only as it comes
                    bar.update(line, completed=progress.done_bytes, total=progress.total_bytes)

            return on_progress

        yield of_input
