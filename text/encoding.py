"""Encodes sentences into text embeddings."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from reelseek.text.scripts import scripts_of
from reelseek.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

_BATCH_SENTENCES = 64


class TextEncoder:
    """Encodes sentences with the text tower of a model.

    Args:
        clip: An open_clip model; its `encode_text` maps `(B, context_length)` tokens to `(B, D)`.
        tokenizer: The model's tokenizer.
        scripts: Scripts the model was trained on; empty if unknown.
        device: Device to compute on.
        encode_text: Computes on the CPU in place of the model's `encode_text`, from the same
            tokens; a compiled text tower.
    """

    def __init__(
        self,
        clip: Any,
        tokenizer: Tokenizer,
        *,
        scripts: Sequence[str] = (),
        device: torch.device | str = "cpu",
        encode_text: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self._clip = clip.to(device)
        self._encode_text = encode_text if encode_text is not None else self._encode_by_clip
        self._tokenizer = tokenizer
        self._scripts = frozenset(scripts)
        self._device = device

    @torch.inference_mode()
    def encode(self, sentences: Sequence[str]) -> torch.Tensor:
        """Returns `(B, D)` float32 on the CPU, L2-normalised."""
        embeddings = [
            self._encode_text(tokens)
            for tokens in self._tokenizer(sentences).split(_BATCH_SENTENCES)
        ]
        return F.normalize(torch.cat(embeddings), dim=-1)

    def _encode_by_clip(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = strip_padding(tokens, self._clip).to(self._device)
        return self._clip.encode_text(tokens).float().cpu()

    def encode_query(self, query: str) -> torch.Tensor:
        """Encodes one query into `(D,)`, and logs a warning if the model cannot read all of it.

        Raises:
            ValueError: The query is empty.
        """
        if not query.strip():
            raise ValueError("query is empty: say in a few words what the video should show")
        if self._tokenizer.is_cut(query):
            logger.warning(
                "the query is longer than the %d tokens that the model reads; its end is ignored",
                self._tokenizer.context_length,
            )
        unknown = scripts_of(query) - self._scripts if self._scripts else frozenset()
        if unknown:
            logger.warning(
                "the query has %s letters, and the model was trained on %s only: expect poor "
                "answers; index with a multilingual model, such as model=siglip2_b16",
                ", ".join(sorted(unknown)),
                ", ".join(sorted(self._scripts)),
            )
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
