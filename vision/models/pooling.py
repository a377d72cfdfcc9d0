"""Pools frame embeddings into one embedding of a video or a segment.

Each kind of pooling takes `(B, T, D)` with the number of frames of each row. Before training it
equals the mean, so that training starts from the model's own quality.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


def mean_pool(
    frame_embeddings: torch.Tensor, num_frames: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns the normalised mean of frame embeddings.

    This is the parameter-free "meanP" similarity of CLIP4Clip (Luo et al. 2021, section 3.3).

    Args:
        frame_embeddings: `(..., T, D)`, each L2-normalised.
        num_frames: `(...)` int, frames before the padding; None if there is no padding.

    Returns:
        `(..., D)`, L2-normalised.
    """
    if num_frames is None:
        return F.normalize(frame_embeddings.mean(dim=-2), dim=-1)
    weights = is_frame(frame_embeddings, num_frames).to(frame_embeddings.dtype)
    return _weighted(frame_embeddings, weights)


class MeanPooling(nn.Module):
    """`mean_pool` as a module; it has no parameters."""

    def forward(
        self, frame_embeddings: torch.Tensor, num_frames: torch.Tensor | None = None
    ) -> torch.Tensor:
        return mean_pool(frame_embeddings, num_frames)

    def options(self) -> dict[str, Any]:
        return {"kind": "mean"}


class TemporalTransformer(nn.Module):
    """Frames attend to each other before they are averaged.

    This is the sequential "seqTransf" similarity of CLIP4Clip (Luo et al. 2021, section 3.3),
    residual over the frame embeddings. The last projection starts at zero, so that the module
    starts as the mean; CLIP4Clip starts from layers of CLIP's text tower instead.

    Args:
        embedding_dim: D.
        num_layers: Layers of the transformer.
        num_heads: Attention heads; must divide D.
        max_frames: Number of positions; longer videos are sampled at the middles of equal parts.
    """

    def __init__(
        self, embedding_dim: int, *, num_layers: int = 2, num_heads: int = 8, max_frames: int = 64
    ) -> None:
        super().__init__()
        self._options = {
            "num_layers": num_layers,
            "num_heads": num_heads,
            "max_frames": max_frames,
        }
        self.positions = nn.Parameter(torch.empty(max_frames, embedding_dim))
        nn.init.normal_(self.positions, std=0.02)
        layer = nn.TransformerEncoderLayer(
            embedding_dim,
            num_heads,
            4 * embedding_dim,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(
            layer,
            num_layers,
            norm=nn.LayerNorm(embedding_dim),
            enable_nested_tensor=False,
        )
        self.out = nn.Linear(embedding_dim, embedding_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, frame_embeddings: torch.Tensor, num_frames: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`(B, T, D)` and `(B,)` -> `(B, D)`, L2-normalised."""
        frames, num_frames = _subsample(frame_embeddings, num_frames, len(self.positions))
        padding = None if num_frames is None else ~is_frame(frames, num_frames)
        # Entries of unit vectors are about 1 / sqrt(D), of positions about 0.02.
        context = self.layers(
            frames + self.positions[: frames.shape[1]], src_key_padding_mask=padding
        )
        return mean_pool(frames + self.out(context), num_frames)

    def options(self) -> dict[str, Any]:
        return {"kind": "transformer", **self._options}


class AttentionPooling(nn.Module):
    """A weighted mean with learned weights that start equal.

    This is the attention-based pooling of multiple-instance learning (Ilse et al. 2018,
    equation 8).

    Args:
        embedding_dim: D.
        hidden_dim: Hidden units of the network that scores a frame.
    """

    def __init__(self, embedding_dim: int, *, hidden_dim: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Linear(embedding_dim, hidden_dim)
        self.score = nn.Linear(hidden_dim, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(
        self, frame_embeddings: torch.Tensor, num_frames: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`(B, T, D)` and `(B,)` -> `(B, D)`, L2-normalised."""
        scores = self.score(torch.tanh(self.hidden(frame_embeddings))).squeeze(-1)  # (B, T)
        if num_frames is not None:
            scores = scores.masked_fill(~is_frame(frame_embeddings, num_frames), -torch.inf)
        return _weighted(frame_embeddings, scores.softmax(dim=-1))

    def options(self) -> dict[str, Any]:
        return {"kind": "attention", "hidden_dim": self.hidden.out_features}


Pooling = MeanPooling | TemporalTransformer | AttentionPooling

_KINDS: dict[str, Callable[..., Pooling]] = {
    "mean": lambda embedding_dim: MeanPooling(),
    "transformer": TemporalTransformer,
    "attention": AttentionPooling,
}
POOLING_KINDS = tuple(_KINDS)


def make_pooling(options: dict[str, Any], *, embedding_dim: int) -> Pooling:
    """Creates a pooling module with initial weights from its `options()`.

    Raises:
        ValueError: There is no such kind, or it has no such option.
    """
    kind = options.get("kind", "")
    rest = {name: value for name, value in options.items() if name != "kind"}
    if kind not in _KINDS:
        raise ValueError(f"pooling is {kind!r}: must be one of {', '.join(POOLING_KINDS)}")
    try:
        return _KINDS[kind](embedding_dim, **rest)
    except (TypeError, AssertionError) as error:
        raise ValueError(f"pooling={kind} with {rest}: {error}") from error


def is_frame(frames: torch.Tensor, num_frames: torch.Tensor) -> torch.Tensor:
    """Returns the mask `(..., T)` bool of frames `(..., T, D)` that are not padding."""
    positions = torch.arange(frames.shape[-2], device=frames.device)
    return positions < num_frames.to(frames.device).unsqueeze(-1)


def _weighted(frames: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return F.normalize((frames * weights.unsqueeze(-1)).sum(dim=-2), dim=-1)


def _subsample(
    frames: torch.Tensor, num_frames: torch.Tensor | None, limit: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns at most `limit` frames of each row, at the middles of equal parts."""
    longest = frames.shape[-2]
    if longest <= limit:
        return frames, num_frames
    if num_frames is None:
        num_frames = torch.full(frames.shape[:1], longest)
    num_frames = num_frames.to(frames.device)
    positions = torch.arange(limit, device=frames.device)
    middles = ((positions + 0.5) * num_frames.unsqueeze(-1) / limit).long()
    chosen = torch.where(num_frames.unsqueeze(-1) > limit, middles, positions)  # (B, limit)
    index = chosen.unsqueeze(-1).expand(-1, -1, frames.shape[-1])
    return frames.gather(-2, index), num_frames.clamp(max=limit)
