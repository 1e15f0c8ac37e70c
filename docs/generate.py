"""Write the pages that are made from the code: `python docs/generate.py`, or `--check` them."""

import sys
from pathlib import Path

import click

from lucid_cli.main import NAME, command

HERE = Path(__file__).parent


def command_page() -> str:
    """`docs/command.md`: the help of the command and what it leaves out."""
    context = click.Context(command, info_name=NAME, terminal_width=100, max_content_width=100)
    with context:
        text = command.get_help(context)
    return (HERE / "command.md.in").read_text().replace("@HELP@", text)


def main() -> int:
    """Write, or with `--check` compare, every page."""
    stale = 0
    for path, text in [(HERE / "command.md", command_page())]:
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path} is not what docs/generate.py writes")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
