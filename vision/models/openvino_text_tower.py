"""A text tower that OpenVINO has compiled, as it runs: neither PyTorch nor the model is needed."""

import threading
from typing import Any

import numpy as np


class OpenVinoTextTower:
    """A compiled text tower. Threads may share it; they take turns.

    Args:
        compiled: OpenVINO's compiled model, tokens `(B, L)` int64 to features `(B, D)`.
        padding: Token that pads.
        length: Number of tokens that the tower insists on; None if any will do.
        precision: It was compiled for, `f32` or `bf16`.
        key: Of its folder among the converted models; None if it is not kept.
    """

    def __init__(
        self,
        compiled: Any,
        *,
        padding: int,
        length: int | None,
        precision: str,
        key: str | None = None,
    ) -> None:
        self._request = compiled.create_infer_request()
        self.padding, self.length = padding, length
        self.precision, self.key = precision, key
        self._lock = threading.Lock()

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """Maps tokens `(B, context_length)` int64, padded, to features `(B, D)` float32."""
        if self.length is None:
            # Up to the last token that is no padding: CLIP's padding is a token of words too.
            is_word = (tokens != self.padding).any(axis=0)
            longest = int(is_word.nonzero()[0].max()) + 1 if is_word.any() else 1
            tokens = tokens[:, :longest]
        with self._lock:
            outputs = self._request.infer({0: np.ascontiguousarray(tokens)}, share_inputs=True)
            return outputs[0].copy()
