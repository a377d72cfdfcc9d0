import faiss
import numpy as np
import pytest

from reelseek.indexing.vectors import tuning as faiss_tuning
from reelseek.indexing.vectors.shard import search_parameters
from reelseek.indexing.vectors.tuning import NEIGHBOURS
from tests.indexing.small_index import unit

D = 16


def random_rows(num, *, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(num, D)))


def clustered_rows(num, *, seed=0):
    """Around a hundred directions, as real embeddings lie."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(100, D))
    return unit(centres[rng.integers(100, size=num)] + 0.3 * rng.normal(size=(num, D)))


def block_of(rows):
    return lambda first, last: rows[first:last]


def build(kind, rows):
    return faiss_tuning.build(kind, len(rows), block_of(rows), embedding_dim=rows.shape[1])


def probes_of(rows, *, num_queries=64):
    queries = {"stored": faiss_tuning.probe_queries(rows, num_queries)}
    return faiss_tuning.make_probes(queries, np.arange(len(rows)), block_of(rows), len(rows))


# Finding the true nearest


@pytest.mark.parametrize("count", [1, 3, NEIGHBOURS, NEIGHBOURS + 1, 1000])
@pytest.mark.parametrize("block_rows", [4, 65_536])
def test_exact_neighbours_equal_brute_force(monkeypatch, count, block_rows):
    monkeypatch.setattr(faiss_tuning, "_BLOCK", block_rows)
    rows, queries = random_rows(count), random_rows(20, seed=1)
    found = faiss_tuning.exact_neighbours(queries, count, block_of(rows))
    assert found.shape == (20, NEIGHBOURS)
    for xq, positions in zip(queries, found, strict=True):
        expected = np.argsort(-rows @ xq)[:NEIGHBOURS]
        np.testing.assert_array_equal(positions[: len(expected)], expected)
        assert (positions[len(expected) :] == -1).all()


@pytest.mark.parametrize("num_live", [4, 300, 500])
def test_true_nearest_of_probes_are_positions_of_the_living(num_live):
    rows = random_rows(500)
    live = np.sort(np.random.default_rng(2).choice(500, num_live, replace=False))
    queries = {"stored": random_rows(8, seed=1), "logged": random_rows(3, seed=2)}
    probes = faiss_tuning.make_probes(queries, live, block_of(rows[live]), 500)
    for name, sample_queries in queries.items():
        np.testing.assert_array_equal(probes.queries[name], sample_queries)
        for xq, truth in zip(sample_queries, probes.truth[name], strict=True):
            expected = live[np.argsort(-rows[live] @ xq)[:NEIGHBOURS]]
            np.testing.assert_array_equal(truth[: len(expected)], expected)
            assert (truth[len(expected) :] == -1).all()
    if num_live == 500:
        assert probes.allowed is None
    else:
        bits = np.unpackbits(probes.allowed, count=500, bitorder="little")
        np.testing.assert_array_equal(np.flatnonzero(bits), live)


def test_dead_rows_count_neither_as_found_nor_as_missed():
    rows = random_rows(600)
    live = np.arange(600)[::3]
    index = build("Flat", rows)
    probes = faiss_tuning.make_probes(
        {"a": random_rows(16, seed=1)}, live, block_of(rows[live]), 600
    )
    assert faiss_tuning.measure_recall(index, probes, {}) == {"a": 1.0}


@pytest.mark.parametrize("kind", ["IVF16,SQ8", "HNSW32,SQ8", "PCA8,IVF16,SQ8"])
@pytest.mark.parametrize("tuning", [{"nprobe": 2}, {"candidates": 4}, {"efSearch": 64}])
def test_found_share_equals_one_counted_by_hand(kind, tuning):
    rows = clustered_rows(1000)
    index, probes = build(kind, rows), probes_of(rows)
    hits = 0
    for xq, truth in zip(probes.queries["stored"], probes.truth["stored"], strict=True):
        parameters = search_parameters(index, tuning)
        k = NEIGHBOURS * tuning.get("candidates", 1)
        _, found = index.search(xq[None], k, params=parameters)
        hits += len(set(found[0].tolist()) & set(truth.tolist()))
    fraction = faiss_tuning.measure_recall(index, probes, tuning)["stored"]
    assert fraction == pytest.approx(hits / (64 * NEIGHBOURS))


def test_probe_queries_are_normalised_and_always_the_same():
    rows = random_rows(50)
    queries = faiss_tuning.probe_queries(rows)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(queries, faiss_tuning.probe_queries(rows))


def test_probe_queries_of_opposite_rows_are_finite():
    rows = np.concatenate([np.eye(D)[:1], -np.eye(D)[:1]]).astype(np.float32)
    assert np.isfinite(faiss_tuning.probe_queries(rows)).all()


# Building


@pytest.mark.parametrize(
    "kind", ["Flat", "HNSW32,SQ8", "IVF16,SQ8", "IVF16,RaBitQ2", "IVF16,RaBitQ", "PCA8,IVF16,SQ8"]
)
def test_position_i_is_vector_i(monkeypatch, kind):
    monkeypatch.setattr(faiss_tuning, "_BLOCK", 100)
    rows = random_rows(777)
    index = build(kind, rows)
    assert (index.ntotal, index.d, index.metric_type) == (777, D, faiss.METRIC_INNER_PRODUCT)
    tuning = {"nprobe": 16, "efSearch": 1024}
    k = 100 if kind.startswith("PCA") else 30  # a vector is not always nearest to itself
    _, found = index.search(rows, k, params=search_parameters(index, tuning))
    is_there = (found == np.arange(777)[:, None]).any(axis=1)
    assert is_there.mean() > 0.99


def test_index_of_nothing():
    assert build("Flat", random_rows(0)).ntotal == 0


def test_more_can_be_added():
    rows = random_rows(300)
    index = build("IVF4,SQ8", rows[:200])
    faiss_tuning.add(index, 100, block_of(rows[200:]))
    _, found = index.search(rows[250:251], 1, params=search_parameters(index, {"nprobe": 4}))
    assert (index.ntotal, found.tolist()) == (300, [[250]])


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("Nonsense", 100),
        ("", 100),
        ("IVF", 100),
        ("IVF16", 100),
        ("IVF16,", 100),
        ("IVF16,SQ8,Flat", 100),
        ("IVF-3,Flat", 100),
        ("PQ7", 100),  # 16 dimensions are not 7 equal parts
        ("PCA64,Flat", 100),
        ("IVF256,SQ8", 100),
        ("\u732b", 100),
    ],
)
def test_kind_that_cannot_be_made_is_one_line(kind, count):
    with pytest.raises(ValueError, match=r"^index.kind=") as raised:
        build(kind, random_rows(count))
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"index.kind={kind}: ")


# Choosing


@pytest.mark.parametrize(
    ("count", "lists"), [(1, 4), (1000, 128), (10_000, 512), (1_000_000, 4096), (0, 1)]
)
def test_number_of_lists_is_a_power_of_two_near_four_square_roots(count, lists):
    assert faiss_tuning.num_lists(count) == lists


@pytest.mark.parametrize("count", [10_000, 300_000, 300_001, 10_000_000])
def test_each_kind_in_question_can_be_made(count):
    for name in faiss_tuning.candidate_factories(count):
        index = faiss.index_factory(512, name, faiss.METRIC_INNER_PRODUCT)
        assert faiss.try_extract_index_ivf(index).nlist == faiss_tuning.num_lists(count)


def test_exact_search_is_chosen_while_it_is_fast():
    rows = random_rows(500)
    chosen = faiss_tuning.choose_factory(500, block_of(rows), recall=0.95, memory_bytes=0)
    assert chosen == faiss_tuning.FLAT


@pytest.fixture
def slow_exact_search(monkeypatch):
    monkeypatch.setattr(faiss_tuning, "_EXACT_SECONDS", 0.0)


def test_chosen_kind_finds_what_it_should(slow_exact_search):
    rows = clustered_rows(2000)
    chosen = faiss_tuning.choose_factory(2000, block_of(rows), recall=0.9, memory_bytes=0)
    assert chosen in faiss_tuning.candidate_factories(2000)
    index, probes = build(chosen, rows), probes_of(rows)
    tuning = faiss_tuning.tune(index, probes, recall=0.9)
    assert faiss_tuning.measure_recall(index, probes, tuning)["stored"] >= 0.9


def test_memory_is_kept_to_where_exact_search_would_be_fast():
    rows = clustered_rows(2000)
    exact = 2000 * D * 4
    assert (
        faiss_tuning.choose_factory(2000, block_of(rows), recall=0.9, memory_bytes=exact)
        == faiss_tuning.FLAT
    )
    chosen = faiss_tuning.choose_factory(
        2000, block_of(rows), recall=0.9, memory_bytes=exact - 2000
    )
    assert chosen != faiss_tuning.FLAT
    size = len(faiss.serialize_index(build(chosen, rows)))
    assert size <= 1.02 * (exact - 2000)


def test_memory_that_nothing_fits_is_refused_in_one_line():
    rows = clustered_rows(2000)
    message = r"index.memory_mb=\d+: 2000 vectors need at least \d+"
    with pytest.raises(ValueError, match=message) as raised:
        faiss_tuning.choose_factory(2000, block_of(rows), recall=0.9, memory_bytes=2000)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "count",
    [
        1000,  # need 0.33 MiB, and the message says 0: no limit
        5000,
        7000,  # need 1.04 MiB, and the message says 1
    ],
)
def test_least_memory_in_the_refusal_is_enough(slow_exact_search, monkeypatch, count):
    """What the message says in MiB can be given, and is then accepted."""
    smallest = f"IVF{faiss_tuning.num_lists(count)},RaBitQ"
    monkeypatch.setattr(faiss_tuning, "candidate_factories", lambda count: [smallest])
    rows = unit(np.random.default_rng(0).normal(size=(count, 512)))
    with pytest.raises(ValueError) as raised:
        faiss_tuning.choose_factory(count, block_of(rows), recall=0.5, memory_bytes=1 << 10)
    min_bytes = float(str(raised.value).rpartition(" ")[2])
    assert min_bytes > 0
    memory_bytes = int(min_bytes * 2**20)
    kind = faiss_tuning.choose_factory(count, block_of(rows), recall=0.5, memory_bytes=memory_bytes)
    assert kind == smallest


# Tuning


@pytest.mark.parametrize("kind", ["IVF32,SQ8", "HNSW32,SQ8", "IVF32,RaBitQ2", "PCA12,IVF32,SQ8"])
@pytest.mark.parametrize("recall", [0.5, 0.9, 0.99])
def test_tuning_finds_what_it_should(kind, recall):
    rows = clustered_rows(3000)
    index, probes = build(kind, rows), probes_of(rows)
    tuning = faiss_tuning.tune(index, probes, recall=recall)
    assert faiss_tuning.measure_recall(index, probes, tuning)["stored"] >= recall


def test_tuning_heeds_each_sort_of_query():
    rows = clustered_rows(2000)
    queries = {"stored": rows[:32], "logged": random_rows(32, seed=5)}
    probes = faiss_tuning.make_probes(queries, np.arange(2000), block_of(rows), 2000)
    index = build("IVF64,SQ8", rows)
    tuning = faiss_tuning.tune(index, probes, recall=0.95)
    assert min(faiss_tuning.measure_recall(index, probes, tuning).values()) >= 0.95


def test_best_there_is_where_nothing_finds_enough():
    rows = random_rows(2000)
    index, probes = build("IVF16,RaBitQ", rows), probes_of(rows)
    tuning = faiss_tuning.tune(index, probes, recall=1.01)
    found = faiss_tuning.measure_recall(index, probes, tuning)["stored"]
    best = {"nprobe": 16, "candidates": max(faiss_tuning._CANDIDATES)}
    assert found >= faiss_tuning.measure_recall(index, probes, best)["stored"] - 1e-9


def test_exact_index_needs_no_tuning():
    rows = random_rows(100)
    index, probes = build("Flat", rows), probes_of(rows)
    tuning = faiss_tuning.tune(index, probes, recall=1.0)
    assert tuning == {"candidates": 1}
    assert faiss_tuning.measure_recall(index, probes, tuning) == {"stored": 1.0}
