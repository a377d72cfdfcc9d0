"""Encodes queries through the encoder process; keeps the embeddings of sentences."""

import time
from collections.abc import Sequence

import numpy as np

from reelseek.ranking.query_parts import EncodedPart
from reelseek.serving import telemetry
from reelseek.serving.cache import BoundedCache
from reelseek.serving.channel import Client, Died, RemoteError, Unavailable
from reelseek.serving.errors import ApiError

_ATTEMPTS = 3
_PAUSE_SECONDS = 0.1  # while a process dies, it is connected to for a moment, but does not answer


class RemoteEncoder:
    """What a `Searcher` encodes with, where no model is loaded.

    Args:
        client: of the encoder process.
        max_cache_bytes: of embeddings to keep.
    """

    def __init__(
        self, client: Client, *, max_cache_bytes: int, timeout_seconds: float = 30.0
    ) -> None:
        self._client = client
        self._kept: BoundedCache[np.ndarray] = BoundedCache(max_cache_bytes)
        self._timeout_seconds = timeout_seconds
        self.fingerprint = ""
        self.embedding_dim = 0

    def connect(self, *, timeout_seconds: float) -> None:
        """Waits until the model is loaded.

        Raises:
            Unavailable: it takes longer.
        """
        described = self._client.call("describe", timeout_seconds=timeout_seconds)
        self.fingerprint = described["fingerprint"]
        self.embedding_dim = described["embedding_dim"]

    def sentences(self, sentences: Sequence[str]) -> np.ndarray:
        """`(n, D)` float32, L2-normalised; n may be 0.

        Raises:
            ApiError: the encoder process has died, and its successor was not there in time.
        """
        if not sentences:
            return np.empty((0, self.embedding_dim), np.float32)
        found: dict[str, np.ndarray] = {}
        for text in sentences:
            known = self._kept.get((self.fingerprint, text))
            if known is not None:
                found[text] = known
        new = [text for text in dict.fromkeys(sentences) if text not in found]
        telemetry.CACHE.labels("embeddings", "miss").inc(len(new))
        telemetry.CACHE.labels("embeddings", "hit").inc(len(found))
        if new:
            for text, embedding in zip(new, self._ask(new), strict=True):
                found[text] = embedding
                size_bytes = embedding.nbytes + len(text)
                self._kept.put((self.fingerprint, text), embedding, size_bytes=size_bytes)
        return np.stack([found[text] for text in sentences])

    def tokens(self, sentences: Sequence[str]) -> list[np.ndarray]:
        """Raises a ValueError: a service matches no tokens."""
        raise ValueError("token matching is not served")

    def encode(self, part: EncodedPart) -> np.ndarray:
        """`(D,)` float32 of a sentence; of files, the embedding is given in place of the part."""
        if not isinstance(part, str):
            raise ValueError("files are encoded when they are uploaded")
        if not part.strip():
            raise ValueError("query is empty: say in a few words what the video should show")
        return self.sentences([part])[0]

    def _ask(self, sentences: list[str]) -> np.ndarray:
        try:
            answer = self._call(sentences)
        except RemoteError as error:
            raise ValueError(str(error)) from error
        except Unavailable as error:
            message = "the model is being loaded again; ask again"
            raise ApiError(503, "not_ready", message, retry_after_seconds=2) from error
        return np.frombuffer(answer, np.float32).reshape(-1, self.embedding_dim)

    def _call(self, sentences: list[str]) -> bytes:
        deadline = time.monotonic() + self._timeout_seconds
        for attempt in range(1, _ATTEMPTS + 1):
            left = max(0.0, deadline - time.monotonic())
            try:
                return bytes(self._client.call("sentences", sentences, timeout_seconds=left))
            except Died:
                # Its successor is asked, but not for ever: the sentences may be why it died.
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(_PAUSE_SECONDS)
        raise AssertionError
