"""Encodes sentences into text embeddings."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from reelseek.text.query_check import check_query
from reelseek.text.tokenizer import Tokenizer

_BATCH_SENTENCES = 64


class TextEncoder:
    """Encodes sentences with the text tower of a model.

    Args:
        clip: An open_clip model; its `encode_text` maps `(B, context_length)` tokens to `(B, D)`.
        tokenizer: The model's tokenizer.
        scripts: Scripts the model was trained on; empty if unknown.
        device: Device to compute on.
    """

    def __init__(
        self,
        clip: Any,
        tokenizer: Tokenizer,
        *,
        scripts: Sequence[str] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        self._clip = clip.to(device)
        self._tokenizer = tokenizer
        self._scripts = frozenset(scripts)
        self._device = device

    @torch.inference_mode()
    def encode(self, sentences: Sequence[str]) -> torch.Tensor:
        """Returns `(B, D)` float32 on the CPU, L2-normalised."""
        embeddings = []
        for tokens in self._tokenizer(sentences).split(_BATCH_SENTENCES):
            tokens = strip_padding(tokens, self._clip).to(self._device)
            embeddings.append(self._clip.encode_text(tokens).float().cpu())
        return F.normalize(torch.cat(embeddings), dim=-1)

    def encode_query(self, query: str) -> torch.Tensor:
        """Encodes one query into `(D,)`, and logs a warning if the model cannot read all of it.

        Raises:
            ValueError: The query is empty.
        """
        check_query(query, self._tokenizer, scripts=self._scripts)
        return self.encode([query])[0]


def masked_padding(clip: Any) -> int | None:
    """Returns the token that a tower of transformers masks; None for a tower of another kind."""
    return getattr(getattr(getattr(clip, "text", None), "config", None), "pad_token_id", None)


def strip_padding(tokens: torch.Tensor, clip: Any) -> torch.Tensor:
    """Drops columns of padding, for towers of transformers, which mask it.

    CLIP's own text tower has a position for every column and needs them all.
    """
    padding = masked_padding(clip)
    if padding is None:
        return tokens
    longest = int((tokens != padding).sum(dim=1).max())
    return tokens[:, : max(1, longest)]
