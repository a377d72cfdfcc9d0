"""What is cut off is in no reach of what learns: these tests try to get at it."""

import gc

import numpy as np
import pytest

from reelseek.recommendation.data.interactions import Interaction, InteractionLog
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.data.splits import (
    held_out_items,
    last_items,
    sorted_catalogue,
    split_by_time,
)


def arrays_within(root):
    """All arrays that can be reached from an object, through attributes, views and containers."""
    found, waiting, known = [], [root], set()
    while waiting:
        each = waiting.pop()
        if id(each) in known or isinstance(each, type):
            continue
        known.add(id(each))
        if isinstance(each, np.ndarray):
            found.append(each)
            waiting.append(each.base)
        else:
            waiting += gc.get_referents(each)
    return found


@pytest.fixture
def sequences():
    rng = np.random.default_rng(0)
    users = [(f"u{user}", [f"i{item}" for item in rng.permutation(50)[:7]]) for user in range(30)]
    (found,) = sorted_catalogue([Sequences.of(users)])
    return found


def test_last_items_are_asked_and_the_rest_is_known(sequences):
    held_out = last_items(sequences)
    for history, targets, known in zip(
        sequences.histories(), held_out.targets, held_out.histories, strict=True
    ):
        np.testing.assert_array_equal(history, [*known, *targets])


def test_users_with_one_item_are_asked_without_a_history():
    held_out = last_items(Sequences.of([("a", ["x"]), ("b", []), ("c", ["x", "y"])]))
    assert [h.tolist() for h in held_out.histories] == [[], [0]]
    assert [t.tolist() for t in held_out.targets] == [[0], [1]]


def test_training_does_not_depend_on_last_items(sequences):
    training = sequences.without_last()
    changed = sequences.item_indices.copy()
    changed[sequences.offsets[1:] - 1] = 0
    other = Sequences(sequences.items, sequences.users, sequences.offsets, changed).without_last()
    np.testing.assert_array_equal(training.item_indices, other.item_indices)
    assert training.items.ids() == other.items.ids()


def test_no_array_within_reach_of_training_holds_last_items(sequences):
    held_out = last_items(sequences)
    for seen in (sequences.without_last(), held_out.histories):
        reached = arrays_within(seen)
        assert len(reached) >= 2
        assert max(map(len, reached)) <= sequences.num_events - sequences.num_users
        assert not any(np.shares_memory(each, sequences.item_indices) for each in reached)


def test_numbers_of_items_do_not_tell_whose_they_are():
    # Numbers as they come in a file: each user's last item is new, and follows the one before.
    (found,) = sorted_catalogue(
        [Sequences.of([(f"u{user}", [f"{9 - user}a", f"{user}z"]) for user in range(10)])]
    )
    assert found.items.ids() == tuple(sorted(found.items.ids()))
    known, (targets,) = found.without_last(), np.array(last_items(found).targets).T
    following = known.item_indices + 1
    assert not (following == targets).all()
    # Whoever reads the same users in another order gets the same numbers.
    users = [(f"u{user}", [f"{9 - user}a", f"{user}z"]) for user in reversed(range(10))]
    (again,) = sorted_catalogue([Sequences.of(users)])
    assert again.items.ids() == found.items.ids()


def test_items_of_test_are_asked():
    known = Sequences.of([("a", ["x", "y"]), ("b", ["y"])], is_ordered=False)
    test = Sequences.of([("b", ["x", "z", "x"]), ("new", ["y"]), ("a", [])], known.items)
    held_out = held_out_items(known, test)
    assert [h.tolist() for h in held_out.histories] == [[1], []]
    assert [t.tolist() for t in held_out.targets] == [[0, 2], [1]]


def events_at(times):
    rng = np.random.default_rng(1)
    return [
        Interaction(f"u{rng.integers(5)}", f"i{rng.integers(40)}", float(time), "click")
        for time in times
    ]


def test_earlier_and_later():
    earlier, later = split_by_time(InteractionLog.of(events_at([5, 3, 9, 5, 1])), 5)
    assert earlier.times_seconds.tolist() == [1, 3]
    assert later.times_seconds.tolist() == [5, 5, 9]
    nothing, everything = split_by_time(InteractionLog.of(events_at([5, 3])), 0)
    assert (len(nothing), len(everything)) == (0, 2)


def test_what_is_earlier_does_not_depend_on_what_is_later():
    events = events_at(range(100))
    spoiled = [
        each if each.time_seconds < 50 else Interaction("x", "y", each.time_seconds, "like")
        for each in events
    ]
    rng = np.random.default_rng(2)
    logs = [
        InteractionLog.of([rows[index] for index in rng.permutation(100)])
        for rows in (events, spoiled)
    ]
    first, second = (split_by_time(log, 50)[0] for log in logs)
    assert list(map(repr, first)) == list(map(repr, second))
    assert first.items.ids() == second.items.ids()
    assert first.users.ids() == second.users.ids()
    reached = arrays_within(first)
    assert max(map(len, reached)) == 50
    assert not any(np.shares_memory(each, logs[0].item_indices) for each in reached)


def test_what_has_no_time_cannot_be_split_by_it():
    with pytest.raises(ValueError, match="without a time cannot be split by time"):
        split_by_time(InteractionLog.of([Interaction("u", "a")]), 5)
