"""One layer of a causal transformer: gated attention over what came before, and a gated
feed-forward part."""

import torch
from torch import nn
from torch.nn import functional as F


class GatedBlock(nn.Module):
    """A pre-norm layer, `(B, L, D)` to the same, whose two parts each pass a gate.

    `x + sigmoid(gate(norm(x))) * part(norm(x))`, as in LiGR (Borisyuk et al. 2025, "From Features
    to Transformers: Redefining Ranking for Scalable Impact"), which eSASRec (Tikhonovich et al.,
    RecSys 2025) found better than SASRec's layers. Attention adds a learned bias for each distance
    (Raffel et al. 2020, "T5", section 2.1, without buckets): so it knows how long ago an item was
    chosen.

    Args:
        dim: D.
        num_heads: H, a divisor of D.
        max_length: most positions.
        feedforward_factor: width of the feed-forward part, times D.
        dropout: of attention weights, hidden units and both parts' outputs, in training.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        max_length: int,
        feedforward_factor: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.attention_gate = nn.Linear(dim, dim)
        self.distance_bias = nn.Parameter(torch.zeros(num_heads, max_length))
        self.feedforward_norm = nn.LayerNorm(dim)
        self.feedforward_in = nn.Linear(dim, feedforward_factor * dim)
        self.feedforward_out = nn.Linear(feedforward_factor * dim, dim)
        self.feedforward_gate = nn.Linear(dim, dim)
        self._dropout = dropout

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        normed = self.attention_norm(hidden)
        attended = self._attend(normed) * self.attention_gate(normed).sigmoid()
        hidden = hidden + self._drop(attended)
        normed = self.feedforward_norm(hidden)
        inner = self._drop(F.gelu(self.feedforward_in(normed), approximate="tanh"))
        return hidden + self._drop(
            self.feedforward_out(inner) * self.feedforward_gate(normed).sigmoid()
        )

    def _attend(self, normed: torch.Tensor) -> torch.Tensor:
        length = normed.shape[1]
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, L, D / H)
            for part in self.query_key_value(normed).chunk(3, dim=-1)
        )
        position = torch.arange(length, device=normed.device)
        distance = position[:, None] - position[None, :]
        bias = self.distance_bias[:, distance.clamp(min=0)]
        # Histories are padded at their end, so what is masked as later includes the padding.
        bias = bias.masked_fill(distance < 0, -torch.inf)
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias[None],
            dropout_p=self._dropout if self.training else 0.0,
        )
        return self.attention_out(attended.transpose(1, 2).flatten(2))

    def _drop(self, values: torch.Tensor) -> torch.Tensor:
        return F.dropout(values, self._dropout, self.training)
