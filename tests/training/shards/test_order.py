"""The order of samples: a permutation, a pure function of seed, epoch and slot, and one global
order for all processes."""

import numpy as np
import pytest

from reelseek.training.shards.order import ShardOrder

SIZES = np.array([5, 0, 8, 3, 1, 7, 9, 2])


def make_order(sizes=SIZES, **changes):
    options = {"batch_size": 4, "seed": 3, "shards_per_group": 3}
    return ShardOrder(sizes, **(options | changes))


def epoch_of(order, epoch):
    return [order.sample(epoch, slot) for slot in range(SIZES.sum())]


@pytest.mark.parametrize("shards_per_group", [1, 2, 3, 8, 100])
def test_epoch_holds_each_sample_once(shards_per_group):
    samples = epoch_of(make_order(shards_per_group=shards_per_group), 0)
    assert sorted(samples) == list(range(SIZES.sum()))


def test_epochs_and_seeds_have_other_orders():
    orders = [epoch_of(make_order(seed=seed), epoch) for seed in (3, 4) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_slot_needs_no_slot_before_it():
    in_order = epoch_of(make_order(), 2)
    order = make_order()
    slots = np.random.default_rng(0).permutation(SIZES.sum())
    assert [order.sample(2, slot) for slot in slots] == [in_order[slot] for slot in slots]


def test_only_the_shards_of_one_group_are_mixed():
    """With groups of one shard, each shard's samples follow each other, in another order."""
    shard_of = np.repeat(np.arange(len(SIZES)), SIZES)
    samples = epoch_of(make_order(shards_per_group=1), 0)
    shards = shard_of[samples]
    assert (np.diff(shards) != 0).sum() == np.count_nonzero(SIZES) - 1
    assert samples != sorted(samples)
    mixed = shard_of[epoch_of(make_order(shards_per_group=8), 0)]
    assert (np.diff(mixed) != 0).sum() > 12


def test_processes_share_the_global_batches_equally():
    alone = list(make_order().of_epoch(1))
    parts = [list(make_order(rank=rank, world_size=2).of_epoch(1)) for rank in (0, 1)]
    assert [first + second for first, second in zip(*parts, strict=True)] == alone
    assert {len(part) for part in parts[0] + parts[1]} == {2}
    assert alone[2] == [(1, slot) for slot in range(8, 12)]


def test_continued_epoch_has_the_same_batches():
    whole = list(make_order().of_epoch(0))
    assert list(make_order().of_epoch(0, first=3)) == whole[3:]
    assert len(whole) == len(make_order()) == SIZES.sum() // 4


def test_substitute_is_of_the_same_group_and_the_same_in_all_processes():
    order, other = make_order(), make_order(rank=1, world_size=2)
    group = set(epoch_of(order, 0)[: sum(SIZES[order._epoch_shards(0)[0][:3]])])
    substitutes = [order.sample(0, 1, attempt=attempt) for attempt in range(1, 30)]
    assert set(substitutes) <= group
    assert len(set(substitutes)) > 1
    assert [other.sample(0, 1, attempt=attempt) for attempt in range(1, 30)] == substitutes


def test_batch_that_cannot_be_filled_or_divided_is_named():
    with pytest.raises(ValueError, match=r"loop\.batch_size=36: the shards hold only 35"):
        make_order(batch_size=36)
    with pytest.raises(ValueError, match=r"loop\.batch_size=4: must be a multiple of the 3"):
        make_order(world_size=3)
