"""What zarr, its codecs and fsspec raise, which is anything, as one line that names the array or the output."""

from collections.abc import Iterator
from contextlib import contextmanager

from lucid.errors import FileError, FormatError, LucidError, NotFoundError, about


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Say which array cannot be read, whatever is raised; one that is the store itself has no name."""
    with about(f"array {name}" if name else "array"), translate_all("cannot be read"):
        yield


@contextmanager
def translate_all(what: str) -> Iterator[None]:
    """Whatever is raised as an error of ours, in one line."""
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
        error_type = FileError if isinstance(error, OSError) and error.errno else FormatError
        raise error_type(f"{what}: {words}") from error
