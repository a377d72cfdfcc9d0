"""Text towers as modules of plain operations, tokens `(B, L)` to features `(B, D)`.

PyTorch's attention layer and transformers' masks are written for training; traced, they insist on
the number and the length of sentences they were traced with. These towers compute the same and can
be traced for any B, and for any L where the model allows it.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from reelseek.vision.models.sentence_tower import SentenceTower, is_supported


def traceable_text_tower(clip: Any) -> "SentenceTower | TransformerTower | None":
    """Returns the text tower of an open_clip model; None if it is of a kind unknown here."""
    tower: Any = getattr(clip, "text", clip)
    if isinstance(sentence_tower := getattr(clip, "sentence_tower", None), SentenceTower):
        return sentence_tower
    if hasattr(tower, "pooler"):
        config = tower.config.to_dict()
        pooler = {"MeanPooler": "mean_pooler"}.get(type(tower.pooler).__name__, "")
        if not is_supported(config, pooler=pooler):
            return None
        return SentenceTower(config, clip.state_dict()).eval()
    return TransformerTower(clip) if TransformerTower.supports(clip) else None


class TransformerTower(nn.Module):
    """open_clip's text transformer.

    Source: Radford et al. 2021, "CLIP", section 2.4; SigLIP's differs in mask and pooling.

    Args:
        clip: A CLIP, or a CustomTextCLIP with a `TextTransformer`; its weights are used, not
            copied.

    Attributes:
        layers: The layers of attention.
        padding: Token that pads.
        any_length: Whether features are the same with less padding: later tokens must not be seen
            by earlier ones, and the pooled token must be found by what it is.
    """

    _mask: torch.Tensor | None

    def __init__(self, clip: Any) -> None:
        super().__init__()
        # CLIP has the parts of its text tower as its own attributes, partly under other names.
        tower: Any = getattr(clip, "text", clip)
        self._pool_type = getattr(tower, "text_pool_type", None) or tower.pool_type
        end = getattr(tower, "text_eos_id", None)
        self._end = getattr(tower, "eos_id", None) if end is None else end
        self.padding = int(getattr(tower, "pad_id", 0) or 0)
        self._tokens, self._positions = tower.token_embedding, tower.positional_embedding
        self.layers, self._final_norm = tower.transformer.resblocks, tower.ln_final
        self._projection = tower.text_projection
        self.register_buffer("_mask", tower.attn_mask, persistent=False)
        is_causal = tower.attn_mask is not None
        self.any_length = is_causal and self._pool_type in ("argmax", "eos")

    @staticmethod
    def supports(clip: Any) -> bool:
        """Whether this class computes a model's text features."""
        tower = getattr(clip, "text", clip)
        blocks = getattr(getattr(tower, "transformer", None), "resblocks", [])
        return (
            hasattr(tower, "ln_final")
            and {type(block).__name__ for block in blocks} == {"ResidualAttentionBlock"}
            and getattr(tower, "cls_emb", None) is None
            and not getattr(tower, "use_pad_mask", False)
            and not getattr(tower, "output_tokens", False)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Maps tokens `(B, L)` int64, padded, to features `(B, D)`."""
        from open_clip.transformer import text_global_pool

        length = tokens.shape[1]
        hidden = self._tokens(tokens) + self._positions[:length]
        mask = None if self._mask is None else self._mask[:length, :length]
        for block in self.layers:
            hidden = hidden + block.ls_1(_attend(block.attn, block.ln_1(hidden), mask))
            hidden = hidden + block.ls_2(block.mlp(block.ln_2(hidden)))
        hidden = self._final_norm(hidden)
        features = text_global_pool(hidden, tokens, self._pool_type, eos_token_id=self._end)
        if self._projection is None:
            return features
        if isinstance(self._projection, nn.Linear):
            return self._projection(features)
        return features @ self._projection


def _attend(attention: Any, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Computes `nn.MultiheadAttention` of `(B, L, width)` with itself."""
    projected = F.linear(hidden, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for part in projected.chunk(3, dim=-1)
    )
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attention.out_proj(attended.transpose(1, 2).flatten(2))
