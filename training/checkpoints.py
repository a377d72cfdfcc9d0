"""The state of a run <-> files that are written atomically.

`last.pt` holds all that a run needs to continue inside an epoch, `best.pt` the weights that scored
best on the validation set. Both hold tensors and plain values only, and are read with
`weights_only=True`.
"""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from reelseek.indexing.store.atomic import publish_file

Made = TypeVar("Made")

_LAST, _BEST = "last.pt", "best.pt"


@dataclass
class RunState:
    """The state of a run after a step.

    Attributes:
        step: optimizer steps done.
        weights: the trained tensors, by name.
        optimizer: `state_dict()` of the optimizer.
        options: of the run; a run that continues it must have the same.
        best_score: of the validation so far; None before the first.
        history: records of losses and metrics, each with its step.
    """

    step: int = 0
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    best_score: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: made when first written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def can_continue(self) -> bool:
        """Whether there is a state to continue from."""
        return (self._folder / _LAST).is_file()

    def save_last(self, state: RunState) -> None:
        self._save(_LAST, vars(state))

    def save_best(self, weights: dict[str, torch.Tensor]) -> None:
        self._save(_BEST, weights)

    def read_last(self) -> RunState | None:
        """Returns the state to continue from; None without a checkpoint.

        Raises:
            ValueError: a damaged file.
        """
        return self._read(_LAST, lambda values: RunState(**values))

    def read_best(self) -> dict[str, torch.Tensor] | None:
        """Returns the best weights; None without a validation."""
        return self._read(_BEST, dict)

    def _save(self, name: str, values: dict[str, Any]) -> None:
        """Raises ValueError where the file cannot be written; the previous one is then kept."""

        def write(path: Path) -> None:
            torch.save(values, path)

        path = self._folder / name
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            publish_file(path, write)
        except (OSError, RuntimeError) as error:  # the second is PyTorch's, of a full disk
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise ValueError(
                f"{path} cannot be saved ({reason}); the previous checkpoint is kept, and the "
                "same command continues from it"
            ) from error

    def _read(self, name: str, make: Callable[[Any], Made]) -> Made | None:
        path = self._folder / name
        if not path.is_file():
            return None
        try:
            with zipfile.ZipFile(path) as archive:  # PyTorch does not compare its checksums
                damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"{damaged} has another checksum")
            return make(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # zip, pickle and torch each have their own
            raise ValueError(f"{path} is damaged: delete {self._folder} to begin anew") from error
