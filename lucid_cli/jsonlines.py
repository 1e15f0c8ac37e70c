"""Reports as JSON, one object a line; `docs/command.md` describes the keys."""

import json
from dataclasses import asdict
from pathlib import Path

from lucid.job import Report

#: A key is never removed or changed without a new number.
SCHEMA = 1


def report(done: Report) -> str:
    """The line for an input that was pooled."""
    return json.dumps({"schema": SCHEMA, **asdict(done)}, default=str)


def error(source: Path, reason: Exception) -> str:
    """The line for an input that failed."""
    return json.dumps({"schema": SCHEMA, "source": str(source), "error": str(reason)})
