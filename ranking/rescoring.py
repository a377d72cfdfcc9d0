"""A similarity matrix -> one that holds back videos that attract every query (hubs).

Both methods lower a gallery item's scores by its similarity to queries in general. `dual_softmax`
takes the test queries themselves, all at once; `QueryBank` takes queries known beforehand, such as
training captions, so that a server can answer one query at a time.

The scores of one query can be ranked; those of two queries can not be compared. So after
`retrieval_metrics` read `t2v` alone. For `v2t` the videos are the queries: re-score the transposed
matrix (with a bank of videos), transpose the result back, and read `v2t`.
"""

from dataclasses import dataclass

import numpy as np


def dual_softmax(similarity: np.ndarray, *, temperature: float = 0.01) -> np.ndarray:
    """Returns each score times the softmax, over the queries, of its column.

        score[q, g] = s[q, g] * exp(s[q, g] / temperature) / sum_p exp(s[p, g] / temperature)

    Cheng et al. 2021, "Improving Video-Text Retrieval by Multi-Stream Corpus Alignment and Dual
    Softmax Loss" (CAMoE), the part on the dual softmax loss, here at inference, as CLIP2TV and
    CLIP-ViP report it. The authors' code also multiplies by the number of queries, which changes
    no rank. It takes logits at temperature 1: for cosines that is 1 / `logit_scale`.

    It needs all test queries at once, and profits from each video being the answer to as many of
    them as any other. A server sees one query at a time and can do neither, so metrics of these
    scores describe a fixed test set, not what a user would find. One query comes back as it
    went in. A small weight moves a negative score up, to 0: the order among negative scores means
    little.

    Args:
        similarity: `(num_queries, num_gallery)`.
        temperature: above 0, in the unit of `similarity`.

    Returns:
        `(num_queries, num_gallery)` float64: float32 would turn small weights into ties at 0.

    Raises:
        ValueError: not a matrix, scores that are not finite, a temperature that is not above 0.
    """
    similarity = _as_scores("similarity", similarity)
    _require_positive("temperature", temperature)
    scores = similarity.astype(np.float64)
    scores -= scores.max(axis=0)  # so that exp cannot overflow
    scores /= temperature
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=0)
    scores *= similarity
    return scores


def querybank_norm(
    similarity: np.ndarray,
    bank_similarity: np.ndarray,
    *,
    inverse_temperature: float = 20.0,
    top_k: int = 1,
) -> np.ndarray:
    """`QueryBank.fit(bank_similarity).apply(similarity)`, for when the bank is used once."""
    bank = QueryBank.fit(bank_similarity, inverse_temperature=inverse_temperature, top_k=top_k)
    return bank.apply(similarity)


@dataclass(frozen=True, eq=False)
class QueryBank:
    """A bank of known queries' penalty for each gallery item: Querybank Normalisation with the
    Dynamic Inverted Softmax (Bogolin et al. 2022, "Cross Modal Retrieval with Querybank
    Normalisation", section 3).

    A shortlist is re-scored by the rows of its items, `QueryBank(penalty[ids], active[ids])`, if it
    holds the query's best item.

    Attributes:
        penalty: `(num_gallery,)` float64, subtracted from each item's scores, in the unit
            of similarity: near the best score that the bank gives it, and above that by
            log(num_bank) / inverse_temperature at most.
        active: `(num_gallery,)` bool, the activation set: items among the `top_k` of a bank query.
    """

    penalty: np.ndarray
    active: np.ndarray

    @classmethod
    def fit(
        cls, bank_similarity: np.ndarray, *, inverse_temperature: float = 20.0, top_k: int = 1
    ) -> "QueryBank":
        """Measures the gallery once, by

            penalty[g] = log(sum_b exp(inverse_temperature * s[b, g])) / inverse_temperature

        Args:
            bank_similarity: `(num_bank, num_gallery)`, of queries that are not the test's.
            inverse_temperature: beta, above 0, in the inverse unit of similarity; 20 for cosines.
            top_k: 1 to `num_gallery`. An item that ties with the k-th best is among them.

        Raises:
            ValueError: not a matrix, scores that are not finite, a value out of its range.
        """
        bank_similarity = _as_scores("bank_similarity", bank_similarity)
        _require_positive("inverse_temperature", inverse_temperature)
        num_gallery = bank_similarity.shape[1]
        if not 1 <= top_k <= num_gallery:
            raise ValueError(f"top_k={top_k}: must be 1 to {num_gallery}, the size of the gallery")
        kth_best = np.partition(bank_similarity, -top_k, axis=1)[:, -top_k, None]
        best = bank_similarity.max(axis=0).astype(np.float64)
        weights = bank_similarity - best
        weights *= inverse_temperature
        np.exp(weights, out=weights)
        penalty = best + np.log(weights.sum(axis=0)) / inverse_temperature
        return cls(penalty, np.any(bank_similarity >= kth_best, axis=0))

    def apply(self, similarity: np.ndarray) -> np.ndarray:
        """Re-scores each query by itself: subtracts the penalty from all its scores where its best
        item (one of the best, if they tie) is in the activation set; else leaves them.

        The paper's score is exp(inverse_temperature * s[q, g]) / sum_b exp(inverse_temperature *
        s[b, g]). This is its logarithm over `inverse_temperature`: the same ranks, without
        overflow.

        Args:
            similarity: `(num_queries, num_gallery)`, one query or many.

        Returns:
            `(num_queries, num_gallery)` float64, comparable within a row only.

        Raises:
            ValueError: another gallery's shape, or scores that are not finite.
        """
        similarity = _as_scores("similarity", similarity)
        if similarity.shape[1:] != self.penalty.shape:
            raise ValueError(
                f"similarity is {similarity.shape} and the bank was fitted to "
                f"{len(self.penalty)} gallery items: must be (num_queries, {len(self.penalty)}); "
                "fit the bank to this gallery"
            )
        is_best = similarity == similarity.max(axis=1, keepdims=True)
        is_normalised = (is_best & self.active).any(axis=1)
        scores = similarity.astype(np.float64)
        scores[is_normalised] -= self.penalty
        return scores


def _as_scores(name: str, scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(
            f"{name} is {scores.shape}: must be (queries, gallery items), at least one of each; "
            "for one query pass scores[None]"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} holds values that are not finite: leave out such embeddings")
    return scores


def _require_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value}: must be finite and above 0")
