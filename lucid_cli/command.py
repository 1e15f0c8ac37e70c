"""The command as Click knows it: its options, those of `lucid.options` among them, its help, its completion."""

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

import click

from lucid import __version__
from lucid.options import Option, option_rows
from lucid.pooling import kernel_name
from lucid.sizes import DIMENSION
from lucid_cli.request import FILE, FOLDER, Request, request_of
from lucid_cli.streams import NAME

#: The groups of the help, in order.
GROUPS = ("input", "output", "numbers", "work", "display")


def join_sizes(args: Iterable[str]) -> list[str]:
    """Join `--size 4 5` to `--size 4x5`, as Click has no option of one or two values.

    Only bare dimensions are joined, so a file of such a name is reached as `./4`. More dimensions, or signs between
    them, would be taken for inputs, and are a UsageError.
    """
    words: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        words.append(word)
        if word == "--":
            break
        if not re.fullmatch(rf"-s|--size|(--size=|-s){DIMENSION}", word):
            continue
        if word in ("-s", "--size") and rest:
            words.append(rest.pop(0))
        size = re.sub(r"^(--size=|-s)", "", words[-1])
        if rest and re.fullmatch(DIMENSION, size) and re.fullmatch(DIMENSION, rest[0]):
            words[-1] += "x" + rest.pop(0)
        elif rest and rest[0] in ("x", "X", "×", "*", ","):
            raise click.UsageError(f"{size} {' '.join(rest[:2])} is no size; expected 4x5, 4,5 or 4 5")
        if rest and re.fullmatch(rf"{DIMENSION}([x,]{DIMENSION})?", rest[0]):
            raise click.UsageError(
                f"{rest[0]} follows the size {words[-1]}; for several sizes repeat --size, "
                f"a file of that name is ./{rest[0]}"
            )
    return words + rest


class Text(click.ParamType[Any]):
    """Text from the shell, which `Options` reads."""

    name = "text"
    #: In the environment a blank may stand within a value, so several need another separator.
    envvar_list_splitter = ";"


_PATHS = {FILE: click.Path(readable=False), FOLDER: click.Path(file_okay=False, readable=False)}


class GroupedOption(click.Option):
    """An option as it is declared, in a group of the help; the environment may give it, too."""

    def __init__(self, name: str, row: Option) -> None:
        *others, flag = row.flags
        word = flag.strip("-")
        is_flag = isinstance(row.default, bool)
        default = word if row.default is True else row.shown or row.default
        shown = f"  [default: {default}]" if isinstance(default, str) else ""
        type_ = click.Choice(row.kind.choices) if row.kind.choices else _PATHS.get(row.kind, Text())
        super().__init__(
            [*others, f"{flag}/--no-{word}" if row.default is True else flag, name],
            envvar=_variable(flag),
            default=row.default,
            is_flag=is_flag,
            type=None if is_flag else type_,
            multiple=row.kind.is_list,
            metavar=row.kind.metavar,
            help=row.help
            + " Repeatable." * row.kind.is_list
            + shown.replace("default: required", "required"),
            shell_complete=_complete if name in ("datasets", "drop", "compression") else None,
        )
        self.group = row.group

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """What the environment says; of `--carry / --no-carry` under both names."""
        for flag in self.secondary_opts:
            if no := os.environ.get(_variable(flag)):
                return str(not click.BOOL.convert(no, self, ctx))
        return super().resolve_envvar_value(ctx)


def _variable(flag: str) -> str:
    """What a flag is called in the environment."""
    return f"LUCID_POOL_{flag.strip('-').replace('-', '_').upper()}"


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from lucid_cli import completion

    names: list[str] = getattr(completion, str(parameter.name))(context, incomplete)
    return names


class Command(click.Command):
    """A command whose help lists options in groups and all formats, and shows examples."""

    examples = (
        "lucid-pool features.h5 --size 4 4",
        "lucid-pool features/ --size 1 --size 2 --output-dir pooled",
        "cat features.npy | lucid-pool --size 1 --flatten > means.npy",
    )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        for group in GROUPS:
            options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
            members = [p for p in options if getattr(p, "group", "display") == group]
            records = [record for member in members if (record := member.get_help_record(ctx))]
            with formatter.section(f"{group.capitalize()} options"):
                formatter.write_dl(records)

    def formats(self) -> Iterator[tuple[str, str]]:
        """The formats, and how the names of their files end."""
        from lucid.formats.registry import FORMATS  # only the help needs it

        for format_ in FORMATS:
            extra = f" (extra {format_.extra})" if format_.extra else ""
            yield format_.name, ", ".join(format_.suffixes) + extra

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the formats, and examples."""
        del ctx
        with formatter.section("Formats"):
            formatter.write_dl([*self.formats()])
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


DESCRIPTION = """Pool the spatial axes of arrays in files to a fixed grid.

Each output cell is the mean of its window, as in adaptive average pooling:
lucid-pool features.h5 --size 4 4 writes features.pooled.h5.

An INPUT that is a folder stands for all files in it that can be read, at any depth. INPUT - is standard
input: .npy arrays one after another, or a file; without -o the means go to standard output as .npy, and so
they do for pipes, <(...).

A file named like a number is given as ./4. Every option but --version and --help also reads
LUCID_POOL_<NAME> from the environment, several values separated by a semicolon.
"""

_COMMAND_OPTIONS = option_rows(Request)
_OUTPUT_OPTIONS = {name: row for name, row in _COMMAND_OPTIONS.items() if row.group == "output"}
command = Command(
    NAME,
    callback=lambda **_: request_of(click.get_current_context()),
    help=DESCRIPTION,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        click.Argument(["inputs"], metavar="[INPUT]...", nargs=-1, type=click.Path(readable=False)),
        *(
            GroupedOption(name, row)
            for name, row in (_OUTPUT_OPTIONS | option_rows() | _COMMAND_OPTIONS).items()
        ),
    ],
)
command = click.version_option(__version__, message=f"%(prog)s %(version)s ({kernel_name()} kernel)")(command)
