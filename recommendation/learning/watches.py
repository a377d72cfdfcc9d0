"""The last videos that each user chose, and the last passed over -> what speaks for one like them.

A video is compared with each of them by what their frames show, and the more one is like it, the
more its outcome counts: attention with the candidate as the query (Zhou et al., KDD 2018, section
4.3), whose weights are the softmax of cosines. The rate that results is shrunk to the plain rate of
the same videos, so what all of them have in common cancels out, as does what users do on average.

Codes of what frames show are whole numbers, whose products and sums are exact: however many are
compared at once, the cosines have the same bits.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelseek.recommendation.learning.counters import log_odds

__all__ = ["NUM_WATCH_FEATURES", "Watch", "Watches", "content_codes", "watch_features"]

_LENGTH = 16  # of either list of a user
_TEMPERATURES = (0.05, 0.15)  # of cosines; the first one looks at the nearest alone
_NUM_RATES = 2  # long views and clicks
_SMOOTHING = 4.0  # videos with the plain rate that each rate begins with
NUM_WATCH_FEATURES = len(_TEMPERATURES) * _NUM_RATES

CodeOf = Callable[[Hashable], bytes]  # of a video; empty where it is not known
User = Any  # an id


def content_codes(embeddings: np.ndarray) -> list[bytes]:
    """Returns `(n, D)` numbers, each row of any scale, as signed bytes; none of rows of zeros."""
    largest = np.abs(embeddings).max(axis=1, initial=0.0)
    is_known = (largest > 0) & np.isfinite(largest)
    scale = np.divide(127.0, largest, out=np.zeros(len(largest)), where=is_known)
    codes = np.rint(np.nan_to_num(embeddings) * scale[:, None]).astype(np.int8)
    return [code.tobytes() if ok else b"" for code, ok in zip(codes, is_known, strict=True)]


@dataclass(frozen=True)
class Watch:
    """A video that was shown to a user, and whether it was watched for long, and opened."""

    video: Hashable
    long_view: bool
    clicked: bool

    @property
    def is_chosen(self) -> bool:
        return self.long_view or self.clicked


class Watches:
    """What users chose and passed over lately; the users that were seen last are kept.

    The order of calls determines all of it, so that a replay gives the same.
    """

    def __init__(self, *, max_users: int) -> None:
        self._max_users = max_users
        self._users: dict[User, list[Watch]] = {}  # both lists in one, the oldest first
        self._last_ms: dict[User, float] = {}  # in the order of the last change
        self._touched: dict[User, None] = {}

    def __len__(self) -> int:
        return len(self._users)

    def of(self, user: User) -> Sequence[Watch]:
        """Returns what is kept of a user, the oldest first."""
        return self._users.get(user, ())

    def add(self, user: User, watch: Watch, *, now_ms: float) -> None:
        """Adds a video, or what has become of it since it was added."""
        found = self._users.get(user, [])
        kept = [each for each in found if each.video != watch.video]
        if len(kept) == len(found):
            kept = _without_oldest(kept, watch.is_chosen)
            kept.append(watch)
        else:
            place = next(i for i, each in enumerate(found) if each.video == watch.video)
            if found[place].is_chosen != watch.is_chosen:
                kept = _without_oldest(kept, watch.is_chosen)
                place = min(place, len(kept))
            kept.insert(place, watch)
        self._set(user, kept, now_ms=now_ms)
        if len(self._users) > self._max_users:
            self._drop(next(iter(self._last_ms)))

    def correct(
        self, user: User, video: Hashable, change: Sequence[float], *, now_ms: float
    ) -> None:
        """Changes the labels of a video; one that is no longer kept comes back if it is chosen now.

        Args:
            change: of both labels, -1 to 1.
        """
        before = next((each for each in self.of(user) if each.video == video), None)
        old = (False, False) if before is None else (before.long_view, before.clicked)
        watch = Watch(video, *(was + by > 0 for was, by in zip(old, change, strict=True)))
        if before is not None or watch.is_chosen:
            self.add(user, watch, now_ms=now_ms)

    def expire(self, before_ms: float) -> None:
        """Drops the users of whom nothing was heard since a time."""
        for user in [user for user, last in self._last_ms.items() if last < before_ms]:
            self._drop(user)

    def forget(self, is_deleted: Callable[[User], bool]) -> None:
        for user in [user for user in self._users if is_deleted(user)]:
            self._drop(user)

    def become(self, other: "Watches") -> None:
        """Takes over an earlier state; all of both counts as changed."""
        touched = [*self._users, *self._touched, *other._users]
        vars(self).update(vars(other))
        self._touched = dict.fromkeys(touched)

    def take_state(self, *, only_changed: bool) -> list[list[Any]]:
        """Returns all users in their order, or those that changed since the last call; without
        videos where one was dropped."""
        touched, self._touched = self._touched, {}
        users: Iterable[User] = self._last_ms
        if only_changed:
            gone = [user for user in touched if user not in self._users]
            users = [*gone, *(user for user in self._last_ms if user in touched)]
        return [
            [
                user,
                self._last_ms.get(user, 0.0),
                [[each.video, each.long_view, each.clicked] for each in self.of(user)],
            ]
            for user in users
        ]

    def restore(self, rows: Iterable[Sequence[Any]]) -> None:
        """Takes over what `take_state` of another returned."""
        for user, last_ms, watches in rows:
            if watches:
                self._set(user, [Watch(*each) for each in watches], now_ms=last_ms)
            else:
                self._drop(user)
        self._touched = {}

    def _set(self, user: User, watches: list[Watch], *, now_ms: float) -> None:
        self._users[user] = watches
        self._last_ms.pop(user, None)  # so that the order is that of the last change
        self._last_ms[user] = now_ms
        self._touched[user] = None

    def _drop(self, user: User) -> None:
        self._users.pop(user, None)
        self._last_ms.pop(user, None)
        self._touched[user] = None


def watch_features(
    watches: Sequence[Sequence[Watch]], codes: Sequence[bytes], *, code_of: CodeOf
) -> np.ndarray:
    """Compares videos with what users chose and passed over.

    Args:
        watches: of the users whom the `n` videos are shown to; the same object for the same user.
        codes: of the videos; empty where they are not known.
        code_of: gives the code of a video that was watched.

    Returns:
        `(n, NUM_WATCH_FEATURES)`: for each temperature, by how much the log-odds of a long view and
        of a click differ from those of the user's last videos; 0 where nothing is known.
    """
    features = np.zeros((len(codes), NUM_WATCH_FEATURES))
    asked: dict[int, tuple[Sequence[Watch], list[int]]] = {}
    for row, own in enumerate(watches):
        if own and codes[row]:
            asked.setdefault(id(own), (own, []))[1].append(row)
    for own, rows in asked.values():
        length = len(codes[rows[0]])
        known = [(watch, code_of(watch.video)) for watch in own]
        known = [(watch, code) for watch, code in known if len(code) == length]
        rows = [row for row in rows if len(codes[row]) == length]
        if known:
            labels = np.array([(watch.long_view, watch.clicked) for watch, _ in known], np.float64)
            cosines = _cosines([codes[row] for row in rows], [code for _, code in known])
            features[rows] = _differences(cosines, labels)
    return features


def _without_oldest(watches: list[Watch], is_chosen: bool) -> list[Watch]:
    """Makes room in the list that a video belongs to."""
    same = [i for i, each in enumerate(watches) if each.is_chosen == is_chosen]
    return watches if len(same) < _LENGTH else watches[: same[0]] + watches[same[0] + 1 :]


def _cosines(some: Sequence[bytes], others: Sequence[bytes]) -> np.ndarray:
    left, right = (
        np.frombuffer(b"".join(codes), np.int8).reshape(len(codes), -1).astype(np.float64)
        for codes in (some, others)
    )
    norms = np.sqrt((left**2).sum(axis=1))[:, None] * np.sqrt((right**2).sum(axis=1))
    return left @ right.T / norms


def _differences(cosines: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """
    Args:
        cosines: `(n, m)`, of candidates and the user's videos.
        labels: `(m, _NUM_RATES)`.
    """
    plain = labels.mean(axis=0)
    found = []
    for temperature in _TEMPERATURES:
        attention = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / temperature)
        attention /= attention.sum(axis=1, keepdims=True)
        num = 1 / (attention**2).sum(axis=1)  # videos that count, in effect
        rates = np.einsum("nm,mr->nr", attention, labels)
        shrunk = (num[:, None] * rates + _SMOOTHING * plain) / (num[:, None] + _SMOOTHING)
        found.append(log_odds(shrunk) - log_odds(plain))
    return np.concatenate(found, axis=1)
