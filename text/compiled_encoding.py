"""Encodes sentences with a compiled text tower, without PyTorch."""

from collections.abc import Callable, Sequence

import numpy as np

from reelseek.text.query_check import check_query
from reelseek.text.tokenizer import Tokenizer

_BATCH_SENTENCES = 64


class CompiledTextEncoder:
    """Encodes sentences with a compiled text tower.

    Args:
        encode_text: Maps tokens `(B, context_length)` int64 to features `(B, D)` float32.
        tokenizer: The model's tokenizer.
        scripts: Scripts the model was trained on; empty if unknown.
    """

    def __init__(
        self,
        encode_text: Callable[[np.ndarray], np.ndarray],
        tokenizer: Tokenizer,
        *,
        scripts: Sequence[str] = (),
    ) -> None:
        self._encode_text = encode_text
        self._tokenizer = tokenizer
        self._scripts = frozenset(scripts)

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Returns `(B, D)` float32, L2-normalised."""
        tokens = np.asarray(self._tokenizer(sentences))
        batches = range(0, len(tokens), _BATCH_SENTENCES)
        features = np.concatenate(
            [self._encode_text(tokens[first : first + _BATCH_SENTENCES]) for first in batches]
        )
        return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)

    def encode_query(self, query: str) -> np.ndarray:
        """Encodes one query into `(D,)`, and logs a warning if the model cannot read all of it.

        Raises:
            ValueError: The query is empty.
        """
        check_query(query, self._tokenizer, scripts=self._scripts)
        return self.encode([query])[0]
