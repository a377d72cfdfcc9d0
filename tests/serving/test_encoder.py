"""Sentences of several callers in one batch, and the embeddings that a worker keeps."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.indexing import Manifest
from reelseek.serving.channel import Client, RemoteError, Server
from reelseek.serving.encoder import Batcher, handlers, load_encoder
from reelseek.serving.errors import ApiError
from reelseek.serving.remote_encoder import RemoteEncoder
from tests.indexing.small_index import random_index

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
        self.has_begun = threading.Event()

    def sentences(self, texts):
        self.has_begun.set()
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
        futures = [threads.submit(batcher, ["query 0", "and 0"])]
        assert encoder.has_begun.wait(10)  # with the first alone
        futures += [threads.submit(batcher, [f"query {n}", f"and {n}"]) for n in range(1, 40)]
        deadline = time.monotonic() + 10
        while batcher._waiting.qsize() < 39 and time.monotonic() < deadline:
            time.sleep(0.01)
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


class Loading:
    """Stands in for what loads a model; notes which, and whether there was an index then."""

    def __init__(self, monkeypatch, index, *, early: str) -> None:
        self._index, self._early = index, early
        self.loaded: list[tuple[str, str, bool]] = []
        self.has_tried = threading.Event()
        name = "reelseek.ranking.index_model"
        monkeypatch.setattr(f"{name}.load_future_encoder", self._load_future)
        monkeypatch.setattr(f"{name}.load_query_encoder", self._load_of_index)
        monkeypatch.setattr("reelseek.serving.encoder._LOOK_SECONDS", 0.01)

    def _load_future(self, model, *, device):
        try:
            if not self._early:
                raise ValueError("model=none: there is no such model")
            return self._made("early", model.name, self._early)
        finally:
            self.has_tried.set()

    def _load_of_index(self, index, model, *, device):
        return self._made("index", "", Manifest.read(index).settings.fingerprint)

    def _made(self, kind: str, name: str, fingerprint: str) -> FakeEncoder:
        self.loaded.append((kind, name, Manifest.exists(self._index)))
        encoder = FakeEncoder()
        encoder.fingerprint = fingerprint
        return encoder


@pytest.mark.parametrize(
    ("options", "name"), [([], "mini"), (["model=ViT-B-32"], "ViT-B-32")], ids=["default", "named"]
)
@pytest.mark.parametrize(
    ("early", "kinds"),
    [("same", ["early"]), ("another", ["early", "index"]), ("", ["index"])],
    ids=["right", "of another model", "cannot be loaded"],
)
def test_the_model_is_loaded_while_the_first_videos_are_indexed(
    tmp_path, monkeypatch, early, kinds, options, name
):
    index = tmp_path / "index"
    random_index(tmp_path / "ready", 2)
    fingerprint = Manifest.read(tmp_path / "ready").settings.fingerprint
    loading = Loading(monkeypatch, index, early=fingerprint if early == "same" else early)
    config = compose(ServeConfig, [f"index={index}", *options])
    with ThreadPoolExecutor(1) as thread:
        encoder = thread.submit(load_encoder, config)
        assert loading.has_tried.wait(10)
        assert not encoder.done()
        (tmp_path / "ready").rename(index)
        found = encoder.result(timeout=10)
    assert found.fingerprint == fingerprint
    assert found.batches  # warmed up
    assert [kind for kind, _, _ in loading.loaded] == kinds
    if "early" in kinds:
        assert loading.loaded[0] == ("early", name, False)  # before there was an index


def test_the_model_of_an_index_is_loaded_once(tmp_path, monkeypatch):
    random_index(tmp_path, 2)
    loading = Loading(monkeypatch, tmp_path, early="another")
    load_encoder(compose(ServeConfig, [f"index={tmp_path}"]))
    assert loading.loaded == [("index", "", True)]


def test_an_error_reaches_the_caller_alone(remote):
    _, client = remote
    with pytest.raises((RemoteError, ValueError), match="query is bad"):
        client.sentences(["bad"])
    assert np.array_equal(client.sentences(["good"])[0], embedding("good"))


def encode_or_die(path: str, dies: bool) -> None:
    """Serves in a process of its own; one that dies is killed by what it is asked."""

    def sentences(texts: list[str]) -> bytes:
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.full((len(texts), 2), 0.5, np.float32).tobytes()

    describe = {"fingerprint": "f", "embedding_dim": 2}
    handlers = {"sentences": sentences, "describe": lambda _: describe}
    Server(Path(path), handlers).serve_forever()


def test_a_sentence_that_was_asked_of_one_that_died_is_asked_of_its_successor(tmp_path):
    path, processes = tmp_path / "s", []

    def start(*, dies: bool) -> None:
        processes.append(get_context("fork").Process(target=encode_or_die, args=(str(path), dies)))
        processes[-1].start()

    start(dies=True)
    remote = RemoteEncoder(Client(path), max_cache_bytes=0, timeout_seconds=10)
    remote.connect(timeout_seconds=10)
    try:
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(remote.sentences, ["red"])
            processes[0].join()
            start(dies=False)
            assert waiting.result(20).tolist() == [[0.5, 0.5]]
    finally:
        for process in processes:
            process.kill()
            process.join()


def test_one_whose_successor_does_not_come_is_a_503(tmp_path):
    remote = RemoteEncoder(Client(tmp_path / "s"), max_cache_bytes=0, timeout_seconds=0.1)
    with pytest.raises(ApiError) as raised:
        remote.sentences(["red"])
    assert (raised.value.status, raised.value.code) == (503, "not_ready")
