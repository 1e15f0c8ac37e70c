"""What the shell completes: names of datasets, read in a process where they can do no harm, and of compressions."""

from pathlib import Path

import click

from lucid.compression import CODECS, LEVELS
from lucid.errors import LucidError
from lucid.formats.registry import format_of_content
from lucid.options import Options
from lucid.run.process import Process


def datasets(context: click.Context, incomplete: str) -> list[str]:
    """Names of the datasets in the files that were already typed."""
    values = {name: context.params[name] for name in ("layout", "dims") if context.params.get(name)}
    names: list[str] = []
    with Process() as process:
        # With the option's own value missing, Click leaves the arguments unparsed.
        for path in (*(context.params.get("inputs") or ()), *context.args):
            try:
                options = Options(**values)
                names += process.call(names_in, Path(path), options, options=options)
            except LucidError:
                continue
    slash = "" if incomplete.startswith("/") else "/"
    return [name[len(slash) :] for name in dict.fromkeys(names) if name.startswith(slash + incomplete)]


def names_in(path: Path, options: Options) -> list[str]:
    """Names of the datasets of a file that can be pooled."""
    with format_of_content(path).open(path, options) as source:
        specs = source.choose(())
        # What a shell would take for several names, or a terminal for a command, nobody completes.
        return [spec.name for spec in specs if spec.name and spec.name.isprintable()]


def compression(_: click.Context, incomplete: str) -> list[str]:
    """What `--compression` takes."""
    blosc = [f"{name}-{codec}" for name in ("blosc", "blosc2") for codec in CODECS]
    return [name for name in ("keep", "none", *LEVELS, *blosc) if name.startswith(incomplete)]
