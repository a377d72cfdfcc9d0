"""What users did with items, whatever it was read from: one table of typed columns, in the order of
time.

    log = InteractionLog.of(rows)  # or a reader's, see `data.readers`
    sequences = log.sequences(kinds=("click", "play"))
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reelseek.recommendation.data.sequences import Sequences, Vocabulary

__all__ = ["KINDS", "POSITIVE_KINDS", "Interaction", "InteractionLog"]

# `choice` is what a file of sequences or pairs tells; `unlike` takes a like back.
KINDS = ("impression", "click", "play", "skip", "like", "unlike", "choice")
POSITIVE_KINDS = ("click", "play", "like", "choice")


@dataclass(frozen=True)
class Interaction:
    """One thing that a user did.

    Attributes:
        time_seconds: Unix time; NaN where it is not known.
        kind: one of `KINDS`.
        watched_share: of the item's length, above 1 where it was watched again; NaN where it is not
            known.
        context: what else is known, such as `surface`, `position`, `propensity`, `author`.
    """

    user: str
    item: str
    time_seconds: float = float("nan")
    kind: str = "choice"
    watched_share: float = float("nan")
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class InteractionLog:
    """Interactions in the order of time; those without a time stand in the order they came in,
    after all others.

    Attributes:
        users, items: who and what the numbers mean.
        user_indices, item_indices: `(n,)` int32.
        times_seconds: `(n,)` float64, rising, NaN last.
        kind_indices: `(n,)` int8, numbers of `KINDS`.
        watched_shares: `(n,)` float32.
        contexts: n mappings.
    """

    users: Vocabulary
    items: Vocabulary
    user_indices: np.ndarray
    item_indices: np.ndarray
    times_seconds: np.ndarray
    kind_indices: np.ndarray
    watched_shares: np.ndarray
    contexts: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, interactions: Iterable[Interaction]) -> "InteractionLog":
        """Sorts interactions by time, and drops exact repeats, whatever order they come in.

        A repeat has the same user, item, kind and time; what has no time is never one.

        Raises:
            ValueError: a kind is unknown.
        """
        rows = list(interactions)
        for each in rows:
            if each.kind not in KINDS:
                raise ValueError(f"kind={each.kind!r}: must be one of {', '.join(KINDS)}")
        known: set[tuple[str, str, str, float]] = set()
        distinct = []
        for each in rows:
            key = (each.user, each.item, each.kind, each.time_seconds)
            has_time = each.time_seconds == each.time_seconds
            if has_time and key in known:
                continue
            known.add(key)
            distinct.append(each)
        # NaN sorts last, and a stable sort keeps those in their order.
        order = np.argsort([each.time_seconds for each in distinct], kind="stable")
        return cls._of_sorted([distinct[index] for index in order])

    @classmethod
    def _of_sorted(cls, rows: list[Interaction]) -> "InteractionLog":
        users, items = Vocabulary(), Vocabulary()
        num = len(rows)
        return cls(
            users,
            items,
            np.fromiter((users.add(each.user) for each in rows), np.int32, num),
            np.fromiter((items.add(each.item) for each in rows), np.int32, num),
            np.fromiter((each.time_seconds for each in rows), np.float64, num),
            np.fromiter((KINDS.index(each.kind) for each in rows), np.int8, num),
            np.fromiter((each.watched_share for each in rows), np.float32, num),
            tuple(each.context for each in rows),
        )

    def __len__(self) -> int:
        return len(self.user_indices)

    def __iter__(self) -> Iterator[Interaction]:
        users, items = self.users.ids(), self.items.ids()
        for index, context in enumerate(self.contexts):
            yield Interaction(
                users[self.user_indices[index]],
                items[self.item_indices[index]],
                float(self.times_seconds[index]),
                KINDS[self.kind_indices[index]],
                float(self.watched_shares[index]),
                context,
            )

    def only(self, is_kept: np.ndarray) -> "InteractionLog":
        """Returns some interactions, with the users and items of those alone.

        Args:
            is_kept: `(n,)` bool.
        """
        return self._of_sorted(
            [each for each, kept in zip(self, is_kept.tolist(), strict=True) if kept]
        )

    def sequences(
        self,
        items: Vocabulary | None = None,
        *,
        kinds: Collection[str] = POSITIVE_KINDS,
        min_watched_share: float = 0.0,
    ) -> Sequences:
        """Returns what each user chose, in the order of time.

        An item that a user chose several times in a row, such as by a click and what was then
        played, counts once.

        Args:
            items: the catalogue, to which items are added; default: a new one.
            kinds: that count as a choice.
            min_watched_share: plays of less do not count, nor do those of unknown share where this
                is above 0.
        """
        is_chosen = np.isin(self.kind_indices, [KINDS.index(kind) for kind in kinds])
        if min_watched_share > 0:
            is_play = self.kind_indices == KINDS.index("play")
            is_chosen &= ~is_play | (self.watched_shares >= min_watched_share)
        item_ids, user_ids = self.items.ids(), self.users.ids()
        chosen: dict[int, list[str]] = {}
        for index in np.flatnonzero(is_chosen):
            history = chosen.setdefault(int(self.user_indices[index]), [])
            item = item_ids[self.item_indices[index]]
            if not history or history[-1] != item:
                history.append(item)
        return Sequences.of(((user_ids[user], ids) for user, ids in chosen.items()), items)
