"""Reports as a table, progress as a bar, through rich on standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lucid.job import OnProgress, Progress, Report
from lucid_cli.messages import shown

if TYPE_CHECKING:
    from rich.progress import ProgressColumn


class _Console(Console):
    """A console whose reader may go away: rich's own answer would redirect standard output."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


def console() -> Console:
    """Standard error. Off a terminal nothing is wrapped, so that names stay whole."""
    made = _Console(stderr=True, highlight=False)
    return made if made.is_terminal else _Console(stderr=True, highlight=False, width=1000)


def table(report: Report) -> Table:
    """One row for each pooled dataset."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for name, justify in (
        ("dataset", "left"),
        ("shape", "left"),
        ("dtype", "left"),
        ("bytes", "right"),
        ("ratio", "right"),
    ):
        made.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for d in report.datasets:
        made.add_row(
            escape(shown(d.name or report.source.name)),
            f"{_shape(d.input_shape)} [bold]→[/] {_shape(d.output_shape)}",
            d.input_dtype if d.input_dtype == d.output_dtype else f"{d.input_dtype} → {d.output_dtype}",
            f"{size(d.input_bytes)} → {size(d.output_bytes)}",
            f"{d.input_bytes / d.output_bytes:.1f}x" if d.output_bytes else "–",
        )
    return made


def timing(report: Report) -> Text:
    """Where the time went; a plan says what it would take instead."""
    threads = f"{report.threads} thread{'s' * (report.threads > 1)}"
    if report.dry_run:
        most = max(d.blocks_bytes for d in report.datasets)
        return Text(
            f"dry run: buffers up to {size(most)} of {size(report.max_memory)}, {threads}; nothing written"
        )
    rate = report.input_bytes / report.total_seconds / 1e9 if report.total_seconds else 0.0
    steps = ("read", report.read_seconds), ("pool", report.pool_seconds), ("write", report.write_seconds)
    return Text(
        " · ".join(f"{name} {seconds:.2f} s" for name, seconds in steps)
        + f" · total {report.total_seconds:.2f} s · {rate:.2f} GB/s · {threads}"
        f" · peak memory {size(report.peak_memory_bytes)}"
    )


def show(report: Report, to: Console) -> None:
    """The whole summary."""
    to.print(Text(f"{shown(report.source)} → {shown(report.target)}", style="bold"))
    to.print(table(report))
    to.print(timing(report))


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
def progress_bar(to: Console, *, wanted: bool) -> Iterator[OnProgress | None]:
    """A bar with bytes, rate and time left, while it runs and on a terminal only."""
    if not (wanted and to.is_terminal and sys.stderr.isatty()):
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=to, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task("", total=None)

        def on_progress(progress: Progress) -> None:
            bar.update(
                task,
                description=shown(progress.source.name),
                completed=progress.done_bytes,
                total=progress.total_bytes,
            )

        yield on_progress
