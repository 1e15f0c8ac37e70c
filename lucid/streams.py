"""The way of a stream: its arrays pooled as they come, or from a spool where that cannot be."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lucid.errors import FormatError
from lucid.formats.registry import MAGIC_BYTES, NPY, Format, format_of_content, format_of_start
from lucid.formats.stream import STREAM, NpyStreamSource, Spool, Stream
from lucid.naming import Target
from lucid.streaming.plan import share_blocks
from lucid.work import Work


def pool_stream(work: Work, stream: Stream, output: Any) -> None:
    """Pool what a stream brings: a file that needs seeking, or `.npy` arrays to its end."""
    start = stream.peek(MAGIC_BYTES)
    if start and format_of_start(start) not in (NPY, None):
        _pool_spooled(work, lambda spool: stream.copy_to(spool.file, None), output)
        return
    if not start:
        raise FormatError("is empty; expected a .npy array or an HDF5 file")
    index = 0
    while stream.peek(1):
        source = NpyStreamSource(stream, index, work.reading)
        _pool_array(work, stream, source, output)
        if work.dry_run:
            return
        index += 1


def _pool_array(work: Work, stream: Stream, source: NpyStreamSource, output: Any) -> None:
    """Pool one array of a stream as it comes, or from a spool if that cannot be."""

    def check_end() -> None:
        if not hasattr(output, "write") and stream.peek(1):
            raise FormatError("holds several arrays; write them to standard output, -o -")

    targets = _targets(work, NPY, output)
    (spec,) = source.arrays(len(work.layout))
    plans = [mean.plan for mean in work.means(spec, targets, in_sequence=True)]
    streams = share_blocks(plans) and all(plan.is_sequential for plan in plans) and plans[0].workers > 1
    if streams or work.dry_run:
        work.pool(source, targets, output, check_end)
    else:
        _pool_spooled(work, source.spool, output, check_end, name=source.name)


def _pool_spooled(
    work: Work,
    fill: Callable[[Spool], None],
    output: Any,
    before_commit: Callable[[], None] | None = None,
    *,
    name: str = "",
) -> None:
    """Pool from a temporary file; `name` tells an array of a stream from the others."""
    spool = Spool()
    try:
        fill(spool)
        spool.file.flush()
        format_ = format_of_content(spool.path)
        targets = _targets(work, format_, output)
        with format_.open(spool.path, work.reading) as source:
            spool.forget()
            work.pool(source, targets, output, before_commit)
        if name:
            last = slice(-len(work.sizes), None)
            work.done[last] = [replace(done, name=name) for done in work.done[last]]
    finally:
        spool.close()


def _targets(work: Work, format_: Format, output: Any) -> tuple[Target, ...]:
    """Where each size goes, each of them free to be written."""
    targets = work.targets(STREAM, format_, output)
    for target in targets:
        target.format.refuse_existing(target.path, overwrite=work.making.overwrite)
    return targets
