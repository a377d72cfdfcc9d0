"""Which evidence counts: rankings, scores and features of candidates in, ranks and reasons out.

Its parts know of no index, model or video: arrays come in, arrays go out. `retrieval` puts them
together over an index (with `texts`, `usual_scores`, `candidates`, `reranking`), `query_encoding`
over a model; `evaluation` measures, `python -m ranking` and `python -m ranking.interaction` learn.
"""

from ranking.composition import compose, excluding
from ranking.confidence import (
    DEFAULT_CALIBRATION,
    SUGGESTED_MIN_CONFIDENCE,
    Background,
    Calibration,
)
from ranking.events import EventMatch, align_events, align_events_in_videos
from ranking.evidence import Evidence, explain
from ranking.features import FEATURE_NAMES, assemble_features
from ranking.fusion import Fused, fuse_reciprocal_ranks, leading
from ranking.judgements import Judgement, read_judgements
from ranking.late_interaction import (
    InteractionHead,
    InteractionWeights,
    late_interaction,
    late_interaction_with_videos,
)
from ranking.learned import LearnedRanker, ndcg, train_ranker

__all__ = [
    "DEFAULT_CALIBRATION",
    "FEATURE_NAMES",
    "SUGGESTED_MIN_CONFIDENCE",
    "Background",
    "Calibration",
    "EventMatch",
    "Evidence",
    "Fused",
    "InteractionHead",
    "InteractionWeights",
    "Judgement",
    "LearnedRanker",
    "align_events",
    "align_events_in_videos",
    "assemble_features",
    "compose",
    "excluding",
    "explain",
    "fuse_reciprocal_ranks",
    "late_interaction",
    "late_interaction_with_videos",
    "leading",
    "ndcg",
    "read_judgements",
    "train_ranker",
]
