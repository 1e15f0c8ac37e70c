"""What zarr, its codecs and fsspec raise, as errors of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from lucid.errors import FileError, FormatError, LucidError, NotFoundError


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Whatever zarr, its codecs or fsspec raise, as an error of ours in one line: they raise anything."""
    try:
        yield
    except LucidError:
        raise
    except MemoryError as error:
        raise FormatError(f"{what}: a chunk grows beyond all memory when it is decoded") from error
    except FileNotFoundError as error:
        raise NotFoundError(f"{what}: no such file {error.filename or ''}".rstrip()) from error
    except Exception as error:
        words = getattr(error, "strerror", None) or " ".join(str(error).split())[:300] or type(error).__name__
        if isinstance(error, ImportError):
            raise FileError(f"{what}: needs a package that is not installed: {words}") from error
        kind = FileError if isinstance(error, OSError) and error.errno else FormatError
        raise kind(f"{what}: {words}") from error


def called(name: str) -> str:
    """An array as errors speak of it; one that is the store itself has no name."""
    return f"array {name}" if name else "array"
