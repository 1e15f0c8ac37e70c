"""Draw the README's pictures: `python docs/pictures.py` pools the sample data in an empty folder."""

import io
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

import lucid
from lucid.options import Options
from lucid_cli.outcomes import Outcomes
from lucid_cli.preview import channels_of, show_preview
from lucid_cli.render import show

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "sample_data" / "digits.h5"


def main() -> None:
    """Record what a terminal would show, and write it as SVG."""
    with tempfile.TemporaryDirectory() as folder:
        report = lucid.pool_file(SAMPLE, Path(folder) / "digits.pooled.h5", sizes=[(4, 4), (1, 1)])
        summary, preview = (_console(width) for width in (106, 90))
        # The picture shows names as one would type them.
        named = replace(report, source=Path("digits.h5"), targets=(Path("digits.pooled.h5"),))
        summary.print("$ lucid-pool digits.h5 --size 4 --size 1", style="dim")
        outcomes = Outcomes()
        outcomes.add("digits.h5", named)
        show(outcomes, summary)
        summary.save_svg(str(HERE / "summary.svg"), title="lucid-pool")
        preview.print("$ lucid-pool digits.h5 --size 4 --size 1 --preview", style="dim")
        options = Options(sizes=[(4, 4), (1, 1)])
        dataset = report.datasets[0].name
        show_preview(dataset, channels_of(SAMPLE, dataset, options), options, preview)
        preview.save_svg(str(HERE / "preview.svg"), title="lucid-pool --preview")


def _console(width: int) -> Console:
    return Console(
        record=True,
        width=width,
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        file=io.StringIO(),
    )


if __name__ == "__main__":
    main()
