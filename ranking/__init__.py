"""Which evidence counts: rankings, scores and features of candidates in, ranks and reasons out.

Its parts know of no index, model or video: arrays come in, arrays go out. `retrieval` puts them
together over an index (with `texts`, `background`, `candidates`, `reranking`), `query_encoding`
over a model; `evaluation` measures, `python -m ranking` and
`python -m ranking.train_token_matching` learn.
"""

from ranking.composition import compose, penalize_negatives
from ranking.confidence import (
    DEFAULT_CALIBRATION,
    SUGGESTED_MIN_CONFIDENCE,
    Background,
    Calibration,
)
from ranking.evidence import Evidence, explain
from ranking.features import FEATURE_NAMES, assemble_features
from ranking.fusion import Fused, fuse_reciprocal_ranks, score_cutoff
from ranking.judgements import Judgement, read_judgements
from ranking.learned import LearnedRanker, ndcg, train_ranker
from ranking.temporal import TemporalMatch, align_steps, align_steps_in_videos
from ranking.token_matching import (
    TokenMatchingHead,
    TokenMatchingWeights,
    match_tokens,
    match_tokens_in_videos,
)

__all__ = [
    "DEFAULT_CALIBRATION",
    "FEATURE_NAMES",
    "SUGGESTED_MIN_CONFIDENCE",
    "Background",
    "Calibration",
    "Evidence",
    "Fused",
    "Judgement",
    "LearnedRanker",
    "TemporalMatch",
    "TokenMatchingHead",
    "TokenMatchingWeights",
    "align_steps",
    "align_steps_in_videos",
    "assemble_features",
    "compose",
    "explain",
    "fuse_reciprocal_ranks",
    "match_tokens",
    "match_tokens_in_videos",
    "ndcg",
    "penalize_negatives",
    "read_judgements",
    "score_cutoff",
    "train_ranker",
]
