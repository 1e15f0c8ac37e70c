"""The command's options: those of `lucid.options`, and those that say how it behaves as a command."""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from lucid.errors import LucidError
from lucid.options import Option, Options, declared
from lucid.sizes import DIMENSION

if TYPE_CHECKING:
    from pathlib import Path

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


def work_options() -> list[GroupedOption]:
    """Those of `lucid.options`."""
    return [_option_of(name, row) for name, row in declared().items()]


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
        shell_complete=_COMPLETIONS.get(name),
    )


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


def complete_datasets(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of the datasets in the files that were already typed, read where they can do no harm."""
    from pathlib import Path

    from lucid.run.process import Process

    given = {name: ctx.params[name] for name in ("layout", "dims") if ctx.params.get(name)}
    names: list[str] = []
    with Process() as process:
        # With the option's own value missing, Click leaves the arguments unparsed.
        for path in (*(ctx.params.get("inputs") or ()), *ctx.args):
            try:
                options = Options(**given)
                names += process.call(dataset_names, Path(path), options, options=options)
            except LucidError:
                continue
    slash = "" if incomplete.startswith("/") else "/"
    return [name[len(slash) :] for name in dict.fromkeys(names) if name.startswith(slash + incomplete)]


def dataset_names(path: "Path", options: Options) -> list[str]:
    """Names of the datasets of a file that can be pooled."""
    from lucid.formats.registry import format_of_content

    with format_of_content(path).open(path, options) as source:
        specs = source.choose(())
        return [spec.name for spec in specs if spec.name]


def complete_compressions(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """What `--compression` takes."""
    from lucid.compression import CODECS, LEVELS

    blosc = [f"{name}-{codec}" for name in ("blosc", "blosc2") for codec in CODECS]
    return [name for name in ("keep", "none", *LEVELS, *blosc) if name.startswith(incomplete)]


_COMPLETIONS: dict[str, Callable[[click.Context, click.Parameter, str], list[str]]] = {
    "datasets": complete_datasets,
    "compression": complete_compressions,
}
