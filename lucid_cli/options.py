"""What the shell gives, as values: sizes and numbers of bytes."""

import re
from collections.abc import Iterable
from pathlib import Path

import click

Size = tuple[int | None, int | None]

_DIMENSION = re.compile(r"\d+|keep")
_SIZE_OPTION = re.compile(r"-s|--size|(--size=|-s)(\d+|keep)")
_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_BINARY_UNITS = {f"{unit}i": 1024**n for n, unit in enumerate("KMGT", 1)}


def join_sizes(args: Iterable[str]) -> list[str]:
    """Join `--size 4 5` to `--size 4x5`, as Click has no option of one or two values.

    Only bare numbers and `keep` are joined, so a file of that name is reached as `./4`.
    """
    joined: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        joined.append(word)
        if word == "--":
            break
        if not _SIZE_OPTION.fullmatch(word):
            continue
        if word in ("-s", "--size") and rest:
            joined.append(rest.pop(0))
        if (
            _DIMENSION.fullmatch(re.sub(r"^(--size=|-s)", "", joined[-1]))
            and rest
            and _DIMENSION.fullmatch(rest[0])
        ):
            joined[-1] += "x" + rest.pop(0)
    return joined + rest


class SizeType(click.ParamType[Size]):
    """`4`, `4x5`, `4,5` or `4 5`; `keep` for a dimension keeps its length."""

    name = "size"
    #: In the environment a blank may stand within a size, so several sizes need another separator.
    envvar_list_splitter = ";"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Size:
        """(H_out, W_out), None where a dimension is kept."""
        if not isinstance(value, str):
            return value  # type: ignore[return-value]  # Click converts what it converted again
        parts = re.split(r"[x,\s]", value.strip().lower())
        if len(parts) > 2 or not all(map(_DIMENSION.fullmatch, parts)):
            self.fail(f"{value!r} is no size; expected one such as 4, 4x5 or keepx1", param, ctx)
        if any(part.isdigit() and int(part) < 1 for part in parts):
            self.fail(f"{value!r} holds a dimension below 1", param, ctx)
        rows, cols = (None if part == "keep" else int(part) for part in (parts * 2)[:2])
        return (rows, cols) if len(parts) == 2 else (rows, rows)


class SliceType(click.ParamType[slice]):
    """`0:1000`, `5000:`, `:1000`: samples from the first number to before the second."""

    name = "slice"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> slice:
        """The samples, as Python takes them."""
        if isinstance(value, slice):
            return value
        match = re.fullmatch(r"(\d*):(\d*)", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no slice; expected one such as 0:1000 or 5000:", param, ctx)
        start, stop = (int(number) if number else None for number in match.groups())
        if stop is not None and stop <= (start or 0):
            self.fail(f"{value!r} holds no sample", param, ctx)
        return slice(start, stop)


class BytesType(click.ParamType[int]):
    """A number of bytes: `1048576`, `256MiB`, `1.5GB`, `64M` (binary, as shells have it)."""

    name = "bytes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)(B?)", str(value).strip(), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is no number of bytes; expected one such as 256MiB or 1G", param, ctx)
        number, unit, binary, byte = match.groups()
        decimal = byte and not binary
        unit = unit.upper()
        factor = _UNITS[unit] if decimal or not unit else _BINARY_UNITS[f"{unit}i"]
        total = int(float(number) * factor)
        if total < 1:
            self.fail(f"{value!r} is below one byte", param, ctx)
        return total


def complete_datasets(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of the datasets in the files that were already typed."""
    from lucid.errors import LucidError
    from lucid.formats.contract import Reading
    from lucid.formats.registry import format_of_content

    layout = ctx.params.get("layout") or "NCHW"
    names: list[str] = []
    # With the option's own value missing, Click leaves the arguments unparsed.
    for path in (*(ctx.params.get("inputs") or ()), *ctx.args):
        try:
            with format_of_content(Path(path)).open(Path(path), Reading()) as source:
                names += [spec.name for spec in source.arrays(len(layout)) if spec.name]
        except LucidError:
            continue
    slash = "" if incomplete.startswith("/") else "/"
    return [name[len(slash) :] for name in dict.fromkeys(names) if name.startswith(slash + incomplete)]


def complete_compressions(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """What `--compression` takes."""
    from lucid.compression import CODECS, LEVELS

    blosc = [f"{name}-{codec}" for name in ("blosc", "blosc2") for codec in CODECS]
    return [name for name in ("keep", "none", *LEVELS, *blosc) if name.startswith(incomplete)]
