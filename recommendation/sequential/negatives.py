"""Items that are drawn to stand for the whole catalogue, and the loss that they make possible."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Negatives:
    """Items drawn for a batch.

    Attributes:
        items: `(K,)` int64, drawn with replacement.
        log_expected: `(K,)` float32, the logarithm of how often each was expected among the K.
    """

    items: torch.Tensor
    log_expected: torch.Tensor


class NegativeSampler:
    """Draws items by a mixture of popularity and chance (Yang et al., WWW 2020, "Mixed negative
    sampling for learning two-tower neural networks in recommendations", section 3.2).

    Args:
        item_counts: `(N,)`, how often each item was chosen.
        popularity_fraction: of the draws that follow `item_counts`; the others are uniform.
    """

    def __init__(self, item_counts: np.ndarray, *, popularity_fraction: float) -> None:
        num_items, total = len(item_counts), item_counts.sum()
        popularity = item_counts / total if total else np.full(num_items, 1 / num_items)
        probability = popularity_fraction * popularity + (1 - popularity_fraction) / num_items
        self._log_probability = np.log(np.maximum(probability, np.finfo(np.float64).tiny))
        self._cumulative = np.cumsum(probability)
        self._cumulative /= self._cumulative[-1]

    def draw(self, num: int, random: np.random.Generator) -> Negatives:
        """Draws `num` items with replacement."""
        items = np.searchsorted(self._cumulative, random.random(num), side="right")
        log_expected = self._log_probability[items] + math.log(num)
        return Negatives(torch.from_numpy(items), torch.from_numpy(log_expected).float())


def sampled_softmax_loss(
    predicted: torch.Tensor,
    target_embeddings: torch.Tensor,
    negative_embeddings: torch.Tensor,
    *,
    targets: torch.Tensor,
    negatives: Negatives,
    logit_scale: torch.Tensor,
) -> torch.Tensor:
    """Estimates the cross-entropy over the whole catalogue from a few of its items.

    The softmax's sum over other items than the target is estimated by importance sampling, each
    drawn item's term divided by how often it was expected (Bengio and Senécal 2008, "Adaptive
    Importance Sampling to Accelerate Training of a Neural Probabilistic Language Model"; the logQ
    correction of Yi et al., RecSys 2019, "Sampling-Bias-Corrected Neural Modeling"). That estimate
    is unbiased. The target itself is always in the sum, once, so it is not corrected (Khrylchenko
    et al., RecSys 2025, "Correcting the LogQ Correction"); a draw of it does not count.

    Args:
        predicted: `(M, D)`.
        target_embeddings: `(M, D)`.
        negative_embeddings: `(K, D)`.
        targets: `(M,)` item indices.
        negatives: what was drawn, the same for all M.
        logit_scale: multiplies the inner products.

    Returns:
        `(M,)`, at least 0.
    """
    positive = logit_scale * (predicted * target_embeddings).sum(dim=1, keepdim=True)
    negative = logit_scale * (predicted @ negative_embeddings.T) - negatives.log_expected
    is_target = negatives.items[None, :] == targets[:, None]
    logits = torch.cat([positive, negative.masked_fill(is_target, -torch.inf)], dim=1)
    return F.cross_entropy(
        logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device), reduction="none"
    )
