"""The encoder process: loads the model once for all workers, and encodes what they ask for.

Sentences that wait at the same time are encoded in one batch, whichever worker they came from.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from reelseek.configs.schema import ServeConfig
from reelseek.serving.channel import Server

if TYPE_CHECKING:
    from reelseek.ranking.query_encoding import QueryEncoder
    from reelseek.serving.upload_files import Kind
    from reelseek.serving.uploads import UploadDecoder

logger = logging.getLogger(__name__)

_BATCH_SENTENCES = 32
_LOOK_SECONDS = 0.5
_WARM_UP = ["a dog on a beach"]


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


def handlers(
    encoder: "QueryEncoder", decoder: "UploadDecoder | None" = None
) -> dict[str, Callable[[Any], Any]]:
    """What the process answers; embeddings are the bytes of float32.

    Args:
        decoder: of images and videos that are searched by; None where none are taken.
    """
    batcher = Batcher(encoder.sentences)

    def sentences(texts: list[str]) -> bytes:
        return _bytes(batcher(texts))

    def upload(file: list[str]) -> bytes:
        path, kind = file
        if decoder is None:
            raise ValueError("files are not taken")
        return _bytes(encoder.encode_frames(decoder.decode(Path(path), cast("Kind", kind))))

    def describe(_: None) -> dict[str, Any]:
        return {"fingerprint": encoder.fingerprint, "embedding_dim": encoder.embedding_dim}

    return {"sentences": sentences, "upload": upload, "describe": describe}


def _bytes(embeddings: np.ndarray) -> bytes:
    return np.ascontiguousarray(embeddings, dtype=np.float32).tobytes()


def load_encoder(config: ServeConfig) -> "QueryEncoder":
    """Returns the encoder of the index once that has a manifest, warmed up.

    Where the first videos are being indexed, the model that they are indexed with is loaded
    meanwhile; if the manifest then names another, that is loaded.
    """
    from reelseek.indexing.store.manifest import Manifest
    from reelseek.ranking.index_model import load_query_encoder

    assert config.index is not None
    index = Path(config.index)
    early = None if Manifest.exists(index) else _load_early(config)
    while not Manifest.exists(index):
        time.sleep(_LOOK_SECONDS)
    if early is not None and early.fingerprint == Manifest.read(index).settings.fingerprint:
        return early
    model = None if config.model is None else asdict(config.model)
    encoder = load_query_encoder(index, model, device=config.device)
    encoder.sentences(_WARM_UP)
    return encoder


def _load_early(config: ServeConfig) -> "QueryEncoder | None":
    """Returns the encoder that a first run of the indexer will use; None if it cannot be loaded,
    which that run will say."""
    from reelseek.configs.composition import compose, load_model_config
    from reelseek.configs.schema import IndexConfig
    from reelseek.ranking.index_model import load_future_encoder
    from reelseek.serving.library.library import model_options

    named = [] if config.model is None else model_options(config.model)
    options = [f"index={config.index}", "videos=.", *named, *config.index_options]
    try:
        chosen = compose(IndexConfig, options).model or load_model_config("mini")
        encoder = load_future_encoder(chosen, device=config.device)
        encoder.sentences(_WARM_UP)
    except (ValueError, OSError) as error:
        logger.info("no model is loaded yet", extra={"fields": {"reason": str(error)}})
        return None
    return encoder


def main(config: ServeConfig, socket: str) -> None:
    """Runs the process until it is killed."""
    import torch

    from reelseek.serving.telemetry import log_as_json
    from reelseek.serving.upload_files import UploadLimits
    from reelseek.serving.uploads import UploadDecoder

    log_as_json()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when to stop
    torch.set_num_threads(1)  # the workers use the other cores
    encoder = load_encoder(config)
    decoder = UploadDecoder(encoder.frame_settings, limits=UploadLimits.from_config(config))
    server = Server(Path(socket), handlers(encoder, decoder))
    threading.Thread(target=decoder.warm_up, name="warm up", daemon=True).start()
    server.serve_forever()
