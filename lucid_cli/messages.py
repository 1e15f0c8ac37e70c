"""Words to a person: one line each on standard error, safe for a terminal."""

import click

NAME = "lucid-pool"


def shown(text: object) -> str:
    """Text from a file or the shell, with what could command a terminal escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text)
    )


def complain(text: str, status: int) -> int:
    """Say what is wrong and return the exit status."""
    try:
        click.echo(f"{NAME}: {shown(text)}", err=True)
    except OSError:
        pass  # Nobody reads standard error; the status still tells.
    return status
