"""Positive and negative phrases, with or without an image -> one query, or one score."""

import numpy as np

# A sum this much shorter than its parts is rounding noise.
_CANCELLED = 1e-3
# An item shows a negative phrase if it scores so many standard deviations above the background,
# and each one beyond costs so many of the positive phrase. Chosen in
# benchmarks/negation_temporal.py: recall of the positive phrase is as without the negative one.
_THRESHOLD_SPREADS = 0.5
_EXCLUSION_WEIGHT = 2.0
_MIN_SPREAD = 1e-6


def compose(
    embeddings: np.ndarray, weights: np.ndarray, *, spreads: np.ndarray | None = None
) -> np.ndarray:
    """Returns the weighted sum of phrases, or of a phrase and an image.

    Embeddings of texts and of images lie in different parts of the space, and a collection's scores
    differ more for an image than for a phrase, several times so: where their spreads are given,
    parts of the same weight move the scores as far.

    Args:
        embeddings: `(n, D)`, L2-normalised.
        weights: `(n,)`, below 0 for "less of this". To exclude, use `penalize_negatives`: a query
            that points away from a phrase also finds items that resemble nothing.
        spreads: `(n,)`, above 0, the standard deviation of each part's scores in the collection;
            default: the same.

    Returns:
        `(D,)` float32, L2-normalised.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, spreads of 0, or a sum that
            cancels out.
    """
    embeddings, weights = np.asarray(embeddings), np.asarray(weights, dtype=np.float64)
    if embeddings.ndim != 2 or weights.shape != embeddings.shape[:1] or not len(weights):
        raise ValueError(
            f"embeddings is {embeddings.shape} and weights {weights.shape}: must be (n, D) and "
            "(n,), at least one"
        )
    if not (np.isfinite(embeddings).all() and np.isfinite(weights).all()):
        raise ValueError("embeddings or weights hold values that are not finite")
    if spreads is not None:
        spreads = np.asarray(spreads, dtype=np.float64)
        if spreads.shape != weights.shape or not (np.isfinite(spreads) & (spreads > 0)).all():
            raise ValueError(f"spreads must be {weights.shape}, finite and above 0")
        weights = weights * spreads.min() / spreads
    total = weights @ embeddings
    length = float(np.linalg.norm(total))
    if length <= _CANCELLED * float(np.abs(weights).sum()):
        raise ValueError(
            "the parts of the query cancel out: nothing is left to search for; change their weights"
        )
    return (total / length).astype(np.float32)


def penalize_negatives(
    positive: np.ndarray,
    negative: np.ndarray,
    *,
    positive_background: np.ndarray | None = None,
    negative_background: np.ndarray | None = None,
    weight: float = _EXCLUSION_WEIGHT,
    threshold: float = _THRESHOLD_SPREADS,
) -> np.ndarray:
    """Scores of items for "X without Y".

    An item loses by how far it scores for Y above the background:

        excess[m] = max(0, (negative[m] - mean_m) / spread_m - threshold)
        score     = positive - weight * spread * max_m excess[m]

    with mean and spread (standard deviation) of each phrase over the background. So phrases that
    score high everywhere cost nothing, nor does Y where it is as likely as not, and the order of
    items without Y is that for X.

    Args:
        positive: `(N,)`, scores for X.
        negative: `(M, N)`, scores for each Y, of each item's best frame (or segment): Y may be seen
            for a second only, which an embedding of the whole video does not tell.
        positive_background: `(B,)`, scores for X of items drawn at random from the collection;
            default: the items themselves, which then should be so too, and not the best alone.
        negative_background: `(M, B)`, likewise for each Y, of their best frames.
        weight: at least 0.
        threshold: in standard deviations.

    Returns:
        `(N,)` float64, in the unit of `positive`.

    Raises:
        ValueError: shapes that do not fit, scores that are not finite, a weight below 0.
    """
    positive, negative = _scores("positive", positive, 1), _scores("negative", negative, 2)
    if negative.shape[1] != len(positive):
        raise ValueError(
            f"negative is {negative.shape}: must be (M, {len(positive)}), for the items of positive"
        )
    if not weight >= 0:
        raise ValueError(f"weight={weight}: must be at least 0")
    usual = negative
    if negative_background is not None:
        usual = _scores("negative_background", negative_background, 2)
        if len(usual) != len(negative):
            raise ValueError(
                f"negative_background is {usual.shape}: must be ({len(negative)}, B), a row for "
                "each phrase"
            )
    spread = positive.std()
    if positive_background is not None:
        spread = _scores("positive_background", positive_background, 1).std()
    spreads = np.maximum(usual.std(axis=1, keepdims=True), _MIN_SPREAD)
    excess = (negative - usual.mean(axis=1, keepdims=True)) / spreads - threshold
    return positive - weight * spread * np.maximum(excess, 0).max(axis=0)


def _scores(name: str, values: np.ndarray, num_axes: int) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != num_axes or 0 in values.shape:
        shape = {1: "(items,)", 2: "(phrases, items)"}[num_axes]
        raise ValueError(f"{name} is {values.shape}: must be {shape}, at least one of each")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds values that are not finite: leave out such items")
    return values
