"""A captioned collection and a model -> how well it retrieves: video embeddings by caption."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reelseek.indexing.pipeline import EncodedVideo, encode_videos
from reelseek.indexing.progress import progress_bar
from reelseek.indexing.sources.collection import VideoItem
from reelseek.ranking.metrics import retrieval_metrics
from reelseek.ranking.rescoring import dual_softmax, querybank_norm
from reelseek.vision import DecodePool, FrameEncoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaptionedVideos:
    """Videos that could be decoded, with their captions.

    Attributes:
        embeddings: `(num_videos, D)` float32, L2-normalised.
        captions: `num_captions` sentences.
        caption_video: `(num_captions,)` int64, the row of each caption's video.
        items: the videos, `num_videos`, with all that their list says of them.
        encoded: what each was encoded to, `num_videos`.
        failed: paths of those that could not be decoded, each with its reason.
    """

    embeddings: torch.Tensor
    captions: list[str]
    caption_video: np.ndarray
    items: list[VideoItem]
    encoded: list[EncodedVideo[int]]
    failed: list[tuple[str, str]]


def measure(
    similarity: np.ndarray,
    caption_video: np.ndarray,
    *,
    temperature: float,
    bank_similarity: np.ndarray | None = None,
    num_bootstrap: int = 0,
) -> dict:
    """Retrieval metrics as they are, and in rows of their own after re-scoring.

    Args:
        similarity: `(num_captions, num_videos)`.
        caption_video: `(num_captions,)`, as of `retrieval_metrics`.
        temperature: of the dual softmax.
        bank_similarity: `(num_bank, num_videos)`, of captions that are no test queries, such as
            those of the training set; None where there are none.
        num_bootstrap: resamples for the intervals of what is not re-scored.

    Returns:
        What `retrieval_metrics` does, and `rescored`: `dual_softmax`, which needs all test queries
        at once, so that no server can do it, and `querybank_norm`, t2v only, which a server can.
    """
    metrics = retrieval_metrics(similarity, caption_video, num_bootstrap=num_bootstrap)
    rows = {
        "t2v": dual_softmax(similarity, temperature=temperature),
        "v2t": dual_softmax(similarity.T, temperature=temperature).T,
    }
    rescored: dict[str, dict] = {
        "dual_softmax": {"needs_all_test_queries": True}
        | {side: retrieval_metrics(row, caption_video)[side] for side, row in rows.items()}
    }
    if bank_similarity is not None:
        row = querybank_norm(similarity, bank_similarity)
        rescored["querybank_norm"] = {
            "needs_all_test_queries": False,
            "num_bank": len(bank_similarity),
            "t2v": retrieval_metrics(row, caption_video)["t2v"],
        }
    return metrics | {"rescored": rescored}


def encode_captioned(
    items: Sequence[VideoItem], *, encoder: FrameEncoder, pool: DecodePool
) -> CaptionedVideos:
    """Decodes and encodes a captioned collection; a broken video is named and left out.

    Raises:
        ValueError: a video has no caption, or none can be decoded.
    """
    for item in items:
        if not item.metadata.get("captions"):
            raise ValueError(f"{item.path}: has no `captions`, which evaluation needs")
    encoded: dict[int, EncodedVideo[int]] = {}
    videos = encode_videos(
        ((i, item.path) for i, item in enumerate(items)), encoder=encoder, pool=pool
    )
    with progress_bar(total=len(items), desc="encoding") as progress:
        for video in videos:
            progress.update()
            encoded[video.tag] = video
    embeddings: list[torch.Tensor] = []
    captions: list[str] = []
    caption_video: list[int] = []
    rows: list[int] = []
    failed: list[tuple[str, str]] = []
    for i, item in enumerate(items):
        video = encoded[i]
        if video.outcome != "ok":
            logger.warning("%s: %s: %s", item.path, video.outcome, video.reason)
        if video.outcome == "failed":
            failed.append((str(item.path), video.reason))
            continue
        captions += item.metadata["captions"]
        caption_video += [len(embeddings)] * len(item.metadata["captions"])
        embeddings.append(encoder.pool(video.embeddings))
        rows.append(i)
    if not embeddings:
        raise ValueError(f"none of {len(items)} videos can be decoded; the first: {failed[0]}")
    return CaptionedVideos(
        torch.stack(embeddings),
        captions,
        np.array(caption_video),
        [items[i] for i in rows],
        [encoded[i] for i in rows],
        failed,
    )
