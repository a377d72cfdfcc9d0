"""A similarity matrix -> retrieval metrics.

Ranks are 1-based, and a tie counts against the system: an item's rank is 1 + the number of wrong
items that score at least as high. A system that gives everything one score gets the worst rank,
not the best.
"""

import numpy as np


def retrieval_metrics(similarity: np.ndarray, caption_video: np.ndarray) -> dict:
    """Both directions of retrieval between captions and videos.

    Args:
        similarity: `(num_captions, num_videos)`.
        caption_video: `(num_captions,)` int, the column of each caption's own video; a video may
            have several captions, and each video has at least one.

    Returns:
        `t2v` and `v2t`, each with `R@1`, `R@5`, `R@10` (percent), `MdR` and `MnR`, and for t2v's
        side `num_queries` (captions) and `num_gallery` (videos).

    Raises:
        ValueError: shapes that do not fit, scores that are not finite, a video without a caption.
    """
    similarity = np.asarray(similarity)
    caption_video = np.asarray(caption_video)
    if similarity.ndim != 2 or caption_video.shape != similarity.shape[:1]:
        raise ValueError(
            f"similarity is {similarity.shape} and caption_video {caption_video.shape}: must be "
            "(num_captions, num_videos) and (num_captions,)"
        )
    if not np.isfinite(similarity).all():
        raise ValueError("similarity holds values that are not finite")
    num_captions, num_videos = similarity.shape
    if not np.array_equal(np.unique(caption_video), np.arange(num_videos)):
        raise ValueError("each video must be the answer to at least one caption")
    return {
        "t2v": _summary(text_to_video_ranks(similarity, caption_video)),
        "v2t": _summary(video_to_text_ranks(similarity, caption_video)),
        "num_queries": num_captions,
        "num_gallery": num_videos,
    }


def text_to_video_ranks(similarity: np.ndarray, caption_video: np.ndarray) -> np.ndarray:
    """`(num_captions,)`: the rank of each caption's own video among all videos."""
    own = similarity[np.arange(len(similarity)), caption_video]
    return (similarity >= own[:, None]).sum(axis=1)  # its own score counts itself: the 1


def video_to_text_ranks(similarity: np.ndarray, caption_video: np.ndarray) -> np.ndarray:
    """`(num_videos,)`: the rank of each video's best caption among the captions of other videos;
    its own other captions are right answers too and do not push it down."""
    is_own = caption_video[:, None] == np.arange(similarity.shape[1])
    best_own = np.where(is_own, similarity, -np.inf).max(axis=0)
    return 1 + (~is_own & (similarity >= best_own)).sum(axis=0)


def _summary(ranks: np.ndarray) -> dict[str, float]:
    recalls = {f"R@{k}": round(float(100 * (ranks <= k).mean()), 2) for k in (1, 5, 10)}
    return recalls | {
        "MdR": float(np.median(ranks)),
        "MnR": round(float(ranks.mean()), 2),
    }
