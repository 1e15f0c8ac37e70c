"""What the shell completes: names of datasets, read in a process where they can do no harm, and of compressions."""

import os
from glob import glob
from itertools import chain
from pathlib import Path

import click
from click import shell_completion
from click.shell_completion import shell_complete as shell_complete

from lucid.compression import CODECS, LEVELS
from lucid.errors import LucidError
from lucid.formats.registry import format_of_content
from lucid.options import Options
from lucid.run.process import Process

#: Files that are looked into for each word that stands for several.
MOST_FILES = 10


def datasets(context: click.Context, incomplete: str) -> list[str]:
    """Names of the datasets in the files that were already typed."""
    values = {name: context.params[name] for name in ("layout", "dims") if context.params.get(name)}
    names: list[str] = []
    with Process() as process:
        # With the option's own value missing, Click leaves the arguments unparsed.
        words = (*(context.params.get("inputs") or ()), *context.args)
        for path in chain.from_iterable(map(_files, words)):
            try:
                options = Options(**values)
                names += process.call(names_in, Path(path), options, options=options)
            except LucidError:
                continue
    slash = "" if incomplete.startswith("/") else "/"
    return [name[len(slash) :] for name in dict.fromkeys(names) if name.startswith(slash + incomplete)]


#: What `--drop` takes.
drop = datasets


def _files(word: str) -> list[str]:
    """The files that a word stands for, since shells complete before they expand it; of many the first."""
    path = os.path.expandvars(os.path.expanduser(word))
    return sorted(glob(path))[:MOST_FILES] or [path]


class WholeWords(shell_completion.ShellComplete):
    """Completions of `--dataset=NAME`, for which Click gives the NAME alone.

    Zsh and fish put a completion in the place of the whole word. Bash makes three words of this one, and Click would
    take the sign between them for the value.
    """

    def get_completions(self, args: list[str], incomplete: str) -> list[shell_completion.CompletionItem[str]]:
        """The completions of a word, each as long as the word is in that shell."""
        option = incomplete[: incomplete.find("=") + 1] if incomplete.startswith("--") else ""
        items = super().get_completions([word for word in args if word != "="], incomplete)
        for item in items:
            item.value = option + item.value
        return items


def names_in(path: Path, options: Options) -> list[str]:
    """Names of the datasets of a file that can be pooled."""
    with format_of_content(path).open(path, options) as source:
        specs = source.choose(())
        # What a shell would take for several names, or a terminal for a command, nobody completes.
        return [spec.name for spec in specs if spec.name and spec.name.isprintable()]


def compression(_: click.Context, incomplete: str) -> list[str]:
    """What `--compression` takes."""
    blosc = [f"{name}-{codec}" for name in ("blosc", "blosc2") for codec in CODECS]
    return [name for name in ("keep", "none", *LEVELS, *blosc) if name.startswith(incomplete)]


for shell in (shell_completion.BashComplete, shell_completion.FishComplete, shell_completion.ZshComplete):
    shell_completion.add_completion_class(type(shell.__name__, (WholeWords, shell), {}))
