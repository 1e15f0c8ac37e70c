"""What others raise becomes an error of ours, once."""

import errno
import inspect

import pytest

from lucid import errors
from lucid.errors import ArgumentError, FileError, LucidError, translate_errors


def translated(error, *rules):
    with pytest.raises((type(error), LucidError)) as raised, translate_errors("x cannot be read", *rules):
        raise error
    return raised.value


def test_what_the_system_refuses_says_what_and_why():
    error = translated(OSError(errno.EACCES, "Permission denied", "/secret"))
    assert (type(error), str(error)) == (FileError, "x cannot be read: Permission denied")
    assert str(translated(OSError("no number"))) == "x cannot be read: no number"


def test_a_library_has_its_own_kinds_and_words():
    error = translated(KeyError("k"), (KeyError, TypeError), ArgumentError, lambda error: "words")
    assert (type(error), str(error)) == (ArgumentError, "x cannot be read: words")


@pytest.mark.parametrize(
    "error", [FileError("y: is damaged"), BrokenPipeError(errno.EPIPE, "Broken pipe"), ValueError("z")]
)
def test_all_else_stays_what_it_is(error):
    assert translated(error) is error


@pytest.mark.parametrize(
    "kind", [k for _, k in inspect.getmembers(errors, inspect.isclass) if issubclass(k, LucidError)]
)
def test_errors_can_be_made_anew_as_a_cluster_does(kind):
    assert str(kind.__new__(kind, "x")) == "x"
