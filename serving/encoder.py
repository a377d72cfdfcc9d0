"""The encoder process: loads the model once for all workers, and encodes what they ask for.

Sentences that wait at the same time are encoded in one batch, whichever worker they came from.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from reelseek.serving.channel import Server

if TYPE_CHECKING:
    from reelseek.ranking.query_encoding import QueryEncoder

logger = logging.getLogger(__name__)

_BATCH_SENTENCES = 32


class Batcher:
    """Encodes the sentences of several callers together.

    A caller never waits for others to come: what waits while a batch is encoded is the next one.

    Args:
        encode: maps n sentences to `(n, D)`.
    """

    def __init__(self, encode: Callable[[Sequence[str]], np.ndarray]) -> None:
        self._encode = encode
        self._waiting: SimpleQueue[tuple[list[str], Future[np.ndarray]]] = SimpleQueue()
        threading.Thread(target=self._run, name="batches", daemon=True).start()

    def __call__(self, sentences: Sequence[str]) -> np.ndarray:
        """`(n, D)` float32."""
        done: Future[np.ndarray] = Future()
        self._waiting.put((list(sentences), done))
        return done.result()

    def _run(self) -> None:
        while True:
            calls = [self._waiting.get()]
            while not self._waiting.empty() and _count(calls) < _BATCH_SENTENCES:
                calls.append(self._waiting.get())
            try:
                embeddings = self._encode([text for texts, _ in calls for text in texts])
            except Exception as error:
                for _, done in calls:
                    done.set_exception(error)
                continue
            ends = np.cumsum([len(texts) for texts, _ in calls])
            for (_, done), part in zip(calls, np.split(embeddings, ends[:-1]), strict=True):
                done.set_result(part)


def _count(calls: Sequence[tuple[list[str], Any]]) -> int:
    return sum(len(texts) for texts, _ in calls)


def handlers(encoder: "QueryEncoder") -> dict[str, Callable[[Any], Any]]:
    """What the process answers; embeddings are the bytes of float32."""
    batcher = Batcher(encoder.sentences)

    def sentences(texts: list[str]) -> bytes:
        return np.ascontiguousarray(batcher(texts), dtype=np.float32).tobytes()

    def describe(_: None) -> dict[str, Any]:
        return {"fingerprint": encoder.fingerprint, "embedding_dim": encoder.embedding_dim}

    return {"sentences": sentences, "describe": describe}


def main(index: str, model: dict[str, Any] | None, device: str, socket: str) -> None:
    """Runs the process until it is killed.

    Args:
        index: its folder, whose model is loaded.
        model: to insist on, as of `ModelConfig`; None for the index's.
    """
    from reelseek.ranking.searcher import load_query_encoder

    encoder = load_query_encoder(Path(index), model, device=device)
    encoder.sentences(["a dog on a beach"])
    Server(Path(socket), handlers(encoder)).serve_forever()
