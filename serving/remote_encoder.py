"""Encodes queries through the encoder process; keeps the embeddings of sentences."""

from collections.abc import Sequence

import numpy as np

from reelseek.ranking.query_parts import EncodedPart
from reelseek.serving import telemetry
from reelseek.serving.cache import BoundedCache
from reelseek.serving.channel import Client, RemoteError


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
        """`(n, D)` float32, L2-normalised; n may be 0."""
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
            answer = self._client.call(
                "sentences", sentences, timeout_seconds=self._timeout_seconds
            )
        except RemoteError as error:
            raise ValueError(str(error)) from error
        return np.frombuffer(answer, np.float32).reshape(-1, self.embedding_dim)
