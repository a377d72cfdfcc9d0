"""Encodes each token of a sentence, in the space of the text embeddings.

An open_clip model pools the outputs of its last layer and projects the result. This module applies
the same projection to each token's output: if the pooling is a mean and the projection linear, the
text embedding has the direction of the mean token output.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from reelseek.text.encoding import strip_padding
from reelseek.text.tokenizer import Tokenizer

_BATCH_SENTENCES = 64


class TokenEncoder:
    """Encodes tokens with the text tower of a model.

    Args:
        clip: An open_clip model: CLIP, or CustomTextCLIP with open_clip's text transformer or one
            of transformers.
        tokenizer: The model's tokenizer.
        device: Device to compute on.

    Raises:
        ValueError: The text tower is of another kind.
    """

    def __init__(
        self, clip: Any, tokenizer: Tokenizer, *, device: torch.device | str = "cpu"
    ) -> None:
        self._clip = clip.to(device)
        self._tokenizer = tokenizer
        self._device = device
        # CLIP has the parts of its text tower as its own attributes.
        self._tower = getattr(clip, "text", clip)
        self._is_transformers = hasattr(self._tower, "pooler")
        if not self._is_transformers and not hasattr(self._tower, "ln_final"):
            raise ValueError(
                f"the model's text tower is a {type(self._tower).__name__}: only open_clip's text "
                "transformers and those of transformers give token embeddings; search without "
                "token matching"
            )

    @torch.inference_mode()
    def encode_tokens(self, sentences: Sequence[str]) -> list[torch.Tensor]:
        """Returns `(L, D)` float32 on the CPU, L2-normalised, for each sentence.

        The embeddings are those of its words, and of the token that the model pools, if it pools
        one: in a causal tower, only this token has seen the whole sentence. Start, end and padding
        tokens are left out, unless there are no others.
        """
        embeddings: list[torch.Tensor] = []
        in_every = self._tokenizer([""])[0].unique()
        for tokens in self._tokenizer(list(sentences)).split(_BATCH_SENTENCES):
            tokens = strip_padding(tokens, self._clip)
            features = self._features(tokens.to(self._device))
            features = F.normalize(features.float(), dim=-1).cpu()
            is_kept = torch.isin(tokens, in_every, invert=True)
            if (pooled := self._pooled_positions(tokens)) is not None:
                is_kept[torch.arange(len(tokens)), pooled] = True
            is_kept[:, 0] |= ~is_kept.any(dim=1)
            embeddings += [each[kept] for each, kept in zip(features, is_kept, strict=True)]
        return embeddings

    def _pooled_positions(self, tokens: torch.Tensor) -> torch.Tensor | None:
        """Returns the position of the pooled token, `(B,)`; None if no single token is pooled."""
        if self._is_transformers:
            index = getattr(self._tower.pooler, "cls_token_position", None)
            return None if index is None else torch.full((len(tokens),), index)
        # CLIP's attributes have a prefix, its tower's have none.
        kind = getattr(self._tower, "text_pool_type", None) or self._tower.pool_type
        end: Any = getattr(self._tower, "text_eos_id", None)
        end = getattr(self._tower, "eos_id", None) if end is None else end
        if getattr(self._tower, "cls_emb", None) is not None:
            return None  # the model adds an embedding of its own
        positions = {
            "first": lambda: torch.zeros(len(tokens), dtype=torch.int64),
            "last": lambda: torch.full((len(tokens),), tokens.shape[1] - 1),
            "argmax": lambda: tokens.argmax(dim=1),
            "eos": lambda: torch.eq(tokens, end).int().argmax(dim=1),
        }
        return positions[kind]() if kind in positions else None

    def _features(self, tokens: torch.Tensor) -> torch.Tensor:
        """Maps tokens `(B, L)` to projected features `(B, L, D)`."""
        tower = self._tower
        if self._is_transformers:
            mask = (tokens != tower.config.pad_token_id).long()
            output = tower.transformer(input_ids=tokens, attention_mask=mask)
            return tower.proj(output.last_hidden_state)
        if hasattr(tower, "_embeds"):
            states, mask = tower._embeds(tokens)
            states = tower.transformer(states, attn_mask=mask)
            if tower.cls_emb is not None:
                states = states[:, :-1]
        else:
            states = tower.token_embedding(tokens) + tower.positional_embedding
            states = tower.transformer(states, attn_mask=tower.attn_mask)
        return _projected(tower.ln_final(states), tower.text_projection)


def _projected(states: torch.Tensor, projection: Any) -> torch.Tensor:
    if projection is None:
        return states
    if isinstance(projection, nn.Linear):
        return projection(states)
    return states @ projection
