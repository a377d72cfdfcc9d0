"""Batches: every sequence once, at most as many positions as asked, the same in each run."""

import numpy as np
import pytest

from reelseek.recommendation.sequential.batches import SequenceBatches, pad_histories


def histories(num: int = 50) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 99, length) for length in random.integers(0, 15, num)]


def batches(seed: int = 0, rank: int = 0, world_size: int = 1) -> SequenceBatches:
    return SequenceBatches(
        histories(), max_length=10, batch_events=40, seed=seed, rank=rank, world_size=world_size
    )


def test_an_epoch_has_every_sequence_that_teaches_once() -> None:
    made = batches()
    seen = np.concatenate(made.indices(3))
    assert sorted(seen) == list(range(sum(len(each) > 1 for each in histories())))
    for indices in made.indices(3):
        assert made.make(indices).items.numel() <= 40


def test_targets_are_the_items_that_come_next_of_the_last_ones() -> None:
    made = SequenceBatches(
        [np.arange(15), np.array([7]), np.array([3, 4])], max_length=10, batch_events=99, seed=0
    )
    (indices,) = made.indices(0)
    batch = made.make(np.sort(indices))
    assert batch.items[0].tolist() == list(range(4, 14))
    assert batch.targets[0].tolist() == list(range(5, 15))
    assert batch.items[1, 0] == 3 and batch.targets[1, 0] == 4
    assert batch.is_event.sum(dim=1).tolist() == [10, 1]
    assert batch.num_events == 11


def test_the_order_depends_on_the_seed_and_the_epoch_alone() -> None:
    first, again, other = batches(), batches(), batches(seed=1)
    again.indices(0)
    same = zip(first.indices(2), again.indices(2), strict=True)
    assert all(np.array_equal(a, b) for a, b in same)
    assert not np.array_equal(np.concatenate(first.indices(2)), np.concatenate(other.indices(2)))
    assert not np.array_equal(np.concatenate(first.indices(2)), np.concatenate(first.indices(3)))


def test_processes_share_each_batch() -> None:
    alone, parts = batches(), [batches(rank=rank, world_size=3) for rank in range(3)]
    for indices in alone.indices(0):
        whole, made = alone.make(indices), [each.make(indices) for each in parts]
        assert sum(int(each.is_event.sum()) for each in made) == whole.num_events
        assert {each.num_events for each in made} == {whole.num_events}


def test_nothing_to_learn_is_an_error_of_one_line() -> None:
    with pytest.raises(ValueError, match="no sequence has two items"):
        SequenceBatches([np.array([1])], max_length=5, batch_events=10, seed=0)


def test_padding_is_at_the_end() -> None:
    items, is_item = pad_histories([np.array([5, 6]), np.zeros(0, int)])
    assert items.tolist() == [[5, 6], [0, 0]]
    assert is_item.tolist() == [[True, True], [False, False]]
    assert pad_histories([])[0].shape == (0, 1)
