"""Embeddings of captions' tokens and of their videos' frames -> weights for token matching.

The towers stay as they are. Training learns the weight of each token and each frame, by InfoNCE
(CLIP's symmetric loss, Radford et al. 2021, section 2.3) over the scores of
`ranking.token_matching.matching`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from reelseek.ranking.token_matching.matching import TokenMatchingHead, TokenMatchingWeights

_FIRST_LOGIT_SCALE = 20.0


def train_token_matching(
    token_embeddings: Sequence[np.ndarray],
    frame_embeddings: Sequence[np.ndarray],
    *,
    video_ids: Sequence[int] | None = None,
    hidden_dim: int = 64,
    num_epochs: int = 10,
    batch_size: int = 64,
    lr: float = 1e-3,
    weight_decay: float = 1e-2,
    seed: int = 0,
    fingerprint: str = "",
    show_progress: bool = False,
) -> TokenMatchingWeights:
    """Learns weights, starting from equal ones. The same data and seed give the same weights.

    Args:
        token_embeddings: n captions' tokens, `(L, D)` each, L2-normalised.
        frame_embeddings: the frames of each caption's video, `(T, D)` each, L2-normalised.
        video_ids: `(n,)`, which captions are of one video, and so right answers to each other;
            default: none are.
        hidden_dim: of each of the two networks.
        num_epochs: at least 1.
        batch_size: captions, of at least two videos, compared with each other.
        lr: of AdamW.
        weight_decay: of AdamW.
        seed: of the weights' start and of the order of captions.
        show_progress: on stderr.
        fingerprint: of the model that the embeddings are of, kept with the weights.

    Raises:
        ValueError: lists of different lengths, fewer than two pairs, or an option out of range.
    """
    num_pairs = len(token_embeddings)
    ids = np.arange(num_pairs) if video_ids is None else np.asarray(video_ids)
    if not num_pairs == len(frame_embeddings) == len(ids) or num_pairs < 2:
        raise ValueError(
            f"{num_pairs} captions, {len(frame_embeddings)} videos and {len(ids)} video_ids: must "
            "be as many, and two or more"
        )
    if num_epochs < 1 or batch_size < 2 or not lr > 0:
        raise ValueError(
            f"num_epochs={num_epochs}, batch_size={batch_size}, lr={lr}: must be at least 1, at "
            "least 2 and above 0"
        )
    generator = torch.Generator().manual_seed(seed)
    network = _Network(token_embeddings[0].shape[1], hidden_dim, generator=generator)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    for _ in tqdm(range(num_epochs), unit="epoch", disable=not show_progress):
        for rows in torch.randperm(num_pairs, generator=generator).split(batch_size):
            if len(rows) < 2:
                continue
            logits = network(_padded(token_embeddings, rows), _padded(frame_embeddings, rows))
            loss = _infonce(logits, torch.from_numpy(ids[rows.numpy()]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return TokenMatchingWeights(network.token.head(), network.frame.head(), fingerprint)


def _padded(embeddings: Sequence[np.ndarray], rows: torch.Tensor) -> torch.Tensor:
    """Returns these rows' embeddings, `(n, longest, D)`, padded with zeros."""
    parts = [torch.from_numpy(np.asarray(embeddings[row], np.float32)) for row in rows.tolist()]
    return pad_sequence(parts, batch_first=True)


def _infonce(logits: torch.Tensor, video_ids: torch.Tensor) -> torch.Tensor:
    """`(n, n)` logits -> the mean of both directions; captions of one video are positives."""
    targets = (video_ids[:, None] == video_ids).float()
    targets /= targets.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


class _Head(nn.Module):
    """`(n, L, D)` -> `(n, L)`, the logarithm of each weight; equal at first."""

    def __init__(self, embedding_dim: int, hidden_dim: int, *, generator: torch.Generator) -> None:
        super().__init__()
        start = torch.randn(hidden_dim, embedding_dim, generator=generator)
        self.hidden = nn.Parameter(start)  # inputs have length 1, so outputs have a spread of 1
        self.bias = nn.Parameter(torch.zeros(hidden_dim))
        self.score = nn.Parameter(torch.zeros(hidden_dim))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return torch.tanh(embeddings @ self.hidden.T + self.bias) @ self.score

    def head(self) -> TokenMatchingHead:
        return TokenMatchingHead(
            *(each.detach().numpy().copy() for each in (self.hidden, self.bias, self.score))
        )


class _Network(nn.Module):
    def __init__(self, embedding_dim: int, hidden_dim: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.token = _Head(embedding_dim, hidden_dim, generator=generator)
        self.frame = _Head(embedding_dim, hidden_dim, generator=generator)
        self.log_scale = nn.Parameter(torch.tensor(_FIRST_LOGIT_SCALE).log())

    def forward(self, tokens: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """`(n, L, D)` and `(m, T, D)`, rows of zeros for padding -> `(n, m)` logits."""
        is_token, is_frame = tokens.any(dim=-1), frames.any(dim=-1)
        by_token = self.token(tokens).masked_fill(~is_token, -torch.inf).softmax(dim=-1)
        by_frame = self.frame(frames).masked_fill(~is_frame, -torch.inf).softmax(dim=-1)
        similarity = torch.einsum("nld,mtd->nmlt", tokens, frames)
        of_tokens = similarity.masked_fill(~is_frame[None, :, None], -torch.inf).amax(dim=3)
        of_frames = similarity.masked_fill(~is_token[:, None, :, None], -torch.inf).amax(dim=2)
        of_tokens = of_tokens.masked_fill(~is_token[:, None], 0.0)
        of_frames = of_frames.masked_fill(~is_frame[None], 0.0)
        total = torch.einsum("nml,nl->nm", of_tokens, by_token)
        total = total + torch.einsum("nmt,mt->nm", of_frames, by_frame)
        return self.log_scale.exp() * total / 2
