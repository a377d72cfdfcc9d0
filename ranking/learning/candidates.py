"""Candidates of a query -> the features of each that a learned ranker looks at."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from reelseek.indexing.candidates import CandidateVideo
from reelseek.indexing.lexical.documents import stems, texts_of, words_of
from reelseek.indexing.store.dates import date_of
from reelseek.indexing.store.videos import VideoRecord
from reelseek.ranking.learning.features import FEATURE_NAMES, assemble_features
from reelseek.ranking.texts import ScoredText

_SOURCE_COLUMNS = {
    "captions": "lexical_captions",
    "title": "lexical_title",
    "tags": "lexical_tags",
    "name": "lexical_file_name",
    "ocr": "lexical_ocr",
    "speech": "lexical_speech",
}


def describe_candidates(
    videos: Sequence[CandidateVideo],
    *,
    query_embedding: np.ndarray,
    texts: Sequence[ScoredText] = (),
    names: Sequence[str] = (),
    confidence: np.ndarray | None = None,
    now: datetime | None = None,
) -> np.ndarray:
    """Returns the features of videos as candidates of one query.

    Args:
        query_embedding: `(D,)`.
        texts: the collection's best for the query, best first, each video once.
        names: that the query has, see `text.query.entities`.
        confidence: `(n,)`, the probability that each video matches.
        now: that a video's age is counted to; default: the present.

    Returns:
        `(n, len(FEATURE_NAMES))` float32, NaN where something is not known.
    """
    if not videos:
        return np.empty((0, len(FEATURE_NAMES)), np.float32)
    scores = [video.scores(query_embedding) for video in videos]
    of_segments = [np.sort(each[1:])[::-1] for each in scores]
    whole = np.array([float(each[0]) for each in scores])
    best = np.array([float(each[0]) for each in of_segments])
    columns = {
        "video_similarity": whole,
        "moment_similarity": best,
        "top3_similarity": np.array([float(each[:3].mean()) for each in of_segments]),
        "video_rank": _ranks(whole),
        "moment_rank": _ranks(best),
        "log_duration": np.log([max(1e-3, float(video.spans[:, 1].max())) for video in videos]),
        "log_segments": np.log([len(video.spans) for video in videos]),
    }
    if confidence is not None:
        columns["confidence"] = confidence
    now = now or datetime.now()
    columns["freshness_days"] = np.array([_age_days(_date(each.record), now) for each in videos])
    if names:
        name_stems = [stems(words_of([name])) for name in names]
        columns["entity_share"] = np.array(
            [_matched_name_fraction(video.record, name_stems) for video in videos]
        )
    for name in ("lexical", "lexical_rank", *_SOURCE_COLUMNS.values()):
        columns[name] = np.full(len(videos), np.nan)
    index_of = {video.id: number for number, video in enumerate(videos)}
    for rank, text in enumerate(texts, start=1):
        if (number := index_of.get(text.match.id)) is not None:
            columns["lexical"][number] = text.score
            columns["lexical_rank"][number] = rank
            columns[_SOURCE_COLUMNS[text.match.source]][number] = text.score
    return assemble_features(columns, num_candidates=len(videos))


def _matched_name_fraction(record: VideoRecord, names: Sequence[Sequence[str]]) -> float:
    """How many of the names, each of some stems, are in what is said of a video."""
    said = set(stems(words_of(text for texts in texts_of(record).values() for text in texts)))
    return float(np.mean([said.issuperset(name) for name in names]))


def _date(record: VideoRecord) -> str:
    """As filters and hits have it."""
    date, _ = date_of(record.metadata, record.signature.modified_ns)
    return date


def _age_days(date: str, now: datetime) -> float:
    """Of a date as far as it is told, such as 2026-11; NaN where there is none."""
    for rest in ("", "-01", "-01-01"):
        try:
            then = datetime.fromisoformat(f"{date}{rest}").replace(tzinfo=None)
        except ValueError:
            continue
        return (now - then) / timedelta(days=1)
    return float("nan")


def _ranks(scores: np.ndarray) -> np.ndarray:
    """From 1, among the candidates."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return ranks
