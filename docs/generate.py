"""Write the pages that are made from the code: `python docs/generate.py`, or `--check` them."""

import sys
from pathlib import Path
from typing import Any

import click

import lucid
from lucid_cli.command import NAME, command

HERE = Path(__file__).parent

EXIT_STATUS = (
    ("0", "every input was pooled"),
    ("1", "at least one was not; one line on standard error says why, the others were"),
    ("2", "the command line has a mistake; nothing was begun"),
    ("130, 143, 129", "interrupted, terminated, hung up: no output of an unfinished input is left"),
    ("141", "the reader of standard output went away"),
)


def context() -> click.Context:
    """As the command would be called, at a fixed width."""
    settings: dict[str, Any] = command.context_settings
    return click.Context(command, info_name=NAME, terminal_width=100, **settings)


def command_page() -> str:
    """`docs/command.md`: the help of the command and what it leaves out."""
    with context() as made:
        text = command.get_help(made)
    rows = "\n".join(f"| {status} | {meaning} |" for status, meaning in EXIT_STATUS)
    return (HERE / "command.md.in").read_text().replace("@HELP@", text).replace("@STATUS@", rows)


def man_page() -> str:
    """`docs/lucid-pool.1`: the same for `man`."""
    with context() as made:
        options = [p.get_help_record(made) for p in command.get_params(made) if isinstance(p, click.Option)]
    summary = str(command.help).split("\n")[0]
    lines = [
        f'.TH LUCID-POOL 1 "" "{NAME} {lucid.__version__}" "User Commands"',
        ".SH NAME",
        f"{NAME} \\- {_roff(summary[0].lower() + summary[1:].rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {NAME}",
        "[\\fIOPTIONS\\fR] [\\fIINPUT\\fR]...",
        ".SH DESCRIPTION",
    ]
    for paragraph in str(command.help).split("\n\n"):
        lines += [".PP", _roff(" ".join(paragraph.split()))]
    lines.append(".SH OPTIONS")
    for record in filter(None, options):
        lines += [".TP", f"\\fB{_roff(record[0])}\\fR", _roff(record[1])]
    lines.append(".SH FORMATS")
    for name, suffixes in command.formats():
        lines += [".TP", _roff(name), _roff(suffixes)]
    lines.append(".SH EXAMPLES")
    for example in command.examples:
        lines += [".PP", _roff(example)]
    lines.append(".SH EXIT STATUS")
    for status, meaning in EXIT_STATUS:
        lines += [".TP", status, _roff(meaning)]
    return "\n".join(lines) + "\n"


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main() -> int:
    """Write, or with `--check` compare, every page."""
    stale = 0
    for path, text in [(HERE / "command.md", command_page()), (HERE / "lucid-pool.1", man_page())]:
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path} is not what docs/generate.py writes")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
