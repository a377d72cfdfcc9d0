"""The files of a model, by name, wherever they are."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from reelseek.indexing.store.atomic import write_atomically

__all__ = ["EPOCH", "EpochEnded", "FolderFiles", "PublishedFiles", "StateFiles"]

EPOCH = "epoch"  # the file that holds the last lease


class EpochEnded(RuntimeError):
    """A later epoch has begun: another learner has taken over."""


class StateFiles(Protocol):
    """What a reader needs. A file appears whole or not at all, and its content never changes."""

    def names(self) -> list[str]: ...

    def read(self, name: str) -> bytes:
        """Raises a FileNotFoundError where there is none."""
        ...

    def shown(self, name: str) -> str:
        """Returns how messages name a file."""
        ...


class PublishedFiles(StateFiles, Protocol):
    """A copy of the files of a learner, which servers on other machines read.

    All methods raise a ConnectionError where the copy cannot be reached; those that write, an
    EpochEnded where a later epoch has begun.
    """

    def begin(self, epoch: int) -> None:
        """Refuses from now on what earlier epochs write."""
        ...

    def write(self, name: str, content: bytes, *, epoch: int) -> None: ...

    def delete(self, names: Iterable[str], *, epoch: int) -> None: ...

    def write_status(self, content: bytes, *, epoch: int, kept_seconds: float) -> None:
        """Replaces what the learner says of itself, which is gone after some seconds."""
        ...


class FolderFiles:
    """The files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        return [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        write_atomically(self._folder / name, content)

    def delete(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def shown(self, name: str) -> str:
        return str(self._folder / name)
