"""Examples in the documentation and in docstrings are run as tests."""

import gc
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.evaluators.doctest import NUMBER
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

ROOT = Path(__file__).parent
PASSED = "lucid/passed"

# Commands that tests run load modules that one of them has compiled: compiling is half of what a short run takes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


class ShellParser(CodeBlockParser):
    """Fenced `console` blocks: each `$ command` must succeed and print what follows it, if anything does."""

    language = "console"

    def evaluate(self, example):
        import subprocess
        import sys

        folder = Path(example.namespace["folder"])
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        for block in example.parsed.split("$ ")[1:]:
            line, _, expected = block.partition("\n")
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", line],
                cwd=folder,
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            seen = done.stdout + done.stderr
            for shown in filter(None, map(str.strip, expected.splitlines())):
                assert shown in seen, f"{line}\n{seen}"
        return ""


def setup(namespace):
    """Give every document an empty folder with the sample data in it."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp())
    ignored = shutil.ignore_patterns("*.pooled.*")
    shutil.copytree(ROOT / "sample_data", folder / "sample_data", ignore=ignored)
    namespace["folder"] = folder
    namespace["lacks"] = lambda package: find_spec(package) is None
    # Under a name that no example takes for its own: `teardown` removes what it says.
    namespace["__folder_of_examples__"] = folder
    namespace["before"] = Path.cwd()
    os.chdir(folder)


def teardown(namespace):
    """Remove it again."""
    import shutil

    os.chdir(namespace["before"])
    shutil.rmtree(namespace["__folder_of_examples__"])


def pytest_addoption(parser):
    """What was skipped where a package was missing is run once it is there, and nothing else again."""
    parser.addoption(
        "--unpassed",
        action="store_true",
        help="only tests that no run in this folder has passed, whatever has changed since",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """The recipes are run where campaigns are: some begin a cluster, or load what takes long to load."""
    lacks_dask = find_spec("dask") is None
    for item in items:
        if item.path == ROOT / "docs/recipes.md":
            item.add_marker(pytest.mark.slow)
        if item.path == ROOT / "lucid/dask.py":
            item.add_marker(pytest.mark.skipif(lacks_dask, reason="dask is not installed (extra dask)"))
    if config.getoption("unpassed"):
        passed = {*config.cache.get(PASSED, [])}
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in passed])
        items[:] = [item for item in items if item.nodeid not in passed]


passed_now, failed_now = set(), set()


def pytest_runtest_logreport(report):
    """A test has passed when it was called, and nothing of it failed."""
    if report.when == "call" and report.passed:
        passed_now.add(report.nodeid)
    if report.failed:
        failed_now.add(report.nodeid)


def pytest_sessionfinish(session):
    """The workers' reports come to the process that began them."""
    cache = getattr(session.config, "cache", None)
    if cache and not hasattr(session.config, "workerinput"):
        cache.set(PASSED, sorted({*cache.get(PASSED, []), *passed_now} - failed_now))


def pytest_collection_finish():
    """Thousands of tests are no garbage, however often Python looks."""
    gc.freeze()


pytest_collect_file = (
    Sybil(
        parsers=[PythonCodeBlockParser(doctest_optionflags=NUMBER), ShellParser(), SkipParser()],
        patterns=["README.md", "docs/*.md"],
        setup=setup,
        teardown=teardown,
    )
    + Sybil(parsers=[DocTestParser(optionflags=NUMBER)], patterns=["lucid/**/*.py", "lucid/*.py"])
).pytest()
