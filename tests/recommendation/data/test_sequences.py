import numpy as np
import pytest

from reelseek.recommendation.data.influence import bound_influence
from reelseek.recommendation.data.sequences import Sequences, Vocabulary


@pytest.fixture
def sequences():
    return Sequences.of([("ann", ["a", "b", "a"]), ("bob", []), ("çağ", ["c"])])


def test_ids_of_any_text_become_numbers(sequences):
    assert sequences.items.ids() == ("a", "b", "c")
    assert [history.tolist() for history in sequences.histories()] == [[0, 1, 0], [], [2]]
    assert sequences.item_indices.dtype == np.int32
    assert sequences.item_counts.tolist() == [2, 1, 1]
    assert (sequences.num_users, sequences.num_items, sequences.num_events) == (3, 3, 4)
    assert sequences.user_indices.tolist() == [0, 0, 0, 2]


def test_matrix_says_whether_a_user_chose_an_item(sequences):
    assert sequences.matrix().toarray().tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert sequences.history(0).tolist() == [0, 1, 0]  # it is left as it was


def test_last_items_are_cut_off(sequences):
    assert sequences.last_items().tolist() == [0, -1, 2]
    assert [h.tolist() for h in sequences.without_last().histories()] == [[0, 1], [], []]
    assert [h.tolist() for h in sequences.without_last(2).histories()] == [[0], [], []]


def test_users_who_are_in_both_go_on(sequences):
    more = Sequences.of([("dan", ["d"]), ("ann", ["c", "d"])], sequences.items)
    joined = sequences.joined_with(more)
    assert joined.users == ("ann", "bob", "çağ", "dan")
    assert [h.tolist() for h in joined.histories()] == [[0, 1, 0, 2, 3], [], [2], [3]]


def test_nobody():
    nobody = Sequences.of([])
    assert (nobody.num_users, nobody.num_items, nobody.num_events) == (0, 0, 0)
    assert nobody.without_last().num_events == 0
    assert nobody.matrix().shape == (0, 0)
    assert bound_influence(nobody, 3).num_users == 0


def test_vocabulary_knows_what_it_has_seen():
    items = Vocabulary(["a", "b", "a"])
    assert (len(items), items["b"], items.get("c"), "a" in items) == (2, 1, None, True)


def test_a_robot_counts_like_a_user():
    many = [str(number % 5000) for number in range(1_000_000)]
    sequences = Sequences.of([("robot", many), ("ann", ["a", "b", "b", "b", "c"])])
    bounded = bound_influence(sequences, 1000)
    assert bounded.lengths.tolist() == [1000, 3]
    np.testing.assert_array_equal(bounded.history(0), sequences.history(0)[-1000:])
    assert bounded.matrix().sum(axis=0).max() == 1


def test_of_items_without_order_any_are_kept():
    sequences = Sequences.of([("robot", list(map(str, range(500))))], is_ordered=False)
    kept = bound_influence(sequences, 10, seed=1).history(0)
    assert len(set(kept.tolist())) == 10
    assert kept.max() > 100
    np.testing.assert_array_equal(kept, bound_influence(sequences, 10, seed=1).history(0))
    with pytest.raises(ValueError, match="max_items=0: must be at least 1"):
        bound_influence(sequences, 0)


def test_what_is_in_bounds_is_left_as_it_is(sequences):
    assert bound_influence(sequences, 3) is sequences
