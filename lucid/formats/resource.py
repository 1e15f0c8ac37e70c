"""What is open and has to be closed: files, outputs, spools, stores."""

from abc import ABC, abstractmethod
from typing import Self


class Resource(ABC):
    """Something to be closed; a context manager."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
