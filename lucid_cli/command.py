"""The command as Click knows it: its options, those of `lucid.options` among them, its help, its completion."""

import re
from collections.abc import Iterable
from typing import Any

import click

from lucid import __version__
from lucid.options import Option, declared
from lucid.pooling import kernel_name
from lucid.sizes import DIMENSION
from lucid_cli.streams import NAME

ENVIRONMENT = "LUCID_POOL"
#: The groups of the help, in order.
GROUPS = ("input", "output", "numbers", "work", "display")


def join_sizes(args: Iterable[str]) -> list[str]:
    """Join `--size 4 5` to `--size 4x5`, as Click has no option of one or two values.

    Only bare dimensions are joined, so a file of such a name is reached as `./4`. More dimensions, or signs between
    them, would be taken for inputs, and are a UsageError.
    """
    joined: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        joined.append(word)
        if word == "--":
            break
        if not re.fullmatch(rf"-s|--size|(--size=|-s){DIMENSION}", word):
            continue
        if word in ("-s", "--size") and rest:
            joined.append(rest.pop(0))
        size = re.sub(r"^(--size=|-s)", "", joined[-1])
        if rest and re.fullmatch(DIMENSION, size) and re.fullmatch(DIMENSION, rest[0]):
            joined[-1] += "x" + rest.pop(0)
        elif rest and rest[0] in ("x", "X", "×", "*", ","):
            raise click.UsageError(f"{size} {' '.join(rest[:2])} is no size; expected 4x5, 4,5 or 4 5")
        if rest and re.fullmatch(rf"{DIMENSION}([x,]{DIMENSION})?", rest[0]):
            raise click.UsageError(
                f"{rest[0]} follows the size {joined[-1]}; for several sizes repeat --size, "
                f"a file of that name is ./{rest[0]}"
            )
    return joined + rest


class Text(click.ParamType[Any]):
    """Text from the shell, which `Options` reads."""

    name = "text"
    #: In the environment a blank may stand within a value, so several need another separator.
    envvar_list_splitter = ";"


class GroupedOption(click.Option):
    """An option in a group of the help."""

    def __init__(self, *args: Any, group: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.group = group


def _option(*flags: str, group: str, name: str | None = None, **attributes: Any) -> GroupedOption:
    """An option of the command, which the environment may give, too."""
    variable = flags[-1].split("/")[0].strip("-").replace("-", "_").upper()
    declarations = [*flags, name or variable.lower()]
    return GroupedOption(declarations, group=group, envvar=f"{ENVIRONMENT}_{variable}", **attributes)


def _option_of(name: str, row: Option) -> GroupedOption:
    """An option of the work."""
    *others, flag = row.flags
    is_flag = isinstance(row.default, bool)
    default = flag.strip("-") if row.default is True else row.shown or row.default
    shown = f"  [default: {default}]" if isinstance(default, str) else ""
    return _option(
        *others,
        f"{flag}/--no-{flag.strip('-')}" if row.default is True else flag,
        group=row.group,
        name=name,
        default=row.default,
        is_flag=is_flag,
        type=None if is_flag else click.Choice(row.kind.choices) if row.kind.choices else Text(),
        multiple=row.kind.is_list,
        metavar=row.kind.metavar,
        help=row.help + " Repeatable." * row.kind.is_list + shown.replace("default: required", "required"),
        shell_complete=_complete if name in ("datasets", "compression") else None,
    )


def _own_option(flags: str, group: str, help_: str, metavar: str | None = None) -> GroupedOption:
    """An option that is the command's own: a path, a folder, a text, or without any of these a flag."""
    type_ = click.Path(file_okay=metavar == "PATH") if metavar in ("PATH", "DIR") else None
    name = "as_json" if flags == "--json" else None
    return _option(
        *flags.split(),
        group=group,
        name=name,
        help=help_,
        is_flag=metavar is None or None,
        type=type_,
        metavar=metavar,
    )


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from lucid_cli import completion

    names: list[str] = getattr(completion, str(parameter.name))(context, incomplete)
    return names


def _parse(**_: Any) -> Any:
    """The request that the words of the shell make."""
    from lucid_cli.request import request_of

    return request_of(click.get_current_context())


class Command(click.Command):
    """A command whose help lists options in groups, and shows examples."""

    examples: tuple[str, ...] = ()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        for group in GROUPS:
            options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
            members = [p for p in options if getattr(p, "group", "display") == group]
            records = [record for member in members if (record := member.get_help_record(ctx))]
            with formatter.section(f"{group.capitalize()} options"):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        del ctx
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


DESCRIPTION = """Pool the spatial axes of arrays in .npy, .npz, HDF5, Zarr and safetensors files to a fixed grid.

Each output cell is the mean of its window, as in adaptive average pooling:
lucid-pool features.h5 --size 4 4 writes features.pooled.h5.

An INPUT that is a folder stands for all files in it that can be read, at any depth. INPUT - is standard
input: .npy arrays one after another, or a file; without -o the means go to standard output as .npy, and so
they do for pipes, <(...).

A file named like a number is given as ./4. Every option but --version and --help also reads
LUCID_POOL_<NAME> from the environment, several values separated by a semicolon.
"""


command = Command(
    NAME,
    callback=_parse,
    help=DESCRIPTION,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        click.Argument(["inputs"], metavar="[INPUT]...", nargs=-1, type=click.Path()),
        _own_option(
            "-o --output",
            "output",
            "Output, or - for standard output; its suffix picks the format; {stem}, {parent} and {size} are filled in; "
            "DIR/ is --output-dir DIR.  [default: NAME.pooled.EXT]",
            "PATH",
        ),
        _own_option(
            "--output-dir",
            "output",
            "Folder for outputs with default names; it is made if it is not there, and inputs from a folder keep their "
            "place below it.",
            "DIR",
        ),
        _own_option(
            "--pack",
            "output",
            "One output for all inputs: .h5, .zarr, .npz or .safetensors. FOLDER/a/b.npy is a/b in it; where an input "
            "has several arrays, their names follow. It holds all inputs, or is not made.",
            "PATH",
        ),
        *(_option_of(name, row) for name, row in declared().items()),
        _own_option(
            "--merge",
            "work",
            "The inputs are all shards of one file; join them to what one run would have written.",
        ),
        _own_option(
            "--dask",
            "work",
            "Pool on a Dask cluster: a scheduler's address, or `local` for one process per CPU.",
            "ADDRESS",
        ),
        _own_option("--json", "display", "Report on standard output, one JSON object per input and line."),
        _own_option("--preview", "display", "Show channels of one sample before and after, as heat maps."),
        _own_option("-q --quiet", "display", "No summary and no progress; errors only."),
        _own_option("-v --verbose", "display", "The summary lists every file, and the plan."),
        _own_option("--no-progress", "display", "No progress bar."),
    ],
)
command.examples = (
    "lucid-pool features.h5 --size 4 4",
    "lucid-pool features/ --size 1 --size 2 --output-dir pooled",
    "cat features.npy | lucid-pool --size 1 --flatten > means.npy",
)
command = click.version_option(__version__, message=f"%(prog)s %(version)s ({kernel_name()} kernel)")(command)
