"""The first lines of the command, and of `python -m lucid_cli`: Ctrl-C while the rest loads is one line, too."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Load the command and run it."""
    try:
        from lucid_cli.main import main as command

        command()
    except KeyboardInterrupt:  # before the command handles signals
        print("lucid-pool: stopped by SIGINT", file=sys.stderr)  # noqa: T201
        sys.exit(130)


if __name__ == "__main__":
    main()
