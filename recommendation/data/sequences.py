"""Which items each user chose, in order: two arrays, and the ids that they stand for.

sequences = Sequences.of([("ann", ["a", "b"]), ("bob", ["b"])])
sequences.history(0)  # array([0, 1], dtype=int32), which are sequences.items["a"], "b"
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["Sequences", "Vocabulary"]


class Vocabulary:
    """Ids of any text <-> numbers from 0, in the order in which they were first seen."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._index_by_id: dict[str, int] = {}
        for each in ids:
            self.add(each)

    def __len__(self) -> int:
        return len(self._index_by_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index_by_id)

    def __contains__(self, each: object) -> bool:
        return each in self._index_by_id

    def __getitem__(self, each: str) -> int:
        return self._index_by_id[each]

    def get(self, each: str) -> int | None:
        return self._index_by_id.get(each)

    def add(self, each: str) -> int:
        """Returns the number of an id, a new one where it was not seen before."""
        return self._index_by_id.setdefault(each, len(self._index_by_id))

    def ids(self) -> tuple[str, ...]:
        """Returns all ids by their number."""
        return tuple(self._index_by_id)


@dataclass(frozen=True, eq=False)
class Sequences:
    """The items of each user in order, in the layout of a CSR matrix.

    Attributes:
        items: the catalogue; several `Sequences` share one, so that numbers mean the same.
        users: `num_users` ids.
        offsets: `(num_users + 1,)` int64; user u's events are `item_indices[offsets[u]:offsets[u +
            1]]`.
        item_indices: `(num_events,)` int32.
        is_ordered: whether a user's items stand in the order of time; pairs have none.
    """

    items: Vocabulary
    users: tuple[str, ...]
    offsets: np.ndarray
    item_indices: np.ndarray
    is_ordered: bool = True

    def __post_init__(self) -> None:
        assert self.offsets.shape == (len(self.users) + 1,)
        assert self.item_indices.dtype == np.int32
        assert self.offsets[0] == 0 and self.offsets[-1] == len(self.item_indices)

    @classmethod
    def of(
        cls,
        items_by_user: Iterable[tuple[str, Sequence[str]]],
        items: Vocabulary | None = None,
        *,
        is_ordered: bool = True,
    ) -> "Sequences":
        """Makes sequences of ids.

        Args:
            items_by_user: each user once, with the user's items in order.
            items: the catalogue; new items are added to it.
        """
        catalogue = Vocabulary() if items is None else items
        users: list[str] = []
        histories: list[np.ndarray] = []
        for user, ids in items_by_user:
            users.append(user)
            histories.append(np.fromiter(map(catalogue.add, ids), np.int32, len(ids)))
        return cls.of_histories(catalogue, users, histories, is_ordered=is_ordered)

    @classmethod
    def of_histories(
        cls,
        items: Vocabulary,
        users: Sequence[str],
        histories: Sequence[np.ndarray],
        *,
        is_ordered: bool = True,
    ) -> "Sequences":
        """Makes sequences of item indices, `(num_items_of_user,)` for each user."""
        offsets = np.zeros(len(users) + 1, np.int64)
        np.cumsum([len(history) for history in histories], out=offsets[1:])
        joined = np.concatenate([np.zeros(0, np.int32), *histories]).astype(np.int32)
        return cls(items, tuple(users), offsets, joined, is_ordered)

    @property
    def num_users(self) -> int:
        return len(self.users)

    @property
    def num_items(self) -> int:
        """Items of the catalogue, also those that nobody here chose."""
        return len(self.items)

    @property
    def num_events(self) -> int:
        return len(self.item_indices)

    @property
    def lengths(self) -> np.ndarray:
        """`(num_users,)`: events of each user."""
        return np.diff(self.offsets)

    @property
    def user_indices(self) -> np.ndarray:
        """`(num_events,)` int32: whose event each is."""
        return np.repeat(np.arange(self.num_users, dtype=np.int32), self.lengths)

    @property
    def item_counts(self) -> np.ndarray:
        """`(num_items,)`: events of each item."""
        return np.bincount(self.item_indices, minlength=self.num_items)

    def history(self, user: int) -> np.ndarray:
        """Returns the item indices of a user in order, `(num_items_of_user,)` int32, not a copy."""
        return self.item_indices[self.offsets[user] : self.offsets[user + 1]]

    def histories(self, users: Iterable[int] | None = None) -> list[np.ndarray]:
        """Returns the histories of some users, or of all."""
        return [self.history(user) for user in (range(self.num_users) if users is None else users)]

    def without_last(self, num: int = 1) -> "Sequences":
        """Returns all users without their last events; some may have none left."""
        kept = np.maximum(self.lengths - num, 0)
        offsets = np.zeros_like(self.offsets)
        np.cumsum(kept, out=offsets[1:])
        position = np.arange(self.num_events) - np.repeat(self.offsets[:-1], self.lengths)
        is_kept = position < np.repeat(kept, self.lengths)
        return Sequences(
            self.items, self.users, offsets, self.item_indices[is_kept], self.is_ordered
        )

    def last_items(self) -> np.ndarray:
        """Returns each user's last item, `(num_users,)` int32; -1 for users without events."""
        last = np.full(self.num_users, -1, np.int32)
        has_any = self.lengths > 0
        last[has_any] = self.item_indices[self.offsets[1:][has_any] - 1]
        return last

    def joined_with(self, other: "Sequences") -> "Sequences":
        """Returns the events of both, where users who are in both go on with their second ones.

        Both must share their catalogue, which may have grown meanwhile.
        """
        assert self.items is other.items
        index_by_user = {user: index for index, user in enumerate(self.users)}
        parts = [[history] for history in self.histories()]
        users = list(self.users)
        for user, history in zip(other.users, other.histories(), strict=True):
            if user in index_by_user:
                parts[index_by_user[user]].append(history)
            else:
                users.append(user)
                parts.append([history])
        histories = [np.concatenate(each) for each in parts]
        is_ordered = self.is_ordered and other.is_ordered
        return Sequences.of_histories(self.items, users, histories, is_ordered=is_ordered)

    def matrix(self) -> "csr_matrix":
        """Returns `(num_users, num_items)` float32: 1 where a user chose an item, however often."""
        from scipy.sparse import csr_matrix

        shape = (self.num_users, self.num_items)
        ones = np.ones(self.num_events, np.float32)
        # SciPy may keep the arrays it is given, and `sum_duplicates` sorts in place.
        found = csr_matrix((ones, self.item_indices.copy(), self.offsets.copy()), shape=shape)
        found.sum_duplicates()
        found.data[:] = 1
        return found
