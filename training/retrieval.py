"""A captioned collection and a model -> how well it retrieves: video embeddings by caption."""

from dataclasses import dataclass

import numpy as np
import torch

from reelseek.indexing.pipeline import EncodedVideo
from reelseek.indexing.sources.collection import VideoItem
from reelseek.ranking.metrics import retrieval_metrics
from reelseek.ranking.rescoring import dual_softmax, querybank_norm


@dataclass(frozen=True)
class CaptionedVideos:
    """Videos that could be decoded, with their captions.

    Attributes:
        embeddings: `(num_videos, D)` float32, L2-normalised.
        captions: `num_captions` sentences.
        caption_video: `(num_captions,)` int64, the row of each caption's video.
        items: the videos, `num_videos`, with their metadata.
        encoded: their frame embeddings and times, `num_videos`.
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
    """Returns retrieval metrics of the scores, and of the scores after re-scoring.

    Args:
        similarity: `(num_captions, num_videos)`.
        caption_video: `(num_captions,)`, see `retrieval_metrics`.
        temperature: of the dual softmax.
        bank_similarity: `(num_bank, num_videos)`, of captions that are no test queries, such as
            those of the training set; None where there are none.
        num_bootstrap: resamples for the intervals of the metrics before re-scoring.

    Returns:
        The result of `retrieval_metrics`, and `rescored`: `dual_softmax`, which needs all test
        queries at once, so that no server can do it, and `querybank_norm`, t2v only, which a server
        can.
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
