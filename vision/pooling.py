"""Frame embeddings -> one embedding for the video, or for a stretch of it."""

import torch
from torch.nn import functional as F


def mean_pool(frame_embeddings: torch.Tensor) -> torch.Tensor:
    """The normalised mean of normalised frame embeddings: the parameter-free "meanP" similarity
    of CLIP4Clip (Luo et al. 2021, section 3.3).

    Args:
        frame_embeddings: `(..., T, D)`, each L2-normalised.

    Returns:
        `(..., D)`, L2-normalised.
    """
    return F.normalize(frame_embeddings.mean(dim=-2), dim=-1)
