"""What zarr, its codecs and fsspec raise, as errors of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from warnings import catch_warnings, simplefilter

from lucid.errors import FileError, FormatError, LucidError, NotFoundError


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Whatever zarr, its codecs or fsspec raise, as an error of ours: they raise anything."""
    try:
        yield
    except LucidError:
        raise
    except MemoryError as error:
        raise FormatError(f"{what}: a chunk grows beyond all memory when it is decoded") from error
    except FileNotFoundError as error:
        raise NotFoundError(f"{what}: no such file {error.filename or ''}".rstrip()) from error
    except ImportError as error:
        raise FileError(f"{what}: needs a package that is not installed: {one_line(error)}") from error
    except Exception as error:
        kind = FileError if isinstance(error, OSError) and error.errno else FormatError
        raise kind(f"{what}: {one_line(error)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, as of types and codecs that the specification has not yet; not for workers' threads."""
    with catch_warnings():
        simplefilter("ignore")
        yield


def one_line(error: Exception) -> str:
    """An exception's words in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:300] or type(error).__name__


def called(name: str) -> str:
    """An array as errors speak of it; one that is the store itself has no name."""
    return f"array {name}" if name else "array"
