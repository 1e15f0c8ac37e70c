"""The bars of docs/benchmarks.md: what a figure is wanted to reach, and whether it does."""


def at_least(figure: float, bar: float | None) -> str:
    """A cell of a table; without a bar an empty one."""
    return "" if bar is None else f"≥ {bar:g}, {_verdict(figure >= bar)}"


def at_most(figure: float, bar: float, unit: str = "") -> str:
    """A cell of a table."""
    return f"≤ {bar:g}{unit}, {_verdict(figure <= bar)}"


def _verdict(reached: bool) -> str:
    return "met" if reached else "**missed**"
