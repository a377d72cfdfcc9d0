import numpy as np
import pytest

from benchmarks.scale_failures import (
    Cluster,
    Faults,
    Service,
    fan_out_quantile,
    hedged_quantile,
    simulate,
)

STEADY = Service(0.01, spread=0.0)
STRAGGLING = Service(0.01, spread=0.2, straggler_fraction=0.02, straggler_factor=20.0)


def test_an_idle_cluster_answers_within_the_time_of_one_shard() -> None:
    cluster = Cluster(8, 2, 1, STEADY)
    outcome = simulate(cluster, queries_per_second=0.01, num_queries=50)
    assert outcome.seconds == pytest.approx(0.01)
    assert (outcome.answered == 8).all()
    assert outcome.requests == 400


def test_waiting_is_that_of_a_queue_with_one_server_and_fixed_times() -> None:
    """Pollaczek-Khinchine: an M/D/1 queue waits load / (2 (1 - load)) times the service time."""
    cluster = Cluster(1, 1, 1, STEADY)
    outcome = simulate(cluster, queries_per_second=70, num_queries=40_000, deadline_seconds=60)
    waiting = outcome.seconds.mean() - 0.01
    assert waiting == pytest.approx(0.01 * 0.7 / (2 * 0.3), rel=0.1)


@pytest.mark.parametrize("shards", [1, 10, 100])
def test_simulated_stragglers_match_the_slowest_of_independent_answers(shards: int) -> None:
    cluster = Cluster(shards, 1, 4, STRAGGLING)
    outcome = simulate(cluster, queries_per_second=0.1, num_queries=3_000, deadline_seconds=60)
    for percent in (50, 90):
        expected = fan_out_quantile(STRAGGLING, shards, percent / 100)
        assert outcome.percentile(percent) == pytest.approx(expected, rel=0.06)


def test_simulated_hedging_matches_its_closed_form() -> None:
    hedge = fan_out_quantile(STRAGGLING, 1, 0.95)
    cluster = Cluster(30, 2, 4, STRAGGLING)
    outcome = simulate(
        cluster,
        queries_per_second=0.1,
        num_queries=3_000,
        deadline_seconds=60,
        hedge_seconds=hedge,
    )
    expected = hedged_quantile(STRAGGLING, 30, 0.9, hedge_seconds=hedge)
    assert outcome.percentile(90) == pytest.approx(expected, rel=0.05)
    assert outcome.requests == pytest.approx(3_000 * 30 * 1.05, rel=0.01)
    plain = simulate(Cluster(30, 2, 4, STRAGGLING), queries_per_second=0.1, num_queries=1_000)
    assert plain.shard_p95_seconds == pytest.approx(hedge, rel=0.05)


def test_one_shard_without_spread_takes_its_median_at_any_quantile() -> None:
    for fraction in (0.01, 0.5, 0.999):
        assert fan_out_quantile(STEADY, 1, fraction) == pytest.approx(0.01)
        assert fan_out_quantile(STEADY, 1_000, fraction) == pytest.approx(0.01)


def test_more_shards_are_slower_and_hedging_is_never() -> None:
    hedge = fan_out_quantile(STRAGGLING, 1, 0.95)
    before = 0.0
    for shards in (1, 4, 16, 64, 256, 1024):
        plain = fan_out_quantile(STRAGGLING, shards, 0.99)
        assert plain > before
        assert hedged_quantile(STRAGGLING, shards, 0.99, hedge_seconds=hedge) <= plain
        before = plain


def test_a_hedge_that_never_comes_changes_nothing() -> None:
    plain = fan_out_quantile(STRAGGLING, 16, 0.99)
    assert hedged_quantile(STRAGGLING, 16, 0.99, hedge_seconds=1e6) == pytest.approx(plain)


def test_a_slow_replica_costs_its_share_of_searches_without_hedging_and_little_with() -> None:
    cluster = Cluster(4, 2, 4, STEADY)
    faults = Faults(slow=frozenset({(0, 0)}), slow_seconds=0.5)
    plain = simulate(cluster, queries_per_second=1, num_queries=2_000, faults=faults)
    hedged = simulate(
        cluster, queries_per_second=1, num_queries=2_000, faults=faults, hedge_seconds=0.02
    )
    assert (plain.seconds > 0.5).mean() == pytest.approx(0.5, abs=0.05)
    assert hedged.percentile(99) == pytest.approx(0.03, rel=0.05)


def test_a_node_that_is_gone_is_not_missed_once_it_is_known_or_hedged() -> None:
    cluster = Cluster(4, 2, 4, STEADY)
    gone = Faults(gone=frozenset({(0, 0)}), known_after_seconds=50)
    plain = simulate(cluster, queries_per_second=10, num_queries=1_000, faults=gone)
    hedged = simulate(
        cluster, queries_per_second=10, num_queries=1_000, faults=gone, hedge_seconds=0.02
    )
    incomplete = np.flatnonzero(plain.answered < 4)
    # Half of the 500 searches of the first 50 seconds, and none of those that come later.
    assert len(incomplete) == pytest.approx(250, abs=50)
    assert incomplete.max() < 600
    assert (hedged.answered == 4).all()


def test_a_rack_takes_both_replicas_of_a_shard_only_where_they_stand_together() -> None:
    for is_spread in (True, False):
        cluster = Cluster(8, 2, 4, STEADY, racks=4, is_spread=is_spread)
        nodes = [(s, r) for s in range(8) for r in range(2) if cluster.rack_of(s, r) == 0]
        assert len(nodes) == 4
        outcome = simulate(
            cluster,
            queries_per_second=10,
            num_queries=200,
            hedge_seconds=0.02,
            faults=Faults(gone=frozenset(nodes)),
        )
        assert (outcome.answered == 8).all() == is_spread


def test_the_same_seed_gives_the_same_searches() -> None:
    cluster = Cluster(4, 2, 1, STRAGGLING)
    one, other, third = (
        simulate(cluster, queries_per_second=20, num_queries=200, seed=seed) for seed in (3, 3, 4)
    )
    assert (one.seconds == other.seconds).all()
    assert (one.seconds != third.seconds).any()


def test_the_mean_of_the_sampled_times_is_the_stated_one() -> None:
    seconds = STRAGGLING.sample(np.random.default_rng(0), 400_000)
    assert seconds.mean() == pytest.approx(STRAGGLING.mean_seconds, rel=0.02)
