"""A similarity matrix -> retrieval metrics.

Ranks are 1-based, and a tie counts against the system: an item's rank is 1 + the number of wrong
items that score at least as high. A system that gives everything one score gets the worst rank,
not the best.

A bootstrap interval tells how far a metric would move with other queries of the same kind (Efron &
Tibshirani 1993, "An Introduction to the Bootstrap").
"""

import numpy as np

_BLOCK_SIZE = 2**22  # resamples x queries held at once: 32 MiB an array


def retrieval_metrics(
    similarity: np.ndarray, caption_video: np.ndarray, *, num_bootstrap: int = 0, seed: int = 0
) -> dict:
    """Returns metrics of both directions of retrieval between captions and videos.

    Args:
        similarity: `(num_captions, num_videos)`.
        caption_video: `(num_captions,)` int, the column of each caption's own video; a video may
            have several captions, and each video has at least one.
        num_bootstrap: resamples behind the intervals, 0 for none; 1,000 or more steady them.
        seed: of the resamples. They are the same for all models and both directions.

    Returns:
        `t2v` and `v2t`, each with `R@1`, `R@5`, `R@10` (percent), `MdR` and `MnR`, and for t2v's
        side `num_queries` (captions) and `num_gallery` (videos). With `num_bootstrap`, each
        direction also has `interval_95`: for each metric `[low, high]`, its 95% interval by the
        percentile method (Efron & Tibshirani 1993, chapter 13). It resamples videos, each
        with all its captions, since captions of one video succeed and fail together (the cluster
        bootstrap of Davison & Hinkley 1997, section 3.8). The gallery is held fixed: the
        interval speaks of other queries on this gallery, not of a gallery of another size, nor
        of another training run. Where all ranks are equal it is a point.

    Raises:
        ValueError: shapes that do not fit, scores that are not finite, a video without a caption,
            a negative `num_bootstrap`.
    """
    if num_bootstrap < 0:
        raise ValueError(f"num_bootstrap={num_bootstrap}: must be 0 (no intervals) or more")
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
    sides = {
        "t2v": (text_to_video_ranks(similarity, caption_video), caption_video),
        "v2t": (video_to_text_ranks(similarity, caption_video), np.arange(num_videos)),
    }
    metrics: dict = {}
    for side, (ranks, video) in sides.items():
        metrics[side] = summary_of_ranks(ranks)
        if num_bootstrap:
            resamples = _bootstrap(ranks, video, num_bootstrap=num_bootstrap, seed=seed)
            metrics[side]["interval_95"] = _percentile_interval(resamples)
    return metrics | {"num_queries": num_captions, "num_gallery": num_videos}


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


def summary_of_ranks(ranks: np.ndarray) -> dict:
    """`(num_queries,)` -> `R@1`, `R@5`, `R@10` in percent, `MdR` and `MnR`."""
    recalls = {f"R@{k}": round(float(100 * (ranks <= k).mean()), 2) for k in (1, 5, 10)}
    return recalls | {
        "MdR": float(np.median(ranks)),
        "MnR": round(float(ranks.mean()), 2),
    }


def _bootstrap(
    ranks: np.ndarray, video: np.ndarray, *, num_bootstrap: int, seed: int
) -> dict[str, np.ndarray]:
    """Each metric in each resample of the videos.

    Args:
        ranks: `(num_queries,)`.
        video: `(num_queries,)`, the video of each query, from 0 to `num_videos - 1`.
        num_bootstrap: number of resamples.
        seed: of the resamples.

    Returns:
        For each metric its values, `(num_bootstrap,)`.
    """
    order = np.argsort(ranks)
    values, starts = np.unique(ranks[order], return_index=True)
    num_videos = video.max() + 1
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_SIZE // len(ranks))
    summaries = []
    for first in range(0, num_bootstrap, block):
        num = min(block, num_bootstrap - first)
        drawn = rng.integers(num_videos, size=(num, num_videos))
        drawn += num_videos * np.arange(num)[:, None]  # so that one count serves all resamples
        times = np.bincount(drawn.ravel(), minlength=num * num_videos).reshape(num, num_videos)
        counts = np.add.reduceat(times[:, video[order]], starts, axis=1)
        summaries.append(_summary_of_counts(values, counts))
    return {name: np.concatenate([s[name] for s in summaries]) for name in summaries[0]}


def _summary_of_counts(values: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """`summary_of_ranks`, unrounded, of many samples: `values` are the `(num_values,)` distinct
    ranks, rising, `counts` `(num_samples, num_values)` how often each sample holds each."""
    up_to = counts.cumsum(axis=1)
    total = up_to[:, -1]
    recalls = {f"R@{k}": 100 * counts[:, values <= k].sum(axis=1) / total for k in (1, 5, 10)}
    # The two in the middle, which are one where the total is odd; positions count from 0.
    lower, upper = (
        values[(up_to <= position[:, None]).sum(axis=1)]
        for position in ((total - 1) // 2, total // 2)
    )
    return recalls | {"MdR": (lower + upper) / 2, "MnR": counts @ values / total}


def _percentile_interval(resamples: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {
        name: [round(float(bound), 2) for bound in np.quantile(values, (0.025, 0.975))]
        for name, values in resamples.items()
    }
