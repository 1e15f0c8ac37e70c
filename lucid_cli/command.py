"""The command as Click knows it: its options, those of `lucid.options` among them, its help, its completion."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import click

from lucid import __version__
from lucid.options import Option, declared
from lucid.pooling import kernel_name
from lucid.sizes import DIMENSION
from lucid_cli.messages import NAME

ENVIRONMENT = "LUCID_POOL"
#: The groups of the help, in order.
GROUPS = ("input", "output", "numbers", "work", "display")


def join_sizes(args: Iterable[str]) -> list[str]:
    """Join `--size 4 5` to `--size 4x5`, as Click has no option of one or two values.

    Only bare dimensions are joined, so a file of such a name is reached as `./4`.

    Raises
    ------
    click.UsageError
        More dimensions follow, or signs between them, which would be taken for inputs.

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


def option(*flags: str, group: str, name: str | None = None, **attributes: Any) -> GroupedOption:
    """An option of the command, which the environment may give, too."""
    variable = flags[-1].split("/")[0].strip("-").replace("-", "_").upper()
    declarations = [*flags, name or variable.lower()]
    return GroupedOption(declarations, group=group, envvar=f"{ENVIRONMENT}_{variable}", **attributes)


def _option_of(name: str, row: Option) -> GroupedOption:
    *others, flag = row.flags
    is_flag = isinstance(row.default, bool)
    default = flag.strip("-") if row.default is True else row.shown or row.default
    shown = f"  [default: {default}]" if isinstance(default, str) else ""
    return option(
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
        shell_complete=_completion(name) if name in ("datasets", "compression") else None,
    )


def _completion(name: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What completes the values of an option; it is loaded when it is asked."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        from lucid_cli import completion

        function: Callable[[click.Context, str], list[str]] = getattr(completion, name)
        return function(context, incomplete)

    return complete


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
        option(
            "-o",
            "--output",
            group="output",
            type=click.Path(),
            metavar="PATH",
            help="Output, or - for standard output; its suffix picks the format; {stem}, {parent} and {size}"
            " are filled in; DIR/ is --output-dir DIR.  [default: NAME.pooled.EXT]",
        ),
        option(
            "--output-dir",
            group="output",
            type=click.Path(file_okay=False),
            metavar="DIR",
            help="Folder for outputs with default names; it is made if it is not there, and inputs from a folder"
            " keep their place below it.",
        ),
        option(
            "--pack",
            group="output",
            type=click.Path(),
            metavar="PATH",
            help="One output for all inputs: .h5, .zarr, .npz or .safetensors. FOLDER/a/b.npy is a/b in it; where an"
            " input has several arrays, their names follow. It holds all inputs, or is not made.",
        ),
        *(_option_of(name, row) for name, row in declared().items()),
        option(
            "--merge",
            group="work",
            is_flag=True,
            help="The inputs are all shards of one file; join them to what one run would have written.",
        ),
        option(
            "--dask",
            group="work",
            metavar="ADDRESS",
            help="Pool on a Dask cluster: a scheduler's address, or `local` for one process per CPU.",
        ),
        option(
            "--json",
            group="display",
            name="as_json",
            is_flag=True,
            help="Report on standard output, one JSON object per input and line.",
        ),
        option(
            "--preview",
            group="display",
            is_flag=True,
            help="Show channels of one sample before and after, as heat maps.",
        ),
        option(
            "-q", "--quiet", group="display", is_flag=True, help="No summary and no progress; errors only."
        ),
        option(
            "-v",
            "--verbose",
            group="display",
            is_flag=True,
            help="The summary lists every file, and the plan.",
        ),
        option("--no-progress", group="display", is_flag=True, help="No progress bar."),
    ],
)
command.examples = (
    "lucid-pool features.h5 --size 4 4",
    "lucid-pool features/ --size 1 --size 2 --output-dir pooled",
    "cat features.npy | lucid-pool --size 1 --flatten > means.npy",
)
command = click.version_option(__version__, message=f"%(prog)s %(version)s ({kernel_name()} kernel)")(command)
