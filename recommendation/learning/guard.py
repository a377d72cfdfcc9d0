"""Stops a model that goes wrong, and lets it go on once the stream is sound again.

What an example was predicted to be, before it was learned, is compared with its labels once they
are known, `mature_seconds` after its impression. The last 200 examples, and the last 2,000, are
held against those before: log loss, the share of positives, predicted by observed positives.
All is by the clock and the order of the log, and is part of the state.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelseek.recommendation.learning.impressions import HEADS

__all__ = ["Freeze", "Guard", "GuardSettings"]

_HEADS = len(HEADS)
_COLUMNS = 2 + 2 * _HEADS  # log position, time, probabilities, labels
_PREDICTED, _LABELS = slice(2, 2 + _HEADS), slice(2 + _HEADS, _COLUMNS)
_LOWEST = 1e-7  # of a probability, so that no loss is infinite
_LEAST_SHARE = 1e-4  # of positives, as a head that has none yet may get some by chance
_LEAST_VARIANCE = _LEAST_SHARE * math.log(_LEAST_SHARE) ** 2  # of its log loss


@dataclass(frozen=True)
class GuardSettings:
    """Bounds. Each must be left by so much, and by `deviations` standard deviations.

    Attributes:
        windows: examples that are judged together.
        warm_examples: before those, from which on there is something to hold them against.
        horizon_examples: after which those before count for 1/e.
        mature_seconds: after an impression, when its labels are compared.
        deviations: by which chance is ruled out.
        max_loss_growth: of the log loss, as a share of what it was.
        max_odds_ratio: of the share of positives to what it was, either way.
        max_miscalibration: of predicted by observed positives to what it was, either way.
        sound_seconds: of an unbroken sound window, after which a frozen model goes on; bounds are
            half as wide then.
        max_frozen_seconds: after which what the stream has become is taken for sound.
        max_per_second: examples that are judged; with more, the first of each second.
    """

    windows: tuple[int, int] = (200, 2000)
    warm_examples: int = 2000
    horizon_examples: int = 20_000
    mature_seconds: float = 120.0
    deviations: float = 6.0
    max_loss_growth: float = 0.25
    max_odds_ratio: float = 3.0
    max_miscalibration: float = 2.0
    sound_seconds: float = 60.0
    max_frozen_seconds: float = 86_400.0
    max_per_second: int = 50


@dataclass(frozen=True)
class Freeze:
    """Why a model is frozen.

    Attributes:
        since_seconds: Unix time by the clock of the log.
        good_position: of the log, whose state is the last good one.
    """

    since_seconds: float
    reason: str
    good_position: int

    def as_dict(self) -> dict[str, Any]:
        """Returns what readers of the model are told."""
        return {"since_seconds": self.since_seconds, "reason": self.reason}


@dataclass
class _Reference:
    """Sums over sound examples that are older than the windows, which fade."""

    sums: np.ndarray  # (5, heads): examples, losses, their squares, probabilities, labels

    def add(self, rows: np.ndarray, horizon: int) -> None:
        if len(rows):
            losses, predicted, labels = _losses(rows), rows[:, _PREDICTED], rows[:, _LABELS]
            added = [np.ones_like(losses), losses, losses**2, predicted, labels]
            fading = math.exp(-len(rows) / horizon)
            self.sums = self.sums * fading + np.array([each.sum(axis=0) for each in added])

    @property
    def num(self) -> float:
        return float(self.sums[0, 0])


class Guard:
    """Judges a stream of examples.

    Attributes:
        frozen: why the model is frozen; None while it learns.
        num_freezes: so far.
    """

    def __init__(self, settings: GuardSettings | None = None, *, wait_seconds: float = 0.0) -> None:
        self.settings = settings or GuardSettings()
        self._mature_seconds = max(self.settings.mature_seconds, wait_seconds)
        self.frozen: Freeze | None = None
        self.num_freezes = 0
        self._begin()
        self._good_from = 0  # position before which no state is gone back to
        self._second = (-math.inf, 0)

    def _begin(self) -> None:
        self._reference = _Reference(np.zeros((5, _HEADS)))
        self._window: np.ndarray = np.zeros((0, _COLUMNS))
        self._waiting: OrderedDict[int, list[float]] = OrderedDict()  # in order of time

    @property
    def keep_from(self) -> int:
        """Position from which states must be kept, as they may be gone back to."""
        if len(self._window):
            oldest = int(self._window[0, 0]) - 1
        else:
            oldest = next(iter(self._waiting), self._good_from + 1) - 1
        return max(oldest, self._good_from)

    def add(
        self,
        log_positions: Sequence[int],
        time_seconds: Sequence[float],
        *,
        predicted: np.ndarray,
        labels: np.ndarray,
    ) -> None:
        """Takes examples with what was predicted of them; labels may be provisional."""
        rows = zip(log_positions, time_seconds, predicted.tolist(), labels.tolist(), strict=True)
        for position, when, probabilities, known in rows:
            second, num = self._second
            num = num + 1 if math.floor(when) == second else 1
            self._second = math.floor(when), num
            if num <= self.settings.max_per_second:
                self._waiting[position] = [position, when, *probabilities, *known]

    def relabel(self, log_positions: Sequence[int], labels: np.ndarray) -> None:
        """Corrects the labels of examples that are not judged yet."""
        for position, known in zip(log_positions, labels.tolist(), strict=True):
            if position in self._waiting:
                self._waiting[position][_LABELS] = known

    def forget(self, log_positions: Sequence[int]) -> None:
        """Drops examples of deleted users that are not judged yet."""
        for position in log_positions:
            self._waiting.pop(position, None)

    def judge(self, now_seconds: float, now_position: int) -> np.ndarray:
        """Judges the examples whose labels are known by now; sets `frozen`.

        Returns:
            `(k, 8)`: their log positions, times, probabilities and labels.
        """
        mature = []
        while self._waiting:
            position, row = next(iter(self._waiting.items()))
            if row[1] > now_seconds - self._mature_seconds:
                break
            mature.append(row)
            del self._waiting[position]
        rows = np.array(mature, np.float64).reshape(-1, _COLUMNS)
        if len(rows):
            # In parts, so that a pause of the log does not make one large step of many.
            for begin in range(0, len(rows), self.settings.windows[0] // 2):
                part = rows[begin : begin + self.settings.windows[0] // 2]
                if self.frozen is None:
                    self._judge_learning(part, now_seconds)
                else:
                    self._judge_frozen(part, now_seconds, now_position=now_position)
        return rows

    def freeze(self, reason: str, now_seconds: float, *, good_position: int | None = None) -> None:
        """Freezes the model, as of the state before the oldest example under judgement."""
        good = self.keep_from if good_position is None else good_position
        self.frozen = Freeze(now_seconds, reason, max(good, self._good_from))
        self.num_freezes += 1
        self._window = self._window[:0]
        self._waiting.clear()

    def _judge_learning(self, rows: np.ndarray, now_seconds: float) -> None:
        self._window = np.concatenate([self._window, rows])
        for size in self.settings.windows:
            window = self._window[-size:]
            if len(window) == size and (reason := self._fault_of(window, strictness=1.0)):
                self.freeze(reason, now_seconds, good_position=int(window[0, 0]) - 1)
                return
        surplus = max(len(self._window) - self.settings.windows[1], 0)
        self._reference.add(self._window[:surplus], self.settings.horizon_examples)
        self._window = self._window[surplus:]

    def _judge_frozen(self, rows: np.ndarray, now_seconds: float, *, now_position: int) -> None:
        frozen = self.frozen
        if frozen is None:
            return
        rows = rows[rows[:, 1] >= frozen.since_seconds]
        self._window = np.concatenate([self._window, rows])[-self.settings.windows[1] :]
        short = self.settings.windows[0]
        if now_seconds - frozen.since_seconds >= self.settings.max_frozen_seconds:
            self._begin()
        elif len(self._window) < short or self._fault_of(self._window[-short:], strictness=0.5):
            self._window = self._window[-short:]
            return
        elif self._window[-1, 1] - self._window[0, 1] < self.settings.sound_seconds:
            return
        self.frozen, self._good_from = None, now_position
        self._window = self._window[-short:]

    def _fault_of(self, window: np.ndarray, *, strictness: float) -> str:
        """Returns what of the window is out of bounds, or nothing.

        Args:
            strictness: by which bounds are multiplied.
        """
        settings = self.settings
        if self._reference.num < settings.warm_examples:
            return ""
        losses, squares, predicted, positives = self._reference.sums[1:] / self._reference.num
        share = np.clip(positives, _LEAST_SHARE, 1 - _LEAST_SHARE)
        size, deviations = len(window), settings.deviations * strictness
        found, expected = window[:, _LABELS].mean(axis=0), window[:, _PREDICTED].mean(axis=0)
        spread = np.sqrt(share * (1 - share) / size)

        loss = _losses(window).mean(axis=0)
        noise = np.sqrt(np.maximum(squares - losses**2, _LEAST_VARIANCE) / size)
        grown = loss - losses > np.maximum(
            settings.max_loss_growth * strictness * losses, deviations * noise
        )
        odds = found / np.maximum(1 - found, 1e-9) / (share / (1 - share))
        moved = (np.abs(found - share) > deviations * spread) & _is_beyond(
            odds, settings.max_odds_ratio**strictness
        )
        usual = expected * share / np.maximum(predicted, _LEAST_SHARE)
        miscalibrated = (np.abs(usual - found) > deviations * spread) & _is_beyond(
            usual / np.maximum(found, 1e-9), settings.max_miscalibration**strictness
        )
        for head, name in enumerate(HEADS):
            if grown[head]:
                return f"log loss of {name} is {loss[head]:.3f}, it was {losses[head]:.3f}"
            if moved[head]:
                return (
                    f"share of negatives of {name} is {1 - found[head]:.3f}, it was "
                    f"{1 - share[head]:.3f}"
                )
            if miscalibrated[head]:
                return (
                    f"{name}: predicted are {expected[head]:.3f}, observed {found[head]:.3f} of 1"
                )
        return ""

    def state(self) -> Any:
        """Returns all of it, of numbers, text, bytes and lists."""
        frozen = self.frozen
        return {
            "frozen": frozen and [frozen.since_seconds, frozen.reason, frozen.good_position],
            "num_freezes": self.num_freezes,
            "good_from": self._good_from,
            "second": list(self._second),
            "reference": self._reference.sums.tobytes(),
            "window": self._window.tobytes(),
            "waiting": np.array(list(self._waiting.values()), np.float64).tobytes(),
        }

    def restore(self, state: Any) -> None:
        """Takes over what `state` returned."""
        self.frozen = Freeze(*state["frozen"]) if state["frozen"] else None
        self.num_freezes, self._good_from = state["num_freezes"], state["good_from"]
        self._second = tuple(state["second"])
        self._reference = _Reference(_array(state["reference"], _HEADS))
        self._window = _array(state["window"], _COLUMNS)
        rows = _array(state["waiting"], _COLUMNS).tolist()
        self._waiting = OrderedDict((int(row[0]), row) for row in rows)


def _losses(rows: np.ndarray) -> np.ndarray:
    predicted = np.clip(rows[:, _PREDICTED], _LOWEST, 1 - _LOWEST)
    return -np.log(np.where(rows[:, _LABELS] > 0, predicted, 1 - predicted))


def _is_beyond(ratio: np.ndarray, bound: float) -> np.ndarray:
    return (ratio > bound) | (ratio < 1 / bound)


def _array(content: bytes, columns: int) -> np.ndarray:
    return np.frombuffer(content, np.float64).reshape(-1, columns).copy()
