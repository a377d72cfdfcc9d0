"""Sentences of several callers in one batch, and the embeddings that a worker keeps."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reelseek.serving.channel import Client, RemoteError, Server
from reelseek.serving.encoder import Batcher, handlers
from reelseek.serving.remote_encoder import RemoteEncoder

D = 4


def embedding(text: str) -> np.ndarray:
    rng = np.random.default_rng(list(text.encode()))
    row = rng.normal(size=D).astype(np.float32)
    return row / np.linalg.norm(row)


class FakeEncoder:
    fingerprint = "f" * 32
    embedding_dim = D

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def sentences(self, texts):
        self.may_go_on.wait()
        self.batches.append(list(texts))
        if "bad" in texts:
            raise ValueError("query is bad")
        return np.stack([embedding(text) for text in texts])


def test_what_waits_is_one_batch():
    encoder = FakeEncoder()
    batcher = Batcher(encoder.sentences)
    encoder.may_go_on.clear()
    with ThreadPoolExecutor(40) as threads:
        futures = [threads.submit(batcher, [f"query {n}", f"and {n}"]) for n in range(40)]
        while batcher._waiting.qsize() < 39:
            pass
        encoder.may_go_on.set()
        for n, future in enumerate(futures):
            expected = np.stack([embedding(f"query {n}"), embedding(f"and {n}")])
            assert np.array_equal(future.result(timeout=10), expected)
    assert sum(map(len, encoder.batches)) == 80
    assert len(encoder.batches) <= 4  # one, then 32 of 78, 32 and the rest


@pytest.fixture
def remote(tmp_path):
    encoder = FakeEncoder()
    server = Server(tmp_path / "s", handlers(encoder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = RemoteEncoder(Client(tmp_path / "s"), max_cache_bytes=100_000)
    client.connect(timeout_seconds=10)
    return encoder, client


def test_embeddings_are_kept(remote):
    encoder, client = remote
    assert (client.fingerprint, client.embedding_dim) == ("f" * 32, D)
    texts = ["a cat", "a dog", "a cat"]
    assert np.array_equal(client.sentences(texts), np.stack([embedding(text) for text in texts]))
    assert np.array_equal(client.sentences(["a dog", "a cow"])[0], embedding("a dog"))
    assert encoder.batches[1:] == [["a cow"]]
    assert client.sentences([]).shape == (0, D)


def test_an_error_reaches_the_caller_alone(remote):
    _, client = remote
    with pytest.raises((RemoteError, ValueError), match="query is bad"):
        client.sentences(["bad"])
    assert np.array_equal(client.sentences(["good"])[0], embedding("good"))
