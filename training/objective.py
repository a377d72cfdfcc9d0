"""Video and text embeddings of a batch, and which belong together -> the loss.

Two pairs of a batch with the same video, or with the same caption, are positives of each other
(`positives_of`); no loss here takes them for negatives.

With several processes, both losses use open_clip's gathering to see the pairs of all of them. Its
backward pass sums over the processes, so that DistributedDataParallel's mean over them is exactly
the gradient of one process with the whole batch.
"""

import torch
import torch.distributed.nn
from open_clip.loss import ClipLoss, SigLipLoss
from torch import distributed
from torch.nn import functional as F

from reelseek.configs.train_schema import Loss, ObjectiveConfig


def positives_of(
    row_ids: tuple[torch.Tensor, torch.Tensor], column_ids: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Returns which texts describe which videos.

    Args:
        row_ids: the video's and the caption's number of each row's pair, `(n,)` each.
        column_ids: those of each column's pair, `(m,)` each.

    Returns:
        `(n, m)` bool: the two pairs share their video or their caption.
    """
    videos, captions = (
        row.unsqueeze(1) == column.unsqueeze(0)
        for row, column in zip(row_ids, column_ids, strict=True)
    )
    return videos | captions


def gather_ids(ids: torch.Tensor) -> torch.Tensor:
    """`(n,)` of each process to `(world_size * n,)`, in order of rank."""
    parts = [torch.empty_like(ids) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, ids.contiguous())
    return torch.cat(parts)


class MultiPositiveClipLoss(ClipLoss):
    """Symmetric InfoNCE in which a row may have several positives.

    InfoNCE is that of CLIP (Radford et al. 2021, section 2.3); with several positives, the target
    is divided equally among them, which is UniCL's loss (Yang et al. 2022, equations 2 to 4).
    Where each row has one, this is open_clip's `ClipLoss`.

    Args:
        label_smoothing: fraction of the target that is spread over all columns, 0 to less than 1.
        rank, world_size: of this process, as in `ClipLoss`.
    """

    def __init__(self, *, label_smoothing: float = 0.0, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(gather_with_grad=True, rank=rank, world_size=world_size)
        self._label_smoothing = label_smoothing

    def forward(
        self,
        video_embeddings: torch.Tensor,
        text_embeddings: torch.Tensor,
        logit_scale: torch.Tensor,
        logit_bias: torch.Tensor | None,
        ids: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """Returns the mean over both directions.

        Args:
            video_embeddings: `(n, D)`, L2-normalised, of this process.
            text_embeddings: `(n, D)`, L2-normalised, of this process.
            logit_scale: 1 / temperature.
            logit_bias: unused, for InfoNCE does not depend on it.
            ids: the pairs' video and caption numbers, `(n,)` int64 each.
        """
        if self.world_size > 1:
            ids = (gather_ids(ids[0]), gather_ids(ids[1]))
        per_video, per_text = self.get_logits(video_embeddings, text_embeddings, logit_scale)
        positives = positives_of(ids, ids).to(per_video.dtype)
        targets = positives / positives.sum(dim=1, keepdim=True)  # symmetric, as positives are
        smoothing = self._label_smoothing
        return (
            F.cross_entropy(per_video, targets, label_smoothing=smoothing)
            + F.cross_entropy(per_text, targets, label_smoothing=smoothing)
        ) / 2


class MultiPositiveSigLipLoss(SigLipLoss):
    """The sigmoid loss of SigLIP (Zhai et al. 2023, section 3.2), which classifies each video and
    text as a pair or not; a video may have several positives.

    Where each has one, this is open_clip's `SigLipLoss`.
    """

    def __init__(self, *, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(rank=rank, world_size=world_size, dist_impl="gather")

    def forward(
        self,
        video_embeddings: torch.Tensor,
        text_embeddings: torch.Tensor,
        logit_scale: torch.Tensor,
        logit_bias: torch.Tensor | None,
        ids: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """Returns the sum over all texts, per video; see `MultiPositiveClipLoss`."""
        text_ids = ids
        if self.world_size > 1:
            text_embeddings = torch.cat(torch.distributed.nn.all_gather(text_embeddings))
            text_ids = (gather_ids(ids[0]), gather_ids(ids[1]))
        logits = self.get_logits(video_embeddings, text_embeddings, logit_scale, logit_bias)
        signs = 2 * positives_of(ids, text_ids).to(logits.dtype) - 1
        loss = -F.logsigmoid(signs * logits).sum() / len(video_embeddings)
        if self.world_size > 1:  # of all videos, so that each process has the same loss
            loss = torch.stack(torch.distributed.nn.all_gather(loss.reshape(1))).mean()
        return loss


Objective = MultiPositiveClipLoss | MultiPositiveSigLipLoss


def make_objective(config: ObjectiveConfig, *, rank: int = 0, world_size: int = 1) -> Objective:
    if config.loss is Loss.sigmoid:
        return MultiPositiveSigLipLoss(rank=rank, world_size=world_size)
    return MultiPositiveClipLoss(
        label_smoothing=config.label_smoothing, rank=rank, world_size=world_size
    )
