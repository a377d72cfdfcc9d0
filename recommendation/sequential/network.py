"""Histories of items -> an embedding of what comes after each of their items."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from reelseek.configs.sequential_schema import SequentialNetworkConfig
from reelseek.recommendation.sequential.blocks import GatedBlock
from reelseek.recommendation.sequential.items import ItemEmbeddings

_MAX_LOGIT_SCALE = 100.0


class SequentialNetwork(nn.Module):
    """A causal transformer over items (SASRec, Kang and McAuley, ICDM 2018, section III).

    Unlike SASRec's, layers are gated and pre-norm (see `GatedBlock`), and what comes next is scored
    by `exp(log_scale) * cosine`, with items tied between histories and scores.

    Args:
        config: its sizes.
        items: embeddings of the catalogue, of width `config.dim`.
    """

    def __init__(self, config: SequentialNetworkConfig, items: ItemEmbeddings) -> None:
        super().__init__()
        self.items = items
        self.max_length = config.max_length
        # Components of about unit size, as layers expect; an item's embedding has unit length.
        self.input_scale = nn.Parameter(torch.tensor(0.3 * math.sqrt(config.dim)))
        self.blocks = nn.ModuleList(
            GatedBlock(
                config.dim,
                config.num_heads,
                max_length=config.max_length,
                feedforward_factor=config.feedforward_factor,
                dropout=config.dropout,
            )
            for _ in range(config.num_blocks)
        )
        self.final_norm = nn.LayerNorm(config.dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.logit_scale)))
        self._item_dropout = config.item_dropout

    @property
    def logit_scale(self) -> torch.Tensor:
        """1/temperature of the cosine."""
        return self.log_scale.exp().clamp(max=_MAX_LOGIT_SCALE)

    def forward(self, histories: torch.Tensor) -> torch.Tensor:
        """Reads histories.

        Args:
            histories: `(B, L)` int64, L up to `max_length`, the oldest first, padded at the end
                with any item: no position sees a later one.

        Returns:
            `(B, L, D)`, L2-normalised: at each position, what comes after it.
        """
        hidden = self.items(histories) * self.input_scale
        hidden = F.dropout(hidden, self._item_dropout, self.training)
        for block in self.blocks:
            hidden = block(hidden)
        return F.normalize(self.final_norm(hidden), dim=-1)
