"""A text tower of a sentence encoder, from the weights of an open_clip model alone.

The tower maps tokens `(B, L)` to features `(B, D)`: BERT, RoBERTa or MPNet, the mean of its last
layer over the tokens, and a projection. It needs neither open_clip nor transformers, which take
seconds to import, and consists of operations that OpenVINO converts for any B and L.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

# Names of a layer's parts in transformers' BERT (and RoBERTa) and MPNet.
_COMMON = {"linear1": "intermediate.dense", "linear2": "output.dense", "norm2": "output.LayerNorm"}
_BERT = _COMMON | {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
}
_MPNET = _COMMON | {
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "out": "attention.attn.o",
    "norm1": "attention.LayerNorm",
}

_SUPPORTED_TYPES = ("bert", "roberta", "xlm-roberta", "mpnet")
_MAX_DISTANCE = 128  # MPNet's relative positions beyond this share one bias


def is_supported(config: dict[str, Any], *, pooler: str) -> bool:
    """Whether `SentenceTower` computes a text tower of transformers.

    Args:
        config: transformers' description of the network.
        pooler: open_clip's name of the pooling.
    """
    return (
        pooler == "mean_pooler"
        and config["model_type"] in _SUPPORTED_TYPES
        and config.get("hidden_act") == "gelu"
        # transformers 5 no longer knows other kinds, and no longer writes this down.
        and config.get("position_embedding_type", "absolute") == "absolute"
    )


def register_mpnet() -> None:
    """Lets open_clip build text towers on MPNet, which has the same description as RoBERTa."""
    from open_clip.hf_configs import arch_dict

    arch_dict.setdefault("mpnet", arch_dict["roberta"])


class SentenceTower(nn.Module):
    """BERT, RoBERTa or MPNet with mean pooling and a projection.

    Source: Devlin et al. 2019, "BERT", section 3; Song et al. 2020, "MPNet", section 2, with the
    relative positions of Raffel et al. 2020, "T5", section 2.1. Layers are post-norm as in Vaswani
    et al. 2017.

    Args:
        config: transformers' description of the network.
        weights: The weights of a whole open_clip `CustomTextCLIP`, by name; used, not copied.

    Attributes:
        layers: The layers of attention.
        padding: Token that pads.
        any_length: Whether features are the same with less padding.
    """

    any_length = True
    positions: torch.Tensor
    words: torch.Tensor
    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    relative_bias: torch.Tensor | None

    def __init__(self, config: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.padding = int(config["pad_token_id"])
        self._epsilon = float(config["layer_norm_eps"])
        prefix, is_mpnet = "text.transformer.", config["model_type"] == "mpnet"
        embeddings = f"{prefix}embeddings."
        positions = weights[f"{embeddings}position_embeddings.weight"]
        if config["model_type"] != "bert":
            positions = positions[self.padding + 1 :]  # these count from behind the padding
        if not is_mpnet:
            # Every sentence is of the first type: its embedding is added to each position's.
            positions = positions + weights[f"{embeddings}token_type_embeddings.weight"][0]
        self.register_buffer("positions", positions)
        self.register_buffer("words", weights[f"{embeddings}word_embeddings.weight"])
        self.register_buffer("norm_weight", weights[f"{embeddings}LayerNorm.weight"])
        self.register_buffer("norm_bias", weights[f"{embeddings}LayerNorm.bias"])
        # One matrix, two with a GELU between them, or none.
        projections = sorted(name for name in weights if name.startswith("text.proj."))
        for i, name in enumerate(projections):
            self.register_buffer(f"projection{i}", weights[name])
        self._num_projections = len(projections)
        bias = weights[f"{prefix}encoder.relative_attention_bias.weight"] if is_mpnet else None
        self.register_buffer(
            "relative_bias", None if bias is None else _bias_by_distance(bias, len(positions))
        )
        self.layers = nn.ModuleList(
            _Layer(
                _layer_weights(
                    weights, f"{prefix}encoder.layer.{i}.", _MPNET if is_mpnet else _BERT
                ),
                num_heads=config["num_attention_heads"],
                epsilon=self._epsilon,
            )
            for i in range(config["num_hidden_layers"])
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Maps tokens `(B, L)` int64, padded, to features `(B, D)`."""
        length = tokens.shape[1]
        is_word = tokens != self.padding
        hidden = self.words[tokens] + self.positions[:length]
        hidden = F.layer_norm(
            hidden, hidden.shape[-1:], self.norm_weight, self.norm_bias, self._epsilon
        )
        # Added to the attention logits: (B, 1, 1, L), or (B, heads, L, L) with relative positions.
        mask = (~is_word)[:, None, None, :].to(hidden.dtype) * torch.finfo(hidden.dtype).min
        if self.relative_bias is not None:
            index = torch.arange(length, device=tokens.device)
            distance = index[None, :] - index[:, None] + self.positions.shape[0] - 1
            mask = mask + self.relative_bias[:, distance]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        weight = is_word[..., None].to(hidden.dtype)
        features = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        for i in range(self._num_projections):
            features = F.linear(
                F.gelu(features) if i else features, getattr(self, f"projection{i}")
            )
        return features


class _Layer(nn.Module):
    """One post-norm layer, `(B, L, width)` to the same."""

    def __init__(self, weights: dict[str, torch.Tensor], *, num_heads: int, epsilon: float) -> None:
        super().__init__()
        for name, tensor in weights.items():
            self.register_buffer(name, tensor)
        self._num_heads, self._epsilon = num_heads, epsilon

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            self._linear(name, hidden).unflatten(-1, (self._num_heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        attended = attended.transpose(1, 2).flatten(2)
        hidden = self._norm("norm1", hidden + self._linear("out", attended))
        inner = F.gelu(self._linear("linear1", hidden))
        return self._norm("norm2", hidden + self._linear("linear2", inner))

    def _linear(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))

    def _norm(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return F.layer_norm(hidden, hidden.shape[-1:], weight, bias, self._epsilon)


def _layer_weights(
    weights: dict[str, torch.Tensor], layer: str, names: dict[str, str]
) -> dict[str, torch.Tensor]:
    return {
        f"{ours}_{kind}": weights[f"{layer}{theirs}.{kind}"]
        for ours, theirs in names.items()
        for kind in ("weight", "bias")
    }


def _bias_by_distance(bias: torch.Tensor, num_positions: int) -> torch.Tensor:
    """Spreads MPNet's biases over the distances they serve.

    Args:
        bias: `(num_buckets, heads)`, half of the buckets for each direction.
        num_positions: P.

    Returns:
        `(heads, 2 * P - 1)`, for the distances `-(P - 1)` to `P - 1` from a token to another.
    """
    distance = torch.arange(1 - num_positions, num_positions)
    per_direction = len(bias) // 2
    num_exact = per_direction // 2
    # Near tokens have a bucket each, far ones share buckets that widen logarithmically.
    far = torch.log(distance.abs().clamp(min=1).float() / num_exact)
    far = far / math.log(_MAX_DISTANCE / num_exact) * (per_direction - num_exact)
    far = (num_exact + far.long()).clamp(max=per_direction - 1)
    bucket = torch.where(distance.abs() < num_exact, distance.abs(), far)
    return bias[bucket + per_direction * (distance > 0)].T.contiguous()
