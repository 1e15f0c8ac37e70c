"""Reports as JSON, one object a line; `docs/command.md` describes the keys."""

import json
from dataclasses import asdict

from lucid.report import Report

#: A key is never removed or changed without a new number.
SCHEMA = 1


def report(one: Report) -> str:
    """The line for an input that was pooled."""
    return json.dumps({"schema": SCHEMA, **asdict(one)}, default=str)


def error(source: str, reason: str) -> str:
    """The line for an input that failed."""
    return json.dumps({"schema": SCHEMA, "source": source, "error": reason})


def left_out(source: str, reason: str) -> str:
    """The line for a file of a folder that is not pooled."""
    return json.dumps({"schema": SCHEMA, "source": source, "skipped": True, "notes": [reason]})
