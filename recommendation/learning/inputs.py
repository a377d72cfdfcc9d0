"""What was learned from, as long as a late outcome may correct it."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelseek.recommendation.learning.impressions import HEADS
from reelseek.recommendation.learning.joining import Joined, JoinSettings
from reelseek.recommendation.learning.model import Scored

__all__ = ["LearnedInputs"]


@dataclass(frozen=True)
class _Input:
    """Of one example; the bytes are those of float32 and int64 arrays."""

    user: str
    time_seconds: float
    dense: bytes
    profile: bytes


class LearnedInputs:
    """Inputs of examples by the log position of their impressions, some 350 bytes each.

    They are kept as long as the joiner corrects them: for `correct_seconds`, of the last `max_open`
    examples.
    """

    def __init__(self, settings: JoinSettings) -> None:
        self._settings = settings
        # In the order in which they were learned; the first is found at once, unlike a dict's.
        self._inputs: OrderedDict[int, _Input] = OrderedDict()
        self._new: list[int] = []  # since `take_new`

    def __len__(self) -> int:
        return len(self._inputs)

    def __contains__(self, log_position: int) -> bool:
        return log_position in self._inputs

    def add(self, joined: Sequence[Joined], scored: Scored, *, now_seconds: float) -> None:
        """Keeps what a model is about to learn, or has just learned."""
        dense = scored.dense.astype(np.float32)
        for index, each in enumerate(joined):
            self._inputs[each.log_position] = _Input(
                each.user,
                each.time_seconds,
                dense[index].tobytes(),
                scored.profile[index].tobytes(),
            )
            self._new.append(each.log_position)
        self._prune(now_seconds)

    def find(self, joined: Sequence[Joined]) -> Scored:
        """Returns the inputs of examples that are kept; probabilities are not, and are NaN."""
        found = [self._inputs[each.log_position] for each in joined]
        return Scored(
            np.full((len(found), len(HEADS)), np.nan),
            np.array([np.frombuffer(each.dense, np.float32) for each in found], np.float64),
            np.array([np.frombuffer(each.profile, np.int64) for each in found], np.int64),
        )

    def unlearn(self, log_positions: Iterable[int]) -> None:
        """Drops the inputs of examples that the model has gone back behind."""
        for number in log_positions:
            self._inputs.pop(number, None)

    def positions(self) -> list[int]:
        """Returns whose inputs are kept."""
        return list(self._inputs)

    def positions_of(self, is_of: Callable[[str], bool]) -> list[int]:
        """Returns the log positions of the examples of users."""
        return [number for number, each in self._inputs.items() if is_of(each.user)]

    def forget(self, is_deleted: Callable[[str], bool]) -> None:
        """Drops the inputs of users."""
        kept = self._inputs.items()
        self._inputs = OrderedDict((n, each) for n, each in kept if not is_deleted(each.user))

    def take_new(self) -> list[Any]:
        """Returns what was added since the last call and is still kept, for `restore`."""
        new, self._new = self._new, []
        return [_row(number, self._inputs[number]) for number in new if number in self._inputs]

    def state(self) -> list[Any]:
        """Returns all that is kept, for `restore`."""
        return [_row(number, each) for number, each in self._inputs.items()]

    def restore(self, rows: Sequence[Any]) -> None:
        """Adds what `state` or `take_new` returned."""
        for number, user, time_seconds, dense, profile in rows:
            self._inputs[number] = _Input(user, time_seconds, dense, profile)
        if rows:
            self._prune(rows[-1][2])

    def _prune(self, now_seconds: float) -> None:
        oldest = now_seconds - self._settings.correct_seconds
        while self._inputs:
            number, each = next(iter(self._inputs.items()))
            if each.time_seconds > oldest and len(self._inputs) <= self._settings.max_open:
                break
            del self._inputs[number]


def _row(number: int, each: _Input) -> list[Any]:
    return [number, each.user, each.time_seconds, each.dense, each.profile]
