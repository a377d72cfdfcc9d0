"""One searcher, many threads: each is answered as it would be alone, beside a writer too."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from reelseek.indexing import IndexReader, IndexSettings
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking.searcher import Searcher
from reelseek.text import TextEncoder, Tokenizer, everyday_queries
from tests.indexing.small_index import video_of

pytestmark = pytest.mark.long

NUM_THREADS = 16
LONG = "two dogs running along a very long beach at sunset while people watch " * 4
# Of every kind, in languages whose words are cut by objects that serve one thread at a time.
QUESTIONS = [
    ("a cat", {}),
    ("a dgo on a beach", {}),  # corrected
    (LONG, {}),  # of more tokens than the model reads
    ("a beach, no people", {}),
    ("a dog, then a cat", {"level": "moment"}),
    ("a dog, then a cat", {}),
    ("a rocket under 30 seconds", {}),
    ("a flower", {"where": "tag = 'odd'", "level": "moment"}),
    ("海滩上的猫", {}),
    ("ビーチの猫と海", {}),
    ("해변의 고양이", {"level": "moment"}),
    ("แมวบนชายหาด", {}),
    ("con mèo trên bãi biển", {}),
    ("my dog", {"sources": ["lexical"]}),
    (Image.new("RGB", (64, 48), (30, 200, 30)), {}),
    ([Image.new("RGB", (64, 48), (220, 30, 30)), "a cat"], {"level": "moment"}),
    ({"a dog": 1.0, "a person": -0.5}, {}),
]
TITLES = ["a cat", "my dog", "海滩上的猫", "ビーチの猫", "해변의 고양이", "แมวบนชายหาด", "a car"]
SCENES = ["a cat", "a dog", "a beach", "a rocket", "a flower", "people", "a car", "coffee", "food"]


@pytest.fixture(scope="module")
def towers(mini_fast):
    tokenizer = Tokenizer(mini_fast.tokenize, context_length=mini_fast.context_length)
    encoder = TextEncoder(mini_fast.clip, tokenizer)
    return SimpleNamespace(
        model=mini_fast,
        scenes=encoder.encode(SCENES).numpy(),
        sentences=encoder.encode(everyday_queries()[:64]).numpy(),
    )


def publish(folder: Path, towers: SimpleNamespace, state: int) -> None:
    """Brings an index to a state: the first has 24 videos, each later one three more."""
    settings = IndexSettings(
        model={"name": "mini_fast", "pretrained": None, "scripts": ["Latin"]},
        fingerprint=towers.model.fingerprint,
        embedding_dim=towers.model.embedding_dim,
        sampling={},
        segments={"kind": "windows", "seconds": 2.0, "overlap_seconds": 0.0},
    )
    first, last = (0, 24) if state == 0 else (21 + 3 * state, 24 + 3 * state)
    with IndexWriter(folder, settings) as writer:
        for i in range(first, last):
            rng = np.random.default_rng(i)
            of_scenes = towers.scenes[rng.integers(0, len(SCENES), size=1 + i % 6)]
            noise = rng.normal(scale=0.03, size=of_scenes.shape)
            metadata = {"title": TITLES[i % len(TITLES)], "tags": ["odd"] if i % 2 else ["even"]}
            writer.add(*video_of(f"{i}.mp4", of_scenes + noise, metadata=metadata))
        writer.publish(sentences=lambda: towers.sentences)


def open_searchers(folder: Path, towers: SimpleNamespace) -> list[Searcher]:
    """Two that share a model: one of which has a ranker."""
    ranker = SimpleNamespace(score=lambda features: np.nan_to_num(features[:, 0]))
    return [
        Searcher(IndexReader(folder), towers.model, device="cpu"),
        Searcher(IndexReader(folder), towers.model, device="cpu", ranker=ranker),
    ]


def answer(searchers: list[Searcher], number: int) -> tuple:
    query, options = QUESTIONS[number // 2 % len(QUESTIONS)]
    hits = searchers[number % 2].search(query, k=8, **options)
    return tuple((h.key, round(h.score, 4), round(h.confidence or 0.0, 3)) for h in hits)


@pytest.mark.model
def test_threads_get_the_answers_of_one_thread_beside_a_writer(tmp_path, towers):
    numbers = range(2 * len(QUESTIONS))
    possible: list[set] = [set() for _ in numbers]
    for state in range(3):
        publish(tmp_path / "alone", towers, state)
        searchers = open_searchers(tmp_path / "alone", towers)
        for number in numbers:
            possible[number].add(answer(searchers, number))
        for searcher in searchers:
            searcher.close()
    assert [QUESTIONS[n // 2][0] for n in numbers if possible[n] == {()}] == []
    assert sum(len(answers) > 1 for answers in possible) > len(numbers) / 2  # states do differ

    publish(tmp_path / "shared", towers, 0)
    shared = open_searchers(tmp_path / "shared", towers)  # nothing is loaded: threads race for it
    start = threading.Barrier(NUM_THREADS + 1)

    def ask(seed: int) -> list[str]:
        start.wait(timeout=60)
        order = np.random.default_rng(seed).permutation(numbers)[:10]
        return [
            f"{QUESTIONS[number // 2 % len(QUESTIONS)]}: {found}"
            for number in order.tolist()
            if (found := answer(shared, number)) not in possible[number]
        ]

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        asked = [pool.submit(ask, seed) for seed in range(NUM_THREADS)]
        start.wait(timeout=60)
        for state in range(1, 3):
            publish(tmp_path / "shared", towers, state)
        wrong = [line for each in asked for line in each.result()]
    for searcher in shared:
        searcher.close()
    assert wrong == []
